"""How `gentok train matformer` trains a MatLM or a MatViT, and what `sample` makes of it.

MatLM, published sizes: 1,024 sequences of 1,024 tokens a step; 10 to 80 billion tokens for each of
the four granularities, so four times as many steps in sampling mode. Optimiser settings are not
stated; these are of the public reproduction (MatFormer-OLMo): AdamW 1e-3, betas (0.9, 0.95), weight
decay 0.01, cosine. MatViT: the released configuration of B/16: 1e-3, betas (0.9, 0.999), weight
decay 0.1, 10,000 steps of warm-up, 300 epochs of ImageNet at batch 2,048, random crops, RandAugment
with two changes, mixup 0.5. Its RandAugment has strength 15 on a scale of 10 and Cutout among the
changes; ours stops at 10 and has none. L/16 starts from scratch and not from ImageNet-21k.

Presets of the book have twins: networks of the sizes of S to XL, each trained alone for X steps
where the nested network gets 4X, so that each granularity is drawn X times: the paper's budget.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from gentok.data import available, batches, class_images, digits, folder_batches, text
from gentok.data.characters import (
    ALPHABET,
    split_text,
    to_ids,
    to_text,
    window_batches,
    windows,
)
from gentok.data.files import reading
from gentok.data.folder import find, missing
from gentok.data.mixing import mixed
from gentok.data.rand_augment import MOST, rand_augment
from gentok.data.random_crop import random_crop
from gentok.efficient.matformer.decoding import write
from gentok.efficient.matformer.elastic import nearest
from gentok.efficient.matformer.family import Family
from gentok.efficient.matformer.model import (
    PRESETS,
    MatLM,
    MatLMConfig,
    MatViTConfig,
    NestedConfig,
    build,
    extract,
)
from gentok.efficient.matformer.sizes import NAMES
from gentok.show.media import save_grid
from gentok.training.loop import fit, load_checkpoint, load_model
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile
from gentok.training.stages import stage
from gentok.training.weights import Learned, Weights

Batches = Callable[[int], dict[str, Tensor]]
TOKENS = "text/tokens.npy"  # of GENTOK_DATA: whole numbers, one long row, by any tokenizer
IMAGES = "images"  # of GENTOK_DATA, one sub-folder a class
EPOCH = 1_281_167 / 2048  # steps of one epoch of ImageNet
DIGITS = 0.6  # share of the digits to learn from


@dataclass(frozen=True)
class Plan:
    """What decides a training.

    Args:
        data: ``"pydoc"`` (characters of Python's own manual), ``"tinyshakespeare"``, ``"tokens"``
            (``GENTOK_DATA/text/tokens.npy``), ``"world"`` (the procedural world's pictures),
            ``"digits"`` (scikit-learn's, three fifths of them), or ``"folder"``: ImageNet's layout
            under ``GENTOK_DATA/images/<class>/``, with mixup.
        pictures: how many the world draws.
        size: of the network; ``model``: how it is trained.
        twin: how each granularity is trained alone, or None where that is not done.
    """

    data: str
    pictures: int
    size: NestedConfig
    model: Stage
    twin: Stage | None = None


# Billions of tokens that the paper trains each granularity of a MatLM on.
BILLIONS = {
    "matlm-78m": 10,
    "matlm-180m": 20,
    "matlm-310m": 30,
    "matlm-463m": 40,
    "matlm-850m": 80,
}

TEXT = {"data": "pydoc", "betas": (0.9, 0.95)}
DIGIT = {"data": "digits", "betas": (0.9, 0.999)}
# X, the steps of a twin (of all profiles but smoke), and the rest of what a preset has.
BOOK = {
    "text": TEXT
    | {"steps": 5400, "batch_size": 16, "lr": 4e-3, "weight_decay": 0.05, "ema": 0.998},
    "study-text": TEXT | {"steps": 3400, "batch_size": 8, "lr": 8e-3, "weight_decay": 0.01},
    "study-mixtures": TEXT | {"steps": 600, "batch_size": 16, "lr": 5e-3, "weight_decay": 0.01},
    "study-digits": DIGIT | {"steps": 100, "batch_size": 32, "lr": 2e-3, "weight_decay": 0.1},
}


def plan(preset: str, profile: Profile) -> Plan:
    """The training of a preset.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    if preset == "tiny":
        shakespeare = profile.name == "gpu" and available()["tinyshakespeare"]
        how = replace(_language(profile, 20_000), lr=4e-3, batch_size=_rows(profile, 16, 64))
        return Plan("tinyshakespeare" if shakespeare else "pydoc", 0, size, how)
    if preset in BOOK:
        return _book(size, profile, **BOOK[preset])
    if preset in BILLIONS:
        each = round(BILLIONS[preset] * 1e9 / 1e6)  # steps of 2^20 tokens, a granularity
        # In joint mode one step trains all four granularities.
        steps = each if size.objective == "joint" else len(size.divisors) * each
        return Plan("tokens", 0, size, _language(profile, steps))
    if preset == "tiny-vit":
        how = replace(_vision(profile, 20_000), lr=2e-3, batch_size=_rows(profile, 32, 256, 4))
        return Plan("world", profile.pick(smoke=64, cpu=4096), size, how)
    return Plan("folder", 0, size, _vision(profile, round(300 * EPOCH)))


def _book(
    size: NestedConfig, profile: Profile, data: str, steps: int, batch_size: int, **settings
) -> Plan:
    """Four X steps for the nested network, X for a twin, all else alike."""
    twin = Stage(
        steps=profile.pick(smoke=3, cpu=steps),
        batch_size=profile.pick(smoke=4, cpu=batch_size),
        warmup=profile.pick(smoke=1, cpu=min(50, steps // 3)),
        schedule="cosine",
        clip=1.0,
        **settings,
    )
    nested = replace(twin, steps=len(size.divisors) * twin.steps)
    return Plan(data, 0, size, nested, twin)


def _language(profile: Profile, steps: int) -> Stage:
    """MatLM's optimiser; ``steps`` in the gpu profile."""
    return Stage(
        steps=profile.pick(smoke=4, cpu=1200, gpu=steps),
        batch_size=_rows(profile, 8, 1024),
        lr=1e-3,
        betas=(0.9, 0.95),
        weight_decay=0.01,
        warmup=profile.pick(smoke=1, cpu=50, gpu=min(2000, steps // 10)),
        schedule="cosine",
        clip=1.0,
    )


def _vision(profile: Profile, steps: int) -> Stage:
    """MatViT's optimiser; ``steps`` in the gpu profile."""
    return Stage(
        steps=profile.pick(smoke=4, cpu=1200, gpu=steps),
        batch_size=_rows(profile, 8, 2048),
        lr=1e-3,
        weight_decay=0.1,
        warmup=profile.pick(smoke=1, cpu=50, gpu=min(10_000, steps // 10)),
        schedule="cosine",
        clip=1.0,
    )


def _rows(profile: Profile, cpu: int, gpu: int, smoke: int = 2) -> int:
    return profile.pick(smoke=smoke, cpu=cpu, gpu=gpu)


def train(
    preset: str, profile: Profile, *, out: str | Path | None, resume: bool, seed: int
) -> nn.Module:
    """Train a MatLM or a MatViT, and after it the twins if the plan has any.

    The twins' checkpoints stand beside ``out``: ``<name>.S.safetensors`` and so on.

    Returns:
        the nested network, averaged where its plan says so.

    Raises:
        FileNotFoundError: if the preset needs data that are absent.
        ValueError: if there is no such preset, the tokens are no row of whole numbers, or the
            images have too many classes.
    """
    task = plan(preset, profile)
    draw = batches_of(task, seed)
    torch.manual_seed(seed)
    nested = build(task.size)
    twins = {name: extract(nested, name) for name in task.size.names if task.twin}
    todo = [(nested, task.model, out)]
    todo += [(twin, task.twin, stage(out, name)) for name, twin in twins.items()]
    done = [
        fit(
            network.to(profile.device),
            draw,
            **how.fit_arguments(),
            seed=seed,
            out=path,
            resume=resume,
        ).ema
        for network, how, path in todo
    ]
    return done[0]


def sample(checkpoint: str | Path, out: str | Path, *, n: int, seed: int) -> None:
    """Show what a checkpoint can do.

    A MatLM writes ``n`` texts of 240 characters to a text file: S drafts, XL verifies, and the
    share of accepted drafts stands above each. A MatViT makes a picture: ``n`` queries that S
    encoded, and below each its nearest neighbour among images that XL encoded.

    Args:
        checkpoint: of `train`.
        out: the file to write, a text or a picture by kind of checkpoint.
        n: number of texts or queries.
        seed: of the sampler, and of the pictures.

    Raises:
        FileNotFoundError: if there is no checkpoint.
    """
    _, meta = load_checkpoint(checkpoint)
    torch.manual_seed(seed)
    if "vocab_size" in (meta.get("config") or {}):
        network = load_model(checkpoint, MatLMConfig, build)
        Path(out).write_text("\n\n".join(_texts(network, n)) + "\n", encoding="utf-8")
    else:
        _retrieval(load_model(checkpoint, MatViTConfig, build), out, n, seed)


def _texts(network: MatLM, n: int) -> list[str]:
    prompt = torch.zeros(1, dtype=torch.int64)  # a new line
    characters = network.config.vocab_size == len(ALPHABET)
    texts = []
    for i in range(n):
        made = write(network, prompt, 240, draft="S", k=4, temperature=0.8)
        line = (
            f"# text {i + 1}: {made.acceptance:.0%} of the drafts accepted, "
            f"{made.tokens_per_call:.2f} tokens for each pass of XL"
        )
        print(line.removeprefix("# "))
        body = to_text(made.tokens) if characters else " ".join(map(str, made.tokens.tolist()))
        texts.append(f"{line}\n{body}")
    return texts


@torch.no_grad()
def _retrieval(network: nn.Module, out: str | Path, n: int, seed: int) -> None:
    side = network.config.image_size
    database = class_images(256, side, seed=seed + 1).floats()
    queries = class_images(n, side, seed=seed + 2).floats()
    found = nearest(network.features(queries, "S"), network.features(database))
    save_grid(torch.cat([queries, database[found]]), out, columns=n)


def batches_of(task: Plan, seed: int) -> Batches:
    """What a plan learns from."""
    size, rows = task.size, task.model.batch_size
    if task.data in ("pydoc", "tinyshakespeare"):
        ids, _ = split_text(to_ids(text(task.data)))
        return window_batches(ids, size.context + 1, rows, seed)  # the last is a target only
    if task.data == "digits":
        return batches(digits().split(DIGITS, seed=0)[0], rows, seed=seed)  # never mirrored
    if task.data == "tokens":
        return window_batches(_tokens(size), size.context + 1, rows, seed)
    if task.data == "world":
        pictures = class_images(task.pictures, size.image_size, seed=seed)
        return batches(pictures, rows, seed=seed, flip=True)
    return _folder(size, rows, seed)


def _tokens(size: MatLMConfig) -> np.ndarray:
    path = find(TOKENS)
    if path is None:
        raise missing(f"tokens of a vocabulary of {size.vocab_size:,}", TOKENS)
    with reading(path, ".npy file"):
        ids = np.load(path, mmap_mode="r")
        if not isinstance(ids, np.ndarray):
            raise ValueError("it is an archive of arrays (.npz), not one array")
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer) or not len(ids):
        raise ValueError(f"{path} must hold one row of whole numbers, got {ids.shape} {ids.dtype}")
    return ids


def _folder(size: MatViTConfig, rows: int, seed: int) -> Batches:
    folder = find(IMAGES)
    if folder is None:
        raise missing(f"images of {size.image_size} pixels", f"{IMAGES}/<class>/*.jpg")
    draw, num_classes = folder_batches(folder, size.image_size, rows, seed, crop=augmented_crop)
    if num_classes > size.num_classes:
        raise ValueError(f"{folder} has {num_classes} classes, more than {size.num_classes}")
    return mixed(draw, size.num_classes, mixup=0.5, cutmix=0, smoothing=0, seed=seed)


def augmented_crop(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """A random part, mirrored half the time, with two changes of the largest strength."""
    return rand_augment(random_crop(image, size, rng), rng, strength=MOST, spread=0)


def _collect(checkpoint: str | Path) -> dict[str, nn.Module]:
    """The nested network, from its checkpoint, and the twins' beside it."""
    nested = load_model(checkpoint, MatLMConfig, build)
    twins = {
        name: load_model(stage(checkpoint, name), MatLMConfig, build)
        for name in nested.config.names
    }
    return {"nested": nested, **twins}


def _measure(family: Family, n: int) -> dict[str, float]:
    """Losses of slices and twins on n windows of the held-out text."""
    _, held = split_text(to_ids(text("pydoc")))
    return family.losses(windows(held, family.nested.config.context + 1, n))


def _data(profile: Profile, seed: int) -> dict[str, Learned]:
    learn, _ = split_text(to_ids(text("pydoc")))
    version = platform.python_version()
    source = f"characters of the language reference in Python {version} (pydoc_data.topics)"
    return {"training": Learned(source, (learn,))}


WEIGHTS = Weights(
    preset="text",
    parts=dict.fromkeys(("nested", *NAMES), (MatLMConfig, build)),
    train=train,
    collect=_collect,
    assemble=Family,
    measure=_measure,
    data=_data,
)
