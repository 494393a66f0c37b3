"""The columns of the candidates of requests, and each value's percentile and z-score within its list."""
