"""The HTTP API that ranks online."""
