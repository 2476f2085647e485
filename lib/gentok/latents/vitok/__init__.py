"""ViTok: a plain vision transformer as autoencoder; the floats of its code decide its quality."""

from gentok.latents.vitok.discriminator import StyleDiscriminator
from gentok.latents.vitok.dit import DITS, ViTokDiT, ViTokDiTConfig
from gentok.latents.vitok.model import (
    PRESETS,
    SIZES,
    ViTok,
    ViTokConfig,
    build,
    cell,
    example,
)
from gentok.latents.vitok.patch_pca import PatchPCA
from gentok.latents.vitok.readout import change, explained, quality, reconstruct, slope
from gentok.latents.vitok.stack import GridRope, Stack, StackConfig, video_positions
from gentok.latents.vitok.tuning import DecoderTuning, TuningConfig, build_tuning

__all__ = [
    "DITS",
    "PRESETS",
    "SIZES",
    "DecoderTuning",
    "GridRope",
    "PatchPCA",
    "Stack",
    "StackConfig",
    "StyleDiscriminator",
    "TuningConfig",
    "ViTok",
    "ViTokConfig",
    "ViTokDiT",
    "ViTokDiTConfig",
    "build",
    "build_tuning",
    "cell",
    "change",
    "example",
    "explained",
    "quality",
    "reconstruct",
    "slope",
    "video_positions",
]
