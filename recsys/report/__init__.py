"""The HTML report of a training or an evaluation, and its figures, as files that need no network and no script."""
