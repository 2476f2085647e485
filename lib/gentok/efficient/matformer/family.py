"""A nested language model beside networks of the same four sizes that were trained alone.

The paper's question is whether the first is as good as the others (arXiv:2310.07707, 4.1). All five
start from the same numbers: a twin begins as the slice of the nested network that it is held
against, so that the two differ in training and in nothing else.
"""

import torch
from torch import Tensor, nn

from gentok.efficient.matformer.model import MatLM, build, extract
from gentok.efficient.matformer.sizes import MatLMConfig


class Family(nn.Module):
    """A nested MatLM and its twins.

    Args:
        nested: the network that can be cut.
        twins: an ordinary network for each of its granularities, by name.

    Raises:
        ValueError: if the twins are not one for each granularity.
    """

    def __init__(self, nested: MatLM, **twins: MatLM):
        super().__init__()
        if set(twins) != set(nested.config.names):
            raise ValueError(f"twins must be {nested.config.names}, got {sorted(twins)}")
        self.nested = nested
        self.twins = nn.ModuleDict({name: twins[name] for name in nested.config.names})

    def sample(self, n: int, length: int = 128, **how) -> Tensor:
        """Texts of the nested network, (n, length) int64; ``how`` as `MatLM.sample`."""
        return self.nested.sample(n, length, **how)

    @torch.no_grad()
    def losses(self, tokens: Tensor) -> dict[str, float]:
        """Cross-entropy on (B, N) tokens, nats a token.

        Returns:
            ``slice_<name>`` and ``twin_<name>`` for each granularity, and ``excess``: by how much
            the worst slice lies above its twin, as a share of the twin's loss (negative: below).
        """
        batch, names = {"tokens": tokens}, self.nested.config.names
        slices = {n: float(self.nested.cross_entropy(batch, n)) for n in names}
        twins = {n: float(self.twins[n].cross_entropy(batch)) for n in names}
        found = {f"slice_{n}": loss for n, loss in slices.items()}
        found |= {f"twin_{n}": loss for n, loss in twins.items()}
        return found | {"excess": max(slices[n] / twins[n] - 1 for n in names)}


def untrained(config: MatLMConfig, seed: int) -> Family:
    """A family before training: its members are copies of the same random numbers."""
    torch.manual_seed(seed)
    nested = build(config)
    return Family(nested, **{name: extract(nested, name) for name in config.names})
