"""A batch of any size, written so that it can be stopped at any moment: partitions, manifest, workers, resume."""
