"""Pretrained CvT weights in the format of `transformers`, and the way back.

The hub has the published networks in that format (``microsoft/cvt-13``, ``microsoft/cvt-21``). They
were trained with QuickGELU, which is therefore the activation that they get here; the port in
`transformers` itself computes the exact GELU. (The port also gives all blocks of a stage one rate
of stochastic depth, which matters in training only.)
"""

import re
from typing import TYPE_CHECKING

from torch import Tensor

from gentok.backbones.cvt.model import CvT, CvTConfig, build

if TYPE_CHECKING:
    from transformers import CvtConfig

# Their names to ours, applied in this order.
NAMES = (
    (r"^cvt\.encoder\.", ""),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.", "head."),
    (r"\.cls_token$", ".class_token"),
    (r"\.embedding\.convolution_embeddings\.projection\.", ".embed.conv."),
    (r"\.embedding\.convolution_embeddings\.normalization\.", ".embed.norm."),
    (r"\.layers\.", ".blocks."),
    (
        r"\.attention\.attention\.convolution_projection_(query|key|value)"
        r"\.convolution_projection\.convolution\.",
        r".attention.\1_conv.conv.",
    ),
    (
        r"\.attention\.attention\.convolution_projection_(query|key|value)"
        r"\.convolution_projection\.normalization\.",
        r".attention.\1_conv.norm.",
    ),
    (r"\.attention\.attention\.projection_(query|key|value)\.", r".attention.\1."),
    (r"\.attention\.output\.dense\.", ".attention.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
)
# What this CvT has no field for, and the only value it knows.
FIXED = {
    "kernel_qkv": 3,
    "padding_q": 1,
    "padding_kv": 1,
    "stride_q": 1,
    "qkv_bias": True,
    "drop_rate": 0.0,
    "attention_drop_rate": 0.0,
    "qkv_projection_method": "dw_bn",
}


def our_name(name: str) -> str:
    """The name here of a tensor of ``CvtForImageClassification``."""
    for pattern, replacement in NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def our_config(
    theirs: "CvtConfig", activation: str = "quick_gelu", image_size: int = 224
) -> CvTConfig:
    """Translate a configuration of `transformers`.

    Raises:
        ValueError: if it asks for something that this CvT does not have; names the field.
    """
    for name, value in FIXED.items():
        if any(item != value for item in getattr(theirs, name)):
            raise ValueError(f"{name} must be {value} in all stages, got {getattr(theirs, name)}")
    for name in ("stride_kv", "mlp_ratio"):
        if len(set(getattr(theirs, name))) != 1:
            raise ValueError(f"{name} must be one in all stages, got {getattr(theirs, name)}")
    tokens = tuple(theirs.cls_token)
    if any(tokens[:-1]):
        raise ValueError(f"cls_token must be False before the last stage, got {tokens}")
    return CvTConfig(
        image_size=image_size,
        in_channels=theirs.num_channels,
        num_classes=theirs.num_labels,
        widths=tuple(theirs.embed_dim),
        depths=tuple(theirs.depth),
        num_heads=tuple(theirs.num_heads),
        embed_kernels=tuple(theirs.patch_sizes),
        embed_strides=tuple(theirs.patch_stride),
        embed_paddings=tuple(theirs.patch_padding),
        mlp_ratio=int(theirs.mlp_ratio[0]),
        kv_stride=theirs.stride_kv[0],
        class_token=tokens[-1],
        activation=activation,
        drop_path=tuple(theirs.drop_path_rate),
    )


def our_weights(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of ``CvtForImageClassification``."""
    return {our_name(name): tensor for name, tensor in theirs.items()}


def from_transformers(
    name_or_folder: str, activation: str = "quick_gelu", download: bool = False
) -> CvT:
    """A pretrained classifier from the hub or from a folder.

    Args:
        name_or_folder: name on the hub, such as ``"microsoft/cvt-13"``, or a folder that
            ``save_pretrained`` wrote.
        activation: as in `CvTConfig`; ``"gelu"`` computes what `transformers` computes.
        download: ask the hub; else only the folder, or what was downloaded before, is read.

    Returns:
        the network in eval mode, on the CPU.

    Raises:
        FileNotFoundError: if there is no such checkpoint, or it is not here and not to be
            downloaded.
        ValueError: if it is no CvT classifier, or of a kind that is not covered here.
    """
    from transformers import AutoConfig, CvtConfig, CvtForImageClassification  # slow to import

    try:
        size = AutoConfig.from_pretrained(name_or_folder, local_files_only=not download)
        if not isinstance(size, CvtConfig):
            raise ValueError(f"{name_or_folder} holds a {size.model_type}, not a cvt")
        config = our_config(size, activation)
        network, loaded = CvtForImageClassification.from_pretrained(
            name_or_folder, local_files_only=not download, output_loading_info=True
        )
    except OSError as error:
        hint = "" if download else "; download=True asks the hub"
        raise FileNotFoundError(f"no CvT checkpoint at {name_or_folder}{hint}") from error
    if loaded["missing_keys"]:
        raise ValueError(f"{name_or_folder} lacks {sorted(loaded['missing_keys'])[0]}")
    model = build(config)
    model.load_state_dict(our_weights(network.state_dict()))
    return model.eval()
