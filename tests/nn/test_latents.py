"""Encoding a whole set at once: the same latents, and a model left as it was."""

import torch
from torch import nn

from gentok.nn.latents import encode_all, evaluating


class Doubler(nn.Module):
    """Notes how many items it sees at a time."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))
        self.seen = []

    def encode(self, x):
        self.seen.append(len(x))
        return x * self.weight


def test_all_items_are_encoded_in_parts_without_gradient():
    model, items = Doubler(), torch.randn(10, 3)
    found = encode_all(model, items, rows=4)
    torch.testing.assert_close(found, 2 * items)
    assert model.seen == [4, 4, 2] and not found.requires_grad


def test_each_layer_gets_its_own_mode_back():
    model = nn.Sequential(nn.Dropout(), nn.Linear(2, 2).eval())
    with evaluating(model):
        assert not model.training and not model[0].training
    assert model.training and model[0].training and not model[1].training
