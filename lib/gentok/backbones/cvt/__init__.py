"""CvT: a vision transformer in which position comes from convolutions (Wu et al. 2021)."""

from gentok.backbones.cvt.attention import ConvAttention
from gentok.backbones.cvt.model import (
    ACTIVATIONS,
    POSITIONS,
    PRESETS,
    ConvEmbed,
    CvT,
    CvTConfig,
    Mlp,
    Stage,
    build,
    example,
    patches_apart,
)

__all__ = [
    "ACTIVATIONS",
    "POSITIONS",
    "PRESETS",
    "ConvAttention",
    "ConvEmbed",
    "CvT",
    "CvTConfig",
    "Mlp",
    "Stage",
    "build",
    "example",
    "patches_apart",
]
