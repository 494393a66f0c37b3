"""Sections of the configuration that have a module of their own; `recsys.config` puts the tree together."""
