"""How `gentok train point_mae` trains: masked autoencoding, then the two uses of the encoder.

The checkpoint that `train` is told to write holds the pretrained autoencoder. Beside it stand the
classifier (``<name>.classifier.safetensors``) and, for procedural clouds, which know the part of
every point, the segmenter (``<name>.segmenter.safetensors``). Each stage resumes by itself.

Published presets spare biases, norms and tokens from weight decay and fall to a rate of 1e-6, as
the paper's code does; the small ones decay all parameters alike, down to 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
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
from gentok.shapes.point_mae.model import PRESETS, PointMAE, PointMAEConfig, build
from gentok.shapes.point_mae.pictures import cloud_grid
from gentok.training.loop import Schedule, fit, load_model
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile
from gentok.training.stages import stage

Batches = Callable[[int], dict[str, Tensor]]
SHAPENET = 41_952  # clouds that the paper pretrains on


@dataclass(frozen=True)
class Plan:
    """What decides a pretraining and the two uses of its encoder.

    Args:
        data: ``"procedural"`` (solids, and objects whose parts are known) or ``"folder"``:
            ``GENTOK_DATA/clouds/<class>/*.npy``, as ShapeNet's of 8,192 points.
        solids, objects: how many procedural clouds.
        size: of the autoencoder.
        classifier_size: of the head, but for backbone and classes.
        pretraining, classifier: how each is trained.
        segmenter: the same; None where no part of a point is known.
    """

    data: str
    solids: int
    objects: int
    size: PointMAEConfig
    classifier_size: point_tasks.ClassifierConfig
    pretraining: Stage
    classifier: Stage
    segmenter: Stage | None


def plan(preset: str, profile: Profile, clouds: int = SHAPENET) -> Plan:
    """The training of a preset.

    Args:
        preset: its name.
        profile: how much to do.
        clouds: in the folder, for presets that learn from one: the paper counts in epochs.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    tasks = point_tasks.PRESETS
    if preset == "tiny":
        solids = profile.pick(smoke=32, cpu=1024)
        objects = solids // 2
        return Plan(
            "procedural",
            solids,
            objects,
            size,
            tasks["tiny-classifier"],
            _stage(profile, solids + objects, 128, 1e-3),
            _stage(profile, solids, 32, 5e-4, clip=10.0),
            _stage(profile, objects, 16, 2e-4, clip=10.0),
        )
    pretraining = _published(_stage(profile, clouds, 128, 1e-3))
    classifier = _published(_stage(profile, clouds, 32, 5e-4, clip=10.0))
    head = tasks["classifier-modelnet40"]
    return Plan("folder", 0, 0, size, head, pretraining, classifier, segmenter=None)


def _stage(
    profile: Profile, clouds: int, batch_size: int, lr: float, clip: float | None = None
) -> Stage:
    """300 epochs, 10 of warm-up, in the gpu profile; a few hundred steps elsewhere."""
    epoch = math.ceil(clouds / batch_size)
    return Stage(
        steps=profile.pick(smoke=4, cpu=600, gpu=300 * epoch),
        batch_size=profile.pick(smoke=4, cpu=16, gpu=batch_size),
        # A network six times narrower takes larger steps.
        lr=profile.pick(smoke=4e-3, cpu=4e-3, gpu=lr),
        # A short run must forget the huge gradients of its first steps.
        betas=profile.pick(smoke=(0.9, 0.95), cpu=(0.9, 0.95), gpu=(0.9, 0.999)),
        weight_decay=0.05,
        warmup=profile.pick(smoke=1, cpu=20, gpu=10 * epoch),
        schedule="cosine",
        clip=clip,
    )


def _published(how: Stage) -> Stage:
    return replace(how, spare=("token",), schedule=Schedule("cosine", floor=1e-6 / how.lr))


def train(
    preset: str, profile: Profile, *, out: str | Path | None, resume: bool, seed: int
) -> PointMAE:
    """Pretrain, then fine-tune.

    Returns:
        the pretrained autoencoder.

    Raises:
        FileNotFoundError: if the preset needs real clouds and there are none.
        ValueError: if there is no such preset.
    """
    task = plan(preset, profile)
    if task.data == "folder":
        return _train_from_files(preset, profile, out, resume, seed)
    number = task.size.num_points
    twice = 2 * number  # each step sees a fresh choice of half the points
    solids = solid_clouds(task.solids, twice, seed)
    objects = object_clouds(task.objects, twice, seed)
    pool = {"points": torch.cat([solids.points, objects.points])}
    torch.manual_seed(seed)
    model = build(task.size).to(profile.device)
    keep = {"seed": seed, "resume": resume}
    draw = cloud_batches(pool, task.pretraining.batch_size, seed, number)
    fit(model, draw, **task.pretraining.fit_arguments(model), **keep, out=out)
    draw = _fine_tuning_batches(solids, number, task.classifier.batch_size, seed)
    classifier = _classifier(task, model, len(solids.class_names), profile, seed)
    how = task.classifier.fit_arguments(classifier)
    fit(classifier, draw, **how, **keep, out=stage(out, "classifier"))
    draw = _fine_tuning_batches(objects, number, task.segmenter.batch_size, seed)
    segmenter = _segmenter(model, profile, seed)
    fit(
        segmenter,
        draw,
        **task.segmenter.fit_arguments(segmenter),
        **keep,
        out=stage(out, "segmenter"),
    )
    return model


def _train_from_files(
    preset: str, profile: Profile, out: str | Path | None, resume: bool, seed: int
) -> PointMAE:
    """There is no segmentation, since the files know no parts."""
    size = preset_of(PRESETS, preset)
    files, labels, names = cloud_files(size.num_points)
    task = plan(preset, profile, clouds=len(files))
    draw = _file_batches(files, labels, size.num_points, seed)
    torch.manual_seed(seed)
    model = build(size).to(profile.device)
    keep, rows = {"seed": seed, "resume": resume}, task.pretraining.batch_size
    fit(model, draw(rows), **task.pretraining.fit_arguments(model), **keep, out=out)
    classifier = _classifier(task, model, len(names), profile, seed)
    drawn = draw(task.classifier.batch_size, fine_tuning=True)
    how = task.classifier.fit_arguments(classifier)
    fit(classifier, drawn, **how, **keep, out=stage(out, "classifier"))
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
    task: Plan, model: PointMAE, num_classes: int, profile: Profile, seed: int
) -> nn.Module:
    size = replace(
        task.classifier_size,
        backbone=model.config,
        num_classes=num_classes,
        published_params=None,
    )
    torch.manual_seed(seed)
    return point_tasks.load_encoder(point_tasks.build(size), model).to(profile.device)


def _segmenter(model: PointMAE, profile: Profile, seed: int) -> nn.Module:
    size = replace(
        point_tasks.PRESETS["tiny-segmenter"],
        backbone=model.config,
        num_categories=len(OBJECT_NAMES),
        num_parts=len(PART_NAMES),
    )
    torch.manual_seed(seed)
    return point_tasks.load_encoder(point_tasks.build(size), model).to(profile.device)


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
