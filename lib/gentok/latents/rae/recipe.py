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
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from gentok.base.judging import reconstructions, samples
from gentok.base.pipeline import Pipeline
from gentok.data import ImageSet, batches, folder_batches, photographs, plain_shapes, to_uint8
from gentok.data.folder import find, missing
from gentok.data.image_folder import shifted_crop
from gentok.latents.rae import dit as rae_dit
from gentok.latents.rae import small_mae
from gentok.latents.rae.dit import RAEDiT, RAEDiTConfig
from gentok.latents.rae.encoder import EncoderConfig, load_encoder, outline_encoder
from gentok.latents.rae.model import PRESETS, RAE, RAEConfig, build
from gentok.latents.rae.small_mae import SmallMAEConfig
from gentok.show.media import PICTURES
from gentok.training.loop import Schedule, fit, load_model
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile
from gentok.training.stages import companion, stage
from gentok.training.weights import Weights

PATCHES = 8192  # photographs' patches that a small preset trains on
FOLDER = "images"  # of GENTOK_DATA, one sub-folder a class, for presets of large images
SAMPLES = PICTURES  # what `sample` writes
EPOCH = 1_281_167  # ImageNet's training images; the paper counts its lengths in epochs


@dataclass(frozen=True)
class Plan:
    """What decides a training of RAE and of the generators on its latents.

    Args:
        data: ``"photographs"`` (patches of the embedded ones), ``"plain"`` (the world's shapes on
            plain floors), or ``"folder"``: ImageNet's layout under ``GENTOK_DATA/images/<class>/``.
        pictures: how many patches of photographs, or shapes.
        size: of the tokenizer.
        generator_size, guide_size: of DiT^DH and of the weaker one that guides it, but for what
            the tokenizer and the data decide (channels, grid, classes).
        encoder: how the small MAE is trained; None reads a published encoder.
        decoder, generator, guide: how each is trained.
        observed: batches that the latents' statistics are taken from.
    """

    data: str
    pictures: int
    size: RAEConfig
    generator_size: RAEDiTConfig
    guide_size: RAEDiTConfig
    encoder: Stage | None
    decoder: Stage
    generator: Stage
    guide: Stage
    observed: int


