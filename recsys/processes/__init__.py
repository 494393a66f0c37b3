"""The processes of a server: those that answer, one that refreshes, and the parent that keeps them running."""
