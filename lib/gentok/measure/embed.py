"""Maps of features on the plane."""

import numpy as np
from torch import Tensor


def tsne(features: Tensor | np.ndarray, seed: int = 0, perplexity: float = 30.0) -> np.ndarray:
    """t-SNE map (van der Maaten and Hinton 2008) by scikit-learn, started from the first two PCs.

    Neighbourhoods in the map mean something; distances between clusters and sizes of clusters do
    not.

    Args:
        features: (N, F).
        seed: fixes the map.
        perplexity: about how many neighbours each point keeps; less than N.

    Returns:
        (N, 2), float32, no unit.

    Raises:
        ValueError: if ``features`` is not (N, F), not finite, or the same for all items, or
            ``perplexity`` is not in (0, N).
    """
    from sklearn.manifold import TSNE  # slow to import

    if isinstance(features, Tensor):
        features = features.detach().cpu().float().numpy()
    if features.ndim != 2:
        raise ValueError(f"features must be (N, F), got {features.shape}")
    if not 0 < perplexity < len(features):
        raise ValueError(
            f"perplexity must lie between 0 and the {len(features)} items, got {perplexity}"
        )
    # Neighbours at distance 0 from each other end the process inside scikit-learn.
    if not np.isfinite(features).all() or not np.ptp(features, axis=0).any():
        raise ValueError("features must be finite and differ between items")
    # PCA needs two axes and two items; a start from noise is all that is left for less.
    init = "pca" if min(features.shape) >= 2 else "random"
    return TSNE(perplexity=perplexity, init=init, random_state=seed).fit_transform(features)
