"""Mogo: one hierarchy of causal transformers writes all residual codes of a frame at once."""

from gentok.signals.mogo.model import (
    PRESETS,
    Mogo,
    MogoConfig,
    build,
    example,
)

__all__ = [
    "PRESETS",
    "Mogo",
    "MogoConfig",
    "build",
    "example",
]
