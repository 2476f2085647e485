"""MERT: music understanding from masked audio with two teachers (Li et al. 2023)."""

from gentok.signals.mert.model import (
    MERT,
    PRESETS,
    SPARE_FRAMES,
    CodeHead,
    MERTConfig,
    build,
    example,
    take,
)

__all__ = [
    "MERT",
    "PRESETS",
    "SPARE_FRAMES",
    "CodeHead",
    "MERTConfig",
    "build",
    "example",
    "take",
]
