"""The page on samplers: one trained model, followed through noise by every sampler of the book.

A velocity on a straight path, a denoiser at a noise level and a noise estimate at a step of DDPM
are one function in three coordinates. So the generator of RAE's chapter, which was trained by flow
matching, is handed to the samplers of all three, and to three kinds of guidance.

    python -m gentok.book.samplers              # measure, write the page's tables and its figure

Shapes: N samples, C channels, g the side of the latent's grid; t in [0, 1] as in
`gentok.process.flow`, sigma as in `gentok.process.edm`.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

import gentok
from gentok.base.judging import named
from gentok.book.compare import HELD_OUT, between
from gentok.book.pairs import find_root
from gentok.data import plain_shapes
from gentok.nn.latents import encode_all
from gentok.process.ddpm import GaussianDiffusion
from gentok.process.diffusion_sampling import ancestral_sample, ddim_sample
from gentok.process.diffusion_schedules import even_steps, linear_betas
from gentok.process.edm import edm_sample, karras_sigmas
from gentok.process.flow import euler_sample, expand
from gentok.process.guidance import guide
from gentok.show.plot import MARKERS, use_style

Velocity = Callable[[Tensor, Tensor], Tensor]  # (x (N, C, g, g), t (N,)) -> (N, C, g, g)

COUNT = 100  # samples, classes in turn
EVALUATIONS = (5, 9, 17, 33, 65)  # of the network; odd, as Heun's last step needs one only
REFERENCE = 257  # evaluations of Heun's method that the others are held against
GUIDED = 33  # evaluations of the better model in the table of guidance
# EDM's 80 is made for pixels. Of a latent of 4,096 numbers that hang together such noise still
# shows the class.
HIGHEST, PIXELS = 1000.0, 80.0
CHURN = 40.0  # S_churn of EDM for ImageNet


def denoiser(speed: Velocity) -> Callable[[Tensor, Tensor], Tensor]:
    """The velocity as a denoiser D(y; sigma), y = x + sigma eps.

    With t = 1 / (1 + sigma), t y = t x + (1 - t) eps lies on the straight path, and there
    x = x_t + (1 - t) v.
    """

    def denoise(y: Tensor, sigma: Tensor) -> Tensor:
        t = 1 / (1 + sigma)
        x_t = expand(t, y) * y
        return x_t + expand(1 - t, y) * speed(x_t, t)

    return denoise


def noise_estimate(speed: Velocity, diffusion: GaussianDiffusion) -> Callable:
    """The velocity as DDPM's estimate of eps from x_t = sqrt(a) x + sqrt(1 - a) eps, a = alpha-bar.

    x_t / sqrt(a) has the noise level sqrt((1 - a) / a).
    """
    denoise = denoiser(speed)

    def estimate(x_t: Tensor, t: Tensor) -> Tensor:
        share = diffusion.alpha_bar(t).to(x_t.dtype)  # (N,)
        sigma = ((1 - share) / share).sqrt()
        y = x_t / expand(share.sqrt(), x_t)
        return (y - denoise(y, sigma)) / expand(sigma, x_t)

    return estimate


DIFFUSION = GaussianDiffusion(linear_betas())


def _edm(
    speed: Velocity,
    noise: Tensor,
    count: int,
    heun: bool = True,
    churn: float = 0.0,
    highest: float = HIGHEST,
) -> Tensor:
    levels = karras_sigmas((count + 1) // 2 if heun else count, sigma_max=highest)
    return edm_sample(denoiser(speed), noise, levels, heun=heun, churn=churn)


def _chain(speed: Velocity, noise: Tensor, count: int, follow: Callable) -> Tensor:
    steps = even_steps(DIFFUSION.num_steps, count)
    return follow(DIFFUSION, noise_estimate(speed, DIFFUSION), noise, steps)


# Name -> (velocity, noise, evaluations) -> latents. Those without fresh noise follow one curve.
SAMPLERS: dict[str, Callable[[Velocity, Tensor, int], Tensor]] = {
    "Euler, even times": euler_sample,
    "Euler, times shifted": partial(euler_sample, shift=0.3),
    "Euler, EDM's levels": partial(_edm, heun=False),
    "Heun, EDM's levels": _edm,
    "Heun, levels from 80": partial(_edm, highest=PIXELS),
    "DDIM": partial(_chain, follow=ddim_sample),
    "Heun with churn": partial(_edm, churn=CHURN),
    "DDPM": partial(_chain, follow=ancestral_sample),
}
DRAWING = ("Heun with churn", "DDPM")  # draw fresh noise on the way


@dataclass(frozen=True)
class Guidance:
    """How the model is led.

    Args:
        scale: w in other + w (model - other); 1 is none.
        weak: away from the smaller, less trained model (AutoGuidance, Karras et al. 2024), which
            keeps the label; else from the model itself without its label.
        interval: times between which it acts (Kynkaanniemi et al. 2024).
    """

    scale: float = 1.0
    weak: bool = False
    interval: tuple[float, float] = (0.0, 1.0)


GUIDANCE = {
    "none": Guidance(),
    "label, 1.5": Guidance(1.5),
    "label, 2": Guidance(2.0),
    "label, 3": Guidance(3.0),
    "label, 3, middle only": Guidance(3.0, interval=(0.2, 0.7)),
    "weak model, 1.5": Guidance(1.5, weak=True),
    "weak model, 2": Guidance(2.0, weak=True),
    "weak model, 3": Guidance(3.0, weak=True),
}


class Counted:
    """The model's velocity for given labels, guided, counting its evaluations of N samples.

    Args:
        system: with ``generator`` and its weak ``guide``.
        label: (N,) classes.
        how: which guidance.
    """

    def __init__(self, system: nn.Module, label: Tensor, how: Guidance):
        self.system, self.label, self.how = system, label, how
        self.calls = 0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Guided velocity: standardised latents (N, C, g, g), times (N,) -> (N, C, g, g)."""
        how, generator = self.how, self.system.generator
        good = generator(x, t, self.label)
        self.calls += 1
        low, high = how.interval
        if how.scale == 1.0 or not low <= float(t[0]) <= high:
            return good
        self.calls += 1
        if how.weak:
            other = self.system.guide(x, t, self.label)
        else:
            null = torch.full_like(self.label, generator.config.backbone.num_classes)
            other = generator(x, t, null)
        return guide(good, other, how.scale)


