"""Trained weights that come with the book: one small file a system, with all that made it.

A file of ``weights/`` holds the averaged weights of every network of a system, in half precision
(or, where that is too large, matrices in 8 bits), and in its header: the configurations, the data
and their digests, seed, steps, seconds, machine, commit, the metrics that were reached on held-out
data, and those of a small fixed part, which a test computes again.

A recipe whose weights come with the book says how in ``WEIGHTS``, a `Weights`.
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gentok.data import ImageSet
from gentok.training import checkpoint
from gentok.training.checkpoint import load_checkpoint, save
from gentok.training.loading import load_weights, stored_config
from gentok.training.profiles import Profile

CHECKOUT = Path(__file__).parents[3] / "weights"
HUB = "generative-tokenizers/gentok"  # the hub's copy of the folder
LARGEST = 8_000_000  # bytes of a file
MATRIX = 4096  # numbers from which a matrix may be kept in 8 bits
Part = tuple[type, Callable[[Any], nn.Module]]  # configuration class and ``build(config)``


@dataclass(frozen=True)
class Weights:
    """How a system's weights are made and put together.

    Args:
        preset: that is trained; ``train`` is the recipe's, called in the profile ``long``.
        parts: the networks in the file.
        collect: the trained parts, from the checkpoint that ``train`` was told to write.
        assemble: makes the system of the parts, given by name.
        measure: ``measure(system, n)``: metrics of ``n`` samples or held-out items, repeatable.
        data: ``data(profile, seed)``: the sets that were learned from, by name; `Learned` ones
            where they are no images.
        eight_bits: keep matrices in 8 bits.
    """

    preset: str
    parts: dict[str, Part]
    train: Callable[..., nn.Module]
    collect: Callable[[Path], dict[str, nn.Module]]
    assemble: Callable[..., nn.Module]
    measure: Callable[[nn.Module, int], dict[str, float]]
    data: Callable[[Profile, int], dict[str, Any]]
    eight_bits: bool = False


@dataclass(frozen=True)
class Learned:
    """Data that are no `ImageSet`, as far as a header of weights is concerned.

    Args:
        source: in words, what they are and where they come from.
        tensors: (N, ...) each.
    """

    source: str
    tensors: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.tensors[0])


def find(name: str, folder: str | os.PathLike | None = None) -> Path | None:
    """The file of a system's weights: in ``folder``, in GENTOK_WEIGHTS, or in the checkout."""
    for place in (folder, os.environ.get("GENTOK_WEIGHTS", "").strip(), CHECKOUT):
        if place and (path := Path(place) / f"{name}.safetensors").is_file():
            return path
    return None


def fetch(name: str, folder: str | os.PathLike | None = None, download: bool = False) -> Path:
    """As `find`; where that finds nothing and ``download`` is asked for, from the hub.

    Raises:
        FileNotFoundError: if there is no such file; the message says how to make it.
    """
    path = find(name, folder)
    if path is None and download:
        from huggingface_hub import hf_hub_download  # slow to import, and needed only here

        path = Path(hf_hub_download(HUB, f"{name}.safetensors"))
    if path is None:
        raise FileNotFoundError(
            f"no weights {name}.safetensors in {folder or 'GENTOK_WEIGHTS'} or {CHECKOUT}; "
            f"`make weights NB={name}` makes them, download=True looks on the hub"
        )
    return path


def write(path: Path, weights: Weights, modules: dict[str, nn.Module], header: dict) -> Path:
    """Write the parts of a system.

    Raises:
        OSError: if the file cannot be written.
        ValueError: if it would be larger than `LARGEST`.
    """
    tensors, parts = {}, {}
    for name, module in modules.items():
        parts[name] = dataclasses.asdict(module.config)
        for key, tensor in module.state_dict().items():
            tensors |= _pack(f"{name}.{key}", tensor.detach().cpu(), weights.eight_bits)
    size = sum(tensor.nbytes for tensor in tensors.values())
    if size > LARGEST:
        raise ValueError(f"{path} would hold {size:,} bytes, at most {LARGEST:,} are accepted")
    return save(path, tensors, {**header, "parts": parts, "bytes": size})


def read(path: Path, weights: Weights) -> dict[str, nn.Module]:
    """Build the parts of a system and load them, in eval mode, on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or of another system.
    """
    tensors, header = load_checkpoint(path)
    if set(header.get("parts", {})) != set(weights.parts):
        raise ValueError(
            f"{path} holds {sorted(header.get('parts', {}))}, accepted: {sorted(weights.parts)}"
        )
    tensors = _unpack(tensors)
    modules = {}
    for name, (config_class, build) in weights.parts.items():
        config = stored_config({"config": header["parts"][name]}, config_class, f"weights {path}")
        module = build(config)
        load_weights(module, tensors, f"{name}.", f"weights {path}")
        modules[name] = module.eval().requires_grad_(False)
    return modules


def read_header(path: Path) -> dict[str, Any]:
    """What a file of weights says about itself, without its tensors.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged or of another kind.
    """
    return checkpoint.read_header(path)[1]


def header_of(name: str, folder: str | os.PathLike | None = None) -> dict[str, Any]:
    """As `read_header`, for the file that `find` finds.

    Raises:
        FileNotFoundError: if there is none.
    """
    return read_header(fetch(name, folder))


def digest(items: ImageSet | Learned) -> dict[str, Any]:
    """What a header keeps of a set: source, number, and SHA-256 of pixels and labels or numbers."""
    images = isinstance(items, ImageSet)
    sha = hashlib.sha256()
    for tensor in (items.images, items.labels) if images else items.tensors:
        sha.update(tensor.contiguous().numpy().tobytes())
    return {"source": items.source, "items": len(items), "sha256": sha.hexdigest()}


def _pack(name: str, tensor: Tensor, eight_bits: bool) -> dict[str, Tensor]:
    """Halves where they lose nothing that matters; 8 bits and a scale a row for large matrices."""
    if not tensor.is_floating_point():
        return {name: tensor}
    if eight_bits and tensor.ndim == 2 and tensor.numel() >= MATRIX:
        scale = tensor.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127  # (rows, 1)
        return {name: (tensor / scale).round().to(torch.int8), f"{name}/scale": scale}
    half = tensor.half()
    return {name: half if half.isfinite().all() else tensor}


def _unpack(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    whole = {}
    for name, tensor in tensors.items():
        if name.endswith("/scale"):
            continue
        scale = tensors.get(f"{name}/scale")
        if scale is not None:
            whole[name] = tensor.float() * scale
        else:
            whole[name] = tensor.float() if tensor.is_floating_point() else tensor
    return whole
