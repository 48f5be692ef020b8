"""Results -> text, CSV, figures."""
