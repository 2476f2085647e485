"""How `gentok train axial` trains: maximum likelihood on pixels, one random plane a picture.

The published sizes follow the released code: Adam, warm-up, constant rate, clipping at norm 1, and
an average of the weights that evaluation and sampling use. It does not state the number of steps.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from gentok.data import ImageSet, available, batches, cifar10, folder_batches, to_uint8
from gentok.data.coloured_digits import coloured_digits
from gentok.data.folder import find, missing
from gentok.data.printed_digits import printed_digits
from gentok.data.read_ahead import Mapped
from gentok.measure.digits import legible, within_rows
from gentok.show.media import PICTURES, save_grid
from gentok.tokens.axial.model import PRESETS, AxialConfig, PixelModel, build, to_images, to_values
from gentok.training.loop import fit, load_model
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile
from gentok.training.weights import Weights

FOLDER = "images"  # of GENTOK_DATA, one sub-folder a class, for the published sizes
SAMPLES = PICTURES  # what `sample` writes
HELD_OUT = 99_991  # the seed of pictures and samples that are measured
ROWS = 100  # drawn at a time


@dataclass(frozen=True)
class Plan:
    """What decides a training.

    Args:
        data: ``"digits"`` (handwritten ones, coloured), ``"printed"`` (likewise), ``"cifar10"``
            (averaged down), or ``"folder"``: ImageNet's layout under
            ``GENTOK_DATA/images/<class>/``, scaled to size and cut at the centre.
        pictures: how many digits.
        size: of the model; ``model``: how it is trained.
    """

    data: str
    pictures: int
    size: AxialConfig
    model: Stage


# Learning rates of the released configurations; their batch of 64 is for all accelerators together.
PUBLISHED = {
    "imagenet-32": 1e-4,
    "imagenet-64": 2e-4,
    "imagenet-32-lstm": 1e-4,
    "imagenet-64-lstm": 2e-4,
}


def plan(preset: str, profile: Profile) -> Plan:
    """The training of a preset.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    model = Stage(
        steps=profile.pick(smoke=4, cpu=1500, gpu=20_000),
        batch_size=profile.pick(smoke=4, cpu=32, gpu=64),
        lr=3e-3,
        warmup=profile.pick(smoke=1, cpu=100, gpu=500),
        schedule="cosine",
        clip=1.0,
        ema=0.99,
    )
    if preset == "digits-16":  # an hour on one core
        model = replace(
            model,
            steps=profile.pick(smoke=4, cpu=600, long=18_000, gpu=40_000),
            batch_size=profile.pick(smoke=4, cpu=16, gpu=64),
            ema=0.999,
        )
        return Plan("printed", profile.pick(smoke=64, cpu=8192, long=65_536), size, model)
    if preset == "study-8":  # a minute: what the chapter trains live and compares
        model = replace(
            model,
            steps=profile.pick(smoke=4, cpu=1000, gpu=20_000),
            batch_size=profile.pick(smoke=4, cpu=32),
            lr=4e-3,
        )
        return Plan("digits", profile.pick(smoke=64, cpu=8192), size, model)
    if preset in PUBLISHED:
        model = replace(
            model,
            steps=profile.pick(smoke=4, cpu=1500, gpu=1_000_000),
            lr=PUBLISHED[preset],
            warmup=profile.pick(smoke=1, cpu=100, gpu=5000),
            schedule="constant",
            ema=0.99995,
        )
        return Plan("folder", 0, size, model)
    real = profile.name == "gpu" and available().get("cifar10")
    return Plan("cifar10" if real else "digits", profile.pick(smoke=64, cpu=8192), size, model)


def train(
    preset: str, profile: Profile, *, out: str | Path | None, resume: bool, seed: int
) -> nn.Module:
    """Train the model.

    Returns:
        the model with averaged weights, ready to sample.

    Raises:
        FileNotFoundError: if the plan's pictures are absent.
        ValueError: if there is no such preset.
    """
    task = plan(preset, profile)
    draw = pixels(task, seed)
    torch.manual_seed(seed)
    return fit(
        build(task.size).to(profile.device),
        draw,
        **task.model.fit_arguments(),
        seed=seed,
        out=out,
        resume=resume,
    ).ema


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


