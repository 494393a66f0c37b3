"""Caches and collaborative tables of the online path, which serving and loading share."""
