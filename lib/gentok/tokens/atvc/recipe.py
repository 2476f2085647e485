"""How `gentok train atvc` trains: the discrete VAE, and the stream of words and codes.

The checkpoint that `train` is told to write holds the transformer; the tokenizer's stands beside it
(``<name>.tokenizer.safetensors``). The tokenizer is frozen while the transformer learns.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from gentok.data import batches, to_float
from gentok.show.media import PICTURES, save_grid
from gentok.tokens.atvc.dvae import DVAE, DVAEConfig, build_dvae
from gentok.tokens.atvc.model import build
from gentok.tokens.atvc.orders import Orders, draw_orders
from gentok.tokens.atvc.pairs import PairBatches, clip_words, read_pairs
from gentok.tokens.atvc.pipeline import ChatPipeline
from gentok.tokens.atvc.plans import LEARNED, Plan, plan
from gentok.tokens.atvc.readout import (
    bounds,
    measure,
    measure_answers,
    measure_pairs,
    replies,
    swapped,
    table_of,
)
from gentok.tokens.atvc.scenes import crowded, paint
from gentok.tokens.atvc.stream import ChatStream, StreamConfig
from gentok.training.loop import Fit, fit, load_model
from gentok.training.profiles import Profile
from gentok.training.stages import stage
from gentok.training.weights import Learned, Weights

Batches = Callable[[int], dict[str, Tensor]]
CROWDS = 4096  # scenes that the tokenizer learns from
HELD_OUT = 99_991  # the seed of orders that no training has drawn
MEASURED = 99_993  # the seed of orders that nothing was chosen on, either
SAMPLES = PICTURES  # what `sample` writes


def train(
    preset: str, profile: Profile, *, out: str | Path | None, resume: bool, seed: int
) -> ChatStream:
    """Train both networks, one after the other.

    Returns:
        the transformer.

    Raises:
        FileNotFoundError: if the plan's pictures are absent.
        ValueError: if there is no such preset.
    """
    task = plan(preset, profile)
    orders = draw(task, seed)
    options = {"resume": resume}
    tokenizer = train_tokenizer(
        task, orders, profile, seed, out=stage(out, "tokenizer"), **options
    ).model
    options["after"] = stage(out, "tokenizer")
    return train_stream(task, orders, profile, seed, tokenizer, out=out, **options).model


def draw(task: Plan, seed: int) -> Orders | None:
    """The orders that a plan learns from; None where it reads pictures."""
    if task.data != "orders":
        return None
    return draw_orders(
        task.orders,
        seed,
        grid=task.size.grid,
        templates=task.templates,
        colours=task.colours,
    )


def train_tokenizer(
    task: Plan, orders: Orders | None, profile: Profile, seed: int, **options
) -> Fit:
    """Train the discrete VAE on pictures before and after; ``options`` are those of `fit`.

    Of procedural orders it sees the objects in crowded scenes.
    """
    if orders is None:
        source = _pictures(_pairs(task, task.tokenizer.batch_size, seed))
    else:
        grid = orders.before.shape[1]
        crowds = crowded(CROWDS, grid, seed, task.colours)
        images = paint(crowds, task.tokenizer_size.image_size // grid)
        source = batches({"image": images}, task.tokenizer.batch_size, seed)
    torch.manual_seed(seed)
    model = build_dvae(task.tokenizer_size).to(profile.device)
    return fit(model, source, **task.tokenizer.fit_arguments(), seed=seed, **options)


def train_stream(
    task: Plan,
    orders: Orders | None,
    profile: Profile,
    seed: int,
    tokenizer: DVAE,
    table: dict[str, Tensor] | None = None,
    **options,
) -> Fit:
    """Train the transformer on codes that stay as they are.

    Args:
        task: the plan; its ``size`` is trained.
        orders: what is learned from; None reads the plan's pictures.
        profile: says where; ``seed``: of weights and order.
        tokenizer: writes the codes.
        table: of the orders by `table_of`, where it is known.
        options: of `fit` (``out``, ``resume``, ``progress``).
    """
    rows = task.stream.batch_size
    if orders is None:
        source = _encoded(_pairs(task, rows, seed), tokenizer)
    else:
        source = batches(table_of(tokenizer, orders) if table is None else table, rows, seed)
    torch.manual_seed(seed)
    model = build(task.size).to(profile.device)
    return fit(model, source, **task.stream.fit_arguments(model), seed=seed, **options)


def _pairs(task: Plan, rows: int, seed: int) -> PairBatches:
    lengths = (task.size.order_length, task.size.answer_length)
    size = task.tokenizer_size.image_size
    return PairBatches(read_pairs(task.data), size, rows, seed, clip_words, lengths)


def _pictures(draw: PairBatches) -> Batches:
    def batch(step: int) -> dict[str, Tensor]:
        found = draw(step)
        half = len(found["before"]) // 2
        return {"image": torch.cat([found["before"][half:], found["after"][:half]])}

    return batch


def _encoded(draw: PairBatches, tokenizer: DVAE) -> Batches:
    device = next(tokenizer.parameters()).device

    def batch(step: int) -> dict[str, Tensor]:
        found = draw(step)
        for name, pictures in (("source", "before"), ("image", "after")):
            found[name] = tokenizer.encode(found.pop(pictures).to(device)).cpu()
        return found

    return batch


def sample(checkpoint: str | Path, out: str | Path, *, n: int, seed: int) -> None:
    """Write a picture, scenes above what becomes of them, and print each order and its answer.

    Args:
        checkpoint: the transformer's; the tokenizer's is looked for beside it.
        out: image file to write (the name's ending says the format).
        n: number of orders.
        seed: of the orders.

    Raises:
        FileNotFoundError: if one of the two checkpoints is absent.
    """
    system = ChatPipeline(**_collect(Path(checkpoint)))
    orders = draw_orders(n, HELD_OUT + seed, **LEARNED[WEIGHTS.preset])
    side = system.tokenizer.config.image_size // orders.before.shape[1]
    before = to_float(paint(orders.before, side))
    reply = system.answer(before, orders.texts())
    save_grid(torch.cat([before, reply.images]), out, n)
    for number, (text, said) in enumerate(zip(orders.texts(), reply.answers, strict=True), 1):
        print(f"{number}. {text}\n   {said}")


# --- weights --------------------------------------------------------------------------------------


def _collect(checkpoint: Path) -> dict[str, nn.Module]:
    beside = stage(checkpoint, "tokenizer")
    return {
        "tokenizer": load_model(beside, DVAEConfig, build_dvae),
        "generator": load_model(checkpoint, StreamConfig, build, after=beside),
    }


def _measure(system: ChatPipeline, n: int) -> dict[str, float]:
    """Answers and edits behind the network's own re-creation, and what could be reached."""
    asks = LEARNED[WEIGHTS.preset]
    orders = draw_orders(n, MEASURED, **asks)
    found = bounds(system.tokenizer, orders) | measure(system, orders)
    for behind in ("true", "hidden"):
        _, type, answers = replies(system, orders, behind)
        found[f"right_{behind}"] = measure_answers(type, answers, orders)["right"]
    found |= measure_pairs(system, n, MEASURED + 1, **asks)
    other = swapped(orders)
    _, type, answers = replies(system, other)
    found["forbidden_swapped"] = measure_answers(type, answers, other)["forbidden"]
    return found


def _data(preset: str, profile: Profile, seed: int) -> dict[str, Learned]:
    orders = draw(plan(preset, profile), seed)
    tensors = (orders.template, orders.a, orders.b, orders.before, orders.after)
    return {"training": Learned("procedural world: orders and scenes on a grid", tensors)}


WEIGHTS = Weights(
    preset="orders-24",
    parts={"tokenizer": (DVAEConfig, build_dvae), "generator": (StreamConfig, build)},
    train=train,
    collect=_collect,
    assemble=ChatPipeline,
    measure=_measure,
    data=partial(_data, "orders-24"),
)
