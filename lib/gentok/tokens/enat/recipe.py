"""How `gentok train enat` trains: a VQGAN with its adversary, then ENAT on the VQGAN's codes.

The checkpoint that `train` is told to write holds ENAT and its moving average; the tokenizer's
stands beside it (``<name>.tokenizer.safetensors``). Each stage resumes by itself.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from gentok.base import vqgan
from gentok.base.vqgan import AdversarialVQGAN, VQGANConfig
from gentok.data import ImageSet, available, batches, cifar10, class_images, folder_batches
from gentok.data.folder import find, missing
from gentok.measure import SmallClassifier, load_classifier
from gentok.show.media import save_grid
from gentok.tokens.enat.model import ENATConfig, build
from gentok.training.loop import fit, load_model
from gentok.training.profiles import Profile
from gentok.training.stages import stage

Batches = Callable[[int], dict[str, Tensor]]
IMAGES = 4096  # pictures of the procedural world that a small preset learns from
FOLDER = "images"  # of GENTOK_DATA, one sub-folder a class, for presets of large images


def train(
    config: ENATConfig, profile: Profile, *, out: str | Path | None, resume: bool, seed: int
) -> nn.Module:
    """Train the tokenizer and then ENAT.

    Grids of 8x8 tokens mean 32x32 pixels: the procedural world, or in the gpu profile CIFAR-10 if
    it is there. Larger grids need real images under ``GENTOK_DATA/images/<class>/`` (ImageNet's
    layout) and follow the paper's plan in the gpu profile.

    Returns:
        the averaged network, ready to sample.

    Raises:
        FileNotFoundError: if the preset needs the image folder and it is absent.
    """
    large = config.num_tokens > 64
    source, features = _source(config, profile, seed)
    tokenizer = _train_tokenizer(config, profile, source, features, out, resume, seed)
    draw = _codes(tokenizer, source, profile, config, seed)
    torch.manual_seed(seed)
    return fit(
        build(config).to(profile.device),
        draw,
        steps=profile.pick(smoke=4, cpu=1200, gpu=500_000 if large else 20_000),
        lr=_learning_rate(config),
        betas=(0.99, 0.99) if large else (0.9, 0.99),
        weight_decay=0.03,
        warmup=profile.pick(smoke=1, cpu=50, gpu=5000 if large else 500),
        schedule="constant" if large else "cosine",
        clip=1.0,
        ema=0.9999 if large else 0.99,
        seed=seed,
        out=out,
        resume=resume,
    ).ema


def sample(checkpoint: str | Path, out: str | Path, *, n: int, seed: int) -> None:
    """Write a picture of ``n`` samples, classes in turn.

    Args:
        checkpoint: ENAT's; the tokenizer's is looked for beside it.
        out: image file to write (the name's ending says the format).
        n: number of images.
        seed: of the sampler.

    Raises:
        FileNotFoundError: if one of the two checkpoints is absent.
    """
    network = load_model(checkpoint, ENATConfig, build)
    tokenizer = load_model(stage(checkpoint, "tokenizer"), VQGANConfig, _game).tokenizer
    torch.manual_seed(seed)
    label = torch.arange(n) % network.config.num_classes
    with torch.no_grad():
        images = tokenizer.decode(network.sample(n, label))
    save_grid(images, out, columns=10)


def _source(
    config: ENATConfig, profile: Profile, seed: int
) -> tuple[ImageSet | Batches, SmallClassifier]:
    """Images to learn from, and the feature network for the tokenizer's perceptual distance."""
    if config.num_tokens > 64:
        folder = find(FOLDER)
        if folder is None:
            raise missing(f"images for {config.num_tokens} tokens", f"{FOLDER}/<class>/*.jpg")
        side = 16 * round(config.num_tokens**0.5)
        draw, num_classes = folder_batches(folder, side, _batch_size(config, profile), seed)
        if num_classes > config.num_classes:
            raise ValueError(f"{folder} has {num_classes} classes, more than {config.num_classes}")
        return draw, load_classifier("world")
    if profile.name == "gpu" and available().get("cifar10"):
        return cifar10("train"), load_classifier("cifar10")
    return class_images(profile.pick(smoke=64, cpu=IMAGES), seed=seed), load_classifier("world")


def _train_tokenizer(
    config: ENATConfig,
    profile: Profile,
    source: ImageSet | Batches,
    features: SmallClassifier,
    out: str | Path | None,
    resume: bool,
    seed: int,
) -> vqgan.VQGAN:
    large = config.num_tokens > 64
    size = vqgan.PRESETS["vqgan-f16-1024" if large else "tiny"]
    steps = profile.pick(smoke=4, cpu=1000, gpu=500_000 if large else 20_000)
    side = size.factor * round(config.num_tokens**0.5)
    size = replace(size, image_size=side, codebook_size=config.codebook_size)
    if not large:
        size = replace(size, adversarial_start=int(0.7 * steps))
    torch.manual_seed(seed)
    game = AdversarialVQGAN(vqgan.build(size), features).to(profile.device)
    small = batches(source, 8, seed, flip=True) if isinstance(source, ImageSet) else source
    fit(
        game,
        small,
        steps=steps,
        lr=1e-4 if large else 3e-3,
        betas=(0.5, 0.9) if large else (0.9, 0.99),
        warmup=min(20, steps - 1),
        schedule="constant" if large else "cosine",
        clip=1.0,
        seed=seed,
        out=stage(out, "tokenizer"),
        resume=resume,
    )
    return game.tokenizer


@torch.no_grad()
def _codes(
    tokenizer: vqgan.VQGAN,
    source: ImageSet | Batches,
    profile: Profile,
    config: ENATConfig,
    seed: int,
) -> Batches:
    """Batches of codes: of every image and its mirror image, or encoded as they are needed."""
    device = next(tokenizer.parameters()).device
    if not isinstance(source, ImageSet):

        @torch.no_grad()
        def encoded(step: int) -> dict[str, Tensor]:
            batch = source(step)
            return {"codes": tokenizer.encode(batch["image"].to(device)), "label": batch["label"]}

        return encoded
    images = torch.cat([source.floats(), source.floats().flip(-1)])
    codes = torch.cat([tokenizer.encode(part.to(device)).cpu() for part in images.split(256)])
    table = {"codes": codes, "label": source.labels.repeat(2)}
    return batches(table, _batch_size(config, profile), seed)


def _batch_size(config: ENATConfig, profile: Profile) -> int:
    published = {256: 2048, 1024: 512}.get(config.num_tokens, 128)
    return profile.pick(smoke=8, cpu=16, gpu=published)


def _learning_rate(config: ENATConfig) -> float:
    return {256: 4e-4, 1024: 1e-4}.get(config.num_tokens, 4e-3)


def _game(config: VQGANConfig) -> AdversarialVQGAN:
    return AdversarialVQGAN(vqgan.build(config), SmallClassifier())
