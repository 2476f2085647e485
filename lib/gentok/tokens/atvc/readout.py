"""Whether answers are right and pictures obey, on orders that no network has seen.

An answer is always scored behind the re-creation that the network draws itself; behind the true one
or a hidden one it is shown for comparison only.

Shapes: n orders, N codes of a picture, T and A words.
"""

from dataclasses import replace

import torch
from torch import Tensor

from gentok.data.imageset import to_float
from gentok.nn.latents import evaluating
from gentok.tokens.atvc.dvae import DVAE
from gentok.tokens.atvc.orders import (
    ANSWER_LENGTH,
    CANNOT,
    FORBIDDEN,
    ORDER_LENGTH,
    TYPE_NAMES,
    TYPES,
    WORDS,
    YES,
    Orders,
    twins,
)
from gentok.tokens.atvc.pipeline import ROWS, ChatPipeline, type_of
from gentok.tokens.atvc.scenes import paint, read_kinds


def encode_scenes(tokenizer: DVAE, scenes: Tensor) -> Tensor:
    """Codes (n, N) of painted scenes (n, G, G)."""
    device = next(tokenizer.parameters()).device
    cell = tokenizer.config.image_size // scenes.shape[1]
    return torch.cat(
        [
            tokenizer.encode(to_float(paint(part, cell)).to(device)).cpu()
            for part in scenes.split(ROWS)
        ]
    )


def decode_kinds(tokenizer: DVAE, codes: Tensor, grid: int) -> Tensor:
    """What stands at each place of decoded codes (n, N): (n, G, G), -1 for nothing known."""
    cell = tokenizer.config.image_size // grid
    return torch.cat([read_kinds(tokenizer.decode(part), cell) for part in codes.split(ROWS)])


def table_of(tokenizer: DVAE, orders: Orders) -> dict[str, Tensor]:
    """Orders as `ChatStream.loss` takes them."""
    return {
        "order": WORDS.encode(orders.texts(), ORDER_LENGTH, end=True),
        "source": encode_scenes(tokenizer, orders.before),
        "image": encode_scenes(tokenizer, orders.after),
        "answer": WORDS.encode(orders.answers(), ANSWER_LENGTH, end=True),
        "obeyed": orders.type == YES,
    }


@torch.no_grad()
def replies(
    system: ChatPipeline, orders: Orders, behind: str = "own"
) -> tuple[Tensor, Tensor, list[str]]:
    """Codes (n, N), types (n,) and answers.

    Args:
        system: is asked.
        orders: n.
        behind: the answer's re-creation: ``"own"``, ``"true"`` or ``"hidden"``.

    Raises:
        ValueError: if ``behind`` is none of these.
    """
    if behind not in ("own", "true", "hidden"):
        raise ValueError(f"behind must be own, true or hidden, got {behind!r}")
    table = table_of(system.tokenizer, orders)
    given = {"own": None, "true": table["image"], "hidden": table["source"]}[behind]
    codes, words = [], []
    with evaluating(system.generator):
        for i in range(0, len(orders), ROWS):
            part = slice(i, i + ROWS)
            order, source = table["order"][part], table["source"][part]
            drawn = system.generator.sample(
                len(order),
                order,
                source,
                None if given is None else given[part],
                hide=behind == "hidden",
            )
            codes.append(drawn[0])
            words.append(drawn[1])
    answers = WORDS.decode(torch.cat(words))
    return torch.cat(codes), type_of(answers), answers


def _share(right: Tensor) -> float:
    """Mean of bools; 0 where there is none, which no gate passes."""
    return float(right.float().mean()) if right.numel() else 0.0


