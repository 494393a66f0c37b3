"""The HTML report of a training or an evaluation, and its figures: files that need nothing else, no network, no script."""
