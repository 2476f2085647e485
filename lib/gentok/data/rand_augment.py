"""RandAugment: two random changes of a picture, all of one strength (Cubuk et al. 2020).

arXiv:1909.13719. The variant that classifiers are trained with since DeiT, written
``rand-m9-mstd0.5-inc1`` in the public codes: strength 9 of 10 with a spread of 0.5, every change
skipped half of the time, and none that gets weaker as the strength rises.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

MOST = 10.0  # the largest strength
FILL = (124, 116, 104)  # ImageNet's mean colour, for what comes in from outside
Change = Callable[[Image.Image, float, float], Image.Image]


def rand_augment(
    image: Image.Image,
    rng: np.random.Generator,
    strength: float = 9.0,
    spread: float = 0.5,
    changes: int = 2,
    probability: float = 0.5,
) -> Image.Image:
    """Change an RGB picture at random; its size stays.

    Args:
        image: the picture.
        rng: draws the changes, their strengths and their signs.
        strength, spread: mean and standard deviation of a change's strength, cut to [0, 10].
        changes: how many are drawn, each with ``probability`` of being applied.

    Raises:
        ValueError: if the picture is not RGB.
    """
    if image.mode != "RGB":
        raise ValueError(f"image must be RGB, got {image.mode}")
    for name in rng.choice(list(CHANGES), changes):
        level = float(np.clip(rng.normal(strength, spread), 0, MOST)) / MOST
        sign, applied = rng.choice([-1.0, 1.0]), rng.random() < probability
        if applied:
            image = CHANGES[name](image, level, sign)
    return image


def _moved(image: Image.Image, *matrix: float) -> Image.Image:
    """Pixel (x, y) comes from (a x + b y + c, d x + e y + f)."""
    affine, bicubic = Image.Transform.AFFINE, Image.Resampling.BICUBIC
    return image.transform(image.size, affine, matrix, bicubic, fillcolor=FILL)


def _rotate(image: Image.Image, level: float, sign: float) -> Image.Image:
    return image.rotate(30 * level * sign, Image.Resampling.BICUBIC, fillcolor=FILL)


def _solarize_add(image: Image.Image, level: float, sign: float) -> Image.Image:
    """Dark values get brighter, those above the middle stay."""
    add = int(110 * level)
    return image.point([min(255, v + add) if v < 128 else v for v in range(256)] * 3)


def _enhanced(kind: type) -> Change:
    return lambda image, level, sign: kind(image).enhance(1 + 0.9 * level * sign)


# Name: what it does at a level in [0, 1] and with a sign, where it has one.
CHANGES: dict[str, Change] = {
    "autocontrast": lambda image, level, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, level, sign: ImageOps.equalize(image),
    "invert": lambda image, level, sign: ImageOps.invert(image),
    "rotate": _rotate,
    "posterize": lambda image, level, sign: ImageOps.posterize(image, max(1, 4 - int(4 * level))),
    "solarize": lambda image, level, sign: ImageOps.solarize(image, 256 - int(256 * level)),
    "solarize add": _solarize_add,
    "color": _enhanced(ImageEnhance.Color),
    "contrast": _enhanced(ImageEnhance.Contrast),
    "brightness": _enhanced(ImageEnhance.Brightness),
    "sharpness": _enhanced(ImageEnhance.Sharpness),
    "shear x": lambda image, level, sign: _moved(image, 1, 0.3 * level * sign, 0, 0, 1, 0),
    "shear y": lambda image, level, sign: _moved(image, 1, 0, 0, 0.3 * level * sign, 1, 0),
    "translate x": lambda image, level, sign: _moved(
        image, 1, 0, 0.45 * level * sign * image.width, 0, 1, 0
    ),
    "translate y": lambda image, level, sign: _moved(
        image, 1, 0, 0, 0, 1, 0.45 * level * sign * image.height
    ),
}
