"""What networks answer and feel: predictions, features, attention, and what their input has to be."""
