"""The text encoder: item tower, user attention, training, and the scores it gives."""
