"""What holds for the distributions as they are shipped."""
