"""How `gentok train cvt` trains: classification, of large pictures with mixed images and labels.

The published presets follow the paper and its code: AdamW at 2e-3 for a batch of 2,048, 300 epochs,
cosine, 5 epochs of warm-up, weight decay on matrices alone, RandAugment, mixup 0.8 or CutMix 1.0,
label smoothing 0.1, random erasing 0.25, stochastic depth, a floor of 1e-5. (The paper prints a
rate of 0.02; its code has 2e-3. A colour jitter stands in its configuration, but the library that
it calls drops it where RandAugment is on.) CvT-21 sees every picture of a batch three times, each
time changed in another way (repeated augmentation; the number is that of timm). Left out:
fine-tuning at 384 pixels, which uses SGD.

The small presets see shapes of the procedural world or patches of photographs, each picture a few
times at most, and nothing is mixed: regularisation of that kind pays over hundreds of epochs.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from gentok.backbones.cvt.crops import augmented_crop
from gentok.backbones.cvt.model import PRESETS, CvT, CvTConfig, build
from gentok.backbones.cvt.rivals import HELD_OUT, Rivals, accuracies, start
from gentok.base import vit
from gentok.base.vit import ViTConfig
from gentok.data import (
    PHOTOGRAPHS,
    ImageSet,
    batches,
    photographs,
    scattered_shapes,
    to_uint8,
)
from gentok.data.folder import find, missing
from gentok.data.image_folder import folder_batches
from gentok.data.mixing import erased, mixed
from gentok.data.plain_shapes import EASIEST
from gentok.show.media import DRAWINGS
from gentok.training.loop import Schedule, fit, load_model
from gentok.training.parameter_groups import SPARED
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile
from gentok.training.stages import stage
from gentok.training.weights import Weights

Batches = Callable[[int], dict[str, Tensor]]
FOLDER = "images"  # of GENTOK_DATA, one sub-folder a class, for presets of large images
SAMPLES = DRAWINGS  # what `sample` writes
IMAGENET, EPOCHS, BATCH = 1_281_167, 300, 2048
MICRO_BATCH = 256  # images that share batch statistics, as in the paper's code
UNSEEN = (64, 80)  # sides in pixels, multiples of 16: every grid is halved without a rest


@dataclass(frozen=True)
class Plan:
    """What decides a training.

    Args:
        data: ``"shapes"`` of the procedural world, ``"photographs"`` (which of the embedded ones a
            patch comes from), or ``"folder"``: ImageNet's layout under
            ``GENTOK_DATA/images/<class>/``.
        kinds: names of the classes, but for a folder.
        pictures: how many shapes or patches, at each side.
        sides: of the pictures, in pixels; ``alone``: steps at the first, then they take turns.
        size: of the network; ``classifier``: how it is trained.
        mixing: whether pictures and labels are mixed, smoothed and erased.
        repeats: rows of a batch that show one picture of a folder, each changed in its own way.
        rival: position tables of a second network, trained alike; None trains none.
    """

    data: str
    kinds: tuple[str, ...]
    pictures: int
    sides: tuple[int, ...]
    size: CvTConfig
    classifier: Stage
    alone: int = 0
    mixing: bool = False
    repeats: int = 1
    rival: str | None = None


PUBLISHED = {"cvt-13": 0.05, "cvt-21": 0.1, "cvt-w24": 0.1}  # weight decay
REPEATS = {"cvt-21": 3}  # of a picture in a batch


def plan(preset: str, profile: Profile) -> Plan:
    """The training of a preset.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    if preset in PUBLISHED:
        return _published(size, profile, PUBLISHED[preset], REPEATS.get(preset, 1))
    small = Stage(
        steps=profile.pick(smoke=4, cpu=600, gpu=20_000),
        batch_size=profile.pick(smoke=8, cpu=32, gpu=128),
        lr=2e-3,
        weight_decay=0.05,
        spare=SPARED,
        warmup=profile.pick(smoke=1, cpu=100),
        schedule="cosine",
        clip=1.0,
    )
    if preset == "world-32":
        # First at one side, as the paper trains at 224 pixels before it goes to 384: with two sides
        # from the start a pilot (ten kinds) had learned nothing after 4,400 steps.
        steps = profile.pick(smoke=4, cpu=600, long=7000, gpu=20_000)
        rows = profile.pick(smoke=8, cpu=16, gpu=128)
        longer = replace(small, steps=steps, batch_size=rows)
        shapes = profile.pick(smoke=64, cpu=16_384, gpu=65_536)
        return Plan("shapes", EASIEST, shapes, (32, 48), size, longer, steps // 2, rival="every")
    if preset == "study-32":
        steps = profile.pick(smoke=4, cpu=2000, gpu=20_000)
        rows = profile.pick(smoke=8, cpu=16, gpu=128)
        shorter = replace(small, steps=steps, batch_size=rows)
        shapes = profile.pick(smoke=64, cpu=16_384)
        return Plan("shapes", EASIEST, shapes, (32,), size, shorter)
    patches = profile.pick(smoke=64, cpu=8192)
    return Plan("photographs", PHOTOGRAPHS, patches, (size.image_size,), size, small)


def _published(size: CvTConfig, profile: Profile, weight_decay: float, repeats: int) -> Plan:
    epoch = IMAGENET / BATCH  # steps
    batch_size = profile.pick(smoke=8, cpu=32, gpu=BATCH)
    classifier = Stage(
        steps=profile.pick(smoke=4, cpu=600, gpu=round(EPOCHS * epoch)),
        batch_size=batch_size,
        lr=2e-3,
        weight_decay=weight_decay,
        spare=SPARED,
        warmup=profile.pick(smoke=1, cpu=20, gpu=round(5 * epoch)),
        schedule=Schedule("cosine", floor=0.005),  # 1e-5
        clip=None,
        accumulate=max(1, batch_size // MICRO_BATCH),
        precision="bf16" if profile.name == "gpu" else "no",
    )
    sides = (size.image_size,)
    return Plan("folder", (), 0, sides, size, classifier, mixing=True, repeats=repeats)


def plain_rival(size: CvTConfig) -> ViTConfig:
    """A plain ViT, with a position table, for the same pictures as `study-32`."""
    return replace(vit.PRESETS["tiny"], num_classes=size.num_classes, depth=2, drop_path=0.0)


def rival_stage(classifier: Stage) -> Stage:
    """How that ViT is trained: for twice as long, since it learns what a convolution is given."""
    return replace(classifier, steps=2 * classifier.steps)


def pictures(
    task: Plan, seed: int, side: int | None = None, count: int | None = None, split: str = "train"
) -> ImageSet:
    """The pictures that a small preset learns from, or is tested on.

    Args:
        task: its plan.
        seed: which pictures.
        side: in pixels; the plan's first if None.
        count: how many; as many as the plan has if None.
        split: ``"test"`` takes other parts of the photographs; of shapes another seed does it.

    Raises:
        ValueError: if the plan reads a folder.
    """
    side, count = side or task.sides[0], count or task.pictures
    if task.data == "photographs":
        return photographs(side, split, seed, count)
    if task.data == "shapes":
        return scattered_shapes(count, side, seed, task.kinds)
    raise ValueError(f"data: a plan's pictures are shapes or photographs, got {task.data!r}")


def draws(task: Plan, seed: int) -> Batches:
    """Batches of a plan, a pure function of the step; nothing is mixed yet.

    Raises:
        FileNotFoundError: if the plan needs the image folder and it is absent.
        ValueError: if the folder has more classes than the network.
    """
    size, rows = task.size, task.classifier.batch_size
    if task.data == "folder":
        draw, num_classes = folder_batches(
            _folder(size), size.image_size, rows, seed, augmented_crop, task.repeats
        )
        if num_classes > size.num_classes:
            raise ValueError(f"num_classes: the data have {num_classes}, got {size.num_classes}")
        return draw
    mirrored = task.data == "photographs"
    sets = [batches(pictures(task, seed, s), rows, seed, flip=mirrored) for s in task.sides]

    def draw(step: int) -> dict[str, Tensor]:
        turn = 0 if step < task.alone else step % len(sets)
        return sets[turn](step)

    return draw


def train(preset: str, profile: Profile, *, out: str | Path | None, resume: bool, seed: int) -> CvT:
    """Train a classifier, and before it the plan's rival, which is kept beside it.

    Returns:
        the network in eval mode.

    Raises:
        FileNotFoundError: if the preset needs the image folder and it is absent.
        ValueError: if there is no such preset, or the data have more classes than it.
    """
    task = plan(preset, profile)
    if task.rival is not None:
        tables = replace(task.size, position=task.rival)
        _fit(tables, task, profile, stage(out, "tables"), resume, seed)
    return _fit(task.size, task, profile, out, resume, seed)


def _fit(
    size: CvTConfig, task: Plan, profile: Profile, out: str | Path | None, resume: bool, seed: int
) -> CvT:
    draw = draws(task, seed)
    if task.mixing:
        draw = erased(mixed(draw, size.num_classes, seed=seed), 0.25, seed)
    model = start(build, size, task.size, seed).to(profile.device)
    arguments = task.classifier.fit_arguments(model)
    return fit(model, draw, **arguments, seed=seed, out=out, resume=resume).model


def sample(checkpoint: str | Path, out: str | Path, *, n: int, seed: int) -> None:
    """Write a picture: test images, dark where the class token does not look, and their names.

    Args:
        checkpoint: written by `train`.
        out: image file to write (the name's ending says the format).
        n: number of images.
        seed: picks them.
    """
    import matplotlib.pyplot as plt  # slow to import

    model = load_model(checkpoint, CvTConfig, build)
    test = _test_images(model.config, n, seed)
    image = test.floats()
    with torch.no_grad():
        probability, guess = model(image).softmax(-1).max(-1)
    look = model.class_attention(image).mean(1)  # (n, H_k, W_k), mean over heads
    dark = 0.7 * (1 - look / look.amax((1, 2), keepdim=True))
    columns = min(n, 6)
    rows = -(-n // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.7 * columns, 2.1 * rows), squeeze=False, layout="constrained"
    )
    for i, ax in enumerate(axes.flat):
        ax.set_axis_off()
        if i >= n:
            continue
        side = image.shape[-1]
        ax.imshow(test.images[i].permute(1, 2, 0))
        extent = (-0.5, side - 0.5, side - 0.5, -0.5)
        ax.imshow(torch.zeros_like(dark[i]), "gray", alpha=dark[i].numpy(), extent=extent)
        named, true = (test.class_names[int(k)] for k in (guess[i], test.labels[i]))
        ax.set_title(f"{named} {probability[i]:.0%}\n(is {true})", fontsize=7)
    figure.savefig(out, dpi=110)
    plt.close(figure)


def _test_images(config: CvTConfig, n: int, seed: int) -> ImageSet:
    """Pictures that the preset of this size was not trained on; of a folder, any."""
    preset = next((name for name, size in PRESETS.items() if size == config), None)
    if preset is None:
        raise ValueError(f"the checkpoint's network is no preset; there are: {', '.join(PRESETS)}")
    task = plan(preset, Profile("cpu", (0,), "cpu"))
    if task.data != "folder":
        return pictures(task, HELD_OUT + seed, count=n, split="test")
    folder = _folder(config)
    batch = folder_batches(folder, config.image_size, n, seed)[0](0)
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    return ImageSet(to_uint8(batch["image"]), batch["label"], tuple(names), FOLDER)


def _folder(config: CvTConfig) -> Path:
    folder = find(FOLDER)
    if folder is None:
        raise missing(f"images of {config.image_size} pixels", f"{FOLDER}/<class>/*.jpg")
    return folder


def _collect(checkpoint: str | Path) -> dict[str, nn.Module]:
    """Both networks, from the checkpoint of the one without tables and the other's beside it."""
    paths = {"network": checkpoint, "tables": stage(checkpoint, "tables")}
    return {name: load_model(path, CvTConfig, build) for name, path in paths.items()}


def _measure(system: Rivals, n: int) -> dict[str, float]:
    found = {}
    for side in (*plan("world-32", Profile("long", (0,), "cpu")).sides, *UNSEEN):
        for name, value in accuracies(system, side, n).items():
            found[f"{name}_accuracy_at_{side}"] = value
    return found


def _data(profile: Profile, seed: int) -> dict[str, ImageSet]:
    return {"training": pictures(plan("world-32", profile), seed)}


WEIGHTS = Weights(
    preset="world-32",
    parts={"network": (CvTConfig, build), "tables": (CvTConfig, build)},
    train=train,
    collect=_collect,
    assemble=Rivals,
    measure=_measure,
    data=_data,
)
