"""ENAT: visible and masked tokens apart, and no work done twice (Ni et al. 2024)."""

from gentok.tokens.enat.model import (
    ENAT,
    PRESETS,
    Block,
    ENATConfig,
    PreviousProjection,
    SCAttention,
    build,
    example,
)

__all__ = [
    "ENAT",
    "PRESETS",
    "Block",
    "ENATConfig",
    "PreviousProjection",
    "SCAttention",
    "build",
    "example",
]
