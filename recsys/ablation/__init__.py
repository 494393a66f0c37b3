"""What each kind of text model is worth on the same lists."""
