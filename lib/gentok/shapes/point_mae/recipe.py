"""How `gentok train point_mae` trains: masked autoencoding, then the two uses of the encoder.

The checkpoint that `train` is told to write holds the pretrained autoencoder. Beside it stand the
classifier (``<name>.classifier.safetensors``) and, for procedural clouds, which know the part of
every point, the segmenter (``<name>.segmenter.safetensors``). Each stage resumes by itself.

Published presets spare biases, norms and tokens from weight decay and fall to a rate of 1e-6, as
the paper's code does; the small ones decay all parameters alike, down to 0.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from gentok.data.clouds import (
    OBJECT_NAMES,
    PART_NAMES,
    Clouds,
    cloud_batches,
    cloud_files,
    object_clouds,
    read_cloud,
    scale_and_shift,
    solid_clouds,
)
from gentok.data.imageset import batches, generator
from gentok.nn.points import farthest_points, take_points
from gentok.shapes.point_mae import tasks as point_tasks
from gentok.shapes.point_mae.model import PointMAE, PointMAEConfig, build
from gentok.shapes.point_mae.pictures import cloud_grid
from gentok.training.loop import Schedule, decay_groups, fit, load_model
from gentok.training.profiles import Profile
from gentok.training.stages import stage

Batches = Callable[[int], dict[str, Tensor]]
LARGEST_PROCEDURAL = 512  # points; larger presets need real clouds
PUBLISHED = {"batch_size": 128, "epochs": 300, "warmup_epochs": 10, "lr": 1e-3}
FINE_TUNING = {"batch_size": 32, "epochs": 300, "warmup_epochs": 10, "lr": 5e-4}
SEGMENTATION = {"batch_size": 16, "epochs": 300, "warmup_epochs": 10, "lr": 2e-4}


def train(
    config: PointMAEConfig, profile: Profile, *, out: str | Path | None, resume: bool, seed: int
) -> nn.Module:
    """Pretrain, then fine-tune.

    Clouds of few points are drawn by the procedural world. Larger ones need real clouds under
    ``GENTOK_DATA/clouds/<class>/*.npy`` (as ShapeNet's of 8,192 points) and follow the paper's plan
    in the gpu profile; there is no segmentation then, since those files know no parts.

    Returns:
        the pretrained autoencoder.

    Raises:
        FileNotFoundError: if the preset needs real clouds and there are none.
    """
    large = config.num_points > LARGEST_PROCEDURAL
    if large:
        files, labels, names = cloud_files(config.num_points)
        draw = _file_batches(files, labels, config.num_points, seed)
        torch.manual_seed(seed)
        model = build(config).to(profile.device)
        _fit(
            model,
            draw(_size(profile, PUBLISHED)),
            len(files),
            profile,
            PUBLISHED,
            out,
            resume,
            seed,
        )
        classes = draw(_size(profile, FINE_TUNING), fine_tuning=True)
        _classifier(model, classes, len(files), len(names), profile, out, resume, seed)
        return model
    count = profile.pick(smoke=32, cpu=1024)
    twice = 2 * config.num_points  # each step sees a fresh choice of half the points
    solids = solid_clouds(count, twice, seed)
    objects = object_clouds(count // 2, twice, seed)
    pool = {"points": torch.cat([solids.points, objects.points])}
    torch.manual_seed(seed)
    model = build(config).to(profile.device)
    draw = cloud_batches(pool, _size(profile, PUBLISHED), seed, config.num_points)
    _fit(model, draw, len(pool["points"]), profile, PUBLISHED, out, resume, seed)
    draw = _fine_tuning_batches(solids, config.num_points, _size(profile, FINE_TUNING), seed)
    _classifier(model, draw, count, len(solids.class_names), profile, out, resume, seed)
    draw = _fine_tuning_batches(objects, config.num_points, _size(profile, SEGMENTATION), seed)
    _segmenter(model, draw, len(objects), profile, out, resume, seed)
    return model


def sample(checkpoint: str | Path, out: str | Path, *, n: int, seed: int) -> None:
    """Write a picture of ``n`` clouds: visible patches, reconstruction, the cloud itself.

    Args:
        checkpoint: the autoencoder's.
        out: image file to write (the name's ending says the format).
        n: number of clouds, solids of the procedural world.
        seed: of the clouds and the masks.
    """
    model = load_model(checkpoint, PointMAEConfig, build)
    clouds = solid_clouds(n, model.config.num_points, seed + 1)
    torch.manual_seed(seed)
    seen = model.reconstruct(clouds.points)
    visible, predicted = (part.flatten(1, 2) for part in (seen.visible, seen.predicted))
    rows = {
        "visible": visible,
        "reconstructed": torch.cat([visible, predicted], dim=1),
        "cloud": clouds.points,
    }
    shades = ["#0173b2"] * visible.shape[1] + ["#de8f05"] * predicted.shape[1]
    colours = {"visible": ["#0173b2"] * n, "reconstructed": [shades] * n, "cloud": ["#222222"] * n}
    captions = [clouds.class_names[int(label)] for label in clouds.labels]
    figure = cloud_grid(rows, "Point-MAE: masked patches filled in", colours, captions)
    figure.savefig(out)
    plt.close(figure)


def _classifier(
    model: PointMAE,
    draw: Batches,
    count: int,
    num_classes: int,
    profile: Profile,
    out: str | Path | None,
    resume: bool,
    seed: int,
) -> nn.Module:
    name = "classifier-modelnet40" if model.config.dim >= 384 else "tiny-classifier"
    size = replace(
        point_tasks.PRESETS[name],
        backbone=model.config,
        num_classes=num_classes,
        published_params=None,
    )
    torch.manual_seed(seed)
    task = point_tasks.load_encoder(point_tasks.build(size), model).to(profile.device)
    return _fit(
        task, draw, count, profile, FINE_TUNING, stage(out, "classifier"), resume, seed, clip=10.0
    )


def _segmenter(
    model: PointMAE,
    draw: Batches,
    count: int,
    profile: Profile,
    out: str | Path | None,
    resume: bool,
    seed: int,
) -> nn.Module:
    size = replace(
        point_tasks.PRESETS["tiny-segmenter"],
        backbone=model.config,
        num_categories=len(OBJECT_NAMES),
        num_parts=len(PART_NAMES),
    )
    torch.manual_seed(seed)
    task = point_tasks.load_encoder(point_tasks.build(size), model).to(profile.device)
    return _fit(
        task, draw, count, profile, SEGMENTATION, stage(out, "segmenter"), resume, seed, clip=10.0
    )


def _fit(
    model: nn.Module,
    draw: Batches,
    count: int,
    profile: Profile,
    plan: dict,
    out: str | Path | None,
    resume: bool,
    seed: int,
    clip: float | None = None,
) -> nn.Module:
    """One stage: the paper's epochs in the gpu profile, a few hundred steps elsewhere."""
    epoch = math.ceil(count / plan["batch_size"])
    # A network six times narrower takes larger steps.
    lr = profile.pick(smoke=4e-3, cpu=4e-3, gpu=plan["lr"])
    large = getattr(model.config, "backbone", model.config).num_points > LARGEST_PROCEDURAL
    fit(
        model,
        draw,
        steps=profile.pick(smoke=4, cpu=600, gpu=plan["epochs"] * epoch),
        lr=lr,
        # A short run must forget the huge gradients of its first steps.
        betas=profile.pick(smoke=(0.9, 0.95), cpu=(0.9, 0.95), gpu=(0.9, 0.999)),
        weight_decay=0.05,
        groups=decay_groups(model, 0.05, spare=("token",)) if large else None,
        warmup=profile.pick(smoke=1, cpu=20, gpu=plan["warmup_epochs"] * epoch),
        schedule=Schedule("cosine", floor=1e-6 / lr) if large else "cosine",
        clip=clip,
        seed=seed,
        out=out,
        resume=resume,
    )
    return model


def _size(profile: Profile, plan: dict) -> int:
    return profile.pick(smoke=4, cpu=16, gpu=plan["batch_size"])


def _fine_tuning_batches(clouds: Clouds, num_points: int, batch_size: int, seed: int) -> Batches:
    """As in the code: 1.17 P points far apart, and a fresh random choice of P of them."""
    most = min(clouds.points.shape[1], round(num_points * 1200 / 1024))
    index = torch.cat([farthest_points(part, most) for part in clouds.points.split(256)])
    pool = clouds.tensors() | {"points": take_points(clouds.points, index)}
    if clouds.parts is not None:
        pool["parts"] = clouds.parts.gather(1, index)
    return cloud_batches(pool, batch_size, seed, num_points)


def _file_batches(
    files: list[Path], labels: Tensor, num_points: int, seed: int
) -> Callable[..., Batches]:
    """Batches of clouds that are read as they are needed."""
    places = {"index": torch.arange(len(files)), "label": labels}
    most = round(num_points * 1200 / 1024)

    def of_size(batch_size: int, fine_tuning: bool = False) -> Batches:
        draw = batches(places, batch_size, seed)

        def batch(step: int) -> dict[str, Tensor]:
            chosen, rng = draw(step), generator(seed, step, 2)
            clouds = []
            for i in chosen["index"].tolist():
                cloud = read_cloud(files[i], num_points)
                if fine_tuning and len(cloud) > most:
                    cloud = take_points(cloud[None], farthest_points(cloud[None], most))[0]
                clouds.append(cloud[torch.randperm(len(cloud), generator=rng)[:num_points]])
            return {
                "points": scale_and_shift(torch.stack(clouds), rng),
                "label": chosen["label"],
            }

        return batch

    return of_size
