"""When may a feature be called by a name? A rule that held-out text decides.

A feature gets the name of the concept that it agrees with best on one text, and keeps it only if
it agrees on *another* text: at least 70 % of the places where it fires are places of the concept
(precision), and it fires on at least 70 % of these places (recall). Neither text was seen by the
language model or the dictionary. A feature "fires" above a threshold of its own, which the first
text chooses, too.

Shapes: M places (tokens of one byte), F features, N concepts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse
from torch import Tensor

from gentok.interpret.vsae.concepts import Concept, concepts

THRESHOLDS = (0.0, 0.1, 0.25, 0.5)  # shares of a feature's 99th percentile where it fires
LEAST = 0.7  # precision and recall of a name
SUPPORT = 20  # places of a concept in each text, below which nothing can be said


@dataclass(frozen=True)
class Name:
    """A feature and the concept that it stands for.

    Args:
        feature: its index.
        concept: what it fires on.
        threshold: it fires above this.
        precision, recall: on the text that chose nothing, in [0, 1].
    """

    feature: int
    concept: Concept
    threshold: float
    precision: float
    recall: float

    @property
    def holds(self) -> bool:
        """Whether it is a name by the rule."""
        return min(self.precision, self.recall) >= LEAST

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.precision * self.recall / max(self.precision + self.recall, 1e-9)


@dataclass(frozen=True)
class Places:
    """Some places of a text, and which concepts hold there.

    Args:
        truth: (M, N) bool.
        known: the concepts, N of them.
    """

    truth: np.ndarray
    known: tuple[Concept, ...]

    @classmethod
    def of(cls, text: str, at: np.ndarray) -> "Places":
        """The characters ``at`` (M,) of a text."""
        pairs = [(concept, mask[at]) for concept, mask in concepts(text)]
        return cls(np.stack([mask for _, mask in pairs], 1), tuple(c for c, _ in pairs))

    @cached_property
    def counts(self) -> np.ndarray:
        """How often each concept holds, (N,)."""
        return self.truth.sum(0)


def name_features(
    find: tuple[Tensor, Places], judge: tuple[Tensor, Places], least_firing: int = SUPPORT
) -> list[Name]:
    """The best name of every feature that fires often enough, good or not.

    Args:
        find, judge: feature activations (M, F) with their places: the text that chooses names and
            thresholds, and the one that judges them.
        least_firing: places at which a feature must fire in the first text.

    Returns:
        a name for each such feature, best first; `Name.holds` says which are names by the rule.
    """
    (features, places), (others, test) = find, judge
    able = np.flatnonzero((places.counts >= SUPPORT) & (test.counts >= SUPPORT))  # (N',)
    truth = places.truth[:, able].astype(np.float32)
    strength, top = _strength(features)
    best = np.full(features.shape[1], -1.0)  # F1 of the best name so far
    concept = np.zeros(len(best), dtype=int)
    share = np.zeros(len(best))
    for part in THRESHOLDS:
        fires = _above(strength, part * top)
        score = _f1(fires, truth)  # (F, N')
        score[least_firing > fires.sum(0).A1] = -1.0
        choice = score.argmax(1)
        value = score[np.arange(len(best)), choice]
        better = value > best + 1e-9
        best[better], concept[better], share[better] = value[better], choice[better], part
    concept, thresholds = able[concept], share * top
    fires = others.abs().numpy() > thresholds  # (M, F)
    right, fired = _overlap(fires, test, concept), fires.sum(0)
    names = [
        Name(
            int(i),
            places.known[concept[i]],
            float(thresholds[i]),
            float(right[i] / max(fired[i], 1)),
            float(right[i] / max(test.counts[concept[i]], 1)),
        )
        for i in np.flatnonzero(best > 0)
    ]
    return sorted(names, key=lambda name: -name.f1)


def named(names: Sequence[Name], beyond_characters: bool = False) -> list[Name]:
    """The names that hold, one feature a concept: the best.

    Args:
        names: best first.
        beyond_characters: leave out concepts that the character alone decides.
    """
    found: dict[Concept, Name] = {}
    for name in names:
        if name.holds and not (beyond_characters and name.concept.family == "character"):
            found.setdefault(name.concept, name)
    return list(found.values())


def _strength(features: Tensor) -> tuple[scipy.sparse.csc_matrix, np.ndarray]:
    """Magnitudes, sparse (M, F), and each feature's 99th percentile where it fires, (F,)."""
    sparse = scipy.sparse.csc_matrix(features.abs().numpy())
    columns = np.split(sparse.data, sparse.indptr[1:-1])
    top = [np.quantile(column, 0.99) if len(column) else 0.0 for column in columns]
    return sparse, np.array(top)


def _above(strength: scipy.sparse.csc_matrix, thresholds: np.ndarray) -> scipy.sparse.csc_matrix:
    """1 where a feature exceeds its threshold (F,), sparse (M, F)."""
    each = np.repeat(thresholds, np.diff(strength.indptr))
    fires = (strength.data > each).astype(np.float32)
    return scipy.sparse.csc_matrix((fires, strength.indices, strength.indptr), strength.shape)


def _f1(fires: scipy.sparse.csc_matrix, truth: np.ndarray) -> np.ndarray:
    """F1 of every feature with every concept, (F, N), where these hold at places (M, N)."""
    both = np.asarray(fires.T @ truth)  # (F, N)
    total = fires.sum(0).A1[:, None] + truth.sum(0)
    return 2 * both / np.maximum(total, 1)


def _overlap(fires: np.ndarray, places: Places, concept: np.ndarray) -> np.ndarray:
    """How often a feature fires where its own concept holds, (F,)."""
    return np.array([(fires[:, i] & places.truth[:, c]).sum() for i, c in enumerate(concept)])
