"""Published autoencoders in the files of `diffusers`, read into this library's KL-VAE.

Both list the same layers in the same order under other names, and keep queries, keys and values of
the attention in one matrix or in three. The file is `diffusion_pytorch_model.safetensors` of a
folder such as the hub's ``stabilityai/sdxl-vae``.
"""

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from gentok.base.kl_vae import KLVAE, KLVAEConfig, build
from gentok.data.files import reading
from gentok.nn.conv import AttentionBlock2d, ResBlock

FILE = "diffusion_pytorch_model.safetensors"
OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}  # in older files


def read_kl_vae(path: str | Path, config: KLVAEConfig) -> KLVAE:
    """The autoencoder of a configuration with the weights of a file, in eval mode, frozen.

    Args:
        path: of the file.
        config: its encoder and decoder; no discriminator is built.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or a tensor is missing, is left over or has another shape.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no autoencoder {path}")
    with reading(path, "safetensors"):
        stored = load_file(path)
    model = build(replace(config, gan_weight=0.0, perceptual_weight=0.0, vf_weight=0.0))
    left = set(stored)
    for name, wanted in named(model).items():
        key = name if name in stored else _older(name)
        found = stored.get(key)
        if found is None or found.numel() != wanted.numel():
            there = "absent" if found is None else tuple(found.shape)
            raise ValueError(f"{path}: {name} is {there} there and {tuple(wanted.shape)} here")
        with torch.no_grad():
            wanted.copy_(found.view(wanted.shape))
        left.discard(key)
    if left:
        raise ValueError(f"{path}: {min(left)} has no place in this autoencoder")
    return model.eval().requires_grad_(False)


def named(model: KLVAE) -> dict[str, Tensor]:
    """The tensors of an autoencoder under the names of `diffusers`; views of its own weights."""
    tensors: dict[str, Tensor] = {}
    for side, blocks, jump in (
        ("encoder", "down_blocks", "downsamplers"),
        ("decoder", "up_blocks", "upsamplers"),
    ):
        body = getattr(model, side)
        _stages(tensors, f"{side}.{blocks}", jump, body.stages)
        for i, layer in enumerate(body.middle):
            kind = "attentions.0" if i == 1 else f"resnets.{i // 2}"
            _layer(tensors, f"{side}.mid_block.{kind}", layer)
        for name, layer in (
            ("conv_in", body.conv_in), ("conv_norm_out", body.norm_out), ("conv_out", body.conv_out)
        ):  # fmt: skip
            _put(tensors, f"{side}.{name}", layer)
    for name in ("quant_conv", "post_quant_conv"):
        _put(tensors, name, getattr(model, name))
    return tensors


def _stages(tensors: dict[str, Tensor], prefix: str, jump: str, layers: nn.Sequential) -> None:
    """Residual blocks, attention and the jump to the next size, stage by stage."""
    stage, counts = 0, {"resnets": 0, "attentions": 0}
    for layer in layers:
        if isinstance(layer, ResBlock | AttentionBlock2d):
            kind = "resnets" if isinstance(layer, ResBlock) else "attentions"
            _layer(tensors, f"{prefix}.{stage}.{kind}.{counts[kind]}", layer)
            counts[kind] += 1
        else:
            _put(tensors, f"{prefix}.{stage}.{jump}.0.conv", layer.conv)
            stage, counts = stage + 1, {"resnets": 0, "attentions": 0}


def _layer(tensors: dict[str, Tensor], prefix: str, layer: ResBlock | AttentionBlock2d) -> None:
    if isinstance(layer, AttentionBlock2d):
        _put(tensors, f"{prefix}.group_norm", layer.norm)
        _put(tensors, f"{prefix}.to_out.0", layer.proj)
        for kind in ("weight", "bias"):
            parts = getattr(layer.qkv, kind).chunk(3)
            for name, part in zip(("to_q", "to_k", "to_v"), parts, strict=True):
                tensors[f"{prefix}.{name}.{kind}"] = part
        return
    parts = {"norm1": layer.norm1, "conv1": layer.conv1, "norm2": layer.norm2, "conv2": layer.conv2}
    for name, part in {**parts, "conv_shortcut": layer.skip}.items():
        _put(tensors, f"{prefix}.{name}", part)


def _put(tensors: dict[str, Tensor], name: str, layer: nn.Module) -> None:
    for kind, tensor in layer.named_parameters(recurse=False):
        tensors[f"{name}.{kind}"] = tensor


def _older(name: str) -> str:
    """The name that a tensor has in older files."""
    for new, old in OLD.items():
        name = name.replace(f".{new}.", f".{old}.")
    return name
