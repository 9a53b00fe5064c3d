"""Bounded resources that callers share: how much each may hold, and in which order they are served."""
