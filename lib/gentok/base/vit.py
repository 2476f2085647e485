"""A plain vision transformer, with or without a learned position embedding.

Dosovitskiy et al. 2021 (arXiv:2010.11929), in the sizes and with the start of DeiT (Touvron et al.
2021, arXiv:2012.12877), without its distillation token. The baseline of several chapters: nothing
in it knows that a picture has two dimensions, but the position table.

Shapes: B batch, P patch side, N = H W / P^2 tokens and a class token, D width, K classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gentok.base.classifier import Classifier, check_image, init_linears
from gentok.nn.vit import VisionTransformer


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of a ViT; the defaults are DeiT-S.

    Args:
        image_size: side in pixels that the position table is made for.
        patch_size: P; divides ``image_size``.
        num_classes: K.
        dim, depth, num_heads: D, blocks and heads.
        position: add a learned table to the tokens.
        drop_path: largest rate of stochastic depth; it rises over the whole network.
        init_std: standard deviation that linear layers, tables and the class token start with.
    """

    image_size: int = 224
    patch_size: int = 16
    in_channels: int = 3
    num_classes: int = 1000
    dim: int = 384
    depth: int = 12
    num_heads: int = 6
    mlp_ratio: int = 4
    position: bool = True
    drop_path: float = 0.1
    init_std: float = 0.02
    published_params: int | None = None


PRESETS: dict[str, ViTConfig] = {
    "tiny": ViTConfig(
        image_size=32,
        patch_size=4,
        num_classes=10,
        dim=64,
        depth=3,
        num_heads=4,
        init_std=0.1,  # narrow networks need a louder start
    ),
    # DeiT, Table 1: 5, 22 and 86 millions.
    "deit-ti": ViTConfig(dim=192, num_heads=3, published_params=5_717_416),
    "deit-s": ViTConfig(published_params=22_050_664),
    "deit-b": ViTConfig(dim=768, num_heads=12, published_params=86_567_656),
}


class ViT(Classifier, VisionTransformer):
    """Patches, a class token, blocks, and a linear classifier on the class token.

    Raises:
        ValueError: if the patch does not divide the image, or the heads the width.
    """

    def __init__(self, config: ViTConfig):
        if config.image_size % config.patch_size:
            raise ValueError(
                f"patch_size must divide image_size, got {config.patch_size}, {config.image_size}"
            )
        super().__init__(
            (config.image_size,) * 2,
            (config.patch_size,) * 2,
            config.in_channels,
            config.dim,
            config.depth,
            config.num_heads,
            hidden=config.mlp_ratio * config.dim,
            position="learned" if config.position else None,
            drop_path=config.drop_path,
            init_std=config.init_std,
        )
        self.config = config
        self.head = nn.Linear(config.dim, config.num_classes)
        init_linears(self, config.init_std)

    def features(self, image: Tensor) -> Tensor:
        """The normalised class token, (B, D)."""
        check_image(image, self.config.in_channels, self.config.patch_size)
        x, _ = self.tokens(image)
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, 0])

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) of any size from one patch on, in [-1, 1] -> logits (B, K)."""
        return self.head(self.features(image))

    @torch.no_grad()
    def class_attention(self, image: Tensor, block: int = -1) -> Tensor:
        """Where the class token looks in a block: (B, h, H / P, W / P)."""
        x, size = self.tokens(image)
        blocks = list(self.blocks)
        chosen = blocks[block]
        for earlier in blocks[: blocks.index(chosen)]:
            x = earlier(x)
        q, k, _ = chosen.attention.heads(chosen.norm1(x))
        weights = (q[:, :, :1] @ k.mT * k.shape[-1] ** -0.5).softmax(-1)  # (B, h, 1, N + 1)
        return weights[:, :, 0, 1:].unflatten(-1, size)


def build(config: ViTConfig) -> ViT:
    """The network of a configuration."""
    return ViT(config)


def example(config: ViTConfig, batch_size: int = 1, device: str = "meta") -> dict:
    """A batch that ``loss`` takes: zeros of the right shapes."""
    side = config.image_size
    return {
        "image": torch.zeros(batch_size, config.in_channels, side, side, device=device),
        "label": torch.zeros(batch_size, dtype=torch.int64, device=device),
    }
