"""How much do common random numbers buy? One question, asked twice at equal cost.

`python -m gentok.book.method` trains the twenty-four little language models of the page "How this
book measures" and writes ``book/results/method.json`` (about eight minutes on one core).

The question is one of MatFormer's: the granularity of a step is drawn at random; does the largest
model gain if it is drawn more often? *Apart*, the two arms of a seed share nothing: weights,
batches and draws are their own, and the test loss is taken on windows drawn afresh. *Common*, they
start from the same weights, see the same batches in the same order, and meet the same test windows.
"""

from typing import Any

import torch
from torch import Tensor

from gentok.book.study import Study
from gentok.data import text
from gentok.data.characters import ALPHABET, split_text, to_ids, window_batches, windows
from gentok.efficient.matformer import MatLMConfig, build
from gentok.training import fit, share_weights

CONTEXT, STEPS, BATCH, TEST_WINDOWS = 64, 800, 16, 256
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
