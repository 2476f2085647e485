"""How `gentok train ard_vae` trains: one network, whose prior is looked up once an epoch.

A plan with further models trains them in the same way, beside the first
(``<name>.vae_12.safetensors``).
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.data import cifar10, digits, mnist
from gentok.data.factors import blobs
from gentok.data.folder import find, missing
from gentok.data.image_folder import ImageFolder
from gentok.latents.ard_vae.epochs import Epochs, each_epoch
from gentok.latents.ard_vae.model import ARDVAE, ARDVAEConfig, build
from gentok.latents.ard_vae.plans import Plan, family, plan
from gentok.latents.ard_vae.readout import evaluate
from gentok.show.media import save_grid
from gentok.training.loop import Fit, fit, load_model
from gentok.training.profiles import Profile
from gentok.training.stages import stage
from gentok.training.weights import Learned, Weights

FOLDER = "celeba"  # of GENTOK_DATA, its pictures in one sub-folder
HELD_OUT = 99_991  # the seed of blobs that are measured
FIRST = "ard_12"  # of the book's weights: the model that the checkpoint itself holds


def train(
    preset: str, profile: Profile, *, out: str | Path | None, resume: bool, seed: int
) -> ARDVAE:
    """Train the model, and those that its plan has beside it.

    Returns:
        the trained model; its relevant axes are known.

    Raises:
        FileNotFoundError: if the plan's pictures are absent.
        ValueError: if there is no such preset.
    """
    task = plan(preset, profile)
    train_set, held_out = pictures(task, seed)
    options = {"profile": profile, "seed": seed, "resume": resume, "held_out": held_out}
    for name, size in task.beside.items():
        train_one(task, size, train_set, out=stage(out, name), **options)
    return train_one(task, task.size, train_set, out=out, **options).model


def train_one(
    task: Plan,
    size: ARDVAEConfig,
    train_set: Tensor,
    profile: Profile,
    seed: int,
    *,
    make: Callable[[ARDVAEConfig], ARDVAE] = build,
    held_out: Tensor | None = None,
    overlap: bool = False,
    means: bool = False,
    **options,
) -> Fit:
    """Train one model by a plan's stage; all that are given one seed see the same batches.

    Args:
        task: the plan.
        size: of the model, the plan's or a rival's.
        train_set: pictures, uint8 or floats in [-1, 1].
        profile: says where; ``seed``: of weights, order and noise.
        make: builds the model: `build`, or a rival of `RIVALS`.
        held_out: pictures that steer the learning rate.
        overlap, means: mistakes that the chapter makes on purpose, see `Epochs` and `each_epoch`.
        options: of `fit` (``out``, ``resume``, ``progress``).

    Returns:
        what `fit` returns; the relevant axes of its model are known.
    """
    epochs = Epochs(train_set, task.model.batch_size, task.prior_images, seed, overlap)
    torch.manual_seed(seed)
    model = make(size).to(profile.device)
    epochs.refresh(model, 0, means)  # of the untrained encoder, as the authors' code does
    arguments = task.model.fit_arguments()
    if held_out is not None:
        arguments["schedule"] = model.plateau
    on_step = each_epoch(epochs, task.model.steps, held_out, means)
    return fit(model, epochs, **arguments, on_step=on_step, seed=seed, **options)


def pictures(task: Plan, seed: int) -> tuple[Tensor, Tensor | None]:
    """What a plan learns from, and what steers its learning rate.

    Returns:
        train_set: (N, C, S, S), uint8 or floats in [-1, 1].
        held_out: floats in [-1, 1], or None.

    Raises:
        FileNotFoundError: if they are absent.
    """
    if task.data == "blobs":
        return blobs(task.pictures, task.size.network.image_size, seed).images, None
    images = _bytes(task.data, task.size.network.image_size)
    images = images[:, : task.size.network.channels]
    if not task.held_out:
        return images[: task.pictures], None
    wanted = task.pictures + task.held_out
    if len(images) < wanted:
        raise FileNotFoundError(f"{task.data}: {wanted:,} pictures wanted, {len(images):,} found")
    held_out = images[task.pictures : wanted]
    return images[: task.pictures], held_out.float() / 127.5 - 1


def _bytes(data: str, size: int) -> Tensor:
    """All training pictures of a set, (N, 3, S, S) uint8."""
    if data == "digits":
        return digits(size).images
    if data == "mnist":
        images = mnist("train").images
        edge = (size - images.shape[-1]) // 2
        return F.pad(images, (edge, edge, edge, edge))  # black
    if data == "cifar10":
        return cifar10("train").images
    folder = find(FOLDER)
    if folder is None:
        raise missing("CelebA", f"{FOLDER}/<folder>/*.jpg")
    found = ImageFolder(folder, size)
    pixels = (torch.tensor(found[i, 0, 0][0]) for i in range(len(found)))  # (S, S, 3) each
    return torch.stack([x.permute(2, 0, 1) for x in pixels])


def sample(checkpoint: str | Path, out: str | Path, *, n: int, seed: int) -> None:
    """Write a picture of ``n`` samples; only relevant axes are drawn.

    Args:
        checkpoint: the model's.
        out: image file to write (the name's ending says the format).
        n: number of images.
        seed: of the noise.
    """
    model = load_model(checkpoint, ARDVAEConfig, build)
    torch.manual_seed(seed)
    save_grid(model.sample(n), out)


# --- weights --------------------------------------------------------------------------------------


def _collect(checkpoint: Path) -> dict[str, nn.Module]:
    files = {name: stage(checkpoint, name) for name in family()} | {FIRST: checkpoint}
    return {name: load_model(path, ARDVAEConfig, build) for name, path in files.items()}


def _measure(models: nn.ModuleDict, n: int) -> dict[str, float]:
    """The elbow, the count, the error and the least-read factor of every model."""
    items, found = blobs(n, seed=HELD_OUT), {}
    for name, model in models.items():
        metrics = evaluate(model, items)
        for metric in ("ratio", "place", "count", "sse", "read"):
            found[f"{name}_{metric}"] = metrics[metric]
    return found


def _data(preset: str, profile: Profile, seed: int) -> dict[str, Learned]:
    task = plan(preset, profile)
    items = blobs(task.pictures, task.size.network.image_size, seed)
    return {"training": Learned(items.source, (items.images, items.values))}


def _together(**models: nn.Module) -> nn.ModuleDict:
    return nn.ModuleDict(models)


WEIGHTS = Weights(
    preset="blobs-12",
    parts=dict.fromkeys(family(), (ARDVAEConfig, build)),
    train=train,
    collect=_collect,
    assemble=_together,
    measure=_measure,
    data=partial(_data, "blobs-12"),
)
