"""What a feature is: aggregates of the past, measures, the built-in features, custom ones."""