@torch.no_grad()
def measure(system: nn.Module, count: int = COUNT, least: int = 0) -> dict[str, list[dict]]:
    """Rows of both tables.

    Args:
        system: RAE's pipeline: ``tokenizer``, ``generator``, ``guide``.
        count: N.
        least: leave out settings of more evaluations than so many (0: none).

    Returns:
        ``samplers``: name, evaluations, error against the reference (of those that follow the same
        curve; relative), judged: share of pictures that the judge calls by their label;
        ``guidance``: name, evaluations, judged, spread of a class's samples over that of pictures.
    """
    label = torch.arange(count) % 10
    noise = torch.randn(count, *system.generator.config.latent_shape)
    counts = [n for n in EVALUATIONS if not least or n <= least]
    plain = Counted(system, label, Guidance())
    reference = SAMPLERS["Heun, EDM's levels"](plain, noise, least or REFERENCE)
    rows = []
    for name, sampler in SAMPLERS.items():
        for evaluations in counts:
            x = sampler(plain, noise, evaluations)
            error = float((x - reference).norm() / reference.norm())
            rows.append(
                {
                    "name": name,
                    "evaluations": evaluations,
                    "error": None if name in DRAWING else error,
                    "judged": named(pictures(system, x), label),
                }
            )
    guided, real = [], _spread(_held_out(system, count), label)
    for name, how in GUIDANCE.items():
        speed = Counted(system, label, how)
        x = SAMPLERS["Euler, times shifted"](speed, noise, least or GUIDED)
        guided.append(
            {
                "name": name,
                "evaluations": speed.calls,
                "judged": named(pictures(system, x), label),
                "spread": _spread(x, label) / real,
            }
        )
    return {"samplers": rows, "guidance": guided}


def pictures(system: nn.Module, x: Tensor) -> Tensor:
    """Standardised latents (N, C, g, g) -> pictures (N, 3, H, W) in [-1, 1]."""
    z = system.generator.denormalize(x)
    return torch.cat([system.tokenizer.decode(part) for part in z.split(64)]).clamp(-1, 1)


