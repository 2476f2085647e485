"""Point-MAE: masked autoencoding of point clouds (Pang et al. 2022, arXiv:2203.06604).

A cloud is cut into overlapping patches, most of them masked, and a plain transformer encodes the
visible ones. Mask tokens join only in a light decoder, which predicts the points of the masked
patches relative to their centres. What the paper leaves open (widths of the tokenizer, biases,
initial weights, order of tokens in the decoder) follows the authors' released code.

Shapes: B batch, P points, G patches, V visible and M masked ones (V + M = G), k points of a patch,
D channels. Coordinates (x, y, z); clouds lie in the unit ball.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from gentok.measure import chamfer_distance
from gentok.nn.points import Patches, group, take_points
from gentok.nn.transformer import init_linears_xavier
from gentok.process.masked import random_mask
from gentok.shapes.point_mae.layers import PatchTokenizer, Transformer, position_mlp
from gentok.shapes.point_mae.masking import Split, block_mask, split


@dataclass(frozen=True)
class PointMAEConfig:
    """Sizes of Point-MAE; the defaults are the paper's one pretraining model.

    Args:
        num_points: P that a cloud is expected to have; patches scale with it, n k = 2 P.
        num_patches: G; ``patch_size``: points k of a patch, its centre included.
        dim: D; ``depth`` and ``decoder_depth``: blocks; ``num_heads``: of both.
        tokenizer_widths: the three hidden widths of the mini-PointNet.
        position_width: hidden width of the two position MLPs.
        mask_ratio: share of patches that are masked, rounded down to a number of patches.
        masking: ``"random"`` patches, or a ``"block"``: one random patch and those nearest to it.
        shift_mask_tokens: True, the paper's design: mask tokens enter the decoder. False, its
            ablation: they enter the encoder, and there is no decoder.
        drop_path: largest rate of stochastic depth; it grows linearly from 0 over the blocks.
        init_std: of the encoder's truncated normal weights.
        published_params: as the sheet of the paper's code counts them, or None.
    """

    num_points: int = 1024
    num_patches: int = 64
    patch_size: int = 32
    dim: int = 384
    depth: int = 12
    decoder_depth: int = 4
    num_heads: int = 6
    mlp_ratio: int = 4
    tokenizer_widths: tuple[int, int, int] = (128, 256, 512)
    position_width: int = 128
    mask_ratio: float = 0.6
    masking: Literal["random", "block"] = "random"
    shift_mask_tokens: bool = True
    drop_path: float = 0.1
    init_std: float = 0.02
    published_params: int | None = None

    @property
    def num_masked(self) -> int:
        """M, the same for every cloud."""
        return int(self.mask_ratio * self.num_patches)


PRESETS: dict[str, PointMAEConfig] = {
    # 32 x 32 = 2 x 512: patches overlap as much as in the paper.
    "tiny": PointMAEConfig(
        num_points=512,
        num_patches=32,
        patch_size=32,
        dim=64,
        depth=3,
        decoder_depth=1,
        num_heads=4,
        tokenizer_widths=(16, 32, 48),
        position_width=64,
    ),
    "world-512": PointMAEConfig(
        num_points=512,
        num_patches=32,
        patch_size=32,
        dim=96,
        depth=4,
        decoder_depth=2,
        num_heads=4,
        tokenizer_widths=(24, 48, 64),
        position_width=96,
    ),
    "point-mae": PointMAEConfig(published_params=29_006_432),
}


class PointEncoder(nn.Module):
    """Tokenizer, position MLP and transformer: all that fine-tuning keeps."""

    def __init__(self, config: PointMAEConfig):
        super().__init__()
        self.config = config
        self.tokenizer = PatchTokenizer(config.tokenizer_widths, config.dim)
        self.position = position_mlp(config.position_width, config.dim)
        self.transformer = _transformer(config, config.depth)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=config.init_std)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def group(self, points: Tensor) -> Patches:
        """Cut clouds (B, P, 3) into patches.

        Raises:
            ValueError: if ``points`` has another shape or too few points.
        """
        return group(points, self.config.num_patches, self.config.patch_size)

    def forward(self, points: Tensor) -> Tensor:
        """All patches visible: clouds (B, P, 3) -> tokens (B, G, D) in the order of the centres."""
        patches = self.group(points)
        tokens = self.tokenizer(patches.points)
        return self.transformer(tokens, self.position(patches.centres))


class Reconstruction(NamedTuple):
    """What the model makes of clouds with masked patches; all points in the cloud's coordinates."""

    visible: Tensor  # (B, V, k, 3), as given
    predicted: Tensor  # (B, M, k, 3)
    masked: Tensor  # (B, M, k, 3), the truth
    chamfer: Tensor  # (B, M), squared distance of each predicted patch


