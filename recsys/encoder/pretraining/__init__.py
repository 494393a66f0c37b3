"""Pre-training of the text encoder on the texts alone: masked tokens, two views of a text."""
