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

import torch
from torch import Tensor, nn

from gentok.base.judging import reconstructions, samples
from gentok.base.pipeline import Pipeline
from gentok.data import (
    ImageSet,
    batches,
    centred_shapes,
    folder_batches,
    photographs,
    plain_shapes,
)
from gentok.data.folder import find, missing
from gentok.data.image_folder import Crop, shifted_crop
from gentok.data.mirrored_crop import mirrored_crop
from gentok.latents.rae import small_mae
from gentok.latents.rae.dit import RAEDiT, RAEDiTConfig
from gentok.latents.rae.encoder import EncoderConfig, load_encoder, outline_encoder
from gentok.latents.rae.model import PRESETS, RAE, RAEConfig, build
from gentok.latents.rae.plans import Plan, plan
from gentok.latents.rae.small_mae import SmallMAEConfig
from gentok.show.media import PICTURES, save_grid
from gentok.training.loop import fit, load_model
from gentok.training.plan import Stage
from gentok.training.profiles import Profile
from gentok.training.stages import companion, stage
from gentok.training.weights import Weights

FOLDER = "images"  # of GENTOK_DATA, one sub-folder a class, for presets of large images
SAMPLES = PICTURES  # what `sample` writes


def train(preset: str, profile: Profile, *, out: str | Path | None, resume: bool, seed: int) -> RAE:
    """Train tokenizer and generators.

    The tiny preset learns from the embedded photographs. Published ones need the image folder and
    an encoder that `transformers` can read, and follow the paper's plan in the gpu profile.

    Returns:
        the trained tokenizer, its decoder averaged.

    Raises:
        FileNotFoundError: if the preset needs the image folder or the encoder and it is absent.
        ValueError: if there is no such preset.
    """
    task = plan(preset, profile)
    folder, before = None, None
    if task.encoder is not None:
        folder, before = _small_encoder(task, profile, out, resume, seed), stage(out, "mae")
    draw, _ = _source(task, task.decoder.batch_size, seed, drawn=True)
    torch.manual_seed(seed)
    model = build(task.size).to(profile.device)
    if folder is not None:
        model.read_networks(folder)
    tokenizer = fit(
        model,
        draw,
        **task.decoder.fit_arguments(),
        seed=seed,
        out=out,
        resume=resume,
        after=before,
    ).ema
    stages = {
        "generator": (task.generator, task.generator_size),
        "guide": (task.guide, task.guide_size),
    }
    for name, (how, size) in stages.items():
        draw, classes = _source(task, how.batch_size, seed, drawn=True, crop=mirrored_crop)
        _train_generator(
            name, size, how, task.observed, tokenizer, draw, classes, out, resume, seed
        )
    return tokenizer


def _small_encoder(
    task: Plan,
    profile: Profile,
    out: str | Path | None,
    resume: bool,
    seed: int,
) -> Path:
    """Train a small MAE and save it in the hub's format; returns the folder."""
    config = task.size
    draw, _ = _source(task, task.encoder.batch_size, seed)
    torch.manual_seed(seed)
    model = small_mae.build(mae_size(config)).to(profile.device)
    fit(
        model,
        draw,
        **task.encoder.fit_arguments(),
        seed=seed,
        out=stage(out, "mae"),
        resume=resume,
    )
    return model.save(tempfile.mkdtemp() if out is None else _encoder_folder(out))


def mae_size(config: RAEConfig) -> SmallMAEConfig:
    """The small MAE whose encoder a tokenizer's configuration names."""
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
    size: RAEDiTConfig,
    how: Stage,
    observed: int,
    tokenizer: RAE,
    draw: Callable[[int], dict],
    num_classes: int,
    out: Path | None,
    resume: bool,
    seed: int,
) -> RAEDiT:
    """DiT^DH, or its weak guide, on latents that are encoded as they are needed."""
    c, grid, _ = tokenizer.config.latent_shape
    backbone = replace(size.backbone, in_channels=c, input_size=grid, num_classes=num_classes)
    size = replace(size, backbone=backbone, published_params=None)
    device = next(tokenizer.parameters()).device

    def latents(step: int) -> dict[str, Tensor]:
        batch = draw(step)
        return {"latent": tokenizer.encode(batch["image"].to(device)), "label": batch["label"]}

    torch.manual_seed(seed)
    network = RAEDiT(size).to(device)
    for step in range(observed):
        network.set_statistics(latents(step)["latent"], momentum=0.1)
    files = {"out": companion(out, name), "resume": resume, "after": out}
    fit(network, latents, **how.fit_arguments(), seed=seed, **files)
    return network


def load_tokenizer(checkpoint: str | Path) -> RAE:
    """The tokenizer of a checkpoint, with the encoder that was trained for it, if there is one.

    Raises:
        FileNotFoundError, ValueError: as `gentok.training.load_model`.
    """
    model, folder = load_model(checkpoint, RAEConfig, build), _encoder_folder(checkpoint)
    return model.read_networks(folder) if folder.is_dir() else model


