"""Methods on the test lists: slices, comparison, the promotion gate."""
