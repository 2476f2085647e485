"""Players: the parties of an adversarial game, each with its own parameters and its own loss.

A tokenizer and its discriminator minimise opposite losses. Each is a ``Player``; the trainer
(`gentok.training.fit`) gives every player an optimiser and lets them move in turn. A model without
an adversary needs none of this: it is its own only player.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

# (total loss, named parts): the total is a scalar with a gradient, the parts are detached scalars.
Loss = Callable[[dict, int], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True)
class Player:
    """One party of a game.

    Args:
        name: prefix of the player's columns in the training history, such as ``"generator"``.
        parameters: the parameters that this player's optimiser moves; no two players share one.
        loss: ``loss(batch, step)`` returns the player's own total loss and its named parts.
    """

    name: str
    parameters: list[nn.Parameter]
    loss: Loss


@contextmanager
def frozen(module: nn.Module) -> Iterator[nn.Module]:
    """Hold a module's parameters out of the gradient, and restore them afterwards.

    Gradients still flow *through* the module to its input: that is how a generator learns from a
    discriminator that must not move in the generator's turn.

    Args:
        module: the network to hold still.

    Yields:
        the same module; each parameter's ``requires_grad`` returns to its old value at the end,
        also after an exception.
    """
    trainable = [p for p in module.parameters() if p.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield module
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
