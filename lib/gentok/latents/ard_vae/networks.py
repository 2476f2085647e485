"""Encoder and decoder of ARD-VAE: four strided convolutions and their mirror, or two small MLPs.

Layers, initial values and the constants of batch norm follow the authors' code (Keras). A Keras
convolution of 4 x 4 and stride 2 pads one pixel on each side of an even input, as here.

Shapes: B batch, C channels, S pixels a side, L axes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HIDDEN = 2  # hidden layers of an MLP


@dataclass(frozen=True)
class NetworkConfig:
    """What decides both networks.

    Args:
        kind: ``"conv"`` or ``"mlp"``.
        channels: C of a picture; ``image_size``: S.
        latent_dim: L, the number of axes to begin with.
        width: filters of the first convolution (nf), or units of an MLP's hidden layers.
        start: side of the grid at which a convolutional decoder begins, with 8 nf channels.
        up: filters, in units of nf, of the layers that double the grid.
        last_stride: of the layer that makes the picture: 2 doubles once more, 1 does not.
        signed: the decoder ends with tanh and pictures are learned in [-1, 1]; else with a sigmoid,
            in [0, 1].
        doubled: stretch what the encoder sees from [-1, 1] to [-3, 1]. The authors' code applies
            2x - 1 to all pictures, also to CelebA's, which lie in [-1, 1] already.
    """

    kind: str = "conv"
    channels: int = 3
    image_size: int = 32
    latent_dim: int = 128
    width: int = 64
    start: int = 8
    up: tuple[int, ...] = (4, 2)
    last_stride: int = 1
    signed: bool = False
    doubled: bool = False

    def __post_init__(self):
        if self.kind not in ("conv", "mlp"):
            raise ValueError(f"kind must be 'conv' or 'mlp', got {self.kind!r}")
        made = self.start * 2 ** len(self.up) * self.last_stride
        if self.kind == "conv" and made != self.image_size:
            raise ValueError(
                f"start, up and last_stride make {made} pixels a side, image_size is "
                f"{self.image_size}"
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, S, S)."""
        return self.channels, self.image_size, self.image_size


def build_encoder(config: NetworkConfig) -> nn.Sequential:
    """Pictures (B, C, S, S) in [-1, 1] -> moments (B, 2L): means, then log-variances, unclamped."""
    if config.kind == "mlp":
        return nn.Sequential(nn.Flatten(), *_mlp(config, _numbers(config), 2 * config.latent_dim))
    layers: list[nn.Module] = [Doubled()] if config.doubled else []
    before, side = config.channels, config.image_size
    for factor in (1, 2, 4, 8):
        after, side = factor * config.width, side // 2
        layers += [_he(nn.Conv2d(before, after, 4, 2, 1)), _norm(after), nn.ReLU()]
        before = after
    moments = _glorot(nn.Linear(before * side * side, 2 * config.latent_dim))
    return nn.Sequential(*layers, nn.Flatten(), moments)


def build_decoder(config: NetworkConfig) -> nn.Sequential:
    """Latents (B, L) -> pictures (B, C, S, S), in [-1, 1] where ``signed``, else in [0, 1]."""
    end = nn.Tanh() if config.signed else nn.Sigmoid()
    if config.kind == "mlp":
        made = _mlp(config, config.latent_dim, _numbers(config))
        return nn.Sequential(*made, nn.Unflatten(1, config.image_shape), end)
    start, before = config.start, 8 * config.width
    layers: list[nn.Module] = [
        _glorot(nn.Linear(config.latent_dim, before * start * start)),  # no norm, no activation
        nn.Unflatten(1, (before, start, start)),
    ]
    for factor in config.up:
        after = factor * config.width
        layers += [_he(nn.ConvTranspose2d(before, after, 4, 2, 1)), _norm(after), nn.ReLU()]
        before = after
    last = SameTransposed if config.last_stride == 1 else Doubling
    return nn.Sequential(*layers, _glorot(last(before, config.channels)), end)


class Doubled(nn.Module):
    """2x - 1."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x - 1


class Doubling(nn.ConvTranspose2d):
    """A transposed 4 x 4 convolution that doubles the grid."""

    def __init__(self, before: int, after: int):
        super().__init__(before, after, 4, 2, 1)


class SameTransposed(nn.ConvTranspose2d):
    """A transposed 4 x 4 convolution that keeps the grid: one row cut above, two below (Keras)."""

    def __init__(self, before: int, after: int):
        super().__init__(before, after, 4)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[..., 1:-2, 1:-2]


def _numbers(config: NetworkConfig) -> int:
    return config.channels * config.image_size**2


def _mlp(config: NetworkConfig, before: int, after: int) -> list[nn.Module]:
    """Hidden layers with ReLU, and a linear end."""
    layers: list[nn.Module] = []
    for _ in range(HIDDEN):
        layers += [_he(nn.Linear(before, config.width)), nn.ReLU()]
        before = config.width
    return [*layers, _glorot(nn.Linear(before, after))]


def _norm(channels: int) -> nn.BatchNorm2d:
    """Keras's constants; its momentum of .99 is .01 in PyTorch's convention."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _he(layer: nn.Module) -> nn.Module:
    """Keras's he_normal: variance 2 / fan-in, cut at two deviations and scaled to keep it."""
    weight = layer.weight
    fan_in = weight[0].numel()
    if isinstance(layer, nn.ConvTranspose2d):
        # Keras keeps a transposed kernel as (k, k, out, in) and takes "in" from its third axis.
        fan_in = weight.shape[1] * weight[0, 0].numel()
    std = (2 / fan_in) ** 0.5 / 0.87962566103423978  # of a standard normal cut at 2
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
    nn.init.zeros_(layer.bias)
    return layer


def _glorot(layer: nn.Module) -> nn.Module:
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def squared_error(x: Tensor, y: Tensor) -> Tensor:
    """Summed over a picture's numbers, mean over the batch; ()."""
    return F.mse_loss(y, x, reduction="sum") / len(x)


def in_chunks(function, x: Tensor, rows: int = 500) -> Tensor:
    """Apply a function to some rows at a time, without gradient."""
    with torch.no_grad():
        return torch.cat([function(part) for part in x.split(rows)])
