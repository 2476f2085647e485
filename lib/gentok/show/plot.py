"""Figures of the book, one look for all chapters.

Every figure has a title and axes with units, and an opaque light background, so that it reads the
same on a light and on a dark page. Colours come from seaborn's colour-blind-safe palette, and no
figure tells things apart by colour alone: lines differ in dash, points in marker.

Shapes: B images, C channels (1 or 3), H W pixels.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogFormatter
from torch import Tensor

from gentok.data import to_uint8
from gentok.measure import radial_power_spectrum
from gentok.measure.intervals import mean_interval
from gentok.nn.wavelet import haar2d

PAPER = "#fbfaf6"  # background of every figure
INK = "#222222"
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = "osD^vP*Xp<>h"
ROW_INCHES = 0.62  # height of one picture in a grid
BAND_TITLES = ("LL / 2", "LH: rows differ", "HL: columns differ", "HH: diagonals differ")


class PlainNumbers(LogFormatter):
    """Labels of a logarithmic axis as 0.4 and not as 4 x 10^-1, at the ticks that get one."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """The label of the tick at ``x``, or nothing."""
        return f"{x:g}" if super().__call__(x, pos) else ""


def use_style() -> None:
    """Set the book's look for all figures that follow."""
    look = {
        "figure.facecolor": PAPER,
        "axes.facecolor": PAPER,
        "savefig.facecolor": PAPER,
        "savefig.transparent": False,
        "figure.dpi": 110,
        "savefig.dpi": 110,
        "figure.constrained_layout.use": True,
        "image.interpolation": "nearest",
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.edgecolor": "#888888",
        "grid.color": "#dddad0",
        "axes.titlesize": 12,
        "axes.titleweight": "bold",
        "legend.frameon": False,
    }
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind", rc=look)


