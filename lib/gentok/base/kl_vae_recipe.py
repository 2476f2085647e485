"""How `gentok train kl_vae` trains: the published sizes from a folder of pictures, small from ours.

The published losses are the configuration's own (`gentok.base.kl_vae`): L1, LPIPS, 1e-6 KL and,
from its step on, the adversary. Rombach et al. 2022 by the public code: Adam at 4.5e-6 a row. The
number of steps is that of the weights that Stable Diffusion was released with.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from gentok.base import recipe as base
from gentok.base.judging import HELD_OUT
from gentok.base.kl_vae import KLVAE, PRESETS, KLVAEConfig, build
from gentok.base.perception import perceived, perceptual_network
from gentok.data import batches, folder_batches, photographs, plain_shapes
from gentok.data.folder import find, missing
from gentok.data.mirrored_crop import mirrored_crop
from gentok.data.square_crop import square_crop
from gentok.measure.images import psnr
from gentok.show.media import PICTURES, save_grid
from gentok.training.loop import fit, load_model
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile

FOLDER = "images"  # of GENTOK_DATA, one sub-folder a class, for the published sizes
SAMPLES = PICTURES  # what `sample` writes
LATE = 0.8  # share of a run's steps after which the adversary enters, if it else never would
LR_A_ROW = 4.5e-6
SMALL = ("tiny", "world-32")  # learn from the world's shapes on plain floors
VA_VAE = "va-vae-f16d32"
CROPS = {"squares": square_crop, "mirrored": mirrored_crop}  # of a folder's pictures
ROWS = 16  # pictures measured at a time


@dataclass(frozen=True)
class Plan:
    """What decides a training.

    Args:
        data: ``"plain"`` (the world's shapes on plain floors), or how pictures of a folder are cut,
            a key of `CROPS`. The folder has ImageNet's layout, ``GENTOK_DATA/images/<class>/``;
            OpenImages may stand in one sub-folder.
        shapes, scenes: pictures of one shape and of up to three, if plain.
        size: of the tokenizer; ``tokenizer``: how it is trained.
    """

    data: str
    shapes: int
    scenes: int
    size: KLVAEConfig
    tokenizer: Stage


def plan(preset: str, profile: Profile) -> Plan:
    """The training of a preset.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    if preset in SMALL:
        own = base.plan("kl_vae", profile)  # that of the book's weights
        size = _adversary_within(size, own.tokenizer.steps)
        return Plan("plain", own.shapes, own.scenes, size, own.tokenizer)
    how = _va_vae(profile) if preset == VA_VAE else _latent_diffusion(profile)
    cut = "mirrored" if preset == VA_VAE else "squares"
    return Plan(cut, 0, 0, _adversary_within(size, how.steps), how)


def _latent_diffusion(profile: Profile) -> Stage:
    """LDM's: two micro-batches of 12 on one GPU; its code averages no weights and clips nothing."""
    rows = profile.pick(smoke=2, cpu=4, gpu=24)
    return Stage(
        steps=profile.pick(smoke=2, cpu=600, gpu=246_803),
        batch_size=rows,
        lr=LR_A_ROW * rows,
        betas=(0.5, 0.9),
        clip=None,
        accumulate=profile.pick(smoke=1, cpu=1, gpu=2),
    )


def _va_vae(profile: Profile) -> Stage:
    """VA-VAE's: 50 epochs of ImageNet by 256, at a rate of its own."""
    return Stage(
        steps=profile.pick(smoke=2, cpu=600, gpu=250_000),
        batch_size=profile.pick(smoke=2, cpu=4, gpu=256),
        lr=1e-4,
        betas=(0.5, 0.9),
        clip=None,
    )


def _adversary_within(size: KLVAEConfig, steps: int) -> KLVAEConfig:
    """The published start lies beyond the end of a short run, which then takes its last fifth."""
    return size if size.gan_start < steps else replace(size, gan_start=int(LATE * steps))


def train(
    preset: str, profile: Profile, *, out: str | Path | None, resume: bool, seed: int
) -> KLVAE:
    """Train a KL-VAE.

    Returns:
        the tokenizer; averaged weights where the plan averages any.

    Raises:
        FileNotFoundError: if the plan's pictures, or the weights of a loss, are absent.
        ValueError: if there is no such preset.
    """
    task = plan(preset, profile)
    draw = pictures(task, seed)
    torch.manual_seed(seed)
    return fit(
        build(task.size).to(profile.device),
        draw,
        **task.tokenizer.fit_arguments(),
        seed=seed,
        out=out,
        resume=resume,
    ).ema


def pictures(task: Plan, seed: int) -> Callable[[int], dict[str, Tensor]]:
    """Batches that a plan learns from: ``image``, (B, 3, H, W) in [-1, 1], and ``label``, by step.

    Raises:
        FileNotFoundError: if they are absent.
    """
    rows, side = task.tokenizer.batch_size, task.size.image_size
    if task.data == "plain":
        return batches(base.pictures(task, seed), rows, seed, flip=True)
    folder = find(FOLDER)
    if folder is None:
        raise missing(f"images of {side} pixels", f"{FOLDER}/<class>/*.jpg")
    return folder_batches(folder, side, rows, seed, crop=CROPS[task.data])[0]


def sample(checkpoint: str | Path, out: str | Path, *, n: int, seed: int) -> None:
    """Write a picture: held-out images over their reconstructions.

    Args:
        checkpoint: of `train`.
        out: image file to write (the name's ending says the format).
        n: number of images.
        seed: which images.
    """
    model = load_model(checkpoint, KLVAEConfig, build)
    side = model.config.image_size
    if side == PRESETS["tiny"].image_size:
        real = plain_shapes(n, seed=HELD_OUT + seed)
    else:
        real = photographs(min(side, 96), "test", seed, n)
    x = real.floats()
    save_grid(torch.cat([x, _reconstructed(model, x)]), out, columns=n)


def evaluate(checkpoint: str | Path, *, n: int, data: str | Path | None = None) -> dict[str, float]:
    """The papers' numbers of a reconstruction, without its Fréchet distance.

    Args:
        checkpoint: of `train`.
        n: how many pictures, at most.
        data: a folder of pictures, one sub-folder a class, such as ImageNet's validation set, cut
            in the middle; None takes shapes that no training draws.

    Returns:
        ``psnr`` (dB) and ``perceptual`` (LPIPS for published sizes), means over pictures.

    Raises:
        FileNotFoundError: if the folder or the weights of the perceptual network are absent.
    """
    model = load_model(checkpoint, KLVAEConfig, build)
    side, rows = model.config.image_size, min(n, ROWS)
    if data is None:
        x = plain_shapes(n, side, seed=HELD_OUT).floats()
    else:
        draw, _ = folder_batches(Path(data), side, rows, seed=0)
        x = torch.cat([draw(step)["image"] for step in range(-(-n // rows))])[:n]
    y = _reconstructed(model, x)
    network = perceptual_network(model.config.perceptual_network).on(x.device)
    pairs = zip(x.split(ROWS), y.split(ROWS), strict=True)
    with torch.no_grad():
        seen = torch.cat([perceived(network, *pair) for pair in pairs])
    return {"psnr": float(psnr(x, y).mean()), "perceptual": float(seen.mean())}


@torch.no_grad()
def _reconstructed(model: nn.Module, x: Tensor) -> Tensor:
    device = next(model.parameters()).device
    parts = [model.decode(model.encode(part.to(device))).cpu() for part in x.split(ROWS)]
    return torch.cat(parts).clamp(-1, 1)


# `gentok train kl_vae --profile long` makes the book's weights again.
WEIGHTS = {"kl_vae": replace(base.WEIGHTS["kl_vae"], preset="world-32", train=train)}
