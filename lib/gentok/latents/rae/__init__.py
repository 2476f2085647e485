"""RAE: a tokenizer whose encoder is a frozen representation and whose decoder alone is trained."""

from gentok.latents.rae.model import (
    _B,
    _L,
    _SMALL,
    _XL,
    DINO_S8,
    MAE_B,
    NOISES,
    PRESETS,
    RAE,
    SIGLIP2_B,
    RAEConfig,
    build,
    example,
)

__all__ = [
    "DINO_S8",
    "MAE_B",
    "NOISES",
    "PRESETS",
    "RAE",
    "SIGLIP2_B",
    "_B",
    "_L",
    "_SMALL",
    "_XL",
    "RAEConfig",
    "build",
    "example",
]