def measure_answers(type: Tensor, answers: list[str], orders: Orders) -> dict[str, float]:
    """Answers against the right ones.

    Returns:
        ``yes``, ``cannot``, ``forbidden``: share of each type that is answered by its type;
        ``balanced``: the mean over yes and cannot; ``right``: mean over the types that occur;
        ``exact``: share of answers that are right word by word; ``reason``: of refusals that are
        right in type, those with the right reason.
    """
    asked = orders.type
    of = {name: _share(type[asked == k] == k) for k, name in zip(TYPES, TYPE_NAMES, strict=True)}
    occurring = [of[TYPE_NAMES[k]] for k in asked.unique().tolist()]
    exact = torch.tensor(
        [said == right for said, right in zip(answers, orders.answers(), strict=True)]
    )
    refused = (asked != YES) & (type == asked)
    return of | {
        "balanced": (of["yes"] + of["cannot"]) / 2,
        "right": sum(occurring) / len(occurring),
        "exact": _share(exact),
        "reason": _share(exact[refused]),
    }


def measure_edits(seen: Tensor, orders: Orders) -> dict[str, float]:
    """Pictures against what obeying makes of the scene, over orders that can be obeyed.

    Args:
        seen: kinds at each place of the re-created pictures, (n, G, G).
        orders: n.

    Returns:
        ``changed``: share of the places that obeying changes which are right; ``kept``: of the
        others; ``whole``: share of pictures in which all is right.
    """
    can = orders.type == YES
    right, changes = (seen == orders.after)[can], orders.changed()[can]
    return {
        "changed": _share(right[changes]),
        "kept": _share(right[~changes]),
        "whole": _share(right.flatten(1).all(1)),
    }


def measure(system: ChatPipeline, orders: Orders, behind: str = "own") -> dict[str, float]:
    """`measure_answers` and `measure_edits` of one network."""
    codes, type, answers = replies(system, orders, behind)
    seen = decode_kinds(system.tokenizer, codes, orders.before.shape[1])
    return measure_answers(type, answers, orders) | measure_edits(seen, orders)


def measure_pairs(system: ChatPipeline, n: int, seed: int, **options) -> dict[str, float]:
    """Counterfactual pairs: the same order where it can be obeyed and where it cannot.

    Args:
        system: is asked.
        n: number of pairs; ``seed`` and ``options`` as for `draw_orders`.

    Returns:
        ``pairs``: share of pairs with both answers of the right type. Who sees the words alone
        gives one answer to both, and has none; who guesses has a quarter.
    """
    can, cannot = twins(n, seed, **options)
    right = (replies(system, can)[1] == YES) & (replies(system, cannot)[1] == CANNOT)
    return {"pairs": _share(right)}


def bounds(tokenizer: DVAE, orders: Orders) -> dict[str, float]:
    """What a copy of the source, and the true codes decoded, reach; and how good the codes are.

    Returns:
        ``copied`` and ``ideal``: as ``changed`` of `measure_edits`; ``objects``: share of objects
        that are read right through the codes; ``psnr`` in dB, from hard codes; ``codes`` in use.
    """
    grid = orders.before.shape[1]
    real = to_float(paint(orders.before, tokenizer.config.image_size // grid))
    codes = encode_scenes(tokenizer, orders.before)
    again = torch.cat([tokenizer.decode(part) for part in codes.split(ROWS)]).clamp(-1, 1)
    seen = decode_kinds(tokenizer, codes, grid)
    ideal = decode_kinds(tokenizer, encode_scenes(tokenizer, orders.after), grid)
    return {
        "copied": measure_edits(orders.before, orders)["changed"],
        "ideal": measure_edits(ideal, orders)["changed"],
        "objects": _share((seen == orders.before)[orders.before > 0]),
        "psnr": float(10 * torch.log10(4 / (real - again).square().mean())),
        "codes": float(len(codes.unique())),
    }


def swapped(orders: Orders) -> Orders:
    """Forbidden orders, each with the scene of another one."""
    forbidden = orders[orders.type == FORBIDDEN]
    other = forbidden.before.roll(1, 0)
    return replace(forbidden, before=other, after=other)
