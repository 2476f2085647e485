"""How `gentok train matformer` trains a MatLM or a MatViT, and what `sample` makes of it.

MatLM, published sizes: 1,024 sequences of 1,024 tokens a step; 10 to 80 billion tokens for each of
the four granularities, so four times as many steps in sampling mode. Optimiser settings are not
stated; these are of the public reproduction (MatFormer-OLMo): AdamW 1e-3, betas (0.9, 0.95), weight
decay 0.01, cosine. MatViT: the released configuration of B/16: 1e-3, betas (0.9, 0.999), weight
decay 0.1, 10,000 steps of warm-up, 300 epochs of ImageNet at batch 2,048, mixup 0.5; its
RandAugment is left out, and L/16 starts from scratch and not from ImageNet-21k.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gentok.data import available, batches, class_images, folder_batches, text
from gentok.data.characters import ALPHABET, split_text, to_ids, to_text, window_batches
from gentok.data.folder import find, missing
from gentok.data.mixing import mixed
from gentok.efficient.matformer.decoding import write
from gentok.efficient.matformer.elastic import nearest
from gentok.efficient.matformer.model import MatLM, MatLMConfig, MatViTConfig, NestedConfig, build
from gentok.show.media import save_grid
from gentok.training.loop import fit, load_checkpoint, load_model
from gentok.training.profiles import Profile

Batches = Callable[[int], dict[str, Tensor]]
TOKENS = "text/tokens.npy"  # of GENTOK_DATA: whole numbers, one long row, by any tokenizer
IMAGES = "images"  # of GENTOK_DATA, one sub-folder a class
EPOCH = 1_281_167 / 2048  # steps of one epoch of ImageNet
BILLIONS = {256: 10, 512: 20, 768: 30, 1024: 40, 1536: 80}  # tokens a granularity, by width


def train(
    config: NestedConfig, profile: Profile, *, out: str | Path | None, resume: bool, seed: int
) -> nn.Module:
    """Train by the plan of the paper in the gpu profile, by a short one elsewhere.

    A vocabulary of 96 means characters of Python's own manual, or of tiny Shakespeare in the gpu
    profile if it is there. Other vocabularies read ``GENTOK_DATA/text/tokens.npy``. Images of 32
    pixels are the procedural world's; larger ones come from ``GENTOK_DATA/images/<class>/``.

    Raises:
        FileNotFoundError: if the preset needs data that are absent.
        ValueError: if the tokens are no row of whole numbers, or the images have too many classes.
    """
    vision = isinstance(config, MatViTConfig)
    draw = _images(config, profile, seed) if vision else _tokens(config, profile, seed)
    published = config.published_params is not None
    steps = profile.pick(smoke=4, cpu=1200, gpu=_steps(config) if published else 20_000)
    torch.manual_seed(seed)
    fitted = fit(
        build(config).to(profile.device),
        draw,
        steps=steps,
        lr=1e-3 if published else 2e-3 if vision else 4e-3,
        betas=(0.9, 0.999) if vision else (0.9, 0.95),
        weight_decay=0.1 if vision else 0.01,
        warmup=profile.pick(smoke=1, cpu=50, gpu=min(10_000 if vision else 2000, steps // 10)),
        schedule="cosine",
        clip=1.0,
        seed=seed,
        out=out,
        resume=resume,
    )
    return fitted.model


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


def _tokens(config: MatLMConfig, profile: Profile, seed: int) -> Batches:
    length = config.context + 1  # the last character is a target only
    if config.vocab_size == len(ALPHABET):
        shakespeare = profile.name == "gpu" and available()["tinyshakespeare"]
        ids, _ = split_text(to_ids(text("tinyshakespeare" if shakespeare else "pydoc")))
        return window_batches(ids, length, profile.pick(smoke=2, cpu=16, gpu=64), seed)
    path = find(TOKENS)
    if path is None:
        raise missing(f"tokens of a vocabulary of {config.vocab_size:,}", TOKENS)
    ids = np.load(path, mmap_mode="r")
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"{path} must hold one row of whole numbers, got {ids.shape} {ids.dtype}")
    return window_batches(ids, length, profile.pick(smoke=2, cpu=8, gpu=1024), seed)


def _images(config: MatViTConfig, profile: Profile, seed: int) -> Batches:
    if config.image_size == 32:
        pictures = class_images(profile.pick(smoke=64, cpu=4096), 32, seed=seed)
        return batches(pictures, profile.pick(smoke=4, cpu=32, gpu=256), seed=seed, flip=True)
    folder = find(IMAGES)
    if folder is None:
        raise missing(f"images of {config.image_size} pixels", f"{IMAGES}/<class>/*.jpg")
    size = profile.pick(smoke=2, cpu=8, gpu=2048)
    draw, num_classes = folder_batches(folder, config.image_size, size, seed)
    if num_classes > config.num_classes:
        raise ValueError(f"{folder} has {num_classes} classes, more than {config.num_classes}")
    return mixed(draw, config.num_classes, mixup=0.5, cutmix=0, smoothing=0, seed=seed)


def _steps(config: NestedConfig) -> int:
    """The paper's training length; in joint mode one step trains all four granularities."""
    if isinstance(config, MatViTConfig):
        return round(300 * EPOCH)
    each = round(BILLIONS.get(config.dim, 10) * 1e9 / 1e6)
    return each if config.objective == "joint" else len(config.divisors) * each
