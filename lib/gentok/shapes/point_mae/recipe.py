"""How `gentok train point_mae` trains: masked autoencoding, then the two uses of the encoder.

The checkpoint that `train` is told to write holds the pretrained autoencoder. Beside it stand the
classifier (``<name>.classifier.safetensors``) and, where the part of every point is known, the
segmenter (``<name>.segmenter.safetensors``). Each stage resumes by itself.

All presets follow the paper's code: AdamW with weight decay 0.05, which biases, norms and tokens
are spared, a thirtieth of warm-up (10 of 300 epochs) and a cosine to a rate of 1e-6.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from gentok.data.cloud_parts import PartFiles, part_batches, part_files
from gentok.data.clouds import (
    OBJECT_NAMES,
    PART_NAMES,
    PARTS_OF,
    Clouds,
    cloud_batches,
    cloud_files,
    object_clouds,
    read_cloud,
    scale_and_shift,
    solid_clouds,
)
from gentok.data.folder import find
from gentok.data.imageset import batches, generator
from gentok.measure import chamfer_distance
from gentok.measure.fixed import fixed_masks
from gentok.nn.points import farthest_points, take_points
from gentok.shapes.point_mae import tasks as point_tasks
from gentok.shapes.point_mae.model import PRESETS, PointMAE, PointMAEConfig, build
from gentok.shapes.point_mae.pictures import reconstruction_grid
from gentok.shapes.point_mae.system import PointSystem
from gentok.shapes.point_mae.yardsticks import constant_patch, masked_chamfer
from gentok.show.media import DRAWINGS
from gentok.training.loop import Schedule, fit, load_model
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile
from gentok.training.stages import stage
from gentok.training.weights import Learned, Weights

Batches = Callable[[int], dict[str, Tensor]]
SHAPENET = 41_952  # clouds that the paper pretrains on
MODELNET40 = 9_843  # of training, which it tunes the classifier on
SHAPENETPART = 14_007  # of training and validation, which the paper's code tunes the segmenter on
SAMPLES = DRAWINGS  # what `sample` writes
HELD_OUT = 99_991  # the seed of clouds that no training draws
# A short run must forget the huge gradients of its first steps: 20 steps of memory, not 1,000.
SHORT = (0.9, 0.95)
LABELLED_FOLDER = "labelled_clouds"  # of GENTOK_DATA: another set for the classifier
LABELLED = 1  # added to a run's seed: labelled clouds are none of the unlabelled ones


@dataclass(frozen=True)
class Plan:
    """What decides a pretraining and the two uses of its encoder.

    Args:
        data: ``"procedural"`` (solids, and objects whose parts are known) or ``"folder"``:
            ``GENTOK_DATA/clouds/<class>/*.npy``, as ShapeNet's of 8,192 points; for the classifier
            ``GENTOK_DATA/labelled_clouds/<class>/*.npy``, as ModelNet40's, if there are any, else
            the same clouds; and for the segmenter ``GENTOK_DATA/cloud_parts/<category>/*.npy``,
            as ShapeNetPart's.
        solids, objects: how many procedural clouds are learned from without labels.
        shots: labelled solids of each class that the classifier is tuned on; ``labelled_objects``:
            objects with known parts that the segmenter is tuned on.
        size: of the autoencoder.
        classifier_size, segmenter_size: of the heads, but for backbone and classes.
        pretraining, classifier, segmenter: how each is trained.
    """

    data: str
    solids: int
    objects: int
    shots: int
    labelled_objects: int
    size: PointMAEConfig
    classifier_size: point_tasks.ClassifierConfig
    segmenter_size: point_tasks.SegmenterConfig
    pretraining: Stage
    classifier: Stage
    segmenter: Stage


def plan(
    preset: str,
    profile: Profile,
    clouds: int = SHAPENET,
    parted: int = SHAPENETPART,
    tuned: int = MODELNET40,
) -> Plan:
    """The training of a preset.

    Args:
        preset: its name.
        profile: how much to do.
        clouds: in the folder, for presets that learn from one: the paper counts in epochs;
            ``parted``: clouds with known parts; ``tuned``: those of the classifier.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    if preset == "point-mae":
        return _published(size, profile, clouds, parted, tuned)
    if preset == "tiny":  # what the chapter trains live and compares: half a minute to a minute
        steps = profile.pick(smoke=4, cpu=1000, gpu=20_000)
        rows, lr, betas = 16, 2e-3, SHORT
    else:  # "world-512", the weights of the book: a quarter of an hour
        steps = profile.pick(smoke=4, cpu=600, long=6000, gpu=40_000)
        rows, lr, betas = 32, 1e-3, (0.9, 0.999)
    tuning = _stage(
        profile.pick(smoke=4, cpu=400), profile.pick(smoke=4, cpu=16), 1e-3, 10.0, betas
    )
    solids = profile.pick(smoke=36, cpu=2048, long=4096)
    return Plan(
        data="procedural",
        solids=solids,
        objects=solids // 2,
        shots=profile.pick(smoke=2, cpu=10),
        labelled_objects=profile.pick(smoke=8, cpu=160),
        size=size,
        classifier_size=point_tasks.PRESETS["tiny-classifier"],
        segmenter_size=point_tasks.PRESETS["tiny-segmenter"],
        pretraining=_stage(steps, profile.pick(smoke=4, cpu=rows, gpu=128), lr, betas=betas),
        classifier=tuning,
        segmenter=tuning,
    )


def _published(
    size: PointMAEConfig, profile: Profile, clouds: int, parted: int, tuned: int
) -> Plan:
    """300 epochs each in the gpu profile; a few hundred steps elsewhere."""

    def published(count: int, batch_size: int, lr: float, clip: float | None = None) -> Stage:
        steps = profile.pick(smoke=4, cpu=600, gpu=300 * math.ceil(count / batch_size))
        return _stage(steps, profile.pick(smoke=4, cpu=16, gpu=batch_size), lr, clip)

    return Plan(
        "folder",
        *(0, 0, 0, 0),
        size,
        point_tasks.PRESETS["classifier-modelnet40"],
        point_tasks.PRESETS["segmenter-shapenetpart"],
        published(clouds, 128, 1e-3),
        published(tuned, 32, 5e-4, clip=10.0),
        published(parted, 16, 2e-4, clip=10.0),
    )


def _stage(
    steps: int,
    batch_size: int,
    lr: float,
    clip: float | None = None,
    betas: tuple[float, float] = (0.9, 0.999),
) -> Stage:
    return Stage(
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        betas=betas,
        weight_decay=0.05,
        spare=("token",),
        warmup=max(1, steps // 30),
        schedule=Schedule("cosine", floor=1e-6 / lr),
        clip=clip,
    )


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
    torch.manual_seed(seed)
    model = build(task.size).to(profile.device)
    keep = {"seed": seed, "resume": resume}
    pool, number = unlabelled(task, seed), task.size.num_points
    draw = cloud_batches(pool, task.pretraining.batch_size, seed, number)
    fit(model, draw, **task.pretraining.fit_arguments(model), **keep, out=out)
    few = labelled(task, seed)
    draw = fine_tuning_batches(few, number, task.classifier.batch_size, seed)
    classifier = new_classifier(task, model, len(few.class_names), seed).to(profile.device)
    how = task.classifier.fit_arguments(classifier)
    fit(classifier, draw, **how, **keep, out=stage(out, "classifier"), after=out)
    objects = object_clouds(task.labelled_objects, 2 * number, seed + LABELLED)
    draw = fine_tuning_batches(objects, number, task.segmenter.batch_size, seed)
    segmenter = new_segmenter(task, model, seed).to(profile.device)
    how = task.segmenter.fit_arguments(segmenter)
    fit(segmenter, draw, **how, **keep, out=stage(out, "segmenter"), after=out)
    return model


def unlabelled(task: Plan, seed: int) -> dict[str, Tensor]:
    """Points of solids and objects without labels, (N, 2 P, 3): a step sees half of a cloud's."""
    twice = 2 * task.size.num_points
    solids, objects = (
        solid_clouds(task.solids, twice, seed),
        object_clouds(task.objects, twice, seed),
    )
    return {"points": torch.cat([solids.points, objects.points])}


def labelled(task: Plan, seed: int, shots: int | None = None) -> Clouds:
    """The few solids with labels: ``shots`` of each class, those of the plan if None."""
    classes = task.classifier_size.num_classes
    shots = task.shots if shots is None else shots
    return solid_clouds(classes * shots, 2 * task.size.num_points, seed + LABELLED)


def _train_from_files(
    preset: str, profile: Profile, out: str | Path | None, resume: bool, seed: int
) -> PointMAE:
    """All stages; no segmentation where no folder knows parts."""
    size = preset_of(PRESETS, preset)
    files, labels, names = cloud_files(size.num_points)
    known = part_files()
    parted = SHAPENETPART if known is None else len(known.files)
    draw = _file_batches(files, labels, size.num_points, seed)
    tuned, fine = len(files), draw
    if find(LABELLED_FOLDER):  # the paper pretrains on ShapeNet and tunes on ModelNet40
        files_tuned, labels, names = cloud_files(size.num_points, LABELLED_FOLDER)
        tuned, fine = len(files_tuned), _file_batches(files_tuned, labels, size.num_points, seed)
    task = plan(preset, profile, clouds=len(files), parted=parted, tuned=tuned)
    torch.manual_seed(seed)
    model = build(size).to(profile.device)
    keep, rows = {"seed": seed, "resume": resume}, task.pretraining.batch_size
    fit(model, draw(rows), **task.pretraining.fit_arguments(model), **keep, out=out)
    classifier = new_classifier(task, model, len(names), seed).to(profile.device)
    drawn = fine(task.classifier.batch_size, fine_tuning=True)
    how = task.classifier.fit_arguments(classifier)
    fit(classifier, drawn, **how, **keep, out=stage(out, "classifier"), after=out)
    if known is not None:
        segmenter = _file_segmenter(task, model, known, seed).to(profile.device)
        points, parts = segmenter.config.backbone.num_points, segmenter.config.num_parts
        drawn = part_batches(known, points, parts, task.segmenter.batch_size, seed)
        how = task.segmenter.fit_arguments(segmenter)
        fit(segmenter, drawn, **how, **keep, out=stage(out, "segmenter"), after=out)
    return model


def _file_segmenter(
    task: Plan, model: PointMAE, known: PartFiles, seed: int
) -> point_tasks.PointSegmenter:
    """Twice the points and patches of pretraining, as published, on the encoder of ``model``."""
    size, one = task.segmenter_size, model.config
    if len(known.categories) > size.num_categories:
        raise ValueError(
            f"cloud_parts: {size.num_categories} categories at most, got {len(known.categories)}"
        )
    twice = {"num_points": 2 * one.num_points, "num_patches": 2 * one.num_patches}
    size = replace(size, backbone=replace(one, **twice, published_params=None))
    torch.manual_seed(seed)
    return point_tasks.load_encoder(point_tasks.build(size), model)


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
    captions = [clouds.class_names[int(label)] for label in clouds.labels]
    figure = reconstruction_grid(
        seen, clouds.points, "Point-MAE: masked patches filled in", captions
    )
    figure.savefig(out)
    plt.close(figure)


def new_classifier(
    task: Plan, model: PointMAE, num_classes: int, seed: int
) -> point_tasks.PointClassifier:
    """A classifier with a fresh head, drawn from ``seed``, on the encoder of ``model``."""
    size = replace(
        task.classifier_size,
        backbone=model.config,
        num_classes=num_classes,
        published_params=None,
    )
    torch.manual_seed(seed)
    return point_tasks.load_encoder(point_tasks.build(size), model)


def new_segmenter(task: Plan, model: PointMAE, seed: int) -> point_tasks.PointSegmenter:
    """A segmenter of the procedural objects with a fresh head on the encoder of ``model``."""
    size = replace(
        task.segmenter_size,
        backbone=model.config,
        num_categories=len(OBJECT_NAMES),
        num_parts=len(PART_NAMES),
    )
    torch.manual_seed(seed)
    return point_tasks.load_encoder(point_tasks.build(size), model)


def fine_tuning_batches(clouds: Clouds, num_points: int, batch_size: int, seed: int) -> Batches:
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


def _collect(checkpoint: str | Path) -> dict[str, nn.Module]:
    """The three networks, from the autoencoder's checkpoint and those beside it."""
    tuned = (
        ("classifier", point_tasks.ClassifierConfig),
        ("segmenter", point_tasks.SegmenterConfig),
    )
    return {"autoencoder": load_model(checkpoint, PointMAEConfig, build)} | {
        name: load_model(stage(checkpoint, name), config, point_tasks.build, after=checkpoint)
        for name, config in tuned
    }


@torch.no_grad()
def measure(system: PointSystem, n: int) -> dict[str, float]:
    """The system on ``n`` held-out solids and half as many objects, with fixed masks.

    Returns:
        ``chamfer_60`` and ``chamfer_80``: mean Chamfer distance x 1000 of masked patches at these
        shares, and ``constant_80`` that of the best constant patch at the latter;
        ``accuracy`` of the classifier and ``part_iou`` of the segmenter, in [0, 1].
    """
    model, device = system.autoencoder, next(system.parameters()).device
    size, masks = model.config, (0.6, 0.8)
    solids = solid_clouds(n, size.num_points, HELD_OUT)
    objects = object_clouds(max(n // 2, len(OBJECT_NAMES)), size.num_points, HELD_OUT)
    points = torch.cat([solids.points, objects.points]).to(device)
    hidden = fixed_masks(len(points), size.num_patches, masks).to(device)
    found = {
        f"chamfer_{100 * share:.0f}": 1000 * float(masked_chamfer(model, points, mask).mean())
        for share, mask in zip(masks, hidden, strict=True)
    }
    patches = model.encoder.group(points).points.cpu()
    with torch.enable_grad():
        constant = constant_patch(patches.flatten(0, 1))
    masked = patches[hidden[1].cpu()]  # (N M, k, 3)
    found["constant_80"] = 1000 * float(chamfer_distance(constant.expand_as(masked), masked).mean())
    named = torch.cat([system.classify(part.to(device)) for part in solids.points.split(100)])
    found["accuracy"] = float((named.cpu() == solids.labels).float().mean())
    guess = system.parts(objects.points.to(device), objects.labels.to(device)).cpu()
    iou = point_tasks.part_iou(guess, objects.parts, objects.labels, PARTS_OF)
    return found | {"part_iou": float(iou.mean())}


def _data(profile: Profile, seed: int) -> dict[str, Learned]:
    task = plan("world-512", profile)
    points, few = unlabelled(task, seed)["points"], labelled(task, seed)
    nobody = torch.zeros(len(points), dtype=torch.int64)
    return {
        "training": Learned("procedural solids and objects, without labels", (points, nobody)),
        "labelled": Learned("procedural solids with labels", (few.points, few.labels)),
    }


WEIGHTS = Weights(
    preset="world-512",
    parts={
        "autoencoder": (PointMAEConfig, build),
        "classifier": (point_tasks.ClassifierConfig, point_tasks.build),
        "segmenter": (point_tasks.SegmenterConfig, point_tasks.build),
    },
    train=train,
    collect=_collect,
    assemble=PointSystem,
    measure=measure,
    data=_data,
)
