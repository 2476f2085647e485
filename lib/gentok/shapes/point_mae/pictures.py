"""Pictures of point clouds: three-dimensional scatter plots with equal axes.

Shapes: P points, (x, y, z) with z up.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.axes3d import Axes3D
from torch import Tensor

from gentok.shapes.point_mae.model import Reconstruction

GIVEN, FILLED, TRUE = "#0173b2", "#de8f05", "#222222"
VIEW = {"elev": 20.0, "azim": -60.0}
Points = Tensor | np.ndarray


def draw_cloud(
    axes: Axes3D,
    points: Points,
    colour: str | Sequence | np.ndarray = "C0",
    title: str = "",
    reach: float = 0.8,
    size: float = 5.0,
    marker: str = "o",
) -> None:
    """Draw a cloud (P, 3) in axes with ``projection="3d"``, all three axes at one scale.

    Args:
        colour: of all points, or one for each.
        title: above the picture.
        reach: the axes run from -reach to reach; larger clouds stick out of the box.
        size: of a point, in square points of the page; ``marker``: its form.
    """
    points = np.asarray(points)
    axes.scatter(*points.T, c=colour, s=size, marker=marker, depthshade=True, linewidths=0)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-reach, reach))
    axes.set_box_aspect((1, 1, 1), zoom=1.3)
    axes.view_init(**VIEW)
    axes.set_axis_off()
    if title:
        axes.set_title(title, fontsize=9, fontweight="normal", y=1.04)


def cloud_grid(
    rows: Mapping[str, Sequence[Points]],
    title: str,
    colours: Mapping[str, Sequence] | None = None,
    captions: Sequence[str] | None = None,
    reach: float = 0.8,
    size: float = 5.0,
) -> Figure:
    """Rows of clouds with their names on the left: column by column the same object.

    Args:
        rows: name to clouds, each (P, 3).
        title: of the figure.
        colours: for each row, a colour or the colours of the points of each of its clouds.
        captions: a word above each column.

    Raises:
        ValueError: if the rows differ in length or there are none.
    """
    lengths = {len(clouds) for clouds in rows.values()}
    if len(lengths) != 1:
        raise ValueError(f"rows need equally many clouds, got {sorted(lengths)}")
    columns = lengths.pop()
    size_inches = (0.9 + 1.32 * columns, 0.5 + 1.32 * len(rows))
    figure, axes = plt.subplots(
        len(rows), columns, figsize=size_inches, subplot_kw={"projection": "3d"}, squeeze=False
    )
    for line, (name, clouds) in enumerate(rows.items()):
        for column, cloud in enumerate(clouds):
            colour = "C0" if colours is None else colours[name][column]
            words = captions[column] if captions is not None and line == 0 else ""
            draw_cloud(axes[line, column], cloud, colour, words, reach, size)
        axes[line, 0].text2D(
            -0.08, 0.5, name, transform=axes[line, 0].transAxes, ha="right", va="center", fontsize=9
        )
    figure.suptitle(title, fontsize=12, fontweight="bold")
    return figure


def reconstruction_grid(
    seen: Reconstruction,
    truth: Tensor,
    title: str,
    captions: Sequence[str] | None = None,
    size: float = 3.0,
) -> Figure:
    """Clouds, a column each: the visible patches, what was filled in (orange), the truth.

    Args:
        seen: of clouds (B, P, 3); ``truth``: these clouds.
        title, captions, size: as for `cloud_grid`.
    """
    given, filled = (part.detach().flatten(1, 2) for part in (seen.visible, seen.predicted))
    two = [GIVEN] * given.shape[1] + [FILLED] * filled.shape[1]
    count = len(truth)
    rows = {"visible": given, "filled in": torch.cat([given, filled], dim=1), "truth": truth}
    colours = {"visible": [GIVEN] * count, "filled in": [two] * count, "truth": [TRUE] * count}
    return cloud_grid(rows, title, colours, captions, size=size)
