"""The simulated news site: its users, items, pages, and the truth behind its clicks."""
