"""How much do common random numbers buy? One question, asked twice at equal cost.

`python -m gentok.book.method` trains the twenty-four little language models of the page "How this
book measures" and writes ``book/results/method.json`` (about three minutes on a quiet core).

The question is one of MatFormer's: the granularity of a step is drawn at random; does the largest
model gain if it is drawn more often? *Apart*, the two arms of a seed share nothing: weights,
batches and draws are their own, and the test loss is taken on windows drawn afresh. *Common*, they
start from the same weights, see the same batches in the same order, and meet the same test windows.
"""

from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from gentok.book.claims import Side
from gentok.book.study import Study
from gentok.book.verdicts import compare
from gentok.data import text
from gentok.data.characters import ALPHABET, split_text, to_ids, window_batches, windows
from gentok.efficient.matformer import MatLMConfig, build
from gentok.training import fit, share_weights

CONTEXT, STEPS, BATCH, TEST_WINDOWS = 64, 400, 16, 256
EVEN, LARGE = (0.25, 0.25, 0.25, 0.25), (0.1, 0.2, 0.3, 0.4)  # of S, M, L and XL
FIXED = 10_000  # the seed of the test windows that all runs share
ARMS = {"even": EVEN, "more XL": LARGE}


def train(seed: int, probabilities: tuple[float, ...], own: int) -> dict[str, Any]:
    """Train one model and measure its largest granularity.

    Args:
        seed: of the pair.
        probabilities: of the granularities.
        own: 0 if the run shares its randomness with the other arm of its seed; else it is added to
            the seed of everything.

    Returns:
        ``loss``: of XL on test windows, nats a character.
    """
    own_seed = seed + own
    config = MatLMConfig(
        dim=48, depth=2, num_heads=4, hidden=192, vocab_size=len(ALPHABET), context=CONTEXT,
        probabilities=probabilities, draw_seed=own_seed,
    )  # fmt: skip
    torch.manual_seed(own_seed)
    first = build(config)
    model = build(config)
    share_weights(first, model)  # here by construction; an arm with layers of its own needs it
    learn, test = split_text(to_ids(text()))
    done = fit(
        model,
        window_batches(learn, CONTEXT + 1, BATCH, seed=own_seed),
        steps=STEPS,
        lr=4e-3,
        betas=(0.9, 0.95),
        warmup=20,
        schedule="cosine",
        seed=own_seed,
        progress=False,
    )
    return {"loss": held_out(done.model, test, own_seed if own else None)}


@torch.no_grad()
def held_out(model: torch.nn.Module, test: Tensor, seed: int | None) -> float:
    """Loss of XL in nats a character, on fixed windows, or on windows that a seed draws."""
    if seed is None:
        tokens = windows(test, CONTEXT + 1, TEST_WINDOWS)
    else:
        tokens = window_batches(test, CONTEXT + 1, TEST_WINDOWS, seed=FIXED + seed)(0)["tokens"]
    return float(model.cross_entropy({"tokens": tokens}, "XL"))


def compared(record: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The same question by both designs, from the recorded rows.

    Returns:
        ``"apart"`` and ``"common"`` -> ``effect`` of drawing XL more often on its loss, ``low`` and
        ``high`` end of the 95 % interval, ``scatter`` of the differences over seeds, the arms'
        ``correlation`` over seeds, ``minutes``, and ``seeds`` that apart runs would need for an
        interval as narrow.
    """
    found = {}
    for name, experiment in record["experiments"].items():
        rows = experiment["rows"]
        even, large = (list(Side(arm, "loss").values(rows).values()) for arm in ARMS)
        result = compare(large, even, "lower")
        found[name] = {
            "effect": result.effect,
            "low": result.ci95[0],
            "high": result.ci95[1],
            "scatter": float(np.std(np.subtract(large, even), ddof=1)),
            "correlation": float(np.corrcoef(large, even)[0, 1]),
            "minutes": experiment["seconds"] / 60,
        }
    narrow = (found["common"]["high"] - found["common"]["low"]) / 2
    for name, design in found.items():
        design["seeds"] = seeds_for(found[name]["scatter"], narrow)
    return found


def seeds_for(scatter: float, half_width: float) -> int:
    """Fewest seeds whose 95 % t interval has at most a half-width, for differences that scatter."""
    n = 2
    while stats.t.ppf(0.975, n - 1) * scatter / n**0.5 > half_width * (1 + 1e-9):
        n += 1
    return n


def main() -> None:
    """Make the record."""
    study = Study("method", "study")
    for name, shift in (("apart", 1000), ("common", 0)):
        # Apart, the arms differ in everything: one takes the seeds 1000 on, one those from 2000.
        arms = {
            arm: {"probabilities": probabilities, "own": shift * (1 + place)}
            for place, (arm, probabilities) in enumerate(ARMS.items())
        }
        study.ablate(name, train, arms)
    study.finish()


if __name__ == "__main__":
    main()
