"""What CvT's published sizes learn from: a random crop, changed by RandAugment."""

import numpy as np
from PIL import Image

from gentok.data.rand_augment import rand_augment
from gentok.data.random_crop import random_crop


def augmented_crop(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """`random_crop`, then RandAugment of strength 9, as in the authors' code."""
    return rand_augment(random_crop(image, size, rng), rng)
