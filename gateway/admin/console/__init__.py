"""The console: a page on the admin listener that shows what the gateway does, and changes nothing."""
