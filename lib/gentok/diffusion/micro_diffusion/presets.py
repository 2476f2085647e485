"""Sizes by name: the published ones, under the names of the public code, and the book's own."""

from dataclasses import replace

from gentok.diffusion.micro_diffusion.config import MicroDiTConfig

_XL = MicroDiTConfig(published_params=1_165_442_320)
_SMALL = MicroDiTConfig(
    dim=512, depth=16, head_dim=32, mixer_dim=512, mixer_depth=4, published_params=200_692_752
)
# On the four channels of `base/kl_vae`, 8 x 8 for 32 pixels, each position a token.
_WORLD = MicroDiTConfig(
    input_size=8,
    patch_size=1,
    dim=96,
    depth=4,
    head_dim=16,
    mixer_dim=64,
    mixer_depth=2,
    multiple_of=16,
    num_experts=4,
    caption_dim=32,
    caption_length=8,
    latent_scale=None,
    text="words",
)
_WORLD32 = replace(_WORLD, dim=128, depth=6, mixer_dim=80)
PRESETS: dict[str, MicroDiTConfig] = {
    "tiny": replace(_WORLD, dim=64, mixer_dim=48, depth=3),
    # The chapter's own: samples of the captioned world.
    "world-32": _WORLD32,
    # The same without the unmasked end: what a quarter of the tokens teaches alone.
    "world-32-masked": _WORLD32,
    # The same at 64 pixels: positions squeezed, other noise levels, as published for 512.
    "world-64": replace(_WORLD32, input_size=16, position_scale=2.0, sigma_mean=0.0, sigma_std=0.6),
    # The chapter's study.
    "study-32": _WORLD,
    "MicroDiT_XL_2": _XL,
    # 512 pixels, continued from 256: positions squeezed, other noise levels (public code).
    "MicroDiT_XL_2-512": replace(
        _XL, input_size=64, position_scale=2.0, sigma_mean=0.0, sigma_std=0.6
    ),
    # A 16-channel autoencoder. Its factor is not stated; the 4-channel one's stands in.
    "MicroDiT_XL_2-16ch": replace(_XL, in_channels=16, published_params=1_165_540_672),
    "MicroDiT_XL_2-dense": replace(_XL, num_experts=0, published_params=639_980_816),
    "MicroDiT_Tiny_2": _SMALL,
    "MicroDiT_Tiny_2-dense": replace(_SMALL, num_experts=0, published_params=107_463_696),
}
