"""The answers over a log: sorted events, and a matrix in chunks of requests."""