def evaluate(checkpoint: str | Path, *, n: int, data: str | Path | None = None) -> dict[str, float]:
    """The paper's number: exact bits per dimension on held-out pictures, all planes.

    Args:
        checkpoint: of `train`; its averaged weights are used.
        n: how many pictures, at most.
        data: a folder of pictures, one sub-folder a class, such as ImageNet's validation set;
            None takes the test part of the coloured digits, printed or by hand, that networks of
            this size learn from.

    Returns:
        ``bits_per_dim``, and ``bits_plane_0``, ... for each colour plane.

    Raises:
        FileNotFoundError: if there is no such folder or checkpoint.
    """
    network = load_model(checkpoint, AxialConfig, build)
    config, rows = network.config, min(n, ROWS)
    if data is None:
        digits = printed_digits if config == PRESETS["digits-16"] else coloured_digits
        images = digits("test", n, side=config.image_size).images
    else:
        draw, _ = folder_batches(Path(data), config.image_size, rows, seed=0)
        images = torch.cat([draw(step)["image"] for step in range(-(-n // rows))])[:n]
    return bits_by_plane(network, to_values(images, config.num_values)[:, : config.channels])


@torch.no_grad()
def bits_by_plane(network: PixelModel, pixels: Tensor) -> dict[str, float]:
    """``bits_per_dim``, exact, and ``bits_plane_0``, ... of pixels (N, C, H, W) in [0, K)."""
    planes = torch.cat([network.bits(part) for part in pixels.split(ROWS)]).mean((0, 2, 3))
    each = {f"bits_plane_{c}": float(bits) for c, bits in enumerate(planes)}
    return {"bits_per_dim": float(planes.mean()), **each}


def pixels(task: Plan, seed: int) -> Callable[[int], dict[str, Tensor]]:
    """Batches that a plan learns from: ``{"pixels": (B, C, H, W) int64 in [0, K)}`` by step.

    Raises:
        FileNotFoundError: if the plan's pictures are absent.
    """
    side, values, channels = task.size.image_size, task.size.num_values, task.size.channels
    rows = task.model.batch_size

    def in_planes(images: Tensor) -> dict[str, Tensor]:
        return {"pixels": to_values(images, values)[:, :channels]}

    if task.data == "folder":
        folder = find(FOLDER)
        if folder is None:
            raise missing(f"images of {side} x {side} pixels", f"{FOLDER}/<class>/*.jpg")
        draw, _ = folder_batches(folder, side, rows, seed)
        return Mapped(draw, lambda batch, *_: in_planes(batch["image"]))
    return batches(in_planes(_small_set(task, seed).images), rows, seed)


def _small_set(task: Plan, seed: int) -> ImageSet:
    side = task.size.image_size
    if task.data == "cifar10":
        source = cifar10("train")
        small = torch.nn.functional.adaptive_avg_pool2d(source.floats(), side)
        return ImageSet(to_uint8(small), source.labels, source.class_names, source.source)
    digits = {"digits": coloured_digits, "printed": printed_digits}[task.data]
    return digits("train", task.pictures, seed, side)


# --- weights --------------------------------------------------------------------------------------


def _collect(checkpoint: Path) -> dict[str, nn.Module]:
    return {"model": load_model(checkpoint, AxialConfig, build)}


def _alone(model: nn.Module) -> nn.Module:
    return model


def _measure(network: PixelModel, n: int) -> dict[str, float]:
    """Bits by plane of held-out digits, and the share of drawn pictures that are legible digits.

    Drawn are whole samples, and lower halves given the upper halves of held-out digits. Beside
    them the same share for those digits, for upper halves with another digit's lower half, and for
    digits with their rows shuffled.
    """
    size, values = network.config.image_size, network.config.num_values
    known = to_values(printed_digits("test", n, HELD_OUT, size).images, values)
    low = torch.arange(size)[:, None] >= size // 2  # (H, 1)
    nothing, upper = torch.full_like(known, -1), torch.where(low, -1, known)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(HELD_OUT)
        drawn, completed = (
            torch.cat([network.sample(len(g), given=g).cpu() for g in given.split(ROWS)])
            for given in (nothing, upper)
        )
    shown = {
        "legible_accuracy": drawn,
        "completed_accuracy": completed,
        "completed_accuracy_by_others": torch.where(low, known.roll(1, 0), known),
        "legible_accuracy_on_data": known,
        "legible_accuracy_on_shuffled": within_rows(known, HELD_OUT),
    }
    read = {name: legible(to_images(pixels, values)) for name, pixels in shown.items()}
    return bits_by_plane(network, known) | read


def _data(profile: Profile, seed: int) -> dict[str, ImageSet]:
    return {"training": _small_set(plan("digits-16", profile), seed)}


WEIGHTS = Weights(
    preset="digits-16",
    parts={"model": (AxialConfig, build)},
    train=train,
    collect=_collect,
    assemble=_alone,
    measure=_measure,
    data=_data,
)
