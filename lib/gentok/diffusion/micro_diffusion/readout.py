"""What a trained MicroDiT can do: its error by noise level, what a dropped patch still says, how
busy its experts are, and whether its pictures obey their captions.

Shapes: n items, S noise levels, T tokens, M kept, E experts.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gentok.data.imageset import generator
from gentok.data.placed_shapes import all_looks, placed_caption
from gentok.diffusion.micro_diffusion.model import MicroDiT
from gentok.measure.detect import detect
from gentok.measure.fixed import fixed_times
from gentok.nn.experts import Router
from gentok.nn.latents import evaluating
from gentok.nn.token_masks import kept_mask
from gentok.process.flow import expand

WORDS = ("shape", "colour", "place")
MISSING = 99_999  # seed of the patches that take a dropped patch's place


def fixed_sigmas(n: int, mean: float = -0.6, std: float = 1.2) -> Tensor:
    """n noise levels in the middle of n equally likely intervals of training's, (n,), rising."""
    return fixed_times(n, lambda q: (mean + std * torch.special.ndtri(q)).exp())


@torch.no_grad()
def errors_at(
    model: MicroDiT,
    latents: Tensor,
    captions: Tensor,
    sigmas: Tensor,
    noise: Tensor,
    keep: Tensor | None = None,
) -> Tensor:
    """EDM's weighted error of each item at fixed noise levels, noise and masks.

    Args:
        model: is asked, in eval mode.
        latents: of the tokenizer, (n, C, h, w); ``captions``: (n, L, E).
        sigmas: (S,); ``noise``: standard Gaussian, of the latents' shape.
        keep: places of kept tokens, (n, M); None: all.

    Returns:
        (S, n).

    Raises:
        ValueError: if noise and latents differ in shape.
    """
    if noise.shape != latents.shape:
        raise ValueError(
            f"noise must be of the latents' shape {tuple(latents.shape)}, got {tuple(noise.shape)}"
        )
    x = model.scaled(latents)
    with evaluating(model):
        rows = [model.errors(x, noise, s.expand(len(x)), captions, keep) for s in sigmas]
    return torch.stack(rows)


@torch.no_grad()
def influence(model: MicroDiT, x: Tensor, sigma: Tensor, captions: Tensor, keep: Tensor) -> Tensor:
    """How much the kept outputs move when the dropped patches hold something else.

    0 where tokens are dropped before anything has seen them.

    Args:
        model: is asked, in eval mode.
        x: noisy latents at the network's scale, (n, C, h, w); ``sigma``: their levels, (n,).
        captions: (n, L, E); ``keep``: (n, M).

    Returns:
        the root mean square of the change over that of the output, (n,).
    """
    config = model.config
    shown = kept_mask(keep, config.num_tokens).view(-1, 1, config.grid, config.grid)
    shown = shown.repeat_interleave(config.patch_size, 2).repeat_interleave(config.patch_size, 3)
    other = torch.randn(x.shape, generator=generator(MISSING)).to(x.device) * x.std()
    _, _, c_in, c_noise = model.edm.scales(sigma)
    with evaluating(model):
        before, after = (
            model(expand(c_in, x) * picture, c_noise, captions, keep)
            for picture in (x, torch.where(shown, x, other))
        )
    change = (after - before).square().flatten(1).sum(1)
    return (change / before.square().flatten(1).sum(1).clamp_min(1e-12)).sqrt()


@torch.no_grad()
def expert_loads(
    model: MicroDiT, x: Tensor, sigma: Tensor, captions: Tensor, keep: Tensor | None = None
) -> dict[str, Tensor]:
    """How many tokens come to each expert of every mixture.

    Args: as `influence`; ``keep`` None keeps all.

    Returns:
        (n, E) int64 by the name of the layer.
    """
    found: dict[str, Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(_counting(found, name, layer))
        for name, layer in model.named_modules()
        if isinstance(layer, Router)
    ]
    _, _, c_in, c_noise = model.edm.scales(sigma)
    try:
        with evaluating(model):
            model(expand(c_in, x) * x, c_noise, captions, keep)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _counting(found: dict[str, Tensor], name: str, layer: Router) -> Callable[..., None]:
    """A hook that notes what a layer is about to be given."""

    def count(_, inputs: tuple[Tensor]) -> None:
        found[name] = layer.loads(inputs[0])

    return count


def unevenness(loads: dict[str, Tensor]) -> float:
    """The busiest expert's tokens over the mean, averaged over layers and samples; 1 is even."""
    parts = [(load.amax(1) / load.float().mean(1)).mean() for load in loads.values()]
    return float(torch.stack(parts).mean())


def asked(n: int, seed: int = 0) -> tuple[list[str], Tensor]:
    """n captions that go through all shapes, colours and places in a random order.

    Returns:
        the sentences; indices of shape, colour and place, (n, 3).
    """
    every = all_looks()
    order = torch.randperm(len(every), generator=generator(seed, 58))
    looks = every[order.repeat(-(-n // len(every)))[:n]]
    return [placed_caption(*look) for look in looks.tolist()], looks


def obeyed(images: Tensor, looks: Tensor) -> dict[str, float]:
    """Share of pictures in which each word is read again by drawing, and all of them.

    Args:
        images: (n, 3, H, W) in [-1, 1]; ``looks``: what was asked for, (n, 3).

    Returns:
        ``shape``, ``colour``, ``place`` and ``all``, in [0, 1]; ``explained``: share of what stands
        out from the floor that the drawing accounts for, low for smudges.
    """
    found = detect(images.clamp(-1, 1))
    read = torch.stack([found.shape[:, 0], found.colour[:, 0], found.place[:, 0]], 1)
    right = read == looks
    shares = {word: float(right[:, i].float().mean()) for i, word in enumerate(WORDS)}
    return shares | {
        "all": float(right.all(1).float().mean()),
        "explained": float(found.explained[:, 0].mean()),
    }


def samples(
    system: torch.nn.Module, n: int, seed: int = 0, rows: int = 50, **options
) -> dict[str, float]:
    """Draw n pictures of `asked` captions from fixed noise and read them.

    Args:
        system: a `TextToImage`.
        n: pictures; ``seed``: of captions and noise; ``rows``: at a time.
        options: of its sampler.
    """
    captions, looks = asked(n, seed)
    return obeyed(draw(system, captions, seed, rows, **options), looks)


def draw(
    system: torch.nn.Module, captions: Sequence[str], seed: int = 0, rows: int = 50, **options
) -> Tensor:
    """Pictures of captions from fixed noise, (n, 3, H, W) on the CPU."""
    shape = (len(captions), *system.generator.config.latent_shape)
    noise, parts = torch.randn(shape, generator=generator(seed, 59)), []
    for i in range(0, len(captions), rows):
        part = list(captions[i : i + rows])
        parts.append(system.sample(len(part), part, noise=noise[i : i + rows], **options).cpu())
    return torch.cat(parts)
