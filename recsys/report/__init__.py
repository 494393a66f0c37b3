"""The report of a training or an evaluation as one HTML file that needs nothing else: no network, no script."""