class PointMAE(nn.Module):
    """Asymmetric masked autoencoder: a deep encoder of visible patches, a shallow decoder of all.

    Raises:
        ValueError: if a size is out of range.
    """

    def __init__(self, config: PointMAEConfig):
        super().__init__()
        _check(config)
        self.config = config
        self.encoder = PointEncoder(config)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        if config.shift_mask_tokens:
            self.decoder_position = position_mlp(config.position_width, config.dim)
            self.decoder = _transformer(config, config.decoder_depth)
            init_linears_xavier(self.decoder)
        # The position MLP of the decoder and the head keep PyTorch's initial weights.
        self.head = nn.Linear(config.dim, 3 * config.patch_size)

    def encode(self, x: Tensor) -> Tensor:
        """Tokens of all patches, none masked: clouds (B, P, 3) -> (B, G, D)."""
        return self.encoder(x)

    def decode(self, tokens: Tensor, visible: Tensor, masked: Tensor) -> Tensor:
        """Predict masked patches from the encoder's tokens.

        Args:
            tokens: (B, V, D) of the visible patches, centred at ``visible`` (B, V, 3).
            masked: centres of the patches to predict, (B, M, 3).

        Returns:
            points relative to those centres, (B, M, k, 3).

        Raises:
            ValueError: if this network has no decoder (``shift_mask_tokens=False``).
        """
        if not self.config.shift_mask_tokens:
            raise ValueError("decode needs shift_mask_tokens=True; this network has no decoder")
        hidden = self.mask_token.expand(len(masked), masked.shape[1], -1)
        x = torch.cat([tokens, hidden], dim=1)  # no unshuffle: positions tell the places
        position = self.decoder_position(torch.cat([visible, masked], dim=1))
        return self._points(self.decoder(x, position)[:, -masked.shape[1] :])

    def predict(self, patches: Patches, places: Split) -> tuple[Tensor, Tensor]:
        """Encode the visible patches and predict the masked ones.

        Args:
            patches: of clouds; ``places``: which of them are visible and which masked.

        Returns:
            predicted points relative to the centres, (B, M, k, 3), and the encoder's output:
            (B, V, D), or (B, G, D) with the mask tokens last if they enter the encoder.
        """
        # Every patch is tokenized, so that batch norm's statistics are those of whole clouds, as in
        # the code and in fine-tuning; masked tokens are dropped before they meet the others.
        visible, masked = places
        tokens = take_points(self.encoder.tokenizer(patches.points), visible)  # (B, V, D)
        seen, unseen = (take_points(patches.centres, part) for part in (visible, masked))
        if self.config.shift_mask_tokens:
            z = self.encoder.transformer(tokens, self.encoder.position(seen))
            return self.decode(z, seen, unseen), z
        hidden = self.mask_token.expand(*masked.shape, -1)
        position = self.encoder.position(torch.cat([seen, unseen], dim=1))
        z = self.encoder.transformer(torch.cat([tokens, hidden], dim=1), position)
        return self._points(z[:, -masked.shape[1] :]), z

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Chamfer distance of predicted to true patches (equation 5), a mean over masked patches.

        Args:
            batch: "points", (B, P, 3).
            step: not used.

        Returns:
            the loss in squared units of the coordinates, and {"chamfer": the same, detached}.

        Raises:
            ValueError: if the clouds have another shape.
        """
        patches = self.encoder.group(batch["points"])
        places = self.mask(patches.centres)
        predicted, _ = self.predict(patches, places)
        target = _take_patches(patches.points, places.masked)
        # Patch by patch, each relative to its centre: not the distance of two whole clouds.
        total = chamfer_distance(predicted.flatten(0, 1), target.flatten(0, 1)).mean()
        return total, {"chamfer": total.detach()}

    def mask(self, centres: Tensor, num_masked: int | None = None) -> Split:
        """Draw which ``num_masked`` patches of every cloud to mask, by their centres (B, G, 3)."""
        num_masked = self.config.num_masked if num_masked is None else num_masked
        if self.config.masking == "block":
            mask = block_mask(centres, num_masked)
        else:
            mask = random_mask(*centres.shape[:2], num_masked, centres.device)
        return split(mask, num_masked)

    @torch.no_grad()
    def reconstruct(self, points: Tensor, mask_ratio: float | None = None) -> Reconstruction:
        """Mask clouds (B, P, 3) and fill them in, at the trained ratio or at another.

        Raises:
            ValueError: if ``mask_ratio`` masks no patch or all of them.
        """
        config = self.config
        ratio = config.mask_ratio if mask_ratio is None else mask_ratio
        num_masked = _num_masked(ratio, config.num_patches)
        patches = self.encoder.group(points)
        places = self.mask(patches.centres, num_masked)
        predicted, _ = self.predict(patches, places)
        visible, masked = places
        target = _take_patches(patches.points, masked)
        error = chamfer_distance(predicted.flatten(0, 1), target.flatten(0, 1))
        seen, unseen = (take_points(patches.centres, i)[:, :, None] for i in (visible, masked))
        return Reconstruction(
            _take_patches(patches.points, visible) + seen,
            predicted + unseen,
            target + unseen,
            error.view(-1, num_masked),
        )

    def _points(self, x: Tensor) -> Tensor:
        return self.head(x).unflatten(-1, (-1, 3))  # (B, M, 3 k) -> (B, M, k, 3)


def _transformer(config: PointMAEConfig, depth: int) -> Transformer:
    return Transformer(config.dim, depth, config.num_heads, config.mlp_ratio, config.drop_path)


def _take_patches(patches: Tensor, index: Tensor) -> Tensor:
    """(B, G, k, 3) and (B, M) -> (B, M, k, 3)."""
    return take_points(patches.flatten(2), index).unflatten(-1, patches.shape[2:])


def _num_masked(ratio: float, num_patches: int) -> int:
    num_masked = int(ratio * num_patches)
    if not 1 <= num_masked < num_patches:
        raise ValueError(
            f"mask_ratio must mask 1 to {num_patches - 1} of {num_patches} patches, got {ratio}"
        )
    return num_masked


def _check(config: PointMAEConfig) -> None:
    _num_masked(config.mask_ratio, config.num_patches)
    if min(config.depth, config.decoder_depth) < 1:
        depths = f"{config.depth} and {config.decoder_depth}"
        raise ValueError(f"depth and decoder_depth must be at least 1, got {depths}")
    if max(config.num_patches, config.patch_size) > config.num_points:
        raise ValueError(
            f"num_patches and patch_size must not exceed num_points={config.num_points}, "
            f"got {config.num_patches} and {config.patch_size}"
        )
    if config.masking not in ("random", "block"):
        raise ValueError(f"masking must be 'random' or 'block', got {config.masking!r}")
    if not 0 <= config.drop_path < 1:
        raise ValueError(f"drop_path must lie in [0, 1), got {config.drop_path}")


def build(config: PointMAEConfig) -> PointMAE:
    """The pretraining network of a configuration."""
    return PointMAE(config)


def example(config: PointMAEConfig, batch_size: int = 2, device: str = "meta") -> dict[str, Tensor]:
    """A batch that `PointMAE.loss` takes."""
    return {"points": torch.rand(batch_size, config.num_points, 3, device=device)}
