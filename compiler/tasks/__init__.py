"""The tasks: one row each of what the compile half has to know of them."""
