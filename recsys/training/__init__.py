"""The stages of a training, over one split of the log by time."""
