"""TopK variational sparse autoencoder (Baker and Li 2025, arXiv:2509.22994)."""

from gentok.interpret.vsae.model import (
    LARGEST_MEAN,
    LOG_VARIANCE_RANGE,
    PENALISED,
    PRESETS,
    VARIANCES,
    VSAE,
    TopKConfig,
    VSAEConfig,
    build,
    build_topk,
    example,
)

__all__ = [
    "LARGEST_MEAN",
    "LOG_VARIANCE_RANGE",
    "PENALISED",
    "PRESETS",
    "VARIANCES",
    "VSAE",
    "TopKConfig",
    "VSAEConfig",
    "build",
    "build_topk",
    "example",
]
