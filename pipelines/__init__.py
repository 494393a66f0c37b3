"""What we run: one module for each command, and the command line."""
