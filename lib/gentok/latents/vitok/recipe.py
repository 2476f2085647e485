"""How `gentok train vitok` trains: the tokenizer, its decoder against an adversary, a generator.

The checkpoint that `train` is told to write holds the tokenizer of stage 1. Beside it stand

- ``<stem>.<cell>``: tokenizers of other shapes, for plans that have them;
- ``<stem>-tuned``: stage 2, with the tokenizer whose decoder was tuned;
- ``<stem>-generator``: the diffusion transformer on the codes, which stage 2 leaves as they are.

Each stage resumes by itself.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gentok.base.judging import HELD_OUT
from gentok.base.pipeline import Pipeline
from gentok.data import ImageSet, batches, folder_batches, photographs, plain_shapes
from gentok.data.clips import moving_clips
from gentok.data.folder import find, missing
from gentok.latents.vitok.crop import gentle_crop
from gentok.latents.vitok.dit import ViTokDiT, ViTokDiTConfig
from gentok.latents.vitok.folder_videos import video_batches
from gentok.latents.vitok.model import ViTok, ViTokConfig, build
from gentok.latents.vitok.plans import Plan, Second, family, name_of, plan
from gentok.latents.vitok.readout import quality, reconstruct
from gentok.latents.vitok.tuning import DecoderTuning, TuningConfig, build_tuning
from gentok.show.media import PICTURES, save_grid
from gentok.training.loop import Fit, ParameterGroup, fit, load_model
from gentok.training.profiles import Profile
from gentok.training.stages import companion, stage
from gentok.training.weights import Weights

Batches = Callable[[int], dict[str, Tensor]]
IMAGES, VIDEOS = "images", "videos_by_class"  # of GENTOK_DATA, for published presets
SAMPLES = PICTURES  # what `sample` writes
# Published: 250 steps, guidance 1.5 and 3. After a training as short as ours more guidance helps.
SAMPLER = {"num_steps": 100, "guidance_scale": 2.0}
PUBLISHED_SAMPLER = {"num_steps": 250, "guidance_scale": 1.5}


def train(
    preset: str, profile: Profile, *, out: str | Path | None, resume: bool, seed: int
) -> ViTok:
    """Train the tokenizer by its plan, its companions, stage 2 and the generator.

    Returns:
        the tokenizer that decodes: of stage 2 if the plan has one.

    Raises:
        FileNotFoundError: if the plan's pictures, or the weights of a loss, are absent.
        ValueError: if there is no such preset.
    """
    task = plan(preset, profile)
    draw, num_classes = source(task, task.first.batch_size, seed)
    options = {"resume": resume}
    for name, size in (task.beside or {}).items():
        train_one(task, size, draw, profile, seed, out=stage(out, name), **options)
    model = train_one(task, task.size, draw, profile, seed, out=out, **options).model
    if task.generator is not None:
        files = {"out": companion(out, "generator"), "resume": resume, "after": out}
        train_generator(task, model, num_classes, seed, **files)
    if task.second is None:
        return model
    files = {"out": companion(out, "tuned"), "resume": resume, "after": out}
    return tune(task.second, model, draw, seed, **files).ema.tokenizer


def train_one(
    task: Plan, size: ViTokConfig, draw: Batches, profile: Profile, seed: int, **options: Any
) -> Fit:
    """Stage 1 of one tokenizer; all that are given one seed see the same pictures and noise.

    Args:
        task: the plan; ``size``: of the tokenizer, the plan's or another.
        draw: batches; ``profile``: says where; ``seed``: of weights and noise.
        options: of `fit` (``out``, ``resume``, ``progress``).
    """
    torch.manual_seed(seed)
    model = build(size).to(profile.device)
    return fit(model, draw, **task.first.fit_arguments(), seed=seed, **options)


def tune(how: Second, tokenizer: ViTok, draw: Batches, seed: int, **options: Any) -> Fit:
    """Stage 2 from a tokenizer of stage 1, which stays as it is.

    The discriminator's rate is a multiple of the decoder's, so both follow one schedule; the
    public code holds the discriminator's constant.

    Args:
        how: the game and its stage; ``tokenizer``: of stage 1; ``draw``: batches.
        seed: of the discriminator's weights and of noise.
        options: of `fit` (``out``, ``resume``, ``after``, ``progress``).
    """
    torch.manual_seed(seed)
    model = build_tuning(how.game).begin(tokenizer).to(next(tokenizer.parameters()).device)
    names = [name for name, _ in model.named_parameters() if name.startswith("discriminator.")]
    groups = [ParameterGroup(frozenset(names), how.stage.weight_decay, how.rate)] if names else []
    arguments = how.stage.fit_arguments() | {"groups": groups}
    return fit(model, draw, **arguments, seed=seed, **options)


def train_generator(
    task: Plan,
    tokenizer: ViTok,
    num_classes: int,
    seed: int,
    draw: Batches | None = None,
    normalized: bool | None = None,
    **options: Any,
) -> Fit:
    """The diffusion transformer, on codes that are drawn as they are needed.

    Args:
        task: the plan; ``tokenizer``: of its stage 1; ``num_classes``: of its data.
        seed: of weights, order and noise.
        draw: batches of pictures; None takes the plan's.
        normalized: give each channel of the codes unit variance. As published they keep theirs;
            None normalises what the book draws, since small tokenizers keep to no scale.
        options: of `fit` (``out``, ``resume``, ``after``, ``progress``).
    """
    device = next(tokenizer.parameters()).device
    if draw is None:
        draw, _ = source(task, task.generator.batch_size, seed)
    if normalized is None:
        normalized = task.data in ("photographs", "plain", "centred")
    key = tokenizer.latent_space.batch_key

    @torch.no_grad()
    def codes(step: int) -> dict[str, Tensor]:
        batch = draw(step)
        z = tokenizer.encode(batch[key].to(device), sample=True)
        return {"latent": z, "label": batch["label"]}

    torch.manual_seed(seed)
    network = ViTokDiT(sized(task, num_classes)).to(device)
    if normalized:
        network.set_statistics(torch.cat([codes(step)["latent"] for step in range(16)]))
    return fit(network, codes, **task.generator.fit_arguments(), seed=seed, **options)


def sized(task: Plan, num_classes: int) -> ViTokDiTConfig:
    """The generator's configuration for a plan's tokenizer and data."""
    return replace(
        task.generator_size, latent_shape=task.size.latent_shape, num_classes=num_classes
    )


def source(task: Plan, rows: int, seed: int) -> tuple[Batches, int]:
    """Batches as a pure function of the step, and the number of classes.

    Raises:
        FileNotFoundError: if the plan reads files and they are absent.
    """
    side = task.size.image_size
    if task.data == "clips":
        clips = moving_clips(task.pictures, seed, side, task.size.frames)
        return _videos(batches({"video": clips.video, "label": clips.direction}, rows, seed)), 4
    if task.data in ("photographs", "plain"):
        images = pictures(task, seed)
        return batches(images, rows, seed, flip=True), len(images.class_names)
    name = IMAGES if task.data == "images" else VIDEOS
    folder = find(name)
    if folder is None:
        layout = "<class>/*.jpg" if name == IMAGES else "<class>/<clip>/*.jpg"
        raise missing(f"{task.data} of {side} pixels", f"{name}/{layout}")
    if name == IMAGES:
        return folder_batches(folder, side, rows, seed, crop=gentle_crop)
    return video_batches(folder, task.size.frames, side, rows, seed)


def _videos(draw: Batches) -> Batches:
    """Bytes of videos as floats in [-1, 1]."""

    def batch(step: int) -> dict[str, Tensor]:
        rows = draw(step)
        return rows | {"video": rows["video"].float() / 127.5 - 1}

    return batch


def pictures(task: Plan, seed: int) -> ImageSet:
    """The pictures that a plan without files learns from."""
    if task.data == "photographs":
        return photographs(task.size.image_size, "train", seed, task.pictures)
    return plain_shapes(task.pictures, task.size.image_size, seed)


def sample(checkpoint: str | Path, out: str | Path, *, n: int, seed: int) -> None:
    """Write a picture: samples of the generator, or reconstructions if there is only a tokenizer.

    Args:
        checkpoint: of stage 1; stage 2 and the generator are looked for beside it.
        out: image file to write (the name's ending says the format).
        n: number of images, or of videos, whose frames stand one after the other.
        seed: of the noise.
    """
    model = load_tokenizer(checkpoint)
    torch.manual_seed(seed)
    with torch.no_grad():
        if companion(checkpoint, "generator").is_file():
            images = _assemble(model, _load_generator(checkpoint)).sample(n)
        else:
            images = reconstruct(model, _held_out(model.config, n, seed))
    save_grid(images if images.ndim == 4 else images.flatten(0, 1), out)


def _held_out(size: ViTokConfig, n: int, seed: int) -> Tensor:
    if size.frames > 1:
        clips = moving_clips(n, seed + HELD_OUT, size.image_size, size.frames)
        return clips.video.float() / 127.5 - 1
    return photographs(min(size.image_size, 96), "test", seed, n).floats()


def load_tokenizer(checkpoint: str | Path) -> ViTok:
    """The tokenizer of a run: of stage 2 if there is one, else of stage 1.

    Raises:
        FileNotFoundError, ValueError: as `gentok.training.load_model`.
    """
    tuned = companion(checkpoint, "tuned")
    if tuned.is_file():
        return load_model(tuned, TuningConfig, build_tuning, after=checkpoint).tokenizer
    return load_model(checkpoint, ViTokConfig, build)


def _load_generator(checkpoint: str | Path) -> ViTokDiT:
    beside = companion(checkpoint, "generator")
    return load_model(beside, ViTokDiTConfig, ViTokDiT, after=checkpoint)


def _assemble(tokenizer: ViTok, generator: ViTokDiT) -> Pipeline:
    small = tokenizer.config.image_size <= 32
    return Pipeline(tokenizer, generator, **(SAMPLER if small else PUBLISHED_SAMPLER))


# --- weights --------------------------------------------------------------------------------------


def _collect_cells(checkpoint: Path) -> dict[str, nn.Module]:
    size = plan("study-32", Profile("long", (0,), "cpu")).size
    own = name_of(size.patch_size, size.latent_channels)
    files = {name: checkpoint if name == own else stage(checkpoint, name) for name in family()}
    models = {name: load_model(path, ViTokConfig, build) for name, path in files.items()}
    tuned = companion(checkpoint, "tuned")
    game: DecoderTuning = load_model(tuned, TuningConfig, build_tuning, after=checkpoint)
    return models | {"tuned": game.tokenizer}


def _measure_cells(models: nn.ModuleDict, n: int) -> dict[str, float]:
    """PSNR (dB, mean over crops) of every cell on held-out crops."""
    x = photographs(32, "test", HELD_OUT, n).floats()
    found = {name: quality(x, reconstruct(model, x)) for name, model in models.items()}
    return {f"{name}_psnr": metrics["psnr"] for name, metrics in found.items()}


def _data(preset: str, profile: Profile, seed: int) -> dict[str, ImageSet]:
    return {"training": pictures(plan(preset, profile), seed)}


def _side_by_side(**models: nn.Module) -> nn.ModuleDict:
    return nn.ModuleDict(models)


WEIGHTS = Weights(
    preset="study-32",
    parts=dict.fromkeys((*family(), "tuned"), (ViTokConfig, build)),
    train=train,
    collect=_collect_cells,
    assemble=_side_by_side,
    measure=_measure_cells,
    data=partial(_data, "study-32"),
)