def _held_out(system: nn.Module, count: int) -> Tensor:
    """Standardised latents of pictures that no training draws, classes in turn."""
    pool = plain_shapes(4 * count, seed=HELD_OUT)
    order = torch.cat([(pool.labels == k).nonzero()[: count // 10] for k in range(10)], 1).flatten()
    return system.generator.normalize(encode_all(system.tokenizer, pool.floats()[order]))


def _spread(x: Tensor, label: Tensor) -> float:
    """Mean distance of two latents of one class, over the square root of their numbers."""
    found = []
    for k in label.unique():
        own = x[label == k].flatten(1)
        found.append(torch.pdist(own).mean() / own.shape[1] ** 0.5)
    return float(torch.stack(found).mean())


def sampler_table(rows: list[dict]) -> str:
    """Markdown: a line a sampler, error and judged share at each number of evaluations."""
    counts = sorted({row["evaluations"] for row in rows})
    head = [f"{n} evaluations" for n in counts]
    lines = ["| sampler | " + " | ".join(head) + " |", "|" + "---|" * (len(head) + 1)]
    for name in dict.fromkeys(row["name"] for row in rows):
        own = {row["evaluations"]: row for row in rows if row["name"] == name}
        lines.append(f"| {name} | " + " | ".join(_cell(own[n]) for n in counts) + " |")
    return "\n".join(lines)


def _cell(row: dict) -> str:
    error = "" if row["error"] is None else f"{row['error']:.3f}; "
    return f"{error}{row['judged']:.2f}"


def guidance_table(rows: list[dict]) -> str:
    """Markdown: a line a kind of guidance."""
    lines = ["| guidance, scale | evaluations | judged right | spread |", "|---|---|---|---|"]
    lines += [
        f"| {row['name']} | {row['evaluations']} | {row['judged']:.2f} | {row['spread']:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def figure(found: dict[str, list[dict]], path: Path) -> None:
    """Error and judged share by evaluations; judged share by spread under guidance."""
    sheet, axes = plt.subplot_mosaic([["left", "middle"], ["low", "low"]], figsize=(9.6, 7.6))
    left, middle, low = axes.values()
    for name, marker in zip(SAMPLERS, MARKERS, strict=False):
        own = [row for row in found["samplers"] if row["name"] == name]
        counts, style = [row["evaluations"] for row in own], "--" if name in DRAWING else "-"
        (line,) = middle.plot(counts, [row["judged"] for row in own], style, marker=marker)
        if name not in DRAWING:
            errors = [row["error"] for row in own]
            left.plot(counts, errors, style, marker=marker, color=line.get_color())
        line.set_label(name)
    for ax in (left, middle):
        ax.set(xscale="log", xlabel="evaluations of the network")
        ax.set_xticks(EVALUATIONS, EVALUATIONS, minor=False)
        ax.minorticks_off()
    left.set(yscale="log", ylabel="relative error", title="how far from the exact end")
    middle.set(ylabel="judged right", title="what the judge says")
    middle.legend(fontsize=8)
    for row, marker in zip(found["guidance"], MARKERS * 2, strict=False):
        low.plot(row["spread"], row["judged"], marker, markersize=9, label=row["name"])
    low.set(xlabel="spread of a class, pictures = 1", ylabel="judged right", title="guidance")
    low.legend(fontsize=8)
    sheet.savefig(path, metadata={"Date": None})
    plt.close(sheet)


def main() -> int:
    """Measure, and write the page's tables and figure."""
    torch.manual_seed(0)
    use_style()
    root = find_root()
    found = measure(gentok.pretrained("rae"))
    page = root / "book" / "parts" / "samplers.md"
    text = page.read_text(encoding="utf-8")
    made = "python -m gentok.book.samplers"
    text = between(text, "samplers", sampler_table(found["samplers"]), made)
    text = between(text, "guidance", guidance_table(found["guidance"]), made)
    page.write_text(text, encoding="utf-8")
    figure(found, root / "book" / "img" / "samplers.svg")
    print(f"wrote {page.relative_to(root)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
