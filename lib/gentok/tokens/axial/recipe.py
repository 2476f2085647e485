"""How `gentok train axial` trains: maximum likelihood on pixels, one random plane a picture.

The published sizes follow the released code: Adam, warm-up, constant rate, clipping at norm 1, and
an average of the weights that evaluation and sampling use. It does not state the number of steps.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from gentok.data import ImageSet, available, batches, cifar10, folder_batches, to_uint8
from gentok.data.coloured_digits import coloured_digits
from gentok.data.folder import find, missing
from gentok.show.media import save_grid
from gentok.tokens.axial.model import AxialConfig, build, to_images, to_values
from gentok.training.loop import fit, load_model
from gentok.training.profiles import Profile

FOLDER = "images"  # of GENTOK_DATA, one sub-folder a class, for the published sizes
DIGITS = 8192  # coloured digits that a small preset learns from
BATCH = 64  # published, all accelerators together


def train(
    config: AxialConfig, profile: Profile, *, out: str | Path | None, resume: bool, seed: int
) -> nn.Module:
    """Train the model.

    Pictures of 8x8 pixels are coloured digits; in the gpu profile CIFAR-10, averaged down, if it is
    there. Larger pictures need real images under ``GENTOK_DATA/images/<class>/`` (ImageNet's
    layout), scaled to size and cut at the centre.

    Returns:
        the model with averaged weights, ready to sample.

    Raises:
        FileNotFoundError: if the preset needs the image folder and it is absent.
    """
    large = config.image_size > 8
    draw = _pixels(config, profile, seed)
    torch.manual_seed(seed)
    fitted = fit(
        build(config).to(profile.device),
        draw,
        steps=profile.pick(smoke=4, cpu=1500, gpu=1_000_000 if large else 20_000),
        lr={32: 1e-4, 64: 2e-4}.get(config.image_size, 3e-3),
        betas=(0.9, 0.999),
        warmup=profile.pick(smoke=1, cpu=100, gpu=5000 if large else 500),
        schedule="constant" if large else "cosine",
        clip=1.0,
        ema=0.99995 if large else 0.99,
        seed=seed,
        out=out,
        resume=resume,
    )
    return fitted.ema


def sample(checkpoint: str | Path, out: str | Path, *, n: int, seed: int) -> None:
    """Write a picture of ``n`` samples, small ones enlarged so that their pixels can be seen.

    Args:
        checkpoint: of `train`.
        out: image file to write (the name's ending says the format).
        n: number of samples.
        seed: of the sampler.
    """
    network = load_model(checkpoint, AxialConfig, build)
    torch.manual_seed(seed)
    images = to_images(network.sample(n), network.config.num_values)
    zoom = max(1, 64 // network.config.image_size)
    save_grid(images.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3), out, columns=10)


def _pixels(config: AxialConfig, profile: Profile, seed: int) -> Callable[[int], dict[str, Tensor]]:
    """Batches of pixels in [0, K)."""
    side, values = config.image_size, config.num_values
    batch_size = profile.pick(smoke=4, cpu=32, gpu=BATCH)
    if side > 8:
        folder = find(FOLDER)
        if folder is None:
            raise missing(f"images of {side} x {side} pixels", f"{FOLDER}/<class>/*.jpg")
        draw, _ = folder_batches(folder, side, batch_size, seed)
        return lambda step: {"pixels": to_values(draw(step)["image"], values)[:, : config.channels]}
    source = _small_set(profile, side, seed)
    return batches(
        {"pixels": to_values(source.images, values)[:, : config.channels]}, batch_size, seed
    )


def _small_set(profile: Profile, side: int, seed: int) -> ImageSet:
    if profile.name == "gpu" and available().get("cifar10"):
        source = cifar10("train")
        small = torch.nn.functional.adaptive_avg_pool2d(source.floats(), side)
        return ImageSet(to_uint8(small), source.labels, source.class_names, source.source)
    if side != 8:
        raise ValueError(f"image_size must be 8 for the coloured digits, got {side}")
    return coloured_digits("train", profile.pick(smoke=64, cpu=DIGITS), seed)
