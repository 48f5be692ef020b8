"""What is measured of classes as evidence for backdoors and against them."""
