"""From the registry to the running server: which version to serve, and the change from one to the next."""
