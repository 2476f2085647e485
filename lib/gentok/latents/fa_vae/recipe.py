"""How `gentok train fa_vae` trains: the tokenizer, then a LightningDiT on its latents.

The checkpoint that `train` is told to write holds the tokenizer; the generator's stands beside it
under the same name with ``-generator``. Each stage resumes by itself.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from gentok.base import lightning_dit
from gentok.base.lightning_dit import LightningDiT, LightningDiTConfig
from gentok.data import batches, folder_batches, photographs
from gentok.data.folder import find, missing
from gentok.latents.fa_vae.model import FAVAE, FAVAEConfig, build
from gentok.show.media import save_grid
from gentok.training.loop import fit, load_model
from gentok.training.profiles import Profile

PATCHES = 8192  # photographs' patches that a small preset trains on
FOLDER = "images"  # of GENTOK_DATA, one sub-folder a class, for presets of large images
LARGEST_PATCH = 96  # pixels; larger images must come from the folder


def train(
    config: FAVAEConfig, profile: Profile, *, out: str | Path, resume: bool, seed: int
) -> nn.Module:
    """Train tokenizer and generator.

    Presets up to 96 pixels learn from the embedded photographs; larger ones need real images under
    ``GENTOK_DATA/images/<class>/`` (ImageNet's layout) and follow VA-VAE's plan in the gpu profile.

    Returns:
        the trained tokenizer.

    Raises:
        FileNotFoundError: if the preset needs the image folder and it is absent.
    """
    large = config.image_size > LARGEST_PATCH
    steps = profile.pick(smoke=4, cpu=600, gpu=250_000 if large else 20_000)
    batch_size = profile.pick(smoke=4, cpu=16, gpu=256 if large else 64)
    if not large:  # the published start of the adversary is far beyond the end of a short run
        start = int(0.6 * steps)
        low, high = (replace(branch, gan_start=start) for branch in (config.low, config.high))
        config = replace(config, low=low, high=high)
    draw, num_classes, sample_images = _source(config.image_size, batch_size, seed)
    torch.manual_seed(seed)
    model = build(config).to(profile.device)
    fit(
        model,
        draw,
        steps=steps,
        lr=1e-4 if large else 3e-3,
        betas=(0.5, 0.9),
        schedule="constant" if large else "cosine",
        clip=1.0,
        seed=seed,
        out=out,
        resume=resume,
    )
    _train_generator(model, draw, num_classes, sample_images, profile, out, resume, seed)
    return model


def _train_generator(
    model: FAVAE,
    draw: Callable[[int], dict],
    num_classes: int,
    sample_images: Tensor,
    profile: Profile,
    out: str | Path,
    resume: bool,
    seed: int,
) -> LightningDiT:
    """The second stage, on latents that are encoded as they are needed."""
    c, side, _ = model.config.latent_shape
    large = model.config.image_size > LARGEST_PATCH
    size = lightning_dit.PRESETS["xl/1" if large else "tiny"]
    config: LightningDiTConfig = replace(
        size,
        in_channels=c,
        input_size=side,
        patch_size=1 if large else 2,
        num_classes=num_classes,
    )
    device = next(model.parameters()).device

    @torch.no_grad()
    def latents(step: int) -> dict[str, Tensor]:
        batch = draw(step)
        return {"latent": model.encode(batch["image"].to(device)), "label": batch["label"]}

    torch.manual_seed(seed)
    network = LightningDiT(config).to(device)
    with torch.no_grad():
        network.set_statistics(model.encode(sample_images.to(device)))
    fit(
        network,
        latents,
        steps=profile.pick(smoke=4, cpu=600, gpu=80_000 if large else 20_000),
        lr=2e-4 if large else 1e-3,
        betas=(0.9, 0.95),
        clip=1.0,
        ema=0.9999 if large else 0.995,
        seed=seed,
        out=_beside(out),
        resume=resume,
    )
    return network


def sample(checkpoint: str | Path, out: str | Path, *, n: int, seed: int) -> None:
    """Write a picture: samples of the generator, or reconstructions if there is only a tokenizer.

    Args:
        checkpoint: the tokenizer's; the generator's is looked for beside it.
        out: image file to write (the name's ending says the format).
        n: number of images.
        seed: of the noise.
    """
    model = load_model(checkpoint, FAVAEConfig, build)
    torch.manual_seed(seed)
    with torch.no_grad():
        if _beside(checkpoint).is_file():
            network = load_model(_beside(checkpoint), LightningDiTConfig, LightningDiT)
            images = model.decode(network.sample(n, steps=50, guidance=1.5))
        else:
            real = photographs(min(model.config.image_size, LARGEST_PATCH), "test", seed, n)
            images = model.decode(model.encode(real.floats()))
    save_grid(images, out)


def _beside(out: str | Path) -> Path:
    """Where the generator's checkpoint of a tokenizer stands."""
    out = Path(out)
    return out.with_name(f"{out.stem}-generator{out.suffix}")


def _source(size: int, batch_size: int, seed: int) -> tuple[Callable[[int], dict], int, Tensor]:
    """Batches, number of classes, and some images to take the latents' statistics from."""
    if size <= LARGEST_PATCH:
        images = photographs(size, "train", seed, PATCHES)
        return (
            batches(images, batch_size, seed, flip=True),
            len(images.class_names),
            images.subset(slice(0, 512)).floats(),
        )
    folder = find(FOLDER)
    if folder is None:
        raise missing(f"images of {size} pixels", f"{FOLDER}/<class>/*.jpg")
    draw, num_classes = folder_batches(folder, size, batch_size, seed)
    return draw, num_classes, torch.cat([draw(step)["image"] for step in range(4)])
