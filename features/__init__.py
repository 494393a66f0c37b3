"""What we know: input tables and their checks, counting over the event log, features, online state."""
