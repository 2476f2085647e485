"""Axial Transformer: exact likelihoods of pictures from attention along rows and columns."""

from gentok.tokens.axial.model import (
    LOG_2,
    PRESETS,
    AxialConfig,
    AxialTransformer,
    Exterior,
    PixelModel,
    StackedAxialTransformer,
    build,
    example,
    to_images,
    to_values,
)

__all__ = [
    "LOG_2",
    "PRESETS",
    "AxialConfig",
    "AxialTransformer",
    "Exterior",
    "PixelModel",
    "StackedAxialTransformer",
    "build",
    "example",
    "to_images",
    "to_values",
]
