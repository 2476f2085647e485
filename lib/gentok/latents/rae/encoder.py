"""Frozen pretrained encoders, one face for several families (RAE: Zheng et al. 2025, section 3).

A representation encoder turns an image into a grid of tokens that mean something; nobody trains it
here. `transformers` reads the weights, from a hub name or from a local folder in the hub's format.
What the families differ in stands in one table: which class to load, which tokens are no patches,
and the pixel statistics that the network was trained with.

Shapes: B batch, S input pixels, p patch, N = (S/p)^2 tokens in raster order, C channels of a token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.base.foundation import FrozenNetwork
from gentok.training.configs import may_open

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
# What a checkpoint may name: the presets' encoders.
KNOWN = (
    "facebook/dinov2-with-registers-base",
    "google/siglip2-base-patch16-256",
    "facebook/vit-mae-base",
)


@dataclass(frozen=True)
class Family:
    """What `transformers` calls a family, and its pixel mean and standard deviation in [0, 1]."""

    model: str
    config: str
    statistics: tuple[tuple[float, ...], tuple[float, ...]]


FAMILIES: dict[str, Family] = {
    "dinov2_with_registers": Family(
        "Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", IMAGENET
    ),
    # SigLIP 2 of one fixed resolution is stored as SigLIP.
    "siglip": Family("SiglipVisionModel", "SiglipVisionConfig", HALF),
    "vit_mae": Family("ViTMAEModel", "ViTMAEConfig", IMAGENET),
    # DINO (Caron et al. 2021), a plain ViT: what RAE's discriminator looks through.
    "vit": Family("ViTModel", "ViTConfig", IMAGENET),
}


@dataclass(frozen=True)
class EncoderConfig:
    """Which encoder, and the sizes that its weights must have; the default is RAE's own.

    Args:
        name: a hub name (the first use downloads) or a local folder in the hub's format.
        family: a key of `FAMILIES`.
        image_size: S, side of the square that the network sees; images are resized to it.
        patch_size, dim, depth, num_heads: p, C, blocks, heads.
        interpolation: how images are resized: ``"bicubic"`` or ``"bilinear"``.
    """

    name: str = "facebook/dinov2-with-registers-base"
    family: str = "dinov2_with_registers"
    image_size: int = 224
    patch_size: int = 14
    dim: int = 768
    depth: int = 12
    num_heads: int = 12
    interpolation: str = "bicubic"

    def __post_init__(self):
        if self.family not in FAMILIES:
            raise ValueError(
                f"unknown encoder family {self.family!r}; accepted: {', '.join(FAMILIES)}"
            )
        if self.image_size % self.patch_size:
            raise ValueError(
                f"patch_size must divide image_size, got {self.patch_size} and {self.image_size}"
            )

    @property
    def grid(self) -> int:
        """Tokens along one side."""
        return self.image_size // self.patch_size


class RepresentationEncoder(nn.Module):
    """Images to tokens through a pretrained transformer whose last LayerNorm has lost its affine.

    Without weight and bias every raw token has mean 0 and variance 1 over its channels: only then
    does a noise level mean the same for every encoder.

    Args:
        backbone: a model of `transformers`, of the configured family.
        config: sizes.
        mean, std: pixel statistics for images in [0, 1], three numbers each.
    """

    def __init__(
        self,
        backbone: nn.Module,
        config: EncoderConfig,
        mean: Sequence[float],
        std: Sequence[float],
    ):
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        _drop_last_affine(backbone)
        if config.family == "vit_mae":
            backbone.config.mask_ratio = 0.0  # every patch is seen

    def preprocess(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> what the network was trained on, (B, 3, S, S)."""
        size = self.config.image_size
        if image.shape[-2:] != (size, size):
            image = F.interpolate(
                image, size=(size, size), mode=self.config.interpolation, align_corners=False
            )
        return ((image + 1) / 2 - self.mean) / self.std

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] -> tokens (B, N, C) of mean 0 and variance 1 each."""
        return self._patches(self._run(image).last_hidden_state)

    def layers(self, image: Tensor, taps: Sequence[int]) -> list[Tensor]:
        """Tokens on the way, none of them normalised: of the last block, then of each in ``taps``.

        As the public code hands them to its discriminator: the last block comes first, and once
        more if it is tapped.

        Args:
            image: (B, 3, H, W) in [-1, 1].
            taps: blocks, counted from 0.

        Returns:
            ``len(taps) + 1`` tensors (B, N, C).
        """
        states = self._run(image, output_hidden_states=True).hidden_states
        # states[0] is the embedding, [i + 1] stands after block i, before the last LayerNorm.
        return [self._patches(state) for state in (states[-1], *(states[i + 1] for i in taps))]

    def _run(self, image: Tensor, **options):
        pixels = self.preprocess(image)
        if self.config.family == "vit_mae":
            # MAE shuffles patches by noise before it drops some; rising noise keeps their order.
            count = self.config.grid**2
            order = torch.arange(count, device=pixels.device).expand(len(pixels), -1)
            options["noise"] = order.float()
        if self.config.family != "dinov2_with_registers":  # that one fits its table by itself
            options["interpolate_pos_encoding"] = True
        return self.backbone(pixel_values=pixels, **options)

    def _patches(self, tokens: Tensor) -> Tensor:
        """Drop what stands before the patches: [CLS] and registers."""
        return tokens[:, tokens.shape[1] - self.config.grid**2 :]


def frozen_encoder(config: EncoderConfig) -> FrozenNetwork:
    """The encoder, loaded at first use; on the meta device an outline of its sizes serves."""
    return FrozenNetwork(lambda: load_encoder(config), lambda: outline_encoder(config))


def pixel_statistics(config: EncoderConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of pixels in [0, 1] that a family was trained with."""
    return FAMILIES[config.family].statistics


