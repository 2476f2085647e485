"""Common starting weights: two variants of a network that differ only where they must.

Two networks of one seed begin with different weights as soon as one of them draws more random
numbers while it is built. Compared over seeds, they then scatter as unrelated runs do. Started
alike, and trained on the same batches with the same noise, they differ by what the variant does.
"""

import torch
from torch import nn


@torch.no_grad()
def share_weights(source: nn.Module, target: nn.Module) -> list[str]:
    """Copy every parameter and buffer that both networks have, by name and shape, into the target.

    What only the target has, or has in another shape, keeps the start it was given; where the
    method allows, let it start at zero, so that both networks compute the same at step 0.

    Args:
        source: stays as it is.
        target: takes over what fits, on its own device and in its own precision.

    Returns:
        the names that were *not* copied: what the target has of its own.

    Raises:
        ValueError: if nothing fits.
    """
    given, own = source.state_dict(), target.state_dict()
    shared = [name for name in own if name in given and given[name].shape == own[name].shape]
    if not shared:
        names = f"{type(source).__name__} and {type(target).__name__}"
        raise ValueError(f"source and target share no tensor of equal name and shape: {names}")
    for name in shared:
        own[name].copy_(given[name])
    return [name for name in own if name not in shared]
