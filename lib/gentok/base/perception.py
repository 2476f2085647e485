"""The network behind a perceptual loss, by name: LPIPS for published sizes, a substitute for small.

Published tokenizers are trained with VGG-LPIPS (Zhang et al. 2018), whose weights a reader has to
bring. The small presets read one of the book's own classifiers instead, in the same form; its
values are about ten times LPIPS's, so their weight is a tenth.
"""

from torch import Tensor, nn

from gentok.base.foundation import SUBSTITUTES, FrozenNetwork, foundation_network
from gentok.measure.features.lpips import LPIPS, load_lpips
from gentok.measure.features.perceptual import perceptual_distance

VGG = "vgg-lpips"


def perceptual_network(name: str) -> FrozenNetwork:
    """The frozen network of a perceptual loss; weights are read when it is first needed.

    Args:
        name: ``"vgg-lpips"``, with weights under ``GENTOK_DATA/lpips`` (see `load_lpips`); or a
            classifier that comes with the book, ``"world"`` or ``"photographs"``.

    Raises:
        ValueError: if the name is none of these.
    """
    if name == VGG:
        return FrozenNetwork(load_lpips, LPIPS)
    if name not in SUBSTITUTES:
        raise ValueError(f"unknown perceptual network {name!r}; accepted: {(VGG, *SUBSTITUTES)}")
    return foundation_network(name)


def perceived(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Distance of images (B, 3, H, W) in [-1, 1] as the network sees them, (B,), no unit."""
    return network(x, y) if isinstance(network, LPIPS) else perceptual_distance(network, x, y)
