"""How `gentok train enat` trains: a VQGAN with its adversary, then ENAT on the VQGAN's codes.

The checkpoint that `train` is told to write holds ENAT and its moving average; the tokenizer's
stands beside it (``<name>.tokenizer.safetensors``). Each stage resumes by itself.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from gentok.base import recipe as base_recipe
from gentok.base import vqgan
from gentok.base.judging import reconstructions, samples
from gentok.base.masked.nat import MaskedTokenConfig, NATConfig
from gentok.base.perception import VGG
from gentok.base.pipeline import Pipeline
from gentok.base.vqgan import VQGAN, AdversarialVQGAN, VQGANConfig
from gentok.data import (
    ImageSet,
    available,
    batches,
    centred_shapes,
    cifar10,
    class_images,
    folder_batches,
    plain_shapes,
)
from gentok.data.folder import find, missing
from gentok.data.mirrored_crop import mirrored_crop
from gentok.measure import load_classifier
from gentok.measure.features.lpips import load_lpips
from gentok.show.media import PICTURES, save_grid
from gentok.tokens.enat.model import ENAT, PRESETS, ENATConfig, build
from gentok.training.checkpoint import load_checkpoint, save
from gentok.training.configs import restore_config
from gentok.training.loading import load_weights
from gentok.training.loop import fit, load_model
from gentok.training.machines import agreed
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile
from gentok.training.stages import stage
from gentok.training.weights import Weights

Batches = Callable[[int], dict[str, Tensor]]
FOLDER = "images"  # of GENTOK_DATA, one sub-folder a class, for presets of large images
KEPT = "model.tokenizer."  # how the tokenizer's weights are called in the checkpoint of its game
SAMPLES = PICTURES  # what `sample` writes


@dataclass(frozen=True)
class Plan:
    """What decides a training of ENAT.

    Args:
        data: ``"world"`` (ten shapes on textures), ``"plain"`` (the same on plain floors),
            ``"centred"`` (five shapes of one size in the middle), ``"cifar10"``, or ``"folder"``:
            ImageNet's layout under ``GENTOK_DATA/images/<class>/``.
        pictures: how many the world draws.
        size: of the generator; ``tokenizer_size``: of the VQGAN.
        generator: how ENAT is trained; ``ema`` is also the average that plays the earlier step.
        tokenizer: how the VQGAN is trained; None takes the book's trained ``base/vqgan``.
    """

    data: str
    pictures: int
    size: ENATConfig
    tokenizer_size: VQGANConfig
    generator: Stage
    tokenizer: Stage | None


# The released code's: batch and learning rate go with the size of the pictures. 500,000 steps,
# betas (0.99, 0.99), weight decay 0.03, an average of 0.9999, no clipping; float16 there, bfloat16
# here. It reads codes of MAGE's VQGAN, where this recipe trains a VQGAN of that size itself.
PUBLISHED = {
    "enat-l-256": {"batch_size": 2048, "lr": 4e-4},
    "enat-l-512": {"batch_size": 512, "lr": 1e-4},
    "enat-768-12": {"batch_size": 2048, "lr": 4e-4},
    "enat-768-16": {"batch_size": 2048, "lr": 4e-4},
    "enat-768-24": {"batch_size": 2048, "lr": 4e-4},
}


def plan(preset: str, profile: Profile) -> Plan:
    """The training of a preset.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    if preset in PUBLISHED:
        return _published(size, profile, **PUBLISHED[preset])
    if preset == "world-32":
        return _world(size, profile)
    if preset == "study-32":
        return _study(size, profile)
    real = profile.name == "gpu" and available().get("cifar10")
    steps = profile.pick(smoke=4, cpu=1000, gpu=20_000)
    tokenizer = Stage(
        steps=steps,
        batch_size=8,
        lr=3e-3,
        betas=(0.9, 0.99),
        warmup=min(20, steps - 1),
        schedule="cosine",
        clip=1.0,
    )
    generator = Stage(
        steps=profile.pick(smoke=4, cpu=1200, gpu=20_000),
        batch_size=profile.pick(smoke=8, cpu=16, gpu=128),
        lr=4e-3,
        betas=(0.9, 0.99),
        weight_decay=0.03,
        warmup=profile.pick(smoke=1, cpu=50, gpu=500),
        schedule="cosine",
        clip=1.0,
        ema=0.99,
    )
    grid = round(size.num_tokens**0.5)
    tiny = vqgan.PRESETS["tiny"]
    tokenizer_size = replace(
        tiny,
        image_size=tiny.factor * grid,
        codebook_size=size.codebook_size,
        gan_start=int(0.7 * steps),
    )
    pictures = profile.pick(smoke=64, cpu=4096)
    return Plan(
        "cifar10" if real else "world", pictures, size, tokenizer_size, generator, tokenizer
    )


