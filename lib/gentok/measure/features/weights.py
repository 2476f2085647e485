"""Where trained classifiers are kept: two come with the book, one is trained when asked for."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gentok.data import ImageSet, cifar10, class_images, photographs
from gentok.data.files import check_finite, reading
from gentok.measure.features.classifier import SmallClassifier, accuracy, train_classifier

COMMITTED = Path(__file__).parents[1] / "weights"
READS = {"load_classifier": "../weights/classifier_{0}.safetensors"}  # see gentok.book.closure
TRAIN_SEED, TEST_SEED = 0, 1


@dataclass(frozen=True)
class Recipe:
    """How one classifier is made.

    Attributes:
        train, test: give the two image sets.
        steps: optimiser steps of 64 images.
        committed: the weights come with the package; otherwise they go to the cache folder.
    """

    train: Callable[[], ImageSet]
    test: Callable[[], ImageSet]
    steps: int
    committed: bool = True


CLASSIFIERS: dict[str, Recipe] = {
    "world": Recipe(
        partial(class_images, 16384, seed=TRAIN_SEED),
        partial(class_images, 2048, seed=TEST_SEED),
        steps=800,
    ),
    "photographs": Recipe(
        partial(photographs, split="train", seed=TRAIN_SEED, count=16384),
        partial(photographs, split="test", seed=TEST_SEED, count=2048),
        steps=1200,
    ),
    "cifar10": Recipe(
        partial(cifar10, "train"), partial(cifar10, "test"), steps=2400, committed=False
    ),
}


def weights_path(name: str) -> Path:
    """File that holds a classifier; GENTOK_CACHE (else ~/.cache/gentok) for one not committed.

    Raises:
        ValueError: if the name is unknown.
    """
    if name not in CLASSIFIERS:
        raise ValueError(f"unknown classifier {name!r}; known: {', '.join(CLASSIFIERS)}")
    cache = os.environ.get("GENTOK_CACHE", "").strip() or Path.home() / ".cache" / "gentok"
    folder = COMMITTED if CLASSIFIERS[name].committed else Path(cache).expanduser()
    return folder / f"classifier_{name}.safetensors"


def make_classifier(name: str) -> tuple[SmallClassifier, float]:
    """Train a classifier, store it in half precision, and test what was stored.

    Returns:
        the classifier as it will be loaded, and its test accuracy, which the file states too.
    """
    path, recipe = weights_path(name), CLASSIFIERS[name]
    model = train_classifier(recipe.train(), seed=TRAIN_SEED, steps=recipe.steps)
    halves = {key: value.half() for key, value in model.state_dict().items()}
    model.load_state_dict(halves)  # rounded as stored, kept in float32
    test_set = recipe.test()
    result = accuracy(model, test_set)
    metadata = {
        "test_accuracy": f"{result:.4f}",
        "classes": "\n".join(test_set.class_names),
        "source": test_set.source,
        "steps": str(recipe.steps),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    # Renamed when whole: two processes that both train it never read half a file.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        save_file(halves, temporary, metadata=metadata)
        os.replace(temporary, path)
    return model, result


def classifier_metadata(name: str) -> dict[str, str]:
    """What the file says: ``test_accuracy``, ``classes`` (one a line), ``source``, ``steps``.

    Raises:
        FileNotFoundError: if the classifier is not stored.
        ValueError: if the name is unknown or the file is damaged.
    """
    return _read(name)[1]


def load_classifier(name: str) -> SmallClassifier:
    """A trained classifier, in eval mode, on the CPU, its parameters closed to gradients.

    Args:
        name: "world" (ten shapes of `gentok.data.class_images`) or "photographs" (which of the
            photographs a patch comes from), both part of the package; or "cifar10", trained when
            first asked for (a few minutes on one core) and then kept in the cache folder.

    Raises:
        ValueError: if the name is unknown or the file is damaged.
        FileNotFoundError: if CIFAR-10 must be trained on and is absent.
    """
    if not weights_path(name).is_file() and not CLASSIFIERS[name].committed:
        print(f"training the {name} classifier once, into {weights_path(name).parent}")
        return make_classifier(name)[0]
    tensors, metadata = _read(name)
    check_finite(weights_path(name), tensors)
    with reading(weights_path(name), "classifier"):
        model = SmallClassifier(len(metadata["classes"].splitlines()))
        model.load_state_dict(tensors)
    return model.eval().requires_grad_(False)


def _read(name: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    path = weights_path(name)
    if not path.is_file():
        raise FileNotFoundError(
            f"no classifier at {path}; `python -m gentok.measure.features {name}` makes it"
        )
    with reading(path, "classifier"), safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return tensors, file.metadata() or {}
