"""How much do common random numbers buy? Two questions, each asked twice at equal cost.

`python -m gentok.book.method` trains the 48 little language models of the page "How this book
measures" and writes ``book/results/method.json`` (about six minutes on a quiet core).

One question is MatFormer's: the granularity of a step is drawn at random; does the largest model
gain if it is drawn more often? The arms then train other weights at almost every step. The other
changes little at each step: does weight decay help? *Apart*, the two arms of a seed share nothing:
weights, batches and draws are their own, and the test loss is taken on windows drawn afresh.
*Common*, they start from the same weights, see the same batches in the same order, and meet the
same test windows.
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
FIXED = 10_000  # the seed of the test windows that a run draws for itself, before its own is added
EVEN, LARGE = (0.25, 0.25, 0.25, 0.25), (0.1, 0.2, 0.3, 0.4)  # of S, M, L and XL
# Question -> the baseline and the change, each with what it is.
QUESTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "sampling": {"even": {"probabilities": EVEN}, "XL more often": {"probabilities": LARGE}},
    "decay": {"no decay": {"weight_decay": 0.0}, "decay": {"weight_decay": 0.1}},
}
DESIGNS = {"apart": 1000, "common": 0}  # what each arm adds to its seeds, times its place


def train(
    seed: int, own: int, probabilities: tuple[float, ...] = EVEN, weight_decay: float = 0.0
) -> dict[str, Any]:
    """Train one model and measure its largest granularity.

    Args:
        seed: of the pair.
        own: 0 if the run shares its randomness with the other arm of its seed; else it is added to
            the seed of everything.
        probabilities: of the granularities; ``weight_decay`` is AdamW's.

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
        weight_decay=weight_decay,
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


def compared(record: dict[str, Any]) -> dict[tuple[str, str], dict[str, float]]:
    """Each question by both designs, from the recorded rows.

    Returns:
        (question, design) -> ``effect`` of the change on the loss of XL, ``low`` and ``high`` end
        of the 95 % interval, ``scatter`` of the differences over seeds, the arms' ``correlation``
        over seeds, and how many ``seeds`` runs apart would need for an interval as narrow as that
        with common random numbers.
    """
    found = {}
    for question, arms in QUESTIONS.items():
        for design in DESIGNS:
            rows = record["experiments"][f"{question}, {design}"]["rows"]
            base, change = (list(Side(arm, "loss").values(rows).values()) for arm in arms)
            result = compare(change, base, "lower")
            found[question, design] = {
                "effect": result.effect,
                "low": result.ci95[0],
                "high": result.ci95[1],
                "scatter": float(np.std(np.subtract(change, base), ddof=1)),
                "correlation": float(np.corrcoef(change, base)[0, 1]),
            }
        common = found[question, "common"]
        narrow = (common["high"] - common["low"]) / 2
        for design in DESIGNS:
            each = found[question, design]
            each["seeds"] = seeds_for(each["scatter"], narrow)
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
    for question, arms in QUESTIONS.items():
        for design, shift in DESIGNS.items():
            # Apart, the arms differ in everything: one takes the seeds from 1000, one from 2000 on.
            shifted = {
                arm: {"own": shift * place, **changes}
                for place, (arm, changes) in enumerate(arms.items(), start=1)
            }
            study.ablate(f"{question}, {design}", train, shifted)
    study.finish()


if __name__ == "__main__":
    from gentok.book import method  # under its own name, by which a record finds its code

    method.main()
