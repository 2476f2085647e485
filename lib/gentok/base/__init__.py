"""Networks that systems build on and that are no system of the book."""
