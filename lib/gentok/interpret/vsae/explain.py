"""What a feature fires on: its strongest tokens in their contexts, and maps one can point at.

All HTML is self-contained: no script, no style sheet, no picture from elsewhere.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gentok.interpret.vsae.activations import Activations
from gentok.interpret.vsae.corpus import Corpus


@dataclass(frozen=True)
class Summary:
    """A feature in words.

    Args:
        feature: its index.
        density: share of tokens on which it fires.
        tokens: the tokens that hold most of its activation, as text, most first.
        share: the part of its total activation that falls on the first of them, in [0, 1].
        labels: (label, class) pairs that hold most of its activation, and 1.5 times their due.
    """

    feature: int
    density: float
    tokens: tuple[str, ...]
    share: float
    labels: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        tokens = " ".join(show(token) for token in self.tokens)
        marks = ", ".join(name for _, name in self.labels)
        return f"feature {self.feature}: {tokens}" + (f" ({marks})" if marks else "")


def show(token: str) -> str:
    """A token with its blanks made visible: leading space as a low line, line break as a sign."""
    return token.replace("\n", "⏎").replace(" ", "␣")


def summarise(
    features: Tensor, acts: Activations, corpus: Corpus, top: int = 4
) -> dict[int, Summary]:
    """Describe every feature that fires.

    Args:
        features: feature activations, (M, F), of the activations ``acts``.
        acts: where they were read.
        corpus: the contexts of ``acts``, for names of tokens and labels.
        top: tokens to name.

    Returns:
        feature index -> summary, in rising order.
    """
    strength = features.abs()
    base = {
        name: torch.bincount(values[values >= 0], minlength=len(corpus.classes[name])).float()
        / len(values)
        for name, values in acts.labels.items()
        if name in ("source", "line", "kind")
    }
    found = {}
    for feature in (strength > 0).any(0).nonzero()[:, 0].tolist():
        column = strength[:, feature]
        rows = column.nonzero()[:, 0]
        mass = column[rows]
        by_token = torch.bincount(acts.token[rows], weights=mass) / mass.sum()
        order = by_token.argsort(descending=True)[:top].tolist()
        marks = []
        for name, usual in base.items():
            labels = acts.labels[name][rows]
            part = (
                torch.bincount(labels[labels >= 0], weights=mass[labels >= 0], minlength=len(usual))
                / mass.sum()
            )
            best = int((part / usual.clamp(min=1e-9)).where(part > 0.5, 0.0).argmax())
            if part[best] > 0.5 and part[best] > 1.5 * usual[best]:
                marks.append((name, corpus.classes[name][best]))
        found[feature] = Summary(
            feature,
            len(rows) / len(column),
            tuple(corpus.tokenizer.decode([t]) for t in order if by_token[t] > 0),
            float(by_token[order[0]]),
            tuple(marks),
        )
    return found


def top_contexts(
    column: Tensor, acts: Activations, count: int = 3, apart: bool = True
) -> list[int]:
    """Rows of ``acts`` where a feature is strongest, strongest first.

    Args:
        column: the feature's activations, (M,).
        acts: where they were read.
        count: how many rows.
        apart: at most one row of a context.
    """
    chosen, seen = [], set()
    for row in column.abs().argsort(descending=True).tolist():
        if len(chosen) == count or column[row] == 0:
            break
        if not (apart and int(acts.context[row]) in seen):
            chosen.append(row)
            seen.add(int(acts.context[row]))
    return chosen


def in_context(
    row: int, acts: Activations, corpus: Corpus, before: int = 10, after: int = 4
) -> str:
    """The text around an activation as HTML, the firing token marked."""
    words = corpus.words(int(acts.context[row]))
    place = int(acts.position[row])
    left = "".join(words[max(0, place - before) : place])
    right = "".join(words[place + 1 : place + 1 + after])
    marked = f"<mark>{_visible(words[place])}</mark>"
    return _visible(left) + marked + _visible(right)


def contexts_table(
    columns: dict[str, Tensor], acts: Activations, corpus: Corpus, count: int = 3
) -> str:
    """A table: a row a feature, its strongest tokens in context, each firing token marked.

    Args:
        columns: name of a feature to its activations (M,).
        acts, corpus: where they were read.
        count: contexts a feature.

    Returns:
        HTML.
    """
    rows = []
    for name, column in columns.items():
        contexts = "<br>".join(
            f"<code>{in_context(row, acts, corpus)}</code> ({float(column[row]):.2f})"
            for row in top_contexts(column, acts, count)
        )
        rows.append(
            f'<tr><th scope="row" style="text-align:left">{html.escape(name)}</th>'
            f'<td style="text-align:left">{contexts}</td></tr>'
        )
    return (
        '<table><thead><tr><th scope="col" style="text-align:left">feature</th>'
        '<th scope="col" style="text-align:left">strongest tokens in context (activation)</th>'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def hover_map(
    points: np.ndarray,
    tips: Sequence[str],
    colours: Sequence[str],
    title: str,
    width: int = 640,
    height: int = 480,
) -> str:
    """A scatter plot as inline SVG: a browser shows a point's tip when the pointer rests on it.

    Args:
        points: (N, 2), any unit.
        tips: text of each point.
        colours: CSS colour of each point.
        title: says what the picture shows; also its text for screen readers.
        width, height: pixels.

    Returns:
        HTML.
    """
    low, high = points.min(0), points.max(0)
    unit = (points - low) / np.maximum(high - low, 1e-9)  # [0, 1]
    unit[:, 1] = 1 - unit[:, 1]  # the vertical axis of SVG points down
    places = 14 + unit * (np.array([width, height - 24]) - 28)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y + 24:.1f}" r="4" fill="{colour}" fill-opacity="0.8">'
        f"<title>{html.escape(tip)}</title></circle>"
        for (x, y), tip, colour in zip(places, tips, colours, strict=True)
    )
    name = html.escape(title)
    return (
        f'<svg role="img" aria-label="{name}" viewBox="0 0 {width} {height}" '
        f'style="max-width:100%;height:auto" width="{width}" height="{height}">'
        f'<rect width="{width}" height="{height}" fill="#fbfbf8"/>'
        f'<text x="14" y="18" font-size="14" fill="#222">{name}</text>{dots}</svg>'
    )


def clusters(points: np.ndarray, number: int, seed: int = 0) -> np.ndarray:
    """Group the points of a map by k-means, (N, 2) -> (N,), int."""
    from sklearn.cluster import KMeans  # slow to import

    number = min(number, len(points))
    return KMeans(number, n_init=4, random_state=seed).fit_predict(points)


def name_cluster(summaries: Sequence[Summary], top: int = 3) -> str:
    """What the features of a cluster have in common: a label that most share, and some tokens.

    Tokens are those that come first for the most features of the cluster.
    """
    marks: dict[str, int] = {}
    firsts: dict[str, float] = {}
    for summary in summaries:
        for _, name in summary.labels:
            marks[name] = marks.get(name, 0) + 1
        if summary.tokens:
            token = show(summary.tokens[0])
            firsts[token] = firsts.get(token, 0) + summary.share
    shared = [name for name, count in marks.items() if count > len(summaries) / 2]
    tokens = sorted(firsts, key=lambda token: -firsts[token])[:top]
    return (", ".join(shared) or "mixed") + ": " + " ".join(tokens)


def _visible(string: str) -> str:
    return html.escape(string.replace("\n", "⏎"))
