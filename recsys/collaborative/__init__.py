"""Collaborative filtering: co-click similarity, factors and audiences of items, from tables of earlier clicks."""
