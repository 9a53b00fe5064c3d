"""Who may do what: pure values and functions, no I/O, no clock."""
