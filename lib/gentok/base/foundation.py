"""Losses that look through a frozen network: perceptual distance and vision-foundation alignment.

VF loss: Yao et al. 2025 (VA-VAE), 3.2, with the constants of its public code. Perceptual distance:
see `gentok.base.perception`. In place of DINOv2 the small presets read a classifier of this book,
which is called a substitute.

Shapes: B batch, z latent channels, h w latent grid, N = h w tokens, D feature channels.
"""

import copy
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.measure.features import SmallClassifier, load_classifier
from gentok.training.configs import may_open

SUBSTITUTES = ("world", "photographs")  # classifiers whose weights come with the book
KNOWN = ("facebook/dinov2-large",)  # what a checkpoint may name: the presets' network


class FrozenNetwork:
    """A network that a loss reads but nobody trains, loaded when it is first needed.

    It is no ``nn.Module`` on purpose: inside a model it is neither counted, nor saved in
    checkpoints, nor given to an optimiser.

    Args:
        load: returns the network.
        outline: builds it without its weights, for the meta device; ``load`` if None.
    """

    def __init__(
        self, load: Callable[[], nn.Module], outline: Callable[[], nn.Module] | None = None
    ):
        self._load = load
        self._outline = outline or load
        self._copies: dict[torch.device, nn.Module] = {}

    def __deepcopy__(self, memo: dict) -> "FrozenNetwork":
        """Copies of a model (such as its weight average) share the frozen network."""
        return self

    def on(self, device: torch.device) -> nn.Module:
        """The network on a device, in eval mode; one copy a device, the first loads it."""
        if device not in self._copies:
            real = (n for place, n in self._copies.items() if place.type != "meta")
            known = next(real, None)
            load = self._outline if device.type == "meta" else self._load
            network = copy.deepcopy(known) if known is not None else load()
            self._copies[device] = network.to(device).eval().requires_grad_(False)
        return self._copies[device]


def foundation_network(name: str) -> FrozenNetwork:
    """The network behind a name.

    Args:
        name: ``"world"`` or ``"photographs"``: a small classifier of this book, the substitute that
            works offline; anything else is a DINOv2 for ``transformers``: a local folder in the
            hub's format, or a hub name such as ``"facebook/dinov2-large"`` (first use downloads).
    """
    if name in SUBSTITUTES:
        return FrozenNetwork(lambda: load_classifier(name), SmallClassifier)
    return FrozenNetwork(lambda: _load_dinov2(name), _outline_dinov2)


def _load_dinov2(name: str) -> nn.Module:
    from transformers import Dinov2Model  # slow to import, and only published presets need it

    local = not may_open(name, KNOWN, "network")
    try:
        return Dinov2Model.from_pretrained(name, local_files_only=local)
    except OSError as error:
        where = "folder" if Path(name).exists() else "folder or hub name"
        raise FileNotFoundError(
            f"no DINOv2 weights in {where} {name!r} ({error}); accepted: a folder in the hub's "
            f"format, a hub name with the network up, or a substitute of {SUBSTITUTES}"
        ) from error


def _outline_dinov2() -> nn.Module:
    """DINOv2-L without weights: what a cost can be counted with."""
    from transformers import Dinov2Config, Dinov2Model

    sizes = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
    return Dinov2Model(Dinov2Config(**sizes, patch_size=14, image_size=518))


def feature_map(network: nn.Module, image: Tensor) -> Tensor:
    """A frozen network's last feature map of images.

    DINOv2 gets the image resized to 224 pixels (bilinear), still in [-1, 1], as in VA-VAE's code;
    its 16x16 patch tokens become a map. A classifier gives its last convolutional map.

    Args:
        image: (B, 3, H, W) in [-1, 1].

    Returns:
        (B, D, h, w), without gradient.
    """
    with torch.no_grad():
        if hasattr(network, "features"):
            return network.features(image)[-1]
        size = 16 * network.config.patch_size  # 224 for patches of 14
        resized = F.interpolate(image, size=(size, size), mode="bilinear", align_corners=False)
        tokens = network(pixel_values=resized).last_hidden_state[:, 1:]  # (B, 256, D)
        return tokens.transpose(1, 2).unflatten(2, (16, 16))


def distance_matrix_loss(z: Tensor, f: Tensor, margin: float = 0.25) -> Tensor:
    """L_mdms: pairwise cosines inside z' and inside f should differ by no more than the margin.

    Args:
        z, f: tokens, (B, N, D) and (B, N, D'); only their own cosines are compared.

    Returns:
        mean over i, j of ReLU(|cos(z_i, z_j) - cos(f_i, f_j)| - margin), scalar.
    """
    z, f = F.normalize(z, dim=-1), F.normalize(f, dim=-1)
    gap = (z @ z.transpose(1, 2) - f @ f.transpose(1, 2)).abs()  # (B, N, N)
    return F.relu(gap - margin).mean()


def cosine_loss(z: Tensor, f: Tensor, margin: float = 0.5) -> Tensor:
    """L_mcos: each projected latent should point where its feature points, up to the margin.

    Args:
        z, f: tokens, both (B, N, D).

    Returns:
        mean over i of ReLU(1 - margin - cos(z_i, f_i)), scalar.
    """
    return F.relu(1 - margin - F.cosine_similarity(z, f, dim=-1)).mean()


class VFLoss(nn.Module):
    """Pull latents towards a frozen network's features: L_mdms + L_mcos (VA-VAE, 3.2).

    Args:
        latent_channels: z.
        feature_channels: D of the frozen network's last map (1024 for DINOv2-L).
        margins: of the distance-matrix term and of the cosine term; published 0.25 and 0.5.
    """

    def __init__(
        self,
        latent_channels: int,
        feature_channels: int,
        margins: tuple[float, float] = (0.25, 0.5),
    ):
        super().__init__()
        self.margins = margins
        self.project = nn.Conv2d(latent_channels, feature_channels, 1, bias=False)

    def forward(self, z: Tensor, features: Tensor) -> Tensor:
        """Compare.

        Args:
            z: sampled latents, (B, z, h, w).
            features: (B, D, h', w'); brought to h x w by averaging or bilinear interpolation.

        Returns:
            L_mdms + L_mcos, scalar.
        """
        z = self.project(z)
        if features.shape[-2:] != z.shape[-2:]:
            smaller = features.shape[-1] > z.shape[-1]
            mode = "area" if smaller else "bilinear"
            features = F.interpolate(features, size=z.shape[-2:], mode=mode)
        z, features = (t.flatten(2).transpose(1, 2) for t in (z, features))  # (B, N, D)
        mdms, mcos = self.margins
        return distance_matrix_loss(z, features, mdms) + cosine_loss(z, features, mcos)
