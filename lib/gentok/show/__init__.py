"""What a person looks at: plots, pictures, sound."""
