"""Keys in Redis or Valkey."""
