"""How `gentok train cvt` trains: classification with mixed images and labels.

The published presets follow the paper and its code: AdamW at 2e-3 for a batch of 2,048, 300 epochs,
cosine, 5 epochs of warm-up, weight decay on matrices alone, mixup 0.8 or CutMix 1.0, label
smoothing 0.1, random erasing 0.25, stochastic depth, a floor of 1e-5. (The paper prints a rate of
0.02; its code has 2e-3.) Left out: RandAugment and colour jitter; fine-tuning at 384 pixels, which
uses SGD.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gentok.backbones.cvt.model import PRESETS, CvT, CvTConfig, build
from gentok.data import (
    ImageSet,
    available,
    batches,
    cifar10,
    generator,
    photographs,
    to_float,
    to_uint8,
)
from gentok.data.folder import find, missing
from gentok.data.image_folder import folder_batches
from gentok.data.mixing import erased, mixed
from gentok.data.real_images import CIFAR10_CLASSES
from gentok.training.loop import Schedule, fit, load_model
from gentok.training.parameter_groups import SPARED
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile

Batches = Callable[[int], dict[str, Tensor]]
FOLDER = "images"  # of GENTOK_DATA, one sub-folder a class, for presets of large images
LARGEST_PATCH = 96  # pixels; larger images must come from the folder
IMAGENET, EPOCHS, BATCH = 1_281_167, 300, 2048
MICRO_BATCH = 256  # images that share batch statistics, as in the paper's code


@dataclass(frozen=True)
class Plan:
    """What decides a training.

    Args:
        data: ``"photographs"`` (which of the embedded ones a patch comes from), ``"cifar10"``, or
            ``"folder"``: ImageNet's layout under ``GENTOK_DATA/images/<class>/``.
        pictures: how many patches of photographs.
        size: of the network, but for the number of classes where the data are small;
            ``classifier``: how it is trained.
    """

    data: str
    pictures: int
    size: CvTConfig
    classifier: Stage


PUBLISHED = {"cvt-13": 0.05, "cvt-21": 0.1, "cvt-w24": 0.1}  # weight decay


def plan(preset: str, profile: Profile) -> Plan:
    """The training of a preset.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    if preset in PUBLISHED:
        return Plan("folder", 0, size, _published(profile, PUBLISHED[preset]))
    classifier = Stage(
        steps=profile.pick(smoke=4, cpu=600, gpu=20_000),
        batch_size=profile.pick(smoke=8, cpu=32, gpu=128),
        lr=2e-3,
        weight_decay=0.05,
        spare=SPARED,
        warmup=profile.pick(smoke=1, cpu=20, gpu=500),
        schedule="cosine",
    )
    real = profile.name == "gpu" and available().get("cifar10")
    pictures = profile.pick(smoke=64, cpu=8192)
    return Plan("cifar10" if real else "photographs", pictures, size, classifier)


def _published(profile: Profile, weight_decay: float) -> Stage:
    epoch = IMAGENET / BATCH  # steps
    batch_size = profile.pick(smoke=8, cpu=32, gpu=BATCH)
    return Stage(
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


def train(preset: str, profile: Profile, *, out: str | Path | None, resume: bool, seed: int) -> CvT:
    """Train a classifier.

    Returns:
        the network in eval mode.

    Raises:
        FileNotFoundError: if the preset needs the image folder and it is absent.
        ValueError: if there is no such preset, or the data have more classes than it.
    """
    task = plan(preset, profile)
    draw, config = _source(task, seed)
    draw = erased(mixed(draw, config.num_classes, seed=seed), 0.25, seed)
    torch.manual_seed(seed)
    model = build(config).to(profile.device)
    return fit(
        model,
        draw,
        **task.classifier.fit_arguments(model),
        seed=seed,
        out=out,
        resume=resume,
    ).model


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


def _source(task: Plan, seed: int) -> tuple[Batches, CvTConfig]:
    """Batches, and the configuration with a head for their classes."""
    size, rows = task.size, task.classifier.batch_size
    if task.data == "folder":
        draw, num_classes = folder_crops(_folder(size), size.image_size, rows, seed)
        if num_classes > size.num_classes:
            raise ValueError(f"num_classes: the data have {num_classes}, got {size.num_classes}")
        return draw, size
    if task.data == "cifar10":
        images = cifar10("train")
    else:
        images = photographs(size.image_size, "train", seed, task.pictures)
    size = replace(size, num_classes=len(images.class_names))
    return batches(images, rows, seed, flip=True), size


def _test_images(config: CvTConfig, n: int, seed: int) -> ImageSet:
    """Pictures like those of training, from the test part where there is one."""
    if config.image_size > LARGEST_PATCH:
        folder = _folder(config)
        batch = folder_batches(folder, config.image_size, n, seed)[0](0)
        names = sorted(path.name for path in folder.iterdir() if path.is_dir())
        return ImageSet(to_uint8(batch["image"]), batch["label"], tuple(names), FOLDER)
    if config.num_classes == len(CIFAR10_CLASSES):
        images = cifar10("test")
        return images.subset(torch.randperm(len(images), generator=generator(seed))[:n])
    return photographs(config.image_size, "test", seed, n)


def _folder(config: CvTConfig) -> Path:
    folder = find(FOLDER)
    if folder is None:
        raise missing(f"images of {config.image_size} pixels", f"{FOLDER}/<class>/*.jpg")
    return folder


def folder_crops(folder: Path, size: int, batch_size: int, seed: int) -> tuple[Batches, int]:
    """Batches of a folder of images; a pure function of the step.

    Each image is cut at random (8 % to 100 % of its area, aspect ratio 3/4 to 4/3), resized to
    ``size`` and mirrored with probability 1/2.

    Returns:
        the batches, and the number of classes.
    """
    import datasets  # slow to import, and needed only here

    rows = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train")

    def batch(step: int) -> dict[str, Tensor]:
        index = torch.randint(len(rows), (batch_size,), generator=generator(seed, step))
        rng = np.random.default_rng([seed, step, 13])
        chosen = [rows[int(i)] for i in index]
        arrays = [np.asarray(random_crop(row["image"], size, rng)) for row in chosen]
        image = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)  # (B, 3, H, W)
        return {"image": to_float(image), "label": torch.tensor([row["label"] for row in chosen])}

    return batch, rows.features["label"].num_classes


def random_crop(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """A random part of an image as a square of ``size`` pixels, perhaps mirrored."""
    image = image.convert("RGB")
    area = image.width * image.height * rng.uniform(0.08, 1.0)
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    width = min(image.width, max(1, round((area * aspect) ** 0.5)))
    height = min(image.height, max(1, round((area / aspect) ** 0.5)))
    x, y = rng.integers(image.width - width + 1), rng.integers(image.height - height + 1)
    part = image.resize(
        (size, size), Image.Resampling.BICUBIC, (x, y, x + width, y + height), reducing_gap=2.0
    )
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part
