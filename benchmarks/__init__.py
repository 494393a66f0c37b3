"""Speed and quality, run by hand and by `make bench`; results worth keeping stand in RESULTS.md."""
