"""The answers over a store: counters, events as they come, the reader of one request."""
