"""How `gentok train fa_vae` trains: the tokenizer, then a LightningDiT on its latents.

The checkpoint that `train` is told to write holds the tokenizer; the generator's stands beside it
under the same name with ``-generator``. Each stage resumes by itself. A plan with rivals trains two
other tokenizers in the same way instead of a generator.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gentok.base.judging import HELD_OUT, reconstructions, samples
from gentok.base.kl_vae import KLVAEConfig
from gentok.base.lightning_dit import LightningDiT, LightningDiTConfig
from gentok.base.pipeline import Pipeline
from gentok.data import ImageSet, batches, folder_batches, photographs, plain_shapes
from gentok.data.folder import find, missing
from gentok.data.mirrored_crop import mirrored_crop
from gentok.latents.fa_vae.model import FAVAE, FAVAEConfig, build
from gentok.latents.fa_vae.plans import KINDS, OURS, Plan, plan, sampler_of
from gentok.measure.images import psnr
from gentok.measure.spectrum import band_errors
from gentok.show.media import PICTURES, save_grid
from gentok.training.loop import fit, load_model
from gentok.training.profiles import Profile
from gentok.training.stages import companion, stage
from gentok.training.weights import Weights

Batches = Callable[[int], dict[str, Tensor]]
FOLDER = "images"  # of GENTOK_DATA, one sub-folder a class, for presets of large images
SAMPLES = PICTURES  # what `sample` writes


def train(
    preset: str, profile: Profile, *, out: str | Path | None, resume: bool, seed: int
) -> FAVAE:
    """Train the tokenizer, then a generator on its latents, or its rivals.

    Returns:
        the trained tokenizer.

    Raises:
        FileNotFoundError: if the plan's pictures, or the weights of a loss, are absent.
        ValueError: if there is no such preset.
    """
    task = plan(preset, profile)
    source, num_classes = pictures(task, seed)
    files = {"out": out, "resume": resume}
    model = train_kind(OURS, task, source, profile, seed, **files)
    if task.generator is not None:
        if task.data == "folder":
            source, _ = pictures(task, seed, task.generator.batch_size)
        _train_generator(task, model, source, num_classes, out, resume, seed)
        return model
    for kind in task.rivals:
        train_kind(kind, task, source, profile, seed, out=stage(out, kind), resume=resume)
    return model


def train_kind(
    kind: str, task: Plan, source: ImageSet | Batches, profile: Profile, seed: int, **options: Any
) -> nn.Module:
    """Train FA-VAE or a rival of it by one stage.

    Args:
        kind: of `KINDS`; ``source``: images, or batches of them.
        options: of `fit` (``out``, ``resume``, ``progress``).

    Returns:
        the averaged tokenizer, or as the last step left it where the plan averages none.
    """
    torch.manual_seed(seed)
    model = KINDS[kind][1](task.sizes()[kind]).to(profile.device)
    draw = _draw(source, task.tokenizer.batch_size, seed)
    return fit(model, draw, **task.tokenizer.fit_arguments(), seed=seed, **options).ema


def _train_generator(
    task: Plan,
    model: FAVAE,
    source: ImageSet | Batches,
    num_classes: int,
    out: str | Path | None,
    resume: bool,
    seed: int,
) -> LightningDiT:
    """The second stage, on latents of the first."""
    c, side, _ = model.config.latent_shape
    size = replace(task.generator_size, in_channels=c, input_size=side, num_classes=num_classes)
    device = next(model.parameters()).device
    latents, some = _latents(task, model, source, seed)
    torch.manual_seed(seed)
    network = LightningDiT(size).to(device)
    network.set_statistics(some.to(device))
    fit(
        network,
        latents,
        **task.generator.fit_arguments(),
        seed=seed,
        out=companion(out, "generator"),
        resume=resume,
        after=out,
    )
    return network


@torch.no_grad()
def _latents(
    task: Plan, model: FAVAE, source: ImageSet | Batches, seed: int
) -> tuple[Batches, Tensor]:
    """Batches of latents, and some latents to take statistics from.

    Shapes are encoded once, each with its mirror image; other pictures as they are needed.
    """
    device, rows = next(model.parameters()).device, task.generator.batch_size
    if task.data == "plain":
        images = torch.cat([source.floats(), source.floats().flip(-1)])
        z = torch.cat([model.encode(part.to(device)).cpu() for part in images.split(256)])
        return batches({"latent": z, "label": source.labels.repeat(2)}, rows, seed), z[:2048]
    draw = _draw(source, rows, seed)

    @torch.no_grad()
    def encoded(step: int) -> dict[str, Tensor]:
        batch = draw(step)
        return {"latent": model.encode(batch["image"].to(device)), "label": batch["label"]}

    return encoded, model.encode(_some(source).to(device))


def sample(checkpoint: str | Path, out: str | Path, *, n: int, seed: int) -> None:
    """Write a picture: samples of the generator, or reconstructions if there is only a tokenizer.

    Args:
        checkpoint: the tokenizer's; the generator's is looked for beside it.
        out: image file to write (the name's ending says the format).
        n: number of images.
        seed: of the noise.
    """
    if companion(checkpoint, "generator").is_file():
        system = _assemble(**_collect(checkpoint))
        torch.manual_seed(seed)
        images = system.sample(n)
    else:
        model = load_model(checkpoint, FAVAEConfig, build)
        with torch.no_grad():
            real = photographs(min(model.config.image_size, 96), "test", seed, n)
            images = model.decode(model.encode(real.floats()))
    save_grid(images, out)


def pictures(task: Plan, seed: int, rows: int | None = None) -> tuple[ImageSet | Batches, int]:
    """The images that a plan learns from (a folder's come as batches), and how many classes.

    Args:
        task: the plan; ``seed``: which images, or their order.
        rows: of a folder's batches; the tokenizer's if None.

    Raises:
        FileNotFoundError: if they are absent.
    """
    side = task.size.image_size
    if task.data == "photographs":
        images = photographs(side, "train", seed, task.pictures)
        return images, len(images.class_names)
    if task.data == "plain":
        images = plain_shapes(task.pictures, side, seed)
        return images, len(images.class_names)
    folder = find(FOLDER)
    if folder is None:
        raise missing(f"images of {side} pixels", f"{FOLDER}/<class>/*.jpg")
    # LightningDiT keeps the latents of each picture and of its mirror image, and draws one.
    rows = rows or task.tokenizer.batch_size
    return folder_batches(folder, side, rows, seed, crop=mirrored_crop)


def _draw(source: ImageSet | Batches, batch_size: int, seed: int) -> Batches:
    if isinstance(source, ImageSet):
        return batches(source, batch_size, seed, flip=True)
    return source


def _some(source: ImageSet | Batches) -> Tensor:
    """Images to take the latents' statistics from."""
    if isinstance(source, ImageSet):
        return source.subset(slice(0, 512)).floats()
    return torch.cat([source(step)["image"] for step in range(4)])


def _collect(checkpoint: str | Path) -> dict[str, nn.Module]:
    """The two networks, from the tokenizer's checkpoint and the generator's beside it."""
    beside = companion(checkpoint, "generator")
    generator = load_model(beside, LightningDiTConfig, LightningDiT, after=checkpoint)
    tokenizer = load_model(checkpoint, FAVAEConfig, build)
    return {"tokenizer": tokenizer, "generator": generator}


# --- weights --------------------------------------------------------------------------------------


def _bare(model: nn.Module) -> nn.Module:
    """A tokenizer without what only its training needs."""
    config = model.config
    if isinstance(config, KLVAEConfig):
        config = replace(config, gan_weight=0.0, vf_weight=0.0)
    else:
        low, high = (
            replace(side, gan_weight=0.0, vf_weight=0.0) for side in (config.low, config.high)
        )
        config = replace(config, low=low, high=high)
    bare, weights = type(model)(config), model.state_dict()
    bare.load_state_dict({name: weights[name] for name in bare.state_dict()})
    return bare.eval()


def _collect_bare(checkpoint: Path) -> dict[str, nn.Module]:
    parts = _collect(checkpoint)
    return parts | {"tokenizer": _bare(parts["tokenizer"])}


def _collect_kinds(checkpoint: Path) -> dict[str, nn.Module]:
    """All tokenizers of photographs, without what only their training needs."""
    files = {kind: checkpoint if kind == OURS else stage(checkpoint, kind) for kind in KINDS}
    return {kind: _bare(load_model(path, *KINDS[kind])) for kind, path in files.items()}


def _measure(system: Pipeline, n: int) -> dict[str, float]:
    return samples(system, n) | {"psnr": reconstructions(system.tokenizer, n)["psnr"]}


@torch.no_grad()
def _measure_kinds(tokenizers: nn.ModuleDict, n: int) -> dict[str, float]:
    """PSNR (dB, mean over patches) and mean squared error of the high bands, of each tokenizer."""
    found, x = {}, photographs(64, "test", HELD_OUT, n).floats()
    for kind, tokenizer in tokenizers.items():
        parts = [tokenizer.decode(tokenizer.encode(part)) for part in x.split(50)]
        y = torch.cat(parts).clamp(-1, 1)
        found[f"{kind}_psnr"] = float(psnr(x, y).mean())
        found[f"{kind}_high_mse"] = band_errors(x, y)["high"]
    return found


def _data(preset: str, profile: Profile, seed: int) -> dict[str, ImageSet]:
    return {"training": pictures(plan(preset, profile), seed)[0]}


def _assemble(tokenizer: FAVAE, generator: LightningDiT) -> Pipeline:
    return Pipeline(tokenizer, generator, **sampler_of(tokenizer.config))


def _side_by_side(**tokenizers: nn.Module) -> nn.ModuleDict:
    return nn.ModuleDict(tokenizers)


WEIGHTS = {
    "fa_vae": Weights(
        preset="world-32",
        parts={
            "tokenizer": (FAVAEConfig, build),
            "generator": (LightningDiTConfig, LightningDiT),
        },
        train=train,
        collect=_collect_bare,
        assemble=_assemble,
        measure=_measure,
        data=partial(_data, "world-32"),
    ),
    "fa_vae_photographs": Weights(
        preset="photographs-64",
        parts=KINDS,
        train=train,
        collect=_collect_kinds,
        assemble=_side_by_side,
        measure=_measure_kinds,
        data=partial(_data, "photographs-64"),
    ),
}
