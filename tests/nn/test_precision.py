"""Arithmetic that stays in single precision."""

import pytest
import torch

from gentok.nn.precision import at_least_single, full_precision


def test_products_are_not_rounded_inside():
    a, b = torch.randn(8, 8), torch.randn(8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (a @ b).dtype == torch.bfloat16
        with full_precision(a):
            inside = a @ b
            torch.testing.assert_close(inside.double(), a.double() @ b.double(), atol=1e-5, rtol=0)
        assert (a @ b).dtype == torch.bfloat16


def test_the_meta_device_is_accepted():
    a = torch.zeros(2, 2, device="meta")
    with full_precision(a):
        assert (a @ a).shape == (2, 2)


def test_only_half_precision_is_widened():
    for given, expected in [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ]:
        assert at_least_single(torch.zeros(1, dtype=given)).dtype == expected
    for bad in (torch.zeros(1, dtype=torch.int64), torch.zeros(0, 3)):
        with pytest.raises(ValueError, match="expected"):
            at_least_single(bad)