def sample(checkpoint: str | Path, out: str | Path, *, n: int, seed: int) -> None:
    """Write a picture: samples of the generator, or reconstructions if there is only a tokenizer.

    Args:
        checkpoint: the tokenizer's; those of the generator and its guide are looked for beside it.
        out: image file to write (the name's ending says the format).
        n: number of images.
        seed: of the noise.
    """
    model = load_tokenizer(checkpoint)
    torch.manual_seed(seed)
    with torch.no_grad():
        if companion(checkpoint, "generator").is_file():
            network, weak = (
                _load_generator(checkpoint, name) if companion(checkpoint, name).is_file() else None
                for name in ("generator", "guide")
            )
            scale = 1.0 if weak is None else auto_guidance(model.config)
            images = model.decode(network.sample(n, guidance_scale=scale, weak=weak))
        else:
            real = photographs(min(model.config.image_size, 96), "test", seed, n)
            images = model.decode(model.encode(real.floats()))
    save_grid(images, out)


def auto_guidance(size: RAEConfig) -> float:
    """The published scale of AutoGuidance: 1.5 for the tokens of 512 pixels, 1.42 for 256."""
    return 1.5 if size == PRESETS["vit-xl-512"] else 1.42


def _load_generator(checkpoint: str | Path, name: str) -> RAEDiT:
    """The generator or its guide, of the run of a tokenizer's checkpoint."""
    return load_model(companion(checkpoint, name), RAEDiTConfig, RAEDiT, after=checkpoint)


def _encoder_folder(out: str | Path) -> Path:
    """Where a run keeps the small encoder that it trains: ``runs/a-encoder``."""
    return companion(out, "encoder").with_suffix("")


def pictures(task: Plan, seed: int, drawn: bool = False) -> ImageSet:
    """The pictures that a plan's encoder, or its decoder and generators (``drawn``), learn from.

    Args:
        task: a plan whose data are no folder.
        seed: which pictures.
        drawn: those of decoder and generators.

    Raises:
        ValueError: if the plan reads a folder.
    """
    kind, side = (drawn and task.drawn) or task.data, task.size.image_size
    if kind == "photographs":
        return photographs(side, "train", seed, task.pictures)
    makers = {"plain": plain_shapes, "centred": centred_shapes}
    if kind not in makers:
        raise ValueError(f"the plan's data must be drawn, not read, got {kind!r}")
    return makers[kind](task.pictures, side, seed)


def _source(
    task: Plan, batch_size: int, seed: int, drawn: bool = False, crop: Crop = shifted_crop
) -> tuple[Callable[[int], dict], int]:
    """Batches as a pure function of the step, and the number of classes.

    ``crop`` is of a folder's pictures: for the decoder 256 pixels anywhere in 384, for generators
    the middle or its mirror image, both as in the public code.
    """
    side = task.size.image_size
    if task.data != "folder":
        images = pictures(task, seed, drawn)
        return batches(images, batch_size, seed, flip=True), len(images.class_names)
    folder = find(FOLDER)
    if folder is None:
        raise missing(f"images of {side} pixels", f"{FOLDER}/<class>/*.jpg")
    return folder_batches(folder, side, batch_size, seed, crop=crop)


# --- weights --------------------------------------------------------------------------------------

# Published for 256 pixels: 1.42, away from the weak guide. After trainings as short as these the
# missing label steers better; the guide is kept for comparison.
SAMPLER = {"num_steps": 49, "guidance_scale": 2.0}


class GuidedPipeline(Pipeline):
    """Tokenizer, generator guided by its missing label, and the weak one for AutoGuidance.

    ``sample(n, label, weak=system.guide, guidance_scale=1.42)`` samples as published.
    """

    def __init__(self, tokenizer: RAE, generator: RAEDiT, guide: RAEDiT):
        super().__init__(tokenizer, generator, **SAMPLER)
        self.guide = guide


def _bare(checkpoint: Path) -> dict[str, nn.Module]:
    """The trained parts: the encoder too, the tokenizer without what only its training needs."""
    trained = load_tokenizer(checkpoint)
    bare = build(replace(trained.config, gan_weight=0.0, published_params=None))
    bare.decoder.load_state_dict(trained.decoder.state_dict())
    generators = {name: _load_generator(checkpoint, name) for name in ("generator", "guide")}
    config = trained.config.encoder
    encoder = load_encoder(replace(config, name=str(_encoder_folder(checkpoint))))
    encoder.config = config  # weights of the book name no folder of ours
    return {"encoder": encoder, "tokenizer": bare, **generators}


def _assemble(encoder: nn.Module, tokenizer: RAE, generator: RAEDiT, guide: RAEDiT) -> Pipeline:
    return GuidedPipeline(tokenizer.see_through(encoder), generator, guide)


def _measure(system: Pipeline, n: int) -> dict[str, float]:
    return samples(system, n) | {"psnr": reconstructions(system.tokenizer, n)["psnr"]}


def _data(profile: Profile, seed: int) -> dict[str, ImageSet]:
    task = plan("world-32", profile)
    return {"training": plain_shapes(task.pictures, task.size.image_size, seed)}


WEIGHTS = Weights(
    preset="world-32",
    parts={
        "encoder": (EncoderConfig, outline_encoder),
        "tokenizer": (RAEConfig, build),
        "generator": (RAEDiTConfig, RAEDiT),
        "guide": (RAEDiTConfig, RAEDiT),
    },
    train=train,
    collect=_bare,
    assemble=_assemble,
    measure=_measure,
    data=_data,
    eight_bits=True,
)