def _world(size: ENATConfig, profile: Profile) -> Plan:
    """Shapes on plain floors, on top of the book's own VQGAN: an hour on one core."""
    generator = Stage(
        steps=profile.pick(smoke=4, cpu=600, long=14_000, gpu=40_000),
        batch_size=profile.pick(smoke=8, cpu=32, gpu=128),
        lr=2e-3,
        betas=(0.9, 0.99),
        weight_decay=0.03,
        warmup=profile.pick(smoke=1, cpu=100),
        schedule="cosine",
        clip=1.0,
        ema=0.999,
    )
    number = profile.pick(smoke=64, cpu=16_384)
    return Plan("plain", number, size, vqgan.PRESETS["world-32"], generator, tokenizer=None)


def _study(size: ENATConfig, profile: Profile) -> Plan:
    """Easier shapes, a minute a network: what the chapter trains live and compares."""
    generator = Stage(
        steps=profile.pick(smoke=4, cpu=2000, gpu=20_000),
        batch_size=profile.pick(smoke=8, cpu=32, gpu=128),
        lr=4e-3,
        betas=(0.9, 0.99),
        weight_decay=0.03,
        warmup=profile.pick(smoke=1, cpu=60),
        schedule="cosine",
        clip=1.0,
        ema=0.99,
    )
    number = profile.pick(smoke=64, cpu=16_384)
    return Plan("centred", number, size, vqgan.PRESETS["world-32"], generator, tokenizer=None)


def plain_rival(size: ENATConfig) -> NATConfig:
    """The plain network of as many blocks and the same width: every token passes all of them."""
    own = {field.name: getattr(size, field.name) for field in fields(MaskedTokenConfig)}
    return NATConfig(**own, depth=size.encoder_depth + size.decoder_depth)


def _published(size: ENATConfig, profile: Profile, batch_size: int, lr: float) -> Plan:
    batch_size = profile.pick(smoke=8, cpu=16, gpu=batch_size)
    steps = profile.pick(smoke=4, cpu=1000, gpu=500_000)
    tokenizer = Stage(
        steps=steps,
        batch_size=batch_size,
        lr=1e-4,
        betas=(0.5, 0.9),
        warmup=min(20, steps - 1),
        clip=None,
    )
    generator = Stage(
        steps=profile.pick(smoke=4, cpu=1200, gpu=500_000),
        batch_size=batch_size,
        lr=lr,
        betas=(0.99, 0.99),
        weight_decay=0.03,
        warmup=profile.pick(smoke=1, cpu=50, gpu=5000),
        clip=None,
        ema=0.9999,
        precision="bf16" if profile.device.startswith("cuda") else "no",
    )
    side = 16 * round(size.num_tokens**0.5)
    vqgan_size = replace(
        vqgan.PRESETS["vqgan-f16-1024"], image_size=side, codebook_size=size.codebook_size
    )
    return Plan("folder", 0, size, vqgan_size, generator, tokenizer)


