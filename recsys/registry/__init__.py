"""MLflow: runs, logged models, registered versions and their aliases."""
