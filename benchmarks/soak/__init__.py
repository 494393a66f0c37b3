"""Campaigns against a running server: kills, changes of the version, hostile requests, growth of memory."""
