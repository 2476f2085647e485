"""A perceptual distance of LPIPS's form but not its weights (Zhang et al. 2018, equation 1)."""

from torch import Tensor, nn

from gentok.measure.images import check_pair

TINY = 1e-10  # keeps the gradient of a length finite where a feature vector is zero


def _unit(features: Tensor) -> Tensor:
    """Give the feature vector at each position length 1, (B, C, H, W)."""
    return features * (features.square().sum(dim=1, keepdim=True) + TINY).rsqrt()


def perceptual_distance(classifier: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Distance of two images as a network sees them.

    At each position and layer the features are scaled to unit length; squared differences are
    summed over channels, averaged over positions and summed over layers. LPIPS weighs the channels
    by what people judged alike, and reads a network trained on ImageNet; neither is so here, so the
    values must not be called LPIPS.

    Args:
        classifier: anything with ``features(x) -> list of (B, C, H, W)``, as `SmallClassifier`.
        x, y: images in [-1, 1], (B, 3, H, W).

    Returns:
        (B,), no unit; 0 for equal images, at most 4 a layer. Differentiable in both images.

    Raises:
        ValueError: if the shapes are not those of two image batches.
    """
    check_pair(x, y)
    pairs = zip(classifier.features(x), classifier.features(y), strict=True)
    layers = [(_unit(a) - _unit(b)).square().sum(dim=1).mean(dim=(1, 2)) for a, b in pairs]
    return sum(layers[1:], start=layers[0])
