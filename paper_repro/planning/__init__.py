"""What to run and in which order, which runs are compared, and what they say of the claims."""
