"""The running process: composition, lifecycle, dependencies, reload."""
