"""The samplers of the page on a model whose exact answer is known: data N(0, s^2), s = 0.5."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gentok.book import samplers
from gentok.book.pairs import find_root
from gentok.process.ddpm import GaussianDiffusion
from gentok.process.diffusion_schedules import linear_betas

ROOT = find_root()
S = 0.5


def speed(x, t):
    """E[x - eps | x_t] of Gaussian data: x_t has the variance (t s)^2 + (1 - t)^2."""
    t = t.view(-1, 1, 1, 1)
    return x * (t * S**2 - (1 - t)) / ((t * S) ** 2 + (1 - t) ** 2)


def test_the_velocity_is_the_exact_denoiser():
    """E[x | x + sigma eps] = s^2 / (s^2 + sigma^2) y."""
    y, sigma = torch.randn(3, 2, 4, 4), torch.tensor([0.1, 1.0, 20.0])
    exact = y * (S**2 / (S**2 + sigma.square())).view(-1, 1, 1, 1)
    torch.testing.assert_close(samplers.denoiser(speed)(y, sigma), exact)


def test_the_velocity_is_the_exact_estimate_of_noise():
    """E[eps | x_t] = sqrt(1 - a) / (a s^2 + 1 - a) x_t."""
    diffusion = GaussianDiffusion(linear_betas())
    x, t = torch.randn(3, 2, 4, 4), torch.tensor([10, 500, 990])
    share = diffusion.alpha_bar(t).float().view(-1, 1, 1, 1)
    exact = (1 - share).sqrt() / (share * S**2 + 1 - share) * x
    torch.testing.assert_close(samplers.noise_estimate(speed, diffusion)(x, t), exact)


@pytest.mark.parametrize("name", [n for n in samplers.SAMPLERS if n not in samplers.DRAWING])
def test_one_curve_is_followed_to_its_end(name):
    """The probability flow of Gaussian data scales a noise by s."""
    noise = torch.randn(2, 2, 4, 4)
    few, many = (
        (samplers.SAMPLERS[name](speed, noise, n) - S * noise).norm() / (S * noise).norm()
        for n in (125, 999)
    )
    assert many < 0.01 and many < few / 4, "of first order or better"


@pytest.mark.parametrize("name", samplers.DRAWING)
def test_fresh_noise_keeps_the_spread(name):
    torch.manual_seed(0)
    drawn = samplers.SAMPLERS[name](speed, torch.randn(500, 2, 4, 4), 999)
    assert float(drawn.std()) == pytest.approx(S, rel=0.03)


class Answer(nn.Module):
    """Says one number for a class, another without."""

    def __init__(self, value):
        super().__init__()
        self.value = value
        self.config = SimpleNamespace(backbone=SimpleNamespace(num_classes=10))

    def forward(self, x, t, label):
        return torch.where(label == 10, 0.0, self.value).view(-1, 1, 1, 1).expand_as(x)


@pytest.mark.parametrize(
    ("how", "answer", "calls"),
    [
        (samplers.Guidance(), 2.0, 1),
        (samplers.Guidance(3.0), 6.0, 2),
        (samplers.Guidance(3.0, weak=True), 1 + 3 * (2 - 1), 2),
        (samplers.Guidance(3.0, interval=(0.6, 1.0)), 2.0, 1),
    ],
)
def test_guidance_leads_away_from_the_other_answer(how, answer, calls):
    system = SimpleNamespace(generator=Answer(2.0), guide=Answer(1.0))
    counted = samplers.Counted(system, torch.tensor([3, 4]), how)
    found = counted(torch.zeros(2, 1, 2, 2), torch.full((2,), 0.5))
    assert (found == answer).all() and counted.calls == calls


def test_tables_have_a_line_for_each():
    rows = [
        {"name": name, "evaluations": n, "error": None if name == "b" else 0.1 * n, "judged": 0.5}
        for name in "ab"
        for n in (5, 9)
    ]
    lines = samplers.sampler_table(rows).splitlines()
    assert lines[0] == "| sampler | 5 evaluations | 9 evaluations |"
    assert lines[2:] == ["| a | 0.500; 0.50 | 0.900; 0.50 |", "| b | 0.50 | 0.50 |"]
    led = [{"name": "none", "evaluations": 33, "judged": 0.81, "spread": 0.9}]
    assert samplers.guidance_table(led).splitlines()[-1] == "| none | 33 | 0.81 | 0.90 |"


def test_the_page_holds_both_tables_and_the_figure():
    text = (ROOT / "book" / "parts" / "samplers.md").read_text(encoding="utf-8")
    for title, names in (("samplers", samplers.SAMPLERS), ("guidance", samplers.GUIDANCE)):
        begin = f"<!-- {title}: made by `python -m gentok.book.samplers` -->"
        rows = text.partition(begin)[2].partition("<!-- end -->")[0].strip().splitlines()[2:]
        assert [row.split("|")[1].strip() for row in rows] == list(names)
    assert (ROOT / "book" / "img" / "samplers.svg").is_file()
