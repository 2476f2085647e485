"""CvT: a vision transformer in which position comes from convolutions (Wu et al. 2021).

Paper: arXiv:2103.15808. Three stages, each with fewer and wider tokens. Overlapping strided
convolutions make the tokens (section 3.1); depth-wise convolutions make queries, keys and values,
keys and values at half the side (section 3.2). No position embedding is needed.

Where the paper is silent we follow the authors' code: attention is scaled by the *full* width,
C^(-1/2); the class token passes by the convolutions; QuickGELU. The port in `transformers` uses the
exact GELU, which is why the activation is a field here.

Shapes: B batch, C channels of a stage, H W its grid, N = H W tokens (one more with the class
token), M keys, h heads, d = C / h, K classes.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.backbones.cvt.attention import ConvAttention
from gentok.base.classifier import Classifier, check_image, init_linears
from gentok.nn.blocks import PreNormBlock
from gentok.nn.stochastic_depth import drop_rates
from gentok.nn.transformer import Mlp

__all__ = [
    *("PRESETS", "CvT", "CvTConfig", "ConvAttention", "ConvEmbed"),
    *("build", "example", "patches_apart"),
]

POSITIONS = {"none": (), "first": (0,), "last": (2,), "every": (0, 1, 2)}  # stages with a table
ACTIVATIONS = {"quick_gelu": "quick", "gelu": "none"}


@dataclass(frozen=True)
class CvTConfig:
    """Sizes of CvT; the defaults are CvT-13.

    Args:
        image_size: side in pixels that position tables are made for; without tables, that of
            `example` alone.
        num_classes: K.
        widths, depths, num_heads: C, blocks and h of each stage.
        embed_kernels, embed_strides, embed_paddings: of each stage's token embedding, in pixels.
        projections: of each stage: ``"dw_bn"``, or ``"linear"`` for queries, keys and values
            without a convolution (an ablation of the paper). A linear projection has no stride:
            all tokens are keys.
        kv_stride: stride of the convolutions of keys and values.
        position: stages with a learned position embedding: ``"none"``, ``"first"``, ``"last"`` or
            ``"every"`` (the paper's ablation; its result is ``"none"``).
        class_token: classify the last stage's class token; else the mean of its tokens.
        activation: ``"quick_gelu"`` x sigmoid(1.702 x), or the exact ``"gelu"``.
        drop_path: largest rate of stochastic depth in each stage; it rises inside the stage.
        init_std: standard deviation that linear layers, tables and the class token start with.
    """

    image_size: int = 224
    in_channels: int = 3
    num_classes: int = 1000
    widths: tuple[int, int, int] = (64, 192, 384)
    depths: tuple[int, int, int] = (1, 2, 10)
    num_heads: tuple[int, int, int] = (1, 3, 6)
    embed_kernels: tuple[int, int, int] = (7, 3, 3)
    embed_strides: tuple[int, int, int] = (4, 2, 2)
    embed_paddings: tuple[int, int, int] = (2, 1, 1)
    mlp_ratio: int = 4
    projections: tuple[str, str, str] = ("dw_bn", "dw_bn", "dw_bn")
    kv_stride: int = 2
    position: str = "none"
    class_token: bool = True
    activation: str = "quick_gelu"
    drop_path: tuple[float, float, float] = (0.0, 0.0, 0.1)
    init_std: float = 0.02
    published_params: int | None = None


# 32 pixels: grids of 16, 8 and 4, so the first embedding is a 3x3 convolution of stride 2. So
# narrow a network needs a louder start: at 0.02 next to no signal passes its layers. A training of
# minutes needs no stochastic depth.
SMALL = CvTConfig(
    image_size=32,
    num_classes=15,
    widths=(16, 32, 64),
    depths=(1, 1, 2),
    num_heads=(1, 2, 4),
    embed_kernels=(3, 3, 3),
    embed_strides=(2, 2, 2),
    embed_paddings=(1, 1, 1),
    drop_path=(0.0, 0.0, 0.0),
    init_std=0.1,
)

W24 = CvTConfig(
    image_size=384,
    widths=(192, 768, 1024),
    depths=(2, 2, 20),
    num_heads=(3, 12, 16),
    drop_path=(0.0, 0.0, 0.3),
    published_params=277_196_392,
)

PRESETS: dict[str, CvTConfig] = {
    "tiny": replace(SMALL, drop_path=(0.0, 0.0, 0.1)),  # 15 photographs that patches are cut from
    "study-32": replace(SMALL, num_classes=5),  # five kinds of shape, at one side
    "world-32": replace(SMALL, num_classes=5),  # the same network, trained longer and at two sides
    # published_params: the released code; the paper rounds to 19.98, 31.54 and 276.7 millions.
    "cvt-13": CvTConfig(published_params=19_997_480),
    "cvt-21": CvTConfig(depths=(1, 4, 16), published_params=31_622_696),
    "cvt-w24": W24,
    # Trained at 224 pixels first, then tuned at 384; nothing is tied to the side of the picture.
    "cvt-13-384": CvTConfig(image_size=384, published_params=19_997_480),
    "cvt-21-384": CvTConfig(image_size=384, depths=(1, 4, 16), published_params=31_622_696),
    "cvt-w24-22k": replace(W24, image_size=224, num_classes=21_841, published_params=None),
}


def patches_apart(config: CvTConfig) -> CvTConfig:
    """The configuration with embeddings that do not overlap: kernel = stride (an ablation)."""
    return replace(config, embed_kernels=config.embed_strides, embed_paddings=(0, 0, 0))


class ConvEmbed(nn.Module):
    """Convolutional token embedding: a strided convolution, then layer norm on each token."""

    def __init__(self, in_channels: int, dim: int, kernel: int, stride: int, padding: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, dim, kernel, stride, padding)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, C_in, H_in, W_in) -> tokens (B, H W, C) in raster order, and the grid (H, W)."""
        x = self.conv(x)
        return self.norm(x.flatten(2).transpose(1, 2)), tuple(x.shape[2:])


def cvt_block(config: CvTConfig, stage: int, drop: float) -> PreNormBlock:
    """Pre-norm block of a stage: (B, N, C) and the grid's size -> (B, N, C)."""
    dim = config.widths[stage]
    attention = ConvAttention(
        dim, config.num_heads[stage], config.projections[stage], config.kv_stride
    )
    mlp = Mlp(dim, config.mlp_ratio * dim, ACTIVATIONS[config.activation])
    return PreNormBlock(dim, attention, mlp, eps=1e-5, drop_path=drop)


class Stage(nn.Module):
    """Token embedding, perhaps a position table and a class token, and the blocks."""

    def __init__(self, config: CvTConfig, index: int, in_channels: int, side: int):
        super().__init__()
        dim = config.widths[index]
        self.embed = ConvEmbed(
            in_channels,
            dim,
            config.embed_kernels[index],
            config.embed_strides[index],
            config.embed_paddings[index],
        )
        # Ours: a table of the training grid, (1, C, side, side), resized for other grids.
        self.position = self.class_token = None
        if index in POSITIONS[config.position]:
            self.position = nn.Parameter(torch.empty(1, dim, side, side))
            nn.init.trunc_normal_(self.position, std=config.init_std)
        if config.class_token and index == 2:
            self.class_token = nn.Parameter(torch.empty(1, 1, dim))
            nn.init.trunc_normal_(self.class_token, std=config.init_std)
        rates = drop_rates(config.drop_path[index], config.depths[index])
        self.blocks = nn.ModuleList(cvt_block(config, index, rate) for rate in rates)

    def tokens(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """What the first block sees: (B, C_in, H_in, W_in) -> (B, N, C), (H, W)."""
        x, size = self.embed(x)
        if self.position is not None:
            table = self.position
            if table.shape[2:] != size:
                table = F.interpolate(table, size, mode="bicubic", antialias=False)
            x = x + table.flatten(2).transpose(1, 2)
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1)
        return x, size

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C_in, H_in, W_in) -> map (B, C, H, W), class token (B, 0 or 1, C)."""
        x, size = self.tokens(x)
        for block in self.blocks:
            x = block(x, size)
        cells = size[0] * size[1]
        token, grid = x.split([x.shape[1] - cells, cells], dim=1)
        return grid.transpose(1, 2).unflatten(2, size), token


class CvT(Classifier):
    """Three stages and a linear classifier.

    Raises:
        ValueError: if a tuple of the configuration has not three entries, or a value is unknown.
    """

    def __init__(self, config: CvTConfig):
        super().__init__()
        _check(config)
        self.config = config
        channels, side, stages = config.in_channels, config.image_size, []
        for i, width in enumerate(config.widths):
            kernel, stride = config.embed_kernels[i], config.embed_strides[i]
            side = (side + 2 * config.embed_paddings[i] - kernel) // stride + 1
            stages.append(Stage(config, i, channels, side))
            channels = width
        self.stages = nn.ModuleList(stages)
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, config.num_classes)
        init_linears(self, config.init_std)

    def maps(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """Each stage's feature map (B, C, H, W), and the class token (B, 0 or 1, C).

        No norm stands between stages: the next embedding reads the residual stream as it is.
        """
        check_image(image, self.config.in_channels, 8)
        maps, x = [], image
        for stage in self.stages:
            x, token = stage(x)
            maps.append(x)
        return maps, token

    def features(self, image: Tensor) -> Tensor:
        """What the classifier reads: the normalised class token, or the mean token, (B, C_3)."""
        maps, token = self.maps(image)
        if self.config.class_token:
            return self.norm(token[:, 0])
        return self.norm(maps[-1].flatten(2).transpose(1, 2)).mean(1)

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) of any size from 8 pixels on, in [-1, 1] -> logits (B, K)."""
        return self.head(self.features(image))

    @torch.no_grad()
    def class_attention(self, image: Tensor, block: int = -1) -> Tensor:
        """Where the class token looks in a block of the last stage.

        Returns:
            (B, h, H_k, W_k): weights on the grid of keys; they and the weight that the token
            gives itself add up to 1.

        Raises:
            ValueError: if the network has no class token.
        """
        if not self.config.class_token:
            raise ValueError("class_attention needs class_token=True")
        x = image
        for stage in self.stages[:-1]:
            x, _ = stage(x)
        x, size = self.stages[-1].tokens(x)
        blocks = list(self.stages[-1].blocks)
        chosen = blocks[block]
        for earlier in blocks[: blocks.index(chosen)]:
            x = earlier(x, size)
        weights = chosen.attention.weights(chosen.norm1(x), size)[:, :, 0, 1:]  # (B, h, M - 1)
        squeezed = chosen.attention.key_conv is not None
        stride = self.config.kv_stride if squeezed else 1
        return weights.unflatten(-1, [-(-side // stride) for side in size])


def _check(config: CvTConfig) -> None:
    for name in (
        *("widths", "depths", "num_heads", "projections", "drop_path"),
        *("embed_kernels", "embed_strides", "embed_paddings"),
    ):
        if len(getattr(config, name)) != 3:
            raise ValueError(
                f"{name} must have 3 entries, one a stage, got {getattr(config, name)}"
            )
    if min(config.depths) < 1:
        raise ValueError(f"depths must be at least 1, got {config.depths}")
    if config.activation not in ACTIVATIONS:
        accepted = tuple(ACTIVATIONS)
        raise ValueError(f"unknown activation {config.activation!r}; accepted: {accepted}")
    if config.position not in POSITIONS:
        raise ValueError(f"unknown position {config.position!r}; accepted: {tuple(POSITIONS)}")


def build(config: CvTConfig) -> CvT:
    """The network of a configuration."""
    return CvT(config)


def example(config: CvTConfig, batch_size: int = 1, device: str = "meta") -> dict:
    """A batch that ``loss`` takes: zeros of the right shapes."""
    side = config.image_size
    return {
        "image": torch.zeros(batch_size, config.in_channels, side, side, device=device),
        "label": torch.zeros(batch_size, dtype=torch.int64, device=device),
    }
