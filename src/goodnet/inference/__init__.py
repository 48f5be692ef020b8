"""What networks give for images: predictions, features, attention; and what their input has to be."""
