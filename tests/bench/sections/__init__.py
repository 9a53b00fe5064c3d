"""The sections of the benchmark; each measures one thing and returns its results."""
