"""MatFormer: one training run, many nested transformers (Devvrit et al. 2024, arXiv:2310.07707)."""

from gentok.efficient.matformer.family import Family, untrained
from gentok.efficient.matformer.model import (
    PRESETS,
    Block,
    MatFormer,
    MatLM,
    MatLMConfig,
    MatViT,
    MatViTConfig,
    NestedConfig,
    build,
    example,
    extract,
    submodel_config,
)

__all__ = [
    "PRESETS",
    "Block",
    "Family",
    "MatFormer",
    "MatLM",
    "MatLMConfig",
    "MatViT",
    "MatViTConfig",
    "NestedConfig",
    "build",
    "example",
    "extract",
    "submodel_config",
    "untrained",
]
