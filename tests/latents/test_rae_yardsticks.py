"""What RAE's study measures, on tokenizers and networks whose numbers are known."""

import pytest
import torch
from torch import nn

from gentok.latents.rae import yardsticks
from gentok.latents.rae.dit import RAEDiT, RAEDiTConfig
from gentok.latents.rae.plans import plan
from gentok.training.profiles import Profile


class Plain(nn.Module):
    """A tokenizer whose latent is the image, ten times as large."""

    def encode(self, x):
        return 10 * x

    def decode(self, z):
        return z / 10


class Still(RAEDiT):
    """A velocity network that answers a constant."""

    def __init__(self, config: RAEDiTConfig, value: float):
        super().__init__(config)
        self.value = value

    def forward(self, x, t, label):
        return torch.full_like(x, self.value)


@pytest.fixture
def size():
    return plan("study-32", Profile("smoke", (0,), "cpu")).generator_size


def test_errors_grow_by_the_noise_of_the_latents_own_scale():
    torch.manual_seed(0)
    x = (torch.randn(300, 3, 8, 8) * 0.1).clamp(-1, 1)
    clean, half, whole = yardsticks.noisy_errors(Plain(), x, (0.0, 0.5, 1.0))
    assert clean == pytest.approx(0, abs=1e-7)
    # The mean of |N(0, s^2)| is s sqrt(2 / pi); the images scatter by 0.1.
    assert whole == pytest.approx(0.1 * (2 / torch.pi) ** 0.5, rel=0.02)
    assert half == pytest.approx(whole / 2, rel=1e-3)
    assert [clean, half, whole] == yardsticks.noisy_errors(Plain(), x, (0.0, 0.5, 1.0))


def test_images_are_cut_and_nothing_is_lost_between_parts():
    x = torch.randn(600, 1, 2, 2)
    assert torch.equal(yardsticks.encode_all(Plain(), x), 10 * x)
    back = yardsticks.decode_all(Plain(), 10 * x)
    torch.testing.assert_close(back, x.clamp(-1, 1))
    assert back.abs().max() == 1


def test_the_probe_reads_what_is_there_and_nothing_where_nothing_is():
    torch.manual_seed(0)
    labels = torch.arange(400) % 2
    z = torch.randn(400, 6, 4, 4)
    ask = yardsticks.probe
    x = yardsticks.pooled(z)
    assert x.shape == (400, 12)
    empty = ask(x[:200], labels[:200], x[200:], labels[200:])
    assert empty == pytest.approx(0.5, abs=0.12)
    louder = z * (1 + labels.view(-1, 1, 1, 1))  # the classes differ in their spread alone
    x = yardsticks.pooled(louder)
    assert ask(x[:200], labels[:200], x[200:], labels[200:]) > 0.97
    # Scale and offset of a feature do not matter.
    assert ask(9 * x[:200] - 3, labels[:200], 9 * x[200:] - 3, labels[200:]) > 0.97


def test_velocity_error_of_constant_answers(size):
    torch.manual_seed(0)
    z = 3 * torch.randn(64, *size.latent_shape) + 5
    labels = torch.zeros(64, dtype=torch.int64)
    errors = []
    for value in (0.0, 1.0):
        network = Still(size, value)
        network.set_statistics(z)
        errors.append(yardsticks.velocity_error(network, z, labels))
    # Standardised data and noise, both of variance 1: a velocity of 0 misses 2.
    assert errors[0] == pytest.approx(2, rel=0.02)
    assert errors[1] == pytest.approx(3, rel=0.02)


def test_token_distance_is_in_standard_deviations(size):
    torch.manual_seed(0)
    real = 3 * torch.randn(200, *size.latent_shape) + 5
    network = Still(size, 0.0)
    network.set_statistics(real)
    assert yardsticks.token_distance(network, real, real) == pytest.approx(0, abs=1e-6)
    other = 3 * torch.randn(200, *size.latent_shape) + 5
    near = yardsticks.token_distance(network, other, real)
    far = yardsticks.token_distance(network, 2 * (other - 5) + 5, real)
    # On a line N(0, 4) lies from N(0, 1) by the mean of |x|.
    assert near < 0.05 and far == pytest.approx((2 / torch.pi) ** 0.5, rel=0.03)


def test_latents_of_a_picture_come_back_and_others_do_not():
    torch.manual_seed(0)
    inside = 10 * (torch.rand(300, 1, 2, 2) * 2 - 1)  # of pictures in [-1, 1]
    assert yardsticks.round_trip(Plain(), inside) == pytest.approx(0, abs=1e-9)
    outside = inside.sign() * 13  # cut to 10, each misses by 3
    assert yardsticks.round_trip(Plain(), outside) == pytest.approx(9, rel=1e-5)
