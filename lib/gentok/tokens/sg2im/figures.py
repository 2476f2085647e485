"""Scene graphs and layouts, drawn."""

import math

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from gentok.data.graph_scenes import LABELS, GraphScenes
from gentok.data.relations import PREDICATES

COLOURS = ("#999999", "#0072B2", "#D55E00", "#009E73")  # of labels, safe for the colour-blind


def draw_graph(ax: Axes, scenes: GraphScenes, index: int) -> None:
    """Objects of a graph in a circle, and one relation of each pair along the line between them."""
    labels = scenes.labels[index].tolist()
    there = [node for node, label in enumerate(labels) if label > 0]
    turn = 2 * math.pi / len(there)
    place = {k: (math.sin(turn * i), math.cos(turn * i)) for i, k in enumerate(there)}
    for subject, said, other in scenes.edges[index].tolist():
        if said < 1 or subject > other:  # the way back says the opposite
            continue
        (x0, y0), (x1, y1) = place[subject], place[other]
        arrow = {"arrowstyle": "->", "color": "#777777", "shrinkA": 15, "shrinkB": 15}
        ax.annotate("", (x1, y1), (x0, y0), arrowprops=arrow)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        middle = ((x0 + x1) / 2, (y0 + y1) / 2)
        ax.text(*middle, PREDICATES[said], ha="center", va="center", fontsize=7.5, bbox=box)
    for node, (x, y) in place.items():
        colour = COLOURS[labels[node]]
        style = {"boxstyle": "round", "facecolor": "white", "edgecolor": colour}
        name = LABELS[labels[node]]
        ax.text(x, y, name, ha="center", va="center", fontsize=8, color=colour, bbox=style)
    ax.set(xlim=(-1.7, 1.7), ylim=(-1.5, 1.5))
    ax.set_axis_off()


def draw_layout(ax: Axes, labels: Tensor, boxes: Tensor) -> None:
    """Boxes (S, 4) in [0, 1] of nodes with labels (S,); the image's and padding are left out."""
    for label, box in zip(labels.tolist(), boxes.tolist(), strict=True):
        if label > 0:
            x, y, width, height = box[0], box[1], box[2] - box[0], box[3] - box[1]
            colour = COLOURS[label]
            ax.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=colour, lw=1.8))
    ax.set(xlim=(0, 1), ylim=(1, 0), aspect="equal", xticks=[], yticks=[])
