"""How `gentok train fa_vae` trains: the tokenizer, then a LightningDiT on its latents.

The checkpoint that `train` is told to write holds the tokenizer; the generator's stands beside it
under the same name with ``-generator``. Each stage resumes by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from gentok.base import lightning_dit
from gentok.base.judging import reconstructions, samples
from gentok.base.lightning_dit import LightningDiT, LightningDiTConfig
from gentok.base.pipeline import Pipeline
from gentok.data import ImageSet, batches, folder_batches, photographs, plain_shapes
from gentok.data.folder import find, missing
from gentok.latents.fa_vae.model import FAVAE, PRESETS, FAVAEConfig, build
from gentok.show.media import save_grid
from gentok.training.loop import fit, load_model
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile
from gentok.training.weights import Weights

Batches = Callable[[int], dict[str, Tensor]]
PATCHES = 8192  # photographs' patches that a small preset trains on
FOLDER = "images"  # of GENTOK_DATA, one sub-folder a class, for presets of large images
SAMPLER = {"num_steps": 50, "guidance_scale": 2.0}  # of the pictures that `sample` draws


@dataclass(frozen=True)
class Plan:
    """What decides a training of FA-VAE and of the generator on its latents.

    Args:
        data: ``"photographs"`` (patches of the embedded ones), ``"plain"`` (the world's shapes on
            plain floors), or ``"folder"``: ImageNet's layout under ``GENTOK_DATA/images/<class>/``.
        pictures: how many photographs' patches or shapes.
        size: of the tokenizer; ``generator_size``: of the LightningDiT, but for what the tokenizer
            and the data decide (channels, grid, classes).
        tokenizer, generator: how each is trained.
    """

    data: str
    pictures: int
    size: FAVAEConfig
    generator_size: LightningDiTConfig
    tokenizer: Stage
    generator: Stage


PUBLISHED = ("f16d32-a", "f16d32-b")  # sizes that follow VA-VAE's plan


def plan(preset: str, profile: Profile) -> Plan:
    """The training of a preset.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    if preset in PUBLISHED:
        return _published(size, profile)
    if preset == "world-32":
        return _world(size, profile)
    steps = profile.pick(smoke=4, cpu=600, gpu=20_000)
    batch_size = profile.pick(smoke=4, cpu=16, gpu=64)
    tokenizer = Stage(
        steps=steps, batch_size=batch_size, lr=3e-3, betas=(0.5, 0.9), schedule="cosine"
    )
    generator = Stage(
        steps=profile.pick(smoke=4, cpu=600, gpu=20_000),
        batch_size=batch_size,
        lr=1e-3,
        betas=(0.9, 0.95),
        ema=0.995,
    )
    dit = replace(lightning_dit.PRESETS["tiny"], patch_size=2)
    return Plan("photographs", PATCHES, _adversary_at(size, 0.6, steps), dit, tokenizer, generator)


def _world(size: FAVAEConfig, profile: Profile) -> Plan:
    """Shapes on plain floors: an hour on one core."""
    steps = profile.pick(smoke=4, cpu=600, long=3500, gpu=20_000)
    tokenizer = Stage(
        steps=steps,
        batch_size=profile.pick(smoke=4, cpu=16, gpu=64),
        lr=2e-3,
        betas=(0.9, 0.99),
        warmup=profile.pick(smoke=1, cpu=50),
        schedule="cosine",
        ema=0.995,
    )
    generator = Stage(
        steps=profile.pick(smoke=4, cpu=600, long=6000, gpu=40_000),
        batch_size=profile.pick(smoke=4, cpu=32, gpu=256),
        lr=1.5e-3,
        betas=(0.9, 0.95),
        warmup=profile.pick(smoke=1, cpu=100),
        schedule="cosine",
        ema=0.999,
    )
    dit = replace(lightning_dit.PRESETS["tiny"], dim=160, depth=6, num_heads=4, patch_size=2)
    pictures = profile.pick(smoke=32, cpu=16_384)
    return Plan("plain", pictures, _adversary_at(size, 0.8, steps), dit, tokenizer, generator)


def _published(size: FAVAEConfig, profile: Profile) -> Plan:
    """VA-VAE's: 250,000 steps of the tokenizer, 64 epochs of the generator."""
    batch_size = profile.pick(smoke=4, cpu=16, gpu=256)
    tokenizer = Stage(
        steps=profile.pick(smoke=4, cpu=600, gpu=250_000),
        batch_size=batch_size,
        lr=1e-4,
        betas=(0.5, 0.9),
    )
    generator = Stage(
        steps=profile.pick(smoke=4, cpu=600, gpu=80_000),
        batch_size=batch_size,
        lr=2e-4,
        betas=(0.9, 0.95),
        ema=0.9999,
    )
    return Plan("folder", 0, size, lightning_dit.PRESETS["xl/1"], tokenizer, generator)


