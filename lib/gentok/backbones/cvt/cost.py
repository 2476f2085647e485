"""What one CvT forward pass costs, in closed form.

Multiply-accumulates of convolutions and matrix products, attention included. Papers print such
numbers under the name FLOPs; `gentok.measure.count_flops` counts two operations for each.
"""

from gentok.backbones.cvt.model import CvTConfig


def block_macs(dim: int, height: int, width: int, token: bool, stride: int, conv: bool) -> int:
    """Cost of one block, MLP ratio 4.

    With T = H W tokens, c = 1 if there is a class token, T_q = T + c queries and
    T_k = ceil(H/s) ceil(W/s) + c keys:
    9 C T + 18 C (T_k - c) + C^2 (2 T_q + 2 T_k) + 2 T_q T_k C + 8 C^2 T_q.

    Args:
        dim: C.
        height, width: grid.
        token: whether the class token is there.
        stride: s, of keys and values.
        conv: False for linear projections, which keep all keys and need no convolution.
    """
    cells = height * width
    keys = -(-height // stride) * -(-width // stride) if conv else cells
    depthwise = 9 * dim * cells + 18 * dim * keys if conv else 0
    queries, keys = cells + token, keys + token
    linear = dim**2 * (2 * queries + 2 * keys) + 8 * dim**2 * queries
    return depthwise + linear + 2 * queries * keys * dim


def cvt_macs(config: CvTConfig, image_size: int | None = None) -> int:
    """Cost of one image.

    Args:
        config: sizes; only ``mlp_ratio`` 4 is covered.
        image_size: side in pixels, that of the configuration if None.

    Raises:
        ValueError: for another MLP ratio.
    """
    if config.mlp_ratio != 4:
        raise ValueError(f"the formula holds for mlp_ratio 4, got {config.mlp_ratio}")
    side = config.image_size if image_size is None else image_size
    channels, total = config.in_channels, 0
    for i, dim in enumerate(config.widths):
        kernel, stride = config.embed_kernels[i], config.embed_strides[i]
        side = (side + 2 * config.embed_paddings[i] - kernel) // stride + 1
        total += kernel**2 * channels * dim * side**2
        token = config.class_token and i == 2
        conv = config.projections[i] == "dw_bn"
        total += config.depths[i] * block_macs(dim, side, side, token, config.kv_stride, conv)
        channels = dim
    return total + channels * config.num_classes
