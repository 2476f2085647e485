"""Part `video`: tokenizers and generators of moving pictures."""
