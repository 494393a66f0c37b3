"""Drift between what a version was evaluated on and what comes now, and what was served against what was promised."""
