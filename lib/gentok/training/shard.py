"""Fully sharded training (Rajbhandari et al. 2020, ZeRO; Zhao et al. 2023, FSDP).

Every process holds a slice of each weight, of its gradient and of the optimiser's memory, and the
blocks of a network are put together one at a time, just before they compute. The arithmetic is that
of data-parallel training; what changes is how much memory a process needs. PyTorch's `fully_shard`
does the work. Started with ``accelerate launch --use_fsdp --fsdp_version 2``.
"""

import os

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def wanted() -> bool:
    """Whether this process was launched for sharded training."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def shard(model: nn.Module, precision: str = "no") -> None:
    """Give each process its slice of a model, in place.

    Each entry of a ``ModuleList`` (a transformer's blocks) is gathered by itself when its
    ``forward`` is called; everything else when the model's own ``forward`` is.

    Args:
        model: the model, whole and alike in every process.
        precision: ``"bf16"`` computes in bfloat16 and adds gradients up in float32.
    """
    policy = MixedPrecisionPolicy()
    if precision == "bf16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    device = next(model.parameters()).device.type
    mesh = torch.distributed.init_device_mesh(device, (torch.distributed.get_world_size(),))
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList)]
    blocks = {block: None for blocks in lists for block in blocks}  # without repeats
    for block in reversed(blocks):  # inner before outer
        if any(True for _ in block.parameters()) and not isinstance(block, nn.ModuleList):
            fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


def whole(tensor: Tensor) -> Tensor:
    """Put a sharded tensor together, in every process; any other comes back as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def slice_like(tensor: Tensor, target: Tensor) -> Tensor:
    """Cut a whole tensor as ``target`` is cut; unchanged if ``target`` is whole."""
    if not isinstance(target, DTensor):
        return tensor
    tensor = tensor.to(target.device)
    return distribute_tensor(tensor, target.device_mesh, target.placements)
