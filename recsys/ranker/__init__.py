"""LightGBM, TF-IDF, the ranking model and its matrix."""
