"""Common starting weights: what is copied, what is not, and what it is good for."""

import pytest
import torch
from torch import nn

from gentok.training import share_weights


class Net(nn.Module):
    """A network, with a layer more if asked for, drawn first."""

    def __init__(self, extra: bool = False, width: int = 8):
        super().__init__()
        if extra:
            self.extra = nn.Linear(width, width)
            nn.init.zeros_(self.extra.weight)
            nn.init.zeros_(self.extra.bias)
        self.first = nn.Linear(4, width)
        self.norm = nn.BatchNorm1d(width)
        self.last = nn.Linear(width, 2)

    def forward(self, x):
        h = self.norm(self.first(x))
        return self.last(h + self.extra(h) if hasattr(self, "extra") else h)


def test_the_variant_starts_as_the_baseline():
    torch.manual_seed(0)
    plain = Net()
    plain.norm.running_mean += 1
    torch.manual_seed(0)
    variant = Net(extra=True)
    x = torch.randn(5, 4)
    assert not torch.equal(plain(x), variant(x)), "one seed alone does not make them start alike"
    assert share_weights(plain, variant) == ["extra.weight", "extra.bias"]
    assert torch.equal(plain.eval()(x), variant.eval()(x))
    with torch.no_grad():
        variant.first.weight += 1
    assert not torch.equal(plain.first.weight, variant.first.weight), "copied, not tied"


def test_other_shapes_and_precisions():
    wide, half = Net(width=16), Net().double()
    assert "last.bias" not in share_weights(Net(), wide)
    share_weights(Net(), half)
    assert half.first.weight.dtype == torch.float64
    with pytest.raises(ValueError, match="share no tensor .* Net and Linear"):
        share_weights(Net(), nn.Linear(7, 7))
