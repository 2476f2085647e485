"""What makes the book: the registry, notebooks and their outputs, studies, claims."""
