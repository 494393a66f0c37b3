"""What this project uses of MLflow beyond its documented API."""