def image_grid(
    images: Tensor,
    title: str = "",
    columns: int = 8,
    captions: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Images side by side, row after row.

    Args:
        images: (B, C, H, W), float in [-1, 1] (clipped) or uint8.
        title: of the figure.
        columns: images in a row.
        captions: a word below each image.
        ax: axes to draw in; a new figure of fitting size if None.

    Raises:
        ValueError: if the images have another shape, or the captions another number.
    """
    pictures = _pictures(images)  # (B, H, W, 3)
    if captions is not None and len(captions) != len(pictures):
        raise ValueError(f"need {len(pictures)} captions, one an image, got {len(captions)}")
    count, height, width, _ = pictures.shape
    columns = min(columns, count)
    gap = max(1, width // 16)
    below = gap if captions is None else gap + round(0.34 * height)
    canvas, corners = _tile(pictures, columns, gap, below)
    ax = _show(canvas, -(-count // columns) * (1 if captions is None else 1.3), ax)
    for (top, left), caption in zip(corners, captions or (), strict=False):
        ax.text(left + width / 2, top + height + 1, caption, ha="center", va="top", fontsize=8)
    ax.set_axis_off()
    ax.set_title(title)
    return ax


def compare_rows(
    rows: Mapping[str, Tensor], title: str = "", count: int = 10, ax: Axes | None = None
) -> Axes:
    """Rows of images with their names on the left: column by column the same picture.

    Args:
        rows: name to images (B, C, H, W), all of one size, float in [-1, 1] or uint8.
        title: of the figure.
        count: images to show of each row, from the first.
        ax: axes to draw in; a new figure of fitting size if None.

    Raises:
        ValueError: if there are no rows, or their images differ in shape.
    """
    pictures = [_pictures(images[:count]) for images in rows.values()]
    shapes = {name: picture.shape for name, picture in zip(rows, pictures, strict=True)}
    if len(set(shapes.values())) != 1:
        raise ValueError(f"rows must hold equally many images of one size, got {shapes}")
    shown, height, width, _ = pictures[0].shape
    gap = max(1, width // 16)
    canvas, corners = _tile(np.concatenate(pictures), shown, gap, gap)
    ax = _show(canvas, len(pictures), ax)
    ax.set_yticks([top + height / 2 for top, _ in corners[::shown]], list(rows))
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.grid(False)
    sns.despine(ax=ax, left=True, bottom=True)
    ax.set_title(title)
    return ax


def bands(images: Tensor | Mapping[str, Tensor], title: str = "Haar bands") -> Figure:
    """An image and its four Haar bands as pictures; several images as named rows.

    The low band is divided by 2 and so has the range of the image. Grey is 0 in the other three,
    and one factor makes all of them visible; it is the first row's, so that rows compare.

    Args:
        images: one image (C, H, W) in [-1, 1], or name to image.
        title: of the figure.

    Raises:
        ValueError: if an image is not (C, H, W) with even H and W.
    """
    rows = images if isinstance(images, Mapping) else {"": images}
    split = {name: haar2d(image.detach().cpu().float()[None]) for name, image in rows.items()}
    first = next(iter(split.values()))[1]
    # The largest hundredth of the coefficients may clip: a single edge would darken the rest.
    gain = 1 / max(float(first.abs().flatten().quantile(0.99)), 1e-6)
    figure, axes = plt.subplots(
        len(rows), 5, figsize=(8.2, 1.58 * len(rows) + 0.62), squeeze=False, layout="constrained"
    )
    for line, (name, (low, high)) in zip(axes, split.items(), strict=True):
        parts = [rows[name][None], low / 2, *(gain * high).chunk(3, dim=1)]
        for ax, part in zip(line, parts, strict=True):
            ax.imshow(_pictures(part)[0])
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(name)
    for ax, name in zip(axes[0], ("image", *BAND_TITLES), strict=True):
        ax.set_title(name, fontsize=9, fontweight="normal")
    figure.suptitle(f"{title} (details × {gain:.1f})", fontsize=12, fontweight="bold")
    return figure


def loss_curves(
    history: pd.DataFrame | Sequence[Mapping[str, float]] | Mapping[str, Any],
    title: str = "Training loss",
    parts: Sequence[str] | None = None,
    ylabel: str = "loss",
    ax: Axes | None = None,
) -> Axes:
    """Losses against the optimiser step: each value faint, their running mean in front.

    Args:
        history: rows of ``step`` and named losses, as `gentok.training.fit` keeps them; or run name
            to such rows, to compare runs.
        title: of the figure.
        parts: columns to draw; all but the step, the time and the learning rate if None.
        ylabel: of the vertical axis, with the unit; logarithmic where all values are positive.
        ax: axes to draw in; a new figure if None.

    Raises:
        ValueError: if the history is empty or lacks a part.
    """
    runs = history if isinstance(history, Mapping) else {"": history}
    ax = _axes(ax)
    lines, lowest = 0, np.inf
    for name, rows in runs.items():
        frame = pd.DataFrame(rows)
        if frame.empty or "step" not in frame:
            raise ValueError("history must hold rows with a column 'step'")
        known = [column for column in frame if column not in ("step", "seconds", "lr")]
        if missing := set(parts or ()) - set(known):
            raise ValueError(f"history has no {sorted(missing)}; it has {known}")
        for part in parts or known:
            colour, dash = f"C{lines % 10}", DASHES[lines % len(DASHES)]
            values = frame[part].astype(float)
            smooth = values.rolling(max(1, len(values) // 20), min_periods=1).mean()
            ax.plot(frame["step"], values, color=colour, alpha=0.25, linewidth=1)
            label = f"{name}: {part}" if name and len(parts or known) > 1 else name or part
            ax.plot(frame["step"], smooth, color=colour, linestyle=dash, label=label)
            lines, lowest = lines + 1, min(lowest, values.min())
    if lowest > 0:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(PlainNumbers(minor_thresholds=(1.5, 0.5)))
        ax.yaxis.set_minor_formatter(PlainNumbers(minor_thresholds=(1.5, 0.5)))
    ax.set(title=title, xlabel="optimiser step", ylabel=ylabel)
    _legend(ax, lines)
    return ax


def spectra(
    images: Mapping[str, Tensor | tuple[Tensor, Tensor]],
    title: str = "Radial power spectrum",
    ax: Axes | None = None,
) -> Axes:
    """Power against spatial frequency, both logarithmic; the mean (frequency 0) is left out.

    Args:
        images: name to images or residuals (B, C, H, W), or to the (frequencies, power) that
            `gentok.measure.radial_power_spectrum` gave for them.
        title: of the figure.
        ax: axes to draw in; a new figure if None.
    """
    ax = _axes(ax)
    for line, (name, value) in enumerate(images.items()):
        frequencies, power = value if isinstance(value, tuple) else radial_power_spectrum(value)
        frequencies, power = torch.as_tensor(frequencies).cpu(), torch.as_tensor(power).cpu()
        ax.plot(frequencies[1:], power[1:], linestyle=DASHES[line % len(DASHES)], label=name)
    ax.set(xscale="log", yscale="log", title=title)
    ax.set(xlabel="spatial frequency (cycles per pixel)", ylabel="power (squared pixel value)")
    ax.set_xticks([1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2], ["1/32", "1/16", "1/8", "1/4", "1/2"])
    ax.set_xticks([], minor=True)
    _legend(ax, len(images))
    return ax


def intervals(
    runs: pd.DataFrame,
    metric: str,
    title: str = "",
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Each variant's mean over seeds with its 95 % t interval, and every seed as a small ring.

    Args:
        runs: a row per (variant, seed), as `gentok.book.study.Study.ablate` returns.
        metric: the column to draw.
        title: of the figure; names the metric if empty.
        label: of the horizontal axis, with the unit; the metric's name if None.
        ax: axes to draw in; a new figure of fitting height if None.

    Raises:
        ValueError: if ``metric`` or ``variant`` is not a column.
    """
    if missing := {"variant", metric} - set(runs.columns):
        raise ValueError(f"runs have no {sorted(missing)}; their columns: {list(runs.columns)}")
    variants = list(dict.fromkeys(runs["variant"]))
    ax = _axes(ax, height=0.9 + 0.42 * len(variants))
    for row, variant in enumerate(variants):
        values = runs.loc[runs["variant"] == variant, metric].astype(float).dropna()
        if values.empty:
            continue
        colour, (mean, half) = f"C{row % 10}", mean_interval(values.to_list())
        ax.plot(values, [row + 0.22] * len(values), "o", mfc="none", color=colour, ms=4, alpha=0.8)
        half = half if np.isfinite(half) else 0.0  # one seed has no interval
        marker = MARKERS[row % len(MARKERS)]
        ax.errorbar(mean, row, xerr=half, fmt=marker, color=colour, capsize=4, elinewidth=2, ms=7)
    ax.set_yticks(range(len(variants)), variants)
    ax.set_ylim(len(variants) - 0.4, -0.6)  # the first variant on top
    ax.grid(axis="y", visible=False)
    seeds = runs.groupby("variant")[metric].count().max()
    interval = "mean and 95 % interval over seeds; rings: single seeds" if seeds > 1 else "one seed"
    ax.set_title(title or metric)
    ax.set_xlabel(f"{label or metric}\n{interval}", fontsize=10)
    return ax


def scatter(
    points: np.ndarray | Tensor,
    labels: Sequence[int] | np.ndarray | Tensor | None = None,
    names: Sequence[str] | None = None,
    notes: Mapping[int, str] | None = None,
    title: str = "t-SNE map",
    axis_name: str = "t-SNE axis",
    ax: Axes | None = None,
) -> Axes:
    """Points on a plane, by class in colour and marker, and some of them with a note.

    Args:
        points: (N, 2).
        labels: class of each point, (N,), integers; one class if None.
        names: name of each class, for the legend.
        notes: point number to the words beside it (what a feature fires on, say).
        title: of the figure.
        axis_name: what the two axes are; t-SNE's have no unit.
        ax: axes to draw in; a new square figure if None.

    Raises:
        ValueError: if the points are not (N, 2) or the labels not (N,).
    """
    points = np.asarray(points.detach().cpu() if isinstance(points, Tensor) else points)
    labels = np.zeros(len(points), int) if labels is None else np.asarray(labels)
    if points.ndim != 2 or points.shape[1] != 2 or labels.shape != points.shape[:1]:
        raise ValueError(f"need points (N, 2), labels (N,); got {points.shape}, {labels.shape}")
    ax = _axes(ax, width=6.4, height=5.0)
    size = float(np.clip(6000 / max(len(points), 1), 6, 40))  # square points
    look = {"s": size, "alpha": 0.75, "linewidths": 0}
    classes = np.unique(labels)
    for label, marker in zip(classes, cycle(MARKERS), strict=False):
        chosen = points[labels == label]
        name = names[label] if names is not None else str(label)
        colour = f"C{int(label) % 10}"
        ax.scatter(chosen[:, 0], chosen[:, 1], marker=marker, color=colour, label=name, **look)
    for turn, (index, words) in enumerate((notes or {}).items()):
        x, y = points[index]
        offset = (6, 4) if turn % 2 == 0 else (6, -11)  # two near points rarely share a line
        halo = [withStroke(linewidth=2.5, foreground=PAPER)]
        ax.plot(x, y, "o", mfc="none", mec=INK, ms=7)
        ax.annotate(
            words, (x, y), offset, textcoords="offset points", fontsize=8, path_effects=halo
        )
    ax.set(title=title, xlabel=f"{axis_name} 1 (no unit)", ylabel=f"{axis_name} 2 (no unit)")
    ax.tick_params(labelbottom=False, labelleft=False)
    if len(classes) > 1:
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=40 / size / 2 + 0.5)
    return ax


