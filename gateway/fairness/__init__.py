"""Bounded resources shared between callers: who may have how much, and whose turn it is."""
