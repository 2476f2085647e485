"""The rival that writes one code after the other: who sees whom, and caches."""

from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.measure import count_parameters
from gentok.signals.mogo.flattened import FlattenedTransformer
from gentok.signals.mogo.model import PRESETS, build

TINY = replace(PRESETS["tiny"], dim=32, codebook_size=20, text_dim=8, dropout=0.0)


def network_of() -> FlattenedTransformer:
    torch.manual_seed(0)
    network = FlattenedTransformer(TINY).eval()
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1 and "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return network


def batch_of() -> dict:
    torch.manual_seed(1)
    return {"codes": torch.randint(0, 20, (2, 5, 4)), "text": torch.randn(2, 8)}


@given(st.integers(0, 19))
@settings(max_examples=15, deadline=None)
def test_a_code_acts_on_all_later_ones_and_no_other(index):
    network, batch = network_of(), batch_of()
    before = network(**batch)
    flat = batch["codes"].view(2, 20)
    flat[:, index] = (flat[:, index] + 1) % 20
    changed = ((network(**batch) - before).abs().amax((0, 3)) > 1e-5).flatten()
    assert changed.tolist() == [i > index for i in range(20)]


def test_as_large_as_mogo():
    """All layers alike, so only biases, prefixes and one row of padding differ."""
    ours, rival = build(TINY), FlattenedTransformer(TINY)
    assert abs(count_parameters(ours) / count_parameters(rival) - 1) < 0.01


def test_greedy_samples_are_the_best_next_codes():
    network, text = network_of(), batch_of()["text"]
    codes = network.sample(2, text, 12, temperature=0)
    assert torch.equal(network(codes, text).argmax(-1), codes)


def test_corruption_touches_inputs_only():
    network, batch = network_of(), batch_of()
    total, parts = network.loss(batch)
    torch.testing.assert_close(total, network.nll(**batch).mean())
    assert list(parts) == ["level_0", "level_1", "level_2", "level_3"]
    network.train()
    assert network.loss(batch)[0] != total
