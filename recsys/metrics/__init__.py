"""Metrics of ranked lists, and bootstrap intervals over users."""
