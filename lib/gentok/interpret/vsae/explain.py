"""What a feature fires on: its strongest tokens in their contexts, and maps one can point at.

All HTML is self-contained: no script, no style sheet, no picture from elsewhere.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gentok.interpret.vsae.activations import Activations
from gentok.interpret.vsae.bench import features_of
from gentok.interpret.vsae.corpus import Corpus
from gentok.nn.sae import SparseDictionary


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
    row: int,
    column: Tensor,
    acts: Activations,
    corpus: Corpus,
    before: int = 26,
    after: int = 10,
) -> str:
    """The text around an activation as HTML, every token as dark as the feature is strong there.

    Args:
        row: of ``acts``: the token in the middle.
        column: the feature's activations, (M,).
        acts, corpus: where they were read.
        before, after: tokens to show.
    """
    context, place = int(acts.context[row]), int(acts.position[row])
    words = corpus.words(context)
    strongest = float(column.abs().max())
    pieces = []
    for here in range(max(0, place - before), min(len(words), place + after + 1)):
        strength = float(column[row - place + here].abs()) / strongest if here else 0.0
        text = _visible(words[here])
        pieces.append(_mark(text, strength) if strength > 0 else text)
    return "".join(pieces)


def contexts_table(
    columns: dict[str, Tensor], acts: Activations, corpus: Corpus, count: int = 3, folded: str = ""
) -> str:
    """A table: a row a feature, its strongest tokens in context, each as dark as it is strong.

    Args:
        columns: name of a feature to its activations (M,).
        acts, corpus: where they were read.
        count: contexts a feature.
        folded: if given, the table is folded away behind these words.

    Returns:
        HTML.
    """
    rows = []
    for name, column in columns.items():
        contexts = "<br>".join(
            f"<code>{in_context(row, column, acts, corpus)}</code>"
            for row in top_contexts(column, acts, count)
        )
        rows.append(
            f'<tr><th scope="row" style="text-align:left">{html.escape(name)}</th>'
            f'<td style="text-align:left">{contexts}</td></tr>'
        )
    table = (
        '<table><thead><tr><th scope="col" style="text-align:left">feature</th>'
        '<th scope="col" style="text-align:left">text it has never seen; dark: it fires</th>'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )
    if not folded:
        return table
    return f"<details><summary>{html.escape(folded)}</summary>{table}</details>"


def write_features(
    sae: SparseDictionary, acts: Activations, corpus: Corpus, out: Path, n: int, seed: int
) -> None:
    """Write what ``n`` features fire on, as plain text, the firing token in double brackets.

    Args:
        sae: the dictionary.
        acts, corpus: what it reads.
        out: file to write.
        n: features, drawn among those that fire.
        seed: draws them.
    """
    features = features_of(sae, acts)
    summaries = list(summarise(features, acts, corpus).values())
    order = torch.randperm(len(summaries), generator=torch.Generator().manual_seed(seed))
    lines = [f"{len(summaries)} of {features.shape[1]} features fire on {len(acts)} tokens", ""]
    for index in order[:n].tolist():
        summary = summaries[index]
        lines.append(f"{summary}, fires on {summary.density:.2%} of tokens")
        for row in top_contexts(features[:, summary.feature], acts):
            words = corpus.words(int(acts.context[row]))
            place = int(acts.position[row])
            around = "".join(words[max(0, place - 26) : place]), words[place]
            lines.append(f"    {show(around[0])}[[{show(around[1])}]]")
    Path(out).write_text("\n".join(lines) + "\n", encoding="utf-8")


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


def _mark(text: str, strength: float) -> str:
    """Black letters on an orange that is darker the stronger; legible on any page."""
    light = round(235 - 95 * strength)
    return f'<mark style="background:rgb(255,{light},{light - 75});color:#111">{text}</mark>'
