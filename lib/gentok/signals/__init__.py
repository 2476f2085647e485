"""Part `signals`: motion and music."""
