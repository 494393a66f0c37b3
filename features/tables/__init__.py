"""Input files to the log: formats, checks, rejected rows, click matching, sampled impressions, MIND."""