def _pictures(images: Tensor) -> np.ndarray:
    """(B, C, H, W) float in [-1, 1] or uint8 -> (B, H, W, 3) uint8."""
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise ValueError(f"images must be (B, 1 or 3, H, W), got {tuple(images.shape)}")
    images = images.detach().cpu()
    images = images if images.dtype == torch.uint8 else to_uint8(images.float())
    return images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()


def _tile(
    pictures: np.ndarray, columns: int, gap: int, below: int
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Lay pictures (B, H, W, 3) on one canvas; also the top left corner of each."""
    count, height, width, _ = pictures.shape
    rows = -(-count // columns)
    paper = np.array([int(PAPER[i : i + 2], 16) for i in (1, 3, 5)], np.uint8)
    shape = (rows * (height + below) - gap * (below == gap), columns * (width + gap) - gap, 3)
    canvas = np.broadcast_to(paper, shape).copy()
    places = [divmod(i, columns) for i in range(count)]
    corners = [(row * (height + below), column * (width + gap)) for row, column in places]
    for (top, left), picture in zip(corners, pictures, strict=True):
        canvas[top : top + height, left : left + width] = picture
    return canvas, corners


def _show(canvas: np.ndarray, rows: float, ax: Axes | None) -> Axes:
    """Draw a canvas; a new figure gets the height its rows need, at most 8.2 inches of width."""
    aspect = canvas.shape[1] / canvas.shape[0]
    height = min(ROW_INCHES * 1.2 * rows, 7.6 / aspect)
    ax = _axes(ax, width=max(height * aspect + 0.4, 3.0), height=height + 0.5)
    ax.imshow(canvas)
    return ax


def _axes(ax: Axes | None, width: float = 6.4, height: float = 3.6) -> Axes:
    if ax is not None:
        return ax
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def _legend(ax: Axes, lines: int) -> None:
    if lines > 1:
        ax.legend()
