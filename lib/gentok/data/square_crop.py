"""The crop that latent diffusion's autoencoders learn from: a square of any size, anywhere."""

import numpy as np
from PIL import Image


def square_crop(picture: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """A random square, half to all of the shorter side, scaled to ``size`` pixels; no mirroring."""
    side = int(min(picture.size) * rng.uniform(0.5, 1.0)) or 1
    x, y = rng.integers(picture.width - side + 1), rng.integers(picture.height - side + 1)
    box = (int(x), int(y), int(x) + side, int(y) + side)
    return picture.resize((size, size), Image.Resampling.BOX, box)
