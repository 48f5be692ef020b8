"""What combines families and still may not see the truth."""