def train(
    preset: str, profile: Profile, *, out: str | Path | None, resume: bool, seed: int
) -> ENAT:
    """Train the tokenizer, unless the plan takes a trained one, and then ENAT.

    Returns:
        the averaged network, ready to sample.

    Raises:
        FileNotFoundError: if the plan's pictures, its trained tokenizer, or LPIPS's weights are
            wanted and absent.
        ValueError: if there is no such preset.
    """
    task = plan(preset, profile)
    source = pictures(task, seed)
    tokenizer = _tokenizer(task, profile, source, out, resume, seed)
    draw = _codes(tokenizer, source, task.generator.batch_size, seed)
    torch.manual_seed(seed)
    return fit(
        build(task.size).to(profile.device),
        draw,
        **task.generator.fit_arguments(),
        seed=seed,
        out=out,
        resume=resume,
        after=stage(out, "tokenizer"),
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
    system = Pipeline(**_collect(checkpoint))
    torch.manual_seed(seed)
    save_grid(system.sample(n, torch.arange(n) % system.generator.config.num_classes), out, 10)


def _collect(checkpoint: str | Path) -> dict[str, nn.Module]:
    """The two networks, from ENAT's checkpoint and the tokenizer's beside it."""
    beside = stage(checkpoint, "tokenizer")
    generator = load_model(checkpoint, ENATConfig, build, after=beside)
    return {"tokenizer": _load_tokenizer(beside), "generator": generator}


def pictures(task: Plan, seed: int) -> ImageSet | Batches:
    """The images that a plan learns from; those of a folder are read as they are needed.

    Raises:
        FileNotFoundError: if they are absent.
        ValueError: if the folder has more classes than the generator.
    """
    if task.data == "folder":
        return _folder(task, seed)
    if task.data == "cifar10":
        return cifar10("train")
    draw = {"world": class_images, "plain": plain_shapes, "centred": centred_shapes}[task.data]
    return draw(task.pictures, seed=seed)


def _folder(task: Plan, seed: int) -> Batches:
    folder, classes = find(FOLDER), task.size.num_classes
    if folder is None:
        raise missing(f"images for {task.size.num_tokens} tokens", f"{FOLDER}/<class>/*.jpg")
    side, rows = task.tokenizer_size.image_size, task.generator.batch_size
    # The released codes hold each picture both ways.
    draw, num_classes = folder_batches(folder, side, rows, seed, crop=mirrored_crop)
    if num_classes > classes:
        raise ValueError(f"{folder} has {num_classes} classes, more than {classes}")
    return draw


def _tokenizer(
    task: Plan,
    profile: Profile,
    source: ImageSet | Batches,
    out: str | Path | None,
    resume: bool,
    seed: int,
) -> VQGAN:
    if task.tokenizer is None:
        tokenizer = base_recipe.pretrained("vqgan")
        _keep(tokenizer, stage(out, "tokenizer"))
        return tokenizer.to(profile.device)
    features = perceptual_features(task)
    torch.manual_seed(seed)
    game = AdversarialVQGAN(vqgan.build(task.tokenizer_size), features).to(profile.device)
    rows = task.tokenizer.batch_size
    draw = batches(source, rows, seed, flip=True) if isinstance(source, ImageSet) else source
    fit(
        game,
        draw,
        **task.tokenizer.fit_arguments(),
        seed=seed,
        out=stage(out, "tokenizer"),
        resume=resume,
    )
    return game.tokenizer


def perceptual_features(task: Plan) -> nn.Module:
    """The frozen network of the tokenizer's perceptual term.

    Raises:
        FileNotFoundError: if it is LPIPS and its published weights are absent.
    """
    name = "cifar10" if task.data == "cifar10" else task.tokenizer_size.perceptual_network
    return load_lpips() if name == VGG else load_classifier(name)


def _keep(tokenizer: VQGAN, path: Path | None) -> None:
    """Put a trained tokenizer beside the generator, where `sample` looks for it."""
    if path is not None:
        tensors = {f"{KEPT}{name}": value for name, value in tokenizer.state_dict().items()}
        meta = {"config": asdict(tokenizer.config)}
        agreed(lambda: str(save(path, tensors, meta)))


def _load_tokenizer(path: Path) -> VQGAN:
    """The VQGAN of a checkpoint of its stage, without its adversary."""
    tensors, meta = load_checkpoint(path)
    tokenizer = vqgan.build(restore_config(VQGANConfig, meta["config"]))
    load_weights(tokenizer, tensors, KEPT, f"checkpoint {path}")
    return tokenizer.eval()


@torch.no_grad()
def _codes(tokenizer: VQGAN, source: ImageSet | Batches, batch_size: int, seed: int) -> Batches:
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
    return batches(table, batch_size, seed)


def _measure(system: Pipeline, n: int) -> dict[str, float]:
    return samples(system, n) | {"psnr": reconstructions(system.tokenizer, n)["psnr"]}


def _data(profile: Profile, seed: int) -> dict[str, ImageSet]:
    return {"training": pictures(plan("world-32", profile), seed)}


WEIGHTS = Weights(
    preset="world-32",
    parts={"tokenizer": (VQGANConfig, vqgan.build), "generator": (ENATConfig, build)},
    train=train,
    collect=_collect,
    assemble=Pipeline,
    measure=_measure,
    data=_data,
    eight_bits=True,
)
