"""Code usage against scipy's entropy."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from gentok.measure import code_usage


def test_equals_scipy():
    codes = torch.randint(0, 50, (40, 9), generator=torch.Generator().manual_seed(0)) ** 2 % 50
    counts = np.bincount(codes.flatten().numpy(), minlength=50)
    found = code_usage(codes, 50)
    assert found["perplexity"] == pytest.approx(np.exp(entropy(counts)))
    assert found["entropy_bits"] == pytest.approx(entropy(counts, base=2))
    assert found["used"] == np.count_nonzero(counts)
    assert found["used_fraction"] == np.count_nonzero(counts) / 50


@pytest.mark.parametrize("size", [1, 7, 512])
def test_extremes(size):
    even = code_usage(torch.arange(size).repeat(3), size)
    assert even["perplexity"] == pytest.approx(size) and even["used_fraction"] == 1
    single = code_usage(torch.full((10,), size - 1), size)
    assert single["perplexity"] == pytest.approx(1) and single["used"] == 1


@pytest.mark.parametrize("codes", [[-1, 0], [0, 4]])
def test_codes_outside_the_codebook_are_refused(codes):
    with pytest.raises(ValueError, match=r"lie in \[0, 4\)"):
        code_usage(torch.tensor(codes), 4)


@pytest.mark.parametrize("codes", [torch.empty(0, dtype=torch.int64), torch.zeros(3)])
def test_no_codes_or_no_integers_are_refused(codes):
    with pytest.raises(ValueError, match="codes must be integers"):
        code_usage(codes, 4)
