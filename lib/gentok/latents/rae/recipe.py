"""How `gentok train rae` trains: (a small encoder,) the decoder, the generator, and its weak guide.

The checkpoint that `train` is told to write holds the tokenizer's decoder. Beside it stand

- ``<stem>-encoder/``: the small MAE in the hub's format, for presets whose encoder is not a
  published one (``<stem>.mae.safetensors`` is its training run);
- ``<stem>-generator``: DiT^DH;
- ``<stem>-guide``: a smaller DiT^DH trained for less, from which AutoGuidance leads away.

Each stage resumes by itself.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from gentok.data import batches, generator, photographs, to_float, to_uint8
from gentok.data.folder import find, missing
from gentok.latents.rae import dit as rae_dit
from gentok.latents.rae import small_mae
from gentok.latents.rae.dit import RAEDiT, RAEDiTConfig
from gentok.latents.rae.model import RAE, RAEConfig, build
from gentok.latents.rae.small_mae import SmallMAEConfig
from gentok.training.loop import Schedule, fit, load_model
from gentok.training.profiles import Profile
from gentok.training.stages import stage

PATCHES = 8192  # photographs' patches that a small preset trains on
FOLDER = "images"  # of GENTOK_DATA, one sub-folder a class, for presets of large images
SMALL_ENCODER = "small-mae"  # name of an encoder that the recipe has to train itself
EPOCH = 1_281_167  # ImageNet's training images; the paper counts its lengths in epochs


def train(
    config: RAEConfig, profile: Profile, *, out: str | Path | None, resume: bool, seed: int
) -> nn.Module:
    """Train tokenizer and generator.

    The tiny preset learns from the embedded photographs. Published ones need real images under
    ``GENTOK_DATA/images/<class>/`` (ImageNet's layout) and an encoder that `transformers` can read,
    and follow the paper's plan in the gpu profile.

    Returns:
        the trained tokenizer, its decoder averaged.

    Raises:
        FileNotFoundError: if the preset needs the image folder or the encoder and it is absent.
    """
    large = config.encoder.name != SMALL_ENCODER
    batch_size = profile.pick(smoke=4, cpu=16, gpu=512 if large else 64)
    draw, _ = _source(config.image_size, large, batch_size, seed)
    steps = profile.pick(smoke=4, cpu=400, gpu=16 * EPOCH // 512 if large else 20_000)
    if not large:
        config = _with_small_encoder(config, profile, draw, out, resume, seed)
        # The published start of the adversary lies beyond the end of a short run.
        config = replace(config, discriminator_start=steps // 2, gan_start=int(0.7 * steps))
    torch.manual_seed(seed)
    model = build(config).to(profile.device)
    tokenizer = fit(
        model,
        draw,
        steps=steps,
        lr=2e-4 if large else 2e-3,
        betas=(0.9, 0.95),
        # The public code falls from 2e-4 to 2e-5, for both players, and does not clip.
        schedule=Schedule("cosine", floor=0.1) if large else "cosine",
        warmup=steps // 16,  # one epoch of 16
        clip=None if large else 1.0,
        ema=0.9978,
        seed=seed,
        out=out,
        resume=resume,
    ).ema
    draw, classes = _source(
        config.image_size, large, profile.pick(smoke=4, cpu=16, gpu=1024 if large else 64), seed
    )
    for name in ("generator", "guide"):
        _train_generator(name, tokenizer, large, draw, classes, profile, out, resume, seed)
    return tokenizer


def _with_small_encoder(
    config: RAEConfig,
    profile: Profile,
    draw: Callable[[int], dict],
    out: str | Path | None,
    resume: bool,
    seed: int,
) -> RAEConfig:
    """Train a small MAE, save it in the hub's format, and name it in the configuration."""
    torch.manual_seed(seed)
    model = small_mae.build(_mae_sizes(config)).to(profile.device)
    fit(
        model,
        draw,
        steps=profile.pick(smoke=4, cpu=400, gpu=20_000),
        lr=2e-3,
        betas=(0.9, 0.95),
        weight_decay=0.05,
        schedule="cosine",
        warmup=profile.pick(smoke=1, cpu=40),
        clip=1.0,
        seed=seed,
        out=stage(out, "mae"),
        resume=resume,
    )
    place = tempfile.mkdtemp() if out is None else _beside(out, "encoder").with_suffix("")
    folder = str(model.save(place))
    encoder = replace(config.encoder, name=folder)
    return replace(
        config, encoder=encoder, discriminator=replace(config.discriminator, name=folder)
    )


def _mae_sizes(config: RAEConfig) -> SmallMAEConfig:
    encoder = config.encoder
    return SmallMAEConfig(
        image_size=encoder.image_size,
        patch_size=encoder.patch_size,
        dim=encoder.dim,
        depth=encoder.depth,
        num_heads=encoder.num_heads,
    )


def _train_generator(
    name: str,
    tokenizer: RAE,
    large: bool,
    draw: Callable[[int], dict],
    num_classes: int,
    profile: Profile,
    out: str | Path | None,
    resume: bool,
    seed: int,
) -> RAEDiT:
    """DiT^DH, or its weak guide, on latents that are encoded as they are needed."""
    c, grid, _ = tokenizer.config.latent_shape
    config = _generator_sizes(name, large, c, grid, num_classes)
    epochs = 800 if name == "generator" else 14
    steps = profile.pick(smoke=4, cpu=600, gpu=epochs * EPOCH // 1024 if large else 20_000)
    if name == "guide" and not large:
        steps = max(1, steps // 8)
    # From 2e-4 to 2e-5 between epochs 40 and 800; the guide ends long before it would fall.
    published = Schedule("linear", 0.1, start=40 * EPOCH // 1024, end=800 * EPOCH // 1024)
    device = next(tokenizer.parameters()).device

    def latents(step: int) -> dict[str, Tensor]:
        batch = draw(step)
        return {"latent": tokenizer.encode(batch["image"].to(device)), "label": batch["label"]}

    torch.manual_seed(seed)
    network = RAEDiT(config).to(device)
    for step in range(profile.pick(smoke=2, cpu=50)):
        network.observe(latents(step)["latent"])
    fit(
        network,
        latents,
        steps=steps,
        lr=2e-4 if large else 2e-3,
        betas=(0.9, 0.95),
        schedule=published if large else "linear",
        clip=1.0,
        ema=0.9995 if large else 0.995,
        seed=seed,
        out=_beside(out, name),
        resume=resume,
    )
    return network


def _generator_sizes(
    name: str, large: bool, channels: int, grid: int, num_classes: int
) -> RAEDiTConfig:
    if large:
        config = rae_dit.PRESETS["dit-dh-xl" if name == "generator" else "dit-dh-s"]
    else:
        config = rae_dit.PRESETS["tiny"]
        if name == "guide":
            config = replace(config, backbone=replace(config.backbone, dim=32, depth=2))
    backbone = replace(
        config.backbone, in_channels=channels, input_size=grid, num_classes=num_classes
    )
    return replace(config, backbone=backbone, published_params=None)


def sample(checkpoint: str | Path, out: str | Path, *, n: int, seed: int) -> None:
    """Write a picture: samples of the generator, or reconstructions if there is only a tokenizer.

    Args:
        checkpoint: the tokenizer's; those of the generator and its guide are looked for beside it.
        out: image file to write (the name's ending says the format).
        n: number of images.
        seed: of the noise.
    """
    model = load_model(checkpoint, RAEConfig, build)
    torch.manual_seed(seed)
    with torch.no_grad():
        if _beside(checkpoint, "generator").is_file():
            network, weak = (
                load_model(_beside(checkpoint, name), RAEDiTConfig, RAEDiT)
                if _beside(checkpoint, name).is_file()
                else None
                for name in ("generator", "guide")
            )
            guidance = 1.0 if weak is None else 1.42  # published for 256 pixels
            images = model.decode(network.sample(n, guidance=guidance, weak=weak))
        else:
            real = photographs(min(model.config.image_size, 96), "test", seed, n)
            images = model.decode(model.encode(real.floats()))
    rows = to_uint8(images).permute(0, 2, 3, 1)  # (n, H, W, 3)
    columns = min(n, 8)
    blank = torch.zeros(-n % columns, *rows.shape[1:], dtype=torch.uint8)
    grid = torch.cat([rows, blank]).unflatten(0, (-1, columns))  # (rows, columns, H, W, 3)
    picture = grid.permute(0, 2, 1, 3, 4).flatten(2, 3).flatten(0, 1)
    Image.fromarray(picture.numpy()).save(out)


def _beside(out: str | Path | None, name: str) -> Path | None:
    """Where a companion of the tokenizer's checkpoint stands, or None if nothing is kept."""
    if out is None:
        return None
    out = Path(out)
    return out.with_name(f"{out.stem}-{name}{out.suffix}")


def _source(
    size: int, large: bool, batch_size: int, seed: int
) -> tuple[Callable[[int], dict], int]:
    """Batches as a pure function of the step, and the number of classes."""
    if not large:
        images = photographs(size, "train", seed, PATCHES)
        return batches(images, batch_size, seed, flip=True), len(images.class_names)
    folder = find(FOLDER)
    if folder is None:
        raise missing(f"images of {size} pixels", f"{FOLDER}/<class>/*.jpg")
    return _folder_batches(folder, size, batch_size, seed)


def _folder_batches(
    folder: Path, size: int, batch_size: int, seed: int
) -> tuple[Callable[[int], dict], int]:
    """Images of a folder, reduced to 1.5 times the size and cropped at random (384 to 256)."""
    import datasets  # slow to import, and needed only here

    rows = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train")
    wide = size * 3 // 2

    def batch(step: int) -> dict[str, Tensor]:
        rng = generator(seed, step)
        index = torch.randint(len(rows), (batch_size,), generator=rng)
        corner = torch.randint(wide - size + 1, (batch_size, 2), generator=rng).tolist()
        arrays, labels = [], []
        for i, (top, left) in zip(index.tolist(), corner, strict=True):
            picture = ImageOps.fit(rows[i]["image"].convert("RGB"), (wide, wide))
            arrays.append(np.asarray(picture.crop((left, top, left + size, top + size))))
            labels.append(rows[i]["label"])
        images = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)  # (B, 3, H, W)
        return {"image": to_float(images), "label": torch.tensor(labels)}

    return batch, rows.features["label"].num_classes
