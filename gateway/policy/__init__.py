"""The policy: decides who may do what. Pure values and functions, without I/O and clock."""
