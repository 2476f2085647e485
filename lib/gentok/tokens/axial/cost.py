"""What axial attention costs, in multiply-accumulates (MACs), and what its sampler saves.

Follows Ho et al. 2019 (arXiv:1912.12180), section 3, and the layers as the released code has them.
Matrix products, attention and the convolution count; a mask saves nothing, as in PyTorch's counter.

Notation: H W pixels of a plane, C channels, D features, K values.
"""

from gentok.tokens.axial.model import AxialConfig


def attention_macs(height: int, width: int, dim: int, kind: str) -> int:
    """Scores and weighted sums of one attention layer, without its projections.

    Each of the H W queries reads W keys in a row, H in a column, H W in full attention, and each
    read costs D for the score and D for the sum.

    Args:
        kind: ``"row"``, ``"column"`` or ``"full"``.

    Raises:
        ValueError: if ``kind`` is unknown.
    """
    keys = {"row": width, "column": height, "full": height * width}
    if kind not in keys:
        raise ValueError(f"kind must be one of {list(keys)}, got {kind!r}")
    return 2 * height * width * keys[kind] * dim


def block_macs(config: AxialConfig, kind: str) -> int:
    """One block on a whole plane: four projections, the MLP, and its attention."""
    size, dim = config.image_size, config.dim
    linear = (4 + 2 * config.mlp_ratio) * dim**2 * size**2
    return linear + attention_macs(size, size, dim, kind)


def lstm_macs(config: AxialConfig) -> int:
    """One LSTM layer on a whole plane: four gates, each from the input and the last output."""
    return 8 * config.dim**2 * config.image_size**2


def plane_macs(config: AxialConfig) -> int:
    """One pass for one plane of one picture: what a training step pays forwards.

    Of the compared contexts only ``"full"`` costs another amount, and so does ``"lstm"``; the
    stacked variant has no such planes.
    """
    positions, dim = config.image_size**2, config.dim
    conv = 9 * 2 * config.channels * dim * positions
    head = dim * config.num_values * positions
    exterior = config.exterior_layers * block_macs(config, "row")  # square: as dear as columns
    outer = block_macs(config, "full" if config.context == "full" else "row")
    inner = lstm_macs(config) if config.context == "lstm" else outer
    return conv + exterior + config.outer_layers * outer + config.inner_layers * inner + head


def sampling_evaluations(config: AxialConfig, semi_parallel: bool = True) -> int:
    """Positions times blocks of the *decoder* that drawing one plane takes.

    Naive: all outer and inner blocks on all positions, once a pixel. Semi-parallel: the outer
    blocks on all positions once a row, the inner blocks on one row once a pixel.
    """
    side = config.image_size
    positions = side**2
    if not semi_parallel:
        return positions * positions * (config.outer_layers + config.inner_layers)
    return side * positions * config.outer_layers + positions * side * config.inner_layers
