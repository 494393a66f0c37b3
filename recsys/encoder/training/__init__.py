"""Training of the text encoder: the head, the upper layers, checkpoints."""
