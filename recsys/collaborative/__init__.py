"""Collaborative filtering: similarity by clicks, factors and audiences of items, from tables of earlier clicks."""
