"""The private listeners and their pages."""