def plan(preset: str, profile: Profile) -> Plan:
    """The training of a preset.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    if preset == "world-32":
        return _world(size, profile)
    if preset != "tiny":
        return _published(size, profile)
    rows = profile.pick(smoke=4, cpu=16, gpu=64)
    encoder = Stage(
        steps=profile.pick(smoke=4, cpu=400, gpu=20_000),
        batch_size=rows,
        lr=2e-3,
        betas=(0.9, 0.95),
        weight_decay=0.05,
        warmup=profile.pick(smoke=1, cpu=40),
        schedule="cosine",
    )
    steps = profile.pick(smoke=4, cpu=400, gpu=20_000)
    generator = Stage(
        steps=profile.pick(smoke=4, cpu=600, gpu=20_000),
        batch_size=rows,
        lr=2e-3,
        betas=(0.9, 0.95),
        schedule="linear",
        ema=0.995,
    )
    tiny = rae_dit.PRESETS["tiny"]
    return Plan(
        data="photographs",
        pictures=PATCHES,
        # The published start of the adversary lies beyond the end of a short run.
        size=replace(size, discriminator_start=steps // 2, gan_start=int(0.7 * steps)),
        generator_size=tiny,
        guide_size=replace(tiny, backbone=replace(tiny.backbone, dim=32, depth=2)),
        encoder=encoder,
        decoder=_decoder(steps, rows, lr=2e-3),
        generator=generator,
        guide=replace(generator, steps=max(1, generator.steps // 8)),
        observed=profile.pick(smoke=2, cpu=50),
    )


def _world(size: RAEConfig, profile: Profile) -> Plan:
    """Shapes on plain floors: less than an hour on one core."""
    encoder = Stage(
        steps=profile.pick(smoke=4, cpu=400, long=5000, gpu=20_000),
        batch_size=profile.pick(smoke=4, cpu=32, gpu=128),
        lr=1.5e-3,
        betas=(0.9, 0.95),
        weight_decay=0.05,
        warmup=profile.pick(smoke=1, cpu=40, long=250),
        schedule="cosine",
    )
    steps = profile.pick(smoke=4, cpu=400, long=4000, gpu=20_000)
    generator = Stage(
        steps=profile.pick(smoke=4, cpu=600, long=5000, gpu=40_000),
        batch_size=profile.pick(smoke=4, cpu=32, gpu=256),
        lr=1.5e-3,
        betas=(0.9, 0.95),
        warmup=profile.pick(smoke=1, cpu=100),
        schedule="cosine",
        ema=0.999,
    )
    network = rae_dit.PRESETS["world-32"]
    return Plan(
        data="plain",
        pictures=profile.pick(smoke=32, cpu=16_384),
        size=replace(size, discriminator_start=int(0.6 * steps), gan_start=int(0.7 * steps)),
        generator_size=network,
        guide_size=replace(network, backbone=replace(network.backbone, dim=64, depth=2)),
        encoder=encoder,
        decoder=_decoder(steps, profile.pick(smoke=4, cpu=16, gpu=64), lr=1.5e-3),
        generator=generator,
        guide=replace(generator, steps=max(1, generator.steps // 10), warmup=0),
        observed=profile.pick(smoke=2, cpu=50),
    )


def _published(size: RAEConfig, profile: Profile) -> Plan:
    """16 epochs of the decoder, 800 of DiT^DH-XL, 14 of its guide."""
    steps = profile.pick(smoke=4, cpu=400, gpu=16 * EPOCH // 512)
    generator = Stage(
        steps=profile.pick(smoke=4, cpu=600, gpu=800 * EPOCH // 1024),
        batch_size=profile.pick(smoke=4, cpu=16, gpu=1024),
        lr=2e-4,
        betas=(0.9, 0.95),
        # From 2e-4 to 2e-5 between epochs 40 and 800; the guide ends long before it would fall.
        schedule=Schedule("linear", 0.1, start=40 * EPOCH // 1024, end=800 * EPOCH // 1024),
        ema=0.9995,
    )
    guide = replace(generator, steps=profile.pick(smoke=4, cpu=600, gpu=14 * EPOCH // 1024))
    return Plan(
        data="folder",
        pictures=0,
        size=size,
        generator_size=rae_dit.PRESETS["dit-dh-xl"],
        guide_size=rae_dit.PRESETS["dit-dh-s"],
        encoder=None,
        # The public code falls from 2e-4 to 2e-5, for both players, and does not clip.
        decoder=replace(
            _decoder(steps, profile.pick(smoke=4, cpu=16, gpu=512), lr=2e-4),
            schedule=Schedule("cosine", floor=0.1),
            clip=None,
        ),
        generator=generator,
        guide=guide,
        observed=profile.pick(smoke=2, cpu=50),
    )


def _decoder(steps: int, batch_size: int, lr: float) -> Stage:
    return Stage(
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        betas=(0.9, 0.95),
        warmup=steps // 16,  # one epoch of 16
        schedule="cosine",
        ema=0.9978,
    )


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
    draw, _ = _source(task, task.decoder.batch_size, seed)
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
        draw, classes = _source(task, how.batch_size, seed)
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
    model = small_mae.build(_mae_sizes(config)).to(profile.device)
    fit(
        model,
        draw,
        **task.encoder.fit_arguments(),
        seed=seed,
        out=stage(out, "mae"),
        resume=resume,
    )
    return model.save(tempfile.mkdtemp() if out is None else _encoder_folder(out))


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
        network.observe(latents(step)["latent"])
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
            scale = 1.0 if weak is None else 1.42  # published for 256 pixels
            images = model.decode(network.sample(n, guidance_scale=scale, weak=weak))
        else:
            real = photographs(min(model.config.image_size, 96), "test", seed, n)
            images = model.decode(model.encode(real.floats()))
    rows = to_uint8(images).permute(0, 2, 3, 1)  # (n, H, W, 3)
    columns = min(n, 8)
    blank = torch.zeros(-n % columns, *rows.shape[1:], dtype=torch.uint8)
    grid = torch.cat([rows, blank]).unflatten(0, (-1, columns))  # (rows, columns, H, W, 3)
    picture = grid.permute(0, 2, 1, 3, 4).flatten(2, 3).flatten(0, 1)
    Image.fromarray(picture.numpy()).save(out)


def _load_generator(checkpoint: str | Path, name: str) -> RAEDiT:
    """The generator or its guide, of the run of a tokenizer's checkpoint."""
    return load_model(companion(checkpoint, name), RAEDiTConfig, RAEDiT, after=checkpoint)


def _encoder_folder(out: str | Path) -> Path:
    """Where a run keeps the small encoder that it trains: ``runs/a-encoder``."""
    return companion(out, "encoder").with_suffix("")


def _source(task: Plan, batch_size: int, seed: int) -> tuple[Callable[[int], dict], int]:
    """Batches as a pure function of the step, and the number of classes."""
    side = task.size.image_size
    if task.data == "photographs":
        images = photographs(side, "train", seed, task.pictures)
        return batches(images, batch_size, seed, flip=True), len(images.class_names)
    if task.data == "plain":
        images = plain_shapes(task.pictures, side, seed)
        return batches(images, batch_size, seed, flip=True), len(images.class_names)
    folder = find(FOLDER)
    if folder is None:
        raise missing(f"images of {side} pixels", f"{FOLDER}/<class>/*.jpg")
    return folder_batches(folder, side, batch_size, seed, crop=shifted_crop)  # 384 to 256


# --- weights --------------------------------------------------------------------------------------

SAMPLER = {"num_steps": 49, "guidance_scale": 1.42}  # published for 256 pixels


class GuidedPipeline(Pipeline):
    """Tokenizer, generator, and the weak generator that AutoGuidance leads away from."""

    def __init__(self, tokenizer: RAE, generator: RAEDiT, guide: RAEDiT):
        super().__init__(tokenizer, generator, weak=guide, **SAMPLER)
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
