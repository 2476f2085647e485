"""Point-MAE: masked autoencoding of point clouds (Pang et al. 2022, arXiv:2203.06604)."""

from gentok.shapes.point_mae.model import (
    PRESETS,
    PointEncoder,
    PointMAE,
    PointMAEConfig,
    Reconstruction,
    build,
    example,
)

__all__ = [
    "PRESETS",
    "PointEncoder",
    "PointMAE",
    "PointMAEConfig",
    "Reconstruction",
    "build",
    "example",
]
