"""The rules of the leak audit, one module each."""
