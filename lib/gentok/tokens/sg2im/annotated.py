"""Pictures with annotated objects, as batches of pictures and scene graphs.

What the readers of `readers` find is kept as lists; a batch reads its pictures, draws the triples
where a set has none, and pads.

Shapes: B batch, S nodes, E edges.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gentok.data.imageset import generator, to_float
from gentok.data.pictures import read_picture
from gentok.data.relations import IN_IMAGE, relate
from gentok.tokens.sg2im.laplacian import laplacian_positions
from gentok.tokens.sg2im.layout import GraphConfig

Triple = tuple[int, int, int]  # subject, predicate, object: places in the list of objects


@dataclass(frozen=True)
class Annotated:
    """One picture.

    Attributes:
        path: of the picture.
        labels: of its objects, from 1 up.
        boxes: (x0, y0, x1, y1) in [0, 1], one an object.
        centres: (x, y) in [0, 1], one an object.
        triples: what is stated; None where it is drawn at every access.
    """

    path: Path
    labels: list[int]
    boxes: list[tuple[float, float, float, float]]
    centres: list[tuple[float, float]]
    triples: list[Triple] | None = None


@dataclass(frozen=True)
class AnnotatedSet:
    """A set of pictures and its words.

    Attributes:
        items: the pictures.
        labels, predicates: names, by number; number 0 is the image and "in image".
    """

    items: list[Annotated]
    labels: dict[int, str]
    predicates: dict[int, str]

    @property
    def num_labels(self) -> int:
        """Rows of a table of labels: numbers may have gaps."""
        return max(self.labels) + 1

    @property
    def num_predicates(self) -> int:
        """Rows of a table of predicates."""
        return max(self.predicates) + 1


def drawn_triples(item: Annotated, rng: torch.Generator) -> list[Triple]:
    """For each object one other, and what holds between the two; a coin says who is the subject."""
    count, triples = len(item.labels), []
    boxes, centres = torch.tensor(item.boxes), torch.tensor(item.centres)
    for first in range(count if count > 1 else 0):
        shift = int(torch.randint(1, count, (), generator=rng))
        pair = (first, (first + shift) % count)
        a, b = pair if torch.rand((), generator=rng) < 0.5 else pair[::-1]
        said = relate(boxes[a], boxes[b], centres[a], centres[b])
        triples.append((a, int(said), b))
    return triples


class AnnotatedBatches:
    """Batches as a pure function of the step: pictures and graphs.

    Args:
        found: the set.
        size: pixels of a side; pictures are squashed to it, as in the authors' code.
        batch_size: B; ``seed``: of order and triples.
        config: of the graph transformer that reads the graphs.

    Raises:
        ValueError: if the set is empty, or its words do not fit the transformer's tables.
    """

    def __init__(
        self, found: AnnotatedSet, size: int, batch_size: int, seed: int, config: GraphConfig
    ):
        if not found.items:
            raise ValueError("no picture of the set passes the rules")
        words = (found.num_labels, found.num_predicates)
        room = (config.num_labels, config.num_predicates)
        if words[0] > room[0] or words[1] > room[1]:
            raise ValueError(f"the set has {words} labels and predicates, the model takes {room}")
        self.found, self.size, self.batch_size = found, size, batch_size
        self.seed, self.config = seed, config

    def __call__(self, step: int) -> dict[str, Tensor]:
        """``image`` (B, 3, H, W) in [-1, 1], and a graph's tensors (`gentok.data.GraphScenes`)."""
        rng, items = generator(self.seed, step, 43), self.found.items
        chosen = torch.randint(len(items), (self.batch_size,), generator=rng).tolist()
        picked = [items[i] for i in chosen]
        images = torch.stack([self.pixels(item.path) for item in picked])
        return {"image": to_float(images), **self.graphs(picked, rng)}

    def pixels(self, path: Path) -> Tensor:
        """A picture squashed to a square, (3, H, W) uint8."""
        squashed = read_picture(path).resize((self.size, self.size), resample=2)  # bilinear
        return torch.from_numpy(np.array(squashed)).permute(2, 0, 1)

    def graphs(self, items: list[Annotated], rng: torch.Generator) -> dict[str, Tensor]:
        """Padded graphs; the image is each graph's first node, and every object points at it."""
        nodes = 1 + max(len(item.labels) for item in items)
        labels = torch.zeros(len(items), nodes, dtype=torch.int64)
        boxes = torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(len(items), nodes, 1)
        rows = []
        for i, item in enumerate(items):
            count = len(item.labels)
            labels[i, 1 : count + 1] = torch.tensor(item.labels)
            boxes[i, 1 : count + 1] = torch.tensor(item.boxes)
            triples = drawn_triples(item, rng) if item.triples is None else item.triples
            within = [(node, IN_IMAGE, 0) for node in range(1, count + 1)]
            rows.append(within + [(a + 1, said, b + 1) for a, said, b in triples])
        edges = torch.full((len(items), max(map(len, rows)), 3), -1)
        for i, row in enumerate(rows):
            edges[i, : len(row)] = torch.tensor(row)
        width, symmetric = self.config.position_dim, self.config.symmetric
        positions = laplacian_positions(edges, nodes, width, symmetric)
        return {"labels": labels, "boxes": boxes, "edges": edges, "positions": positions}
