"""The discrete VAE: a picture becomes a grid of codes, by a softened choice while it learns.

Ramesh et al. 2021 (DALL-E), 2.1, in the layout of the open library from which the system's code is
derived (DALLE-pytorch 0.8.2): strided convolutions, residual blocks, no normalisation. Whether the
authors' first stage was this or a nearest-neighbour lookup is open: abstract and figure differ. So
``quantizer="vq"`` keeps all but the choice.

Shapes: B pictures, S pixels, h = w = S / 2^L grid, K codes, D channels of a code.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.gumbel_quantize import GumbelQuantizer
from gentok.nn.latents import LatentSpace, evaluating
from gentok.nn.quantize import VectorQuantizer

QUANTIZERS = ("gumbel", "vq")


@dataclass(frozen=True)
class DVAEConfig:
    """Sizes; the defaults are the library's, the grid of 32 x 32 codes is the paper's.

    Args:
        image_size: S; ``num_layers``: L, each halves the sides.
        codebook_size: K; ``code_dim``: D; ``hidden``: channels; ``num_res_blocks`` on each side.
        patchwise: encode each patch of 2^L pixels by itself, so that equal patches have equal
            codes. For pictures of few kinds of patches; not published.
        quantizer: ``"gumbel"``, or ``"vq"`` for the nearest code.
        floor: the temperature ends here; ``anneal``: in so many steps, starting from 1. The library
            ends at 0.5 after about 11,900 steps, and so do the published sizes here.
        kl_weight: of the KL to uniform, nats a code, averaged. The library's is 0. Above it, it
            falls to 0 while the temperature falls: all codes begin in use and part one after the
            other, where a short run without it leaves most of them dead. This is ours.
        published_params: of the library's class.
    """

    image_size: int = 128
    num_layers: int = 2
    codebook_size: int = 8192
    code_dim: int = 512
    hidden: int = 256
    num_res_blocks: int = 2
    patchwise: bool = False
    quantizer: str = "gumbel"
    floor: float = 0.5
    anneal: int = 11_900
    kl_weight: float = 0.0
    published_params: int | None = None

    def __post_init__(self):
        if self.image_size % 2**self.num_layers or self.num_layers < 1:
            raise ValueError(
                f"image_size must be a multiple of 2^num_layers, "
                f"got {self.image_size} and num_layers={self.num_layers}"
            )
        if self.quantizer not in QUANTIZERS:
            raise ValueError(f"quantizer must be one of {QUANTIZERS}, got {self.quantizer!r}")

    @property
    def grid(self) -> int:
        """Codes of a side, h = w."""
        return self.image_size // 2**self.num_layers


class ResBlock(nn.Module):
    """x + conv1(relu(conv3(relu(conv3 x))))."""

    def __init__(self, channels: int):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same."""
        return x + self.net(x)


def make_encoder(config: DVAEConfig, out: int) -> nn.Sequential:
    """Pictures (B, 3, S, S) to ``out`` channels a place."""
    if config.patchwise:
        side = 2**config.num_layers
        return nn.Sequential(
            nn.Conv2d(3, config.hidden, side, stride=side),
            nn.ReLU(),
            nn.Conv2d(config.hidden, config.hidden, 1),
            nn.ReLU(),
            nn.Conv2d(config.hidden, out, 1),
        )
    widths = [3] + [config.hidden] * config.num_layers
    down: list[nn.Module] = []
    for before, after in zip(widths[:-1], widths[1:], strict=True):
        down += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
    blocks = [ResBlock(config.hidden) for _ in range(config.num_res_blocks)]
    return nn.Sequential(*down, *blocks, nn.Conv2d(config.hidden, out, 1))


def make_decoder(config: DVAEConfig) -> nn.Sequential:
    """Codes' vectors (B, D, h, w) to pictures (B, 3, S, S), unclamped.

    Without residual blocks the library leaves the first 1x1 convolution out.
    """
    hidden, blocks = config.hidden, config.num_res_blocks
    first = [nn.Conv2d(config.code_dim, hidden, 1)] if blocks else []
    up: list[nn.Module] = []
    width = hidden if blocks else config.code_dim
    for _ in range(config.num_layers):
        up += [nn.ConvTranspose2d(width, hidden, 4, stride=2, padding=1), nn.ReLU()]
        width = hidden
    return nn.Sequential(
        *first, *(ResBlock(hidden) for _ in range(blocks)), *up, nn.Conv2d(hidden, 3, 1)
    )


