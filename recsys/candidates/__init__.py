"""Candidates for users: which items are worth ranking, from several sources, before the ranker sees them."""
