"""Rows of vision transformers on clips, on few of a picture's patches, and along axes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import Work, Workload, backward
from gentok.nn.attention import SelfAttention
from gentok.nn.blocks import vit_blocks
from gentok.nn.position import sincos_2d
from gentok.nn.transformer import init_linears_xavier
from gentok.nn.vit import VisionTransformer


def vivit_pair(activation: str = "gelu_fast") -> tuple[nn.Module, nn.Module]:
    """Ours and transformers' transformer on 4 x 8 x 8 tubelets of 2 x 4 x 4.

    The peer's default activation is the tanh form of GELU in single operations; ours is exact.
    """
    from transformers import VivitConfig, VivitModel

    ours = VisionTransformer((8, 32, 32), (2, 4, 4), 3, 192, 6, 6)
    peer = VivitModel(
        VivitConfig(
            image_size=32, num_frames=8, tubelet_size=[2, 4, 4], hidden_size=192,
            num_hidden_layers=6, num_attention_heads=6, intermediate_size=768,
            hidden_act=activation, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0, layer_norm_eps=1e-6,
        ),
        add_pooling_layer=False,
    ).train()  # fmt: skip
    return ours, peer


def vivit() -> tuple[Work, Work]:
    """Tokens and gradients of 8 clips of 8 frames, 32 pixels."""
    ours, peer = vivit_pair()
    clip = torch.randn(8, 8, 3, 32, 32)  # (B, T, C, H, W)
    return (
        backward(lambda: ours(clip.transpose(1, 2)).square().mean(), ours),
        backward(lambda: peer(clip).last_hidden_state.square().mean(), peer),
    )


class SmallMAE(nn.Module):
    """A masked autoencoder (He et al. 2022) from our trunk: what ViTMAE does, same sizes.

    The trunk sees a quarter of 64 patches; two blocks of width 96 paint the rest.
    """

    def __init__(self):
        super().__init__()
        self.trunk = VisionTransformer((32, 32), (4, 4), 3, 192, 6, 6, position="sincos")
        self.embed = nn.Linear(192, 96)
        self.mask = nn.Parameter(torch.randn(1, 1, 96) * 0.02)
        table = torch.cat([torch.zeros(1, 96), sincos_2d(8, 8, 96)])[None]
        self.position = nn.Parameter(table, requires_grad=False)
        self.blocks = vit_blocks(96, 2, 6, 384)
        self.norm = nn.LayerNorm(96, eps=1e-6)
        self.head = nn.Linear(96, 48)
        init_linears_xavier(self)

    def forward(self, image: Tensor, noise: Tensor) -> Tensor:
        """Images (B, 3, 32, 32), noise (B, 64) that orders patches -> loss of hidden patches."""
        order = noise.argsort(1)
        tokens, _ = self.trunk.tokens(image)
        x = torch.cat([tokens[:, :1], take(tokens[:, 1:], order[:, :16])], dim=1)
        for block in self.trunk.blocks:
            x = block(x)
        x = self.embed(self.trunk.norm(x))
        hidden = self.mask.expand(len(x), 48, -1)
        back = order.argsort(1)  # where each patch stands among visible and hidden ones
        whole = take(torch.cat([x[:, 1:], hidden], dim=1), back)
        x = torch.cat([x[:, :1], whole], dim=1) + self.position
        for block in self.blocks:
            x = block(x)
        painted = self.head(self.norm(x))[:, 1:]
        error = (painted - patches(image)).square().mean(-1)  # (B, 64)
        return error.gather(1, order[:, 16:]).mean()


def take(x: Tensor, index: Tensor) -> Tensor:
    """Tokens (B, N, D) at places (B, n) -> (B, n, D)."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


def patches(image: Tensor) -> Tensor:
    """(B, 3, 32, 32) -> pixels of 4 x 4 patches, channels last, (B, 64, 48)."""
    cut = image.unflatten(3, (8, 4)).unflatten(2, (8, 4))  # (B, C, 8, 4, 8, 4)
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def mae_pair() -> tuple[SmallMAE, nn.Module]:
    """Ours and transformers' ViTMAEForPreTraining."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    peer = ViTMAEForPreTraining(
        ViTMAEConfig(
            image_size=32, patch_size=4, hidden_size=192, num_hidden_layers=6,
            num_attention_heads=6, intermediate_size=768, decoder_hidden_size=96,
            decoder_num_hidden_layers=2, decoder_num_attention_heads=6,
            decoder_intermediate_size=384, mask_ratio=0.75, layer_norm_eps=1e-6,
        )
    ).train()  # fmt: skip
    return SmallMAE(), peer


def mae() -> tuple[Work, Work]:
    """Loss and gradients of 64 images of 32 pixels, 48 of 64 patches hidden."""
    ours, peer = mae_pair()
    image, noise = torch.randn(64, 3, 32, 32), torch.rand(64, 64)
    return (
        backward(lambda: ours(image, noise), ours),
        backward(lambda: peer(pixel_values=image, noise=noise).loss, peer),
    )


class AlongAxes(nn.Module):
    """Attention in rows plus attention in columns of a grid (B, H, W, D): what axial layers share.

    Args:
        layers: of rows and of columns, tokens (n, N, D) -> (n, N, D).
    """

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, D) -> the same shape."""
        rows, columns = self.layers
        along = rows(x.flatten(0, 1)).view_as(x)
        down = columns(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(x), -1))
        return along + down.transpose(1, 2)


class TorchAttention(nn.MultiheadAttention):
    """torch's layer as a self-attention with one argument."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, N, D) -> (n, N, D)."""
        return super().forward(x, x, x, need_weights=False)[0]


def axial_pair() -> tuple[nn.Module, nn.Module]:
    """Ours and torch's attention along both axes."""
    ours = AlongAxes(SelfAttention(192, 6), SelfAttention(192, 6))
    peer = AlongAxes(*(TorchAttention(192, 6, batch_first=True) for _ in range(2)))
    return ours, peer


def axial() -> tuple[Work, Work]:
    """8 grids of 32 x 32 tokens of 192; axial-attention, the usual peer, is not kept up."""
    ours, peer = axial_pair()
    x = torch.randn(8, 32, 32, 192)
    return (
        backward(lambda: ours(x).square().mean(), ours),
        backward(lambda: peer(x).square().mean(), peer),
    )


class DenseTopK(nn.Module):
    """A plain TopK autoencoder, the named peer: all features kept in a dense tensor."""

    def __init__(self, dim: int, num_features: int, k: int):
        super().__init__()
        self.k = k
        self.bias = nn.Parameter(torch.zeros(dim))
        self.encoder = nn.Linear(dim, num_features)
        self.decoder = nn.Linear(num_features, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> mean squared error of the reconstruction from k features."""
        features = F.relu(self.encoder(x - self.bias))
        values, index = features.topk(self.k, dim=-1)
        kept = torch.zeros_like(features).scatter(-1, index, values)
        return (self.decoder(kept) + self.bias - x).square().sum(-1).mean()


VISION = [
    Workload("video transformer, training, 8 clips 8x32x32", "transformers VivitModel", 1.1,
             vivit, training=True),
    Workload("masked autoencoder, training, 64 images 32x32",
             "transformers ViTMAEForPreTraining", 0.95, mae, training=True),
    Workload("axial attention, training, 8 grids 32x32", "torch MultiheadAttention on rows, "
             "columns", 0.9, axial, training=True),
]  # fmt: skip