def outline_encoder(config: EncoderConfig) -> RepresentationEncoder:
    """The encoder without its weights (random ones): for costs, and to make small checkpoints."""
    return RepresentationEncoder(random_backbone(config), config, *pixel_statistics(config))


def random_backbone(config: EncoderConfig) -> nn.Module:
    """A randomly initialised network of the family and sizes, as `transformers` builds it."""
    import transformers

    family = FAMILIES[config.family]
    sizes = {
        "hidden_size": config.dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "patch_size": config.patch_size,
        "image_size": config.image_size,
    }
    if config.family != "dinov2_with_registers":  # that one states a ratio, 4 by default
        sizes["intermediate_size"] = 4 * config.dim
    return getattr(transformers, family.model)(getattr(transformers, family.config)(**sizes))


def load_encoder(config: EncoderConfig) -> RepresentationEncoder:
    """Read the weights and hold them against the configuration.

    Raises:
        FileNotFoundError: if there are no weights under that name.
        ValueError: if they are of another family or size, or a checkpoint alone names them.
    """
    import transformers

    family = FAMILIES[config.family]
    local = {"local_files_only": not may_open(config.name, KNOWN, "encoder")}
    if "/" not in config.name and not Path(config.name).is_dir():  # on the hub all have an owner
        raise FileNotFoundError(
            f"no encoder weights in folder {config.name!r}; accepted: a folder in the hub's "
            "format, or a hub name such as 'facebook/vit-mae-base'"
        )
    try:
        about, _ = transformers.PretrainedConfig.get_config_dict(config.name, **local)
        kind = about.get("model_type")
        if kind is None:
            raise OSError("no config.json")
        if kind.removesuffix("_vision_model") != config.family:
            raise ValueError(
                f"encoder {config.name!r} is of the family {kind!r}, expected {config.family!r}"
            )
        network = getattr(transformers, family.model).from_pretrained(config.name, **local)
    except OSError as error:
        where = "folder" if Path(config.name).exists() else "folder or hub name"
        raise FileNotFoundError(
            f"no encoder weights in {where} {config.name!r}; accepted: a folder in the hub's "
            f"format, or a hub name with the network up"
        ) from error
    _check_sizes(network, config)
    return RepresentationEncoder(network, config, *pixel_statistics(config))


def _check_sizes(network: nn.Module, config: EncoderConfig) -> None:
    found = network.config.hidden_size, network.config.patch_size
    if found != (config.dim, config.patch_size):
        raise ValueError(
            f"encoder {config.name!r} has dim and patch_size {found}, expected "
            f"{(config.dim, config.patch_size)}"
        )


def _drop_last_affine(network: nn.Module) -> None:
    """Put a LayerNorm without weight and bias in place of the last one."""
    # SigLIP's stands one level deeper in some versions of transformers.
    for owner in (network, getattr(network, "vision_model", None)):
        for name in ("layernorm", "post_layernorm"):
            norm = getattr(owner, name, None)
            if isinstance(norm, nn.LayerNorm):
                shape, eps = norm.normalized_shape, norm.eps
                setattr(owner, name, nn.LayerNorm(shape, eps=eps, elementwise_affine=False))
                return
    raise ValueError(f"{type(network).__name__} has no last LayerNorm to take the affine from")
