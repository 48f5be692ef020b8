"""Guards: classifier + clean images -> a score for every input, higher is more suspicious."""