def _adversary_at(size: FAVAEConfig, share: float, steps: int) -> FAVAEConfig:
    """The published start of the adversary is far beyond the end of a short run."""
    start = int(share * steps)
    return replace(
        size, low=replace(size.low, gan_start=start), high=replace(size.high, gan_start=start)
    )


def train(
    preset: str, profile: Profile, *, out: str | Path | None, resume: bool, seed: int
) -> FAVAE:
    """Train tokenizer and generator.

    Returns:
        the trained tokenizer.

    Raises:
        FileNotFoundError: if the plan's pictures are absent.
        ValueError: if there is no such preset.
    """
    task = plan(preset, profile)
    source, num_classes = pictures(task, seed)
    torch.manual_seed(seed)
    model = fit(
        build(task.size).to(profile.device),
        _draw(source, task.tokenizer.batch_size, seed),
        **task.tokenizer.fit_arguments(),
        seed=seed,
        out=out,
        resume=resume,
    ).ema
    _train_generator(task, model, source, num_classes, out, resume, seed)
    return model


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
        out=None if out is None else _beside(out),
        resume=resume,
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
    if _beside(checkpoint).is_file():
        system = _assemble(**_collect(checkpoint))
        torch.manual_seed(seed)
        images = system.sample(n)
    else:
        model = load_model(checkpoint, FAVAEConfig, build)
        with torch.no_grad():
            real = photographs(min(model.config.image_size, 96), "test", seed, n)
            images = model.decode(model.encode(real.floats()))
    save_grid(images, out)


def pictures(task: Plan, seed: int) -> tuple[ImageSet | Batches, int]:
    """The images that a plan learns from (a folder's come as batches), and how many classes.

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
    return folder_batches(folder, side, task.tokenizer.batch_size, seed)


def _draw(source: ImageSet | Batches, batch_size: int, seed: int) -> Batches:
    if isinstance(source, ImageSet):
        return batches(source, batch_size, seed, flip=True)
    return source


def _some(source: ImageSet | Batches) -> Tensor:
    """Images to take the latents' statistics from."""
    if isinstance(source, ImageSet):
        return source.subset(slice(0, 512)).floats()
    return torch.cat([source(step)["image"] for step in range(4)])


def _beside(out: str | Path) -> Path:
    """Where the generator's checkpoint of a tokenizer stands."""
    out = Path(out)
    return out.with_name(f"{out.stem}-generator{out.suffix}")


def _collect(checkpoint: str | Path) -> dict[str, nn.Module]:
    """The two networks, from the tokenizer's checkpoint and the generator's beside it."""
    generator = load_model(_beside(checkpoint), LightningDiTConfig, LightningDiT)
    tokenizer = load_model(checkpoint, FAVAEConfig, build)
    return {"tokenizer": tokenizer, "generator": generator}


# --- weights --------------------------------------------------------------------------------------


def _bare(checkpoint: Path) -> dict[str, nn.Module]:
    """As `_collect`, the tokenizer without what only its training needs."""
    parts = _collect(checkpoint)
    model, branches = parts["tokenizer"], {}
    for name in ("low", "high"):
        branches[name] = replace(getattr(model.config, name), gan_weight=0.0, vf_weight=0.0)
    bare = build(replace(model.config, **branches))
    weights = model.state_dict()
    bare.load_state_dict({name: weights[name] for name in bare.state_dict()})
    return parts | {"tokenizer": bare.eval()}


def _measure(system: Pipeline, n: int) -> dict[str, float]:
    return samples(system, n) | {"psnr": reconstructions(system.tokenizer, n)["psnr"]}


def _data(profile: Profile, seed: int) -> dict[str, ImageSet]:
    return {"training": pictures(plan("world-32", profile), seed)[0]}


def _assemble(tokenizer: FAVAE, generator: LightningDiT) -> Pipeline:
    return Pipeline(tokenizer, generator, **SAMPLER)


WEIGHTS = Weights(
    preset="world-32",
    parts={"tokenizer": (FAVAEConfig, build), "generator": (LightningDiTConfig, LightningDiT)},
    train=train,
    collect=_bare,
    assemble=_assemble,
    measure=_measure,
    data=_data,
)
