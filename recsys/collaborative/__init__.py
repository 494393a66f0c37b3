"""What the clicks of others say: co-click similarity, factors and audiences of items, from tables made of the past."""
