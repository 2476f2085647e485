"""LPIPS with its published weights (Zhang et al. 2018, equation 1): VGG-16 and five linear heads.

The network is written here because the packages that have it pull in torchvision. The weights are
not ours to ship: two files, as torchvision and the `lpips` package publish them, in a folder that
the reader names.

Shapes: B batch, C channels of a layer, H W pixels.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from gentok.data.files import check_finite, read_tensors
from gentok.data.folder import find, missing
from gentok.measure.images import check_pair

FOLDER = "lpips"  # under GENTOK_DATA
BACKBONE, HEADS = "vgg16-397923af.pth", "vgg.pth"  # the names under which they are published
WIDTHS = (64, 128, 256, 512, 512)
CONVOLUTIONS = (2, 2, 3, 3, 3)  # of each stage; a halving stands between two stages
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's, for [-1, 1]
TINY = 1e-10  # keeps a length of zero finite


class LPIPS(nn.Module):
    """Weighted squared differences of unit-length VGG features.

    Its names are those of the published files: ``features.<n>`` for the convolutions of VGG-16 as
    torchvision counts its layers, ``lin<k>.model.1`` for the heads.
    """

    def __init__(self):
        super().__init__()
        layers: list[nn.Module] = []
        self.ends = []  # number of the layer after which a stage is read
        width = 3
        for stage, (wider, convolutions) in enumerate(zip(WIDTHS, CONVOLUTIONS, strict=True)):
            if stage > 0:
                layers.append(nn.MaxPool2d(2))
            for _ in range(convolutions):
                layers += [nn.Conv2d(width, wider, 3, padding=1), nn.ReLU()]
                width = wider
            self.ends.append(len(layers) - 1)
        self.features = nn.Sequential(*layers)
        for k, channels in enumerate(WIDTHS):
            head = nn.Conv2d(channels, 1, 1, bias=False)  # (1, C, 1, 1): a weight a channel
            self.add_module(f"lin{k}", nn.ModuleDict({"model": nn.ModuleDict({"1": head})}))
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None], persistent=False)

    def stages(self, x: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) in [-1, 1] -> five maps (B, C, h, w), each of unit length along C."""
        h, maps = (x - self.shift) / self.scale, []
        for number, layer in enumerate(self.features):
            h = layer(h)
            if number in self.ends:
                # A gradient of 0, not NaN, where all channels are 0.
                length = h.square().sum(1, keepdim=True).clamp_min(TINY**2).sqrt()
                maps.append(h / (length + TINY))
        return maps

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distance of images, (B, 3, H, W) both, in [-1, 1], at least 16 pixels a side -> (B,).

        Raises:
            ValueError: if the shapes are not those of two batches of such images.
        """
        check_pair(x, y)
        if min(x.shape[2:]) < 16:
            raise ValueError(f"images must have 16 pixels a side or more, got {tuple(x.shape)}")
        total = x.new_zeros(len(x))
        for k, (a, b) in enumerate(zip(self.stages(x), self.stages(y), strict=True)):
            head = self.get_submodule(f"lin{k}.model.1")
            total = total + head((a - b).square()).mean(dim=(1, 2, 3))  # equation 1
        return total


def load_lpips(folder: Path | None = None) -> LPIPS:
    """LPIPS with the published weights, in eval mode, closed to gradients.

    Args:
        folder: holds ``vgg16-397923af.pth`` (torchvision's VGG-16 for ImageNet) and ``vgg.pth``
            (the heads of `lpips` 0.1); ``GENTOK_DATA/lpips`` if None.

    Raises:
        FileNotFoundError: if a file is absent; the message says which and where it is published.
        ValueError: if a file holds something else.
    """
    model = LPIPS().requires_grad_(False).eval()
    wanted = {
        BACKBONE: ("features.", "https://download.pytorch.org/models/vgg16-397923af.pth"),
        HEADS: ("lin", "lpips/weights/v0.1/vgg.pth of the package lpips"),
    }
    for name, (prefix, source) in wanted.items():
        path = find(f"{FOLDER}/{name}") if folder is None else Path(folder) / name
        if path is None or not path.is_file():
            raise missing(f"LPIPS weights {name} ({source})", f"{FOLDER}/{name}")
        _load(model, path, prefix)
    return model


def _load(model: LPIPS, path: Path, prefix: str) -> None:
    """Take the tensors whose names begin with ``prefix``; VGG's classifier is not used."""
    stored = {n: value for n, value in read_tensors(path).items() if n.startswith(prefix)}
    own = {name: p.shape for name, p in model.named_parameters() if name.startswith(prefix)}
    found = {name: value.shape for name, value in stored.items()}
    if found != own:
        wrong = sorted(n for n in own.keys() | found.keys() if own.get(n) != found.get(n))
        raise ValueError(f"{path} does not hold LPIPS's {prefix}* tensors: look at {wrong[:3]}")
    check_finite(path, stored)
    model.load_state_dict(stored, strict=False)
