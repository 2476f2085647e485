"""Part `efficient`: transformers that do less work."""
