"""What a machine can do: one module for each kind of check."""