class DVAE(nn.Module):
    """The tokenizer: pictures to codes and back."""

    def __init__(self, config: DVAEConfig):
        super().__init__()
        self.config = config
        if config.quantizer == "vq":
            self.quantizer = VectorQuantizer(config.codebook_size, config.code_dim, decay=0.95)
            self.encoder = make_encoder(config, config.code_dim)
        else:
            self.quantizer = GumbelQuantizer(config.codebook_size, config.code_dim)
            self.encoder = make_encoder(config, config.codebook_size)
        self.decoder = make_decoder(config)

    @property
    def latent_space(self) -> LatentSpace:
        """What ``encode`` gives for one picture."""
        grid = self.config.grid
        return LatentSpace("discrete", (grid * grid,), "image", self.config.codebook_size)

    def temperature(self, step: int) -> float:
        """From 1 to the floor, exponentially, in ``anneal`` steps."""
        config = self.config
        return math.exp(max(math.log(config.floor), math.log(config.floor) * step / config.anneal))

    def kl_weight(self, step: int) -> float:
        """From ``kl_weight`` linearly to 0 while the temperature falls."""
        return self.config.kl_weight * max(0.0, 1 - step / self.config.anneal)

    def latents(self, x: Tensor) -> Tensor:
        """What the quantizer gets, (B, h, w, K) logits, or (B, h, w, D) for the nearest code.

        Raises:
            ValueError: if ``x`` is not (B, 3, S, S).
        """
        side = self.config.image_size
        if x.ndim != 4 or tuple(x.shape[1:]) != (3, side, side):
            raise ValueError(f"image must be (B, 3, {side}, {side}), got {tuple(x.shape)}")
        return self.encoder(x).permute(0, 2, 3, 1)

    def loss(self, batch: dict[str, Tensor], step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error in pixels of [-1, 1], and the KL or the commitment.

        Args:
            batch: ``image`` (B, 3, S, S) in [-1, 1].
            step: decides the temperature.
        """
        z, image = self.latents(batch["image"]), batch["image"]
        if self.config.quantizer == "vq":
            z_q, _, extra = self.quantizer(z)
            weight = 1.0
        else:
            z_q, _, kl = self.quantizer(z, self.temperature(step))
            extra, weight = kl.mean(), self.kl_weight(step)
        error = F.mse_loss(self.decoder(z_q.permute(0, 3, 1, 2)), image)
        return error + weight * extra, {"mse": error.detach(), "regulariser": extra.detach()}

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) in [-1, 1] -> the likeliest codes, without noise, (B, h w)."""
        with evaluating(self):
            return self.quantizer(self.latents(x))[1].flatten(1)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Codes (B, h w) int64 -> pictures (B, 3, S, S), about [-1, 1].

        Raises:
            ValueError: if there are not h w codes, or one is not in [0, K).
        """
        grid = self.config.grid
        if z.ndim != 2 or z.shape[1] != grid * grid:
            raise ValueError(f"codes must be (B, {grid * grid}), got {tuple(z.shape)}")
        vectors = self.quantizer.lookup(z).unflatten(1, (grid, grid))
        with evaluating(self):
            return self.decoder(vectors.permute(0, 3, 1, 2))


def build_dvae(config: DVAEConfig) -> DVAE:
    """The tokenizer of a configuration, untrained."""
    return DVAE(config)


DVAES: dict[str, DVAEConfig] = {
    # 3 x 3 codes of 8 x 8 pixels. Sharp choices from two thirds of a run on: plans set ``anneal``.
    "tiny": DVAEConfig(24, 3, 32, 32, 32, 1, patchwise=True, floor=0.3, kl_weight=0.02),
    # The two readings of 1,024 codes: 128 pixels and two layers is the likelier.
    "dvae-128": DVAEConfig(published_params=14_574_595),
    "dvae-256": DVAEConfig(256, 3, published_params=16_672_259),
}
