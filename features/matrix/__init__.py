"""The columns of the candidates of requests, and where each value stands within its list."""
