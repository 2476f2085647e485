"""A layout as tokens, in the vocabulary of the picture's own codes.

Sortino et al. 2023, code. An object is three tokens: its class, its upper left and its lower right
corner, each corner one number on a grid of n x n places. No token is kept for layouts alone: code
17 of the picture and class 17 share a row of the table, and only the place tells them apart.

Shapes: B layouts, S nodes, T = 3 O + 2 tokens for up to O objects.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LayoutTokens:
    """How layouts are written.

    Args:
        codebook_size: K, of the picture's codes; the last code K - 1 fills places without object.
        max_objects: O. The node of the image and nodes of padding count as objects.

    Raises:
        ValueError: if there is no room for a grid of two places a side.
    """

    codebook_size: int
    max_objects: int

    def __post_init__(self):
        if self.sections < 2 or self.max_objects < 1:
            raise ValueError(
                f"need codebook_size >= 5 and max_objects >= 1, "
                f"got {self.codebook_size} and {self.max_objects}"
            )

    @property
    def sections(self) -> int:
        """n, places a side of the grid: as many as fit below the padding, K = 8192 gives 90."""
        return math.isqrt(self.codebook_size - 1)

    @property
    def padding(self) -> int:
        """The token of a place without object, K - 1; no corner has it."""
        return self.codebook_size - 1

    @property
    def length(self) -> int:
        """T: three tokens an object, and the two corners of the picture."""
        return 3 * self.max_objects + 2

    def corner(self, points: Tensor) -> Tensor:
        """Points (..., 2) as (x, y), clipped to [0, 1] -> tokens (...)."""
        last = self.sections - 1
        x, y = (points.clamp(0, 1) * last).round().long().unbind(-1)
        return y * self.sections + x  # round((n - 1) y) n + round((n - 1) x)

    def point(self, tokens: Tensor) -> Tensor:
        """Middle of what a corner's token stands for: (...) -> (..., 2)."""
        places = torch.stack([tokens % self.sections, tokens // self.sections], -1)
        return places / (self.sections - 1)

    def encode(self, labels: Tensor, boxes: Tensor, order: Tensor | None = None) -> Tensor:
        """Write layouts.

        Args:
            labels: (B, S) int64; ``boxes``: (B, S, 4) in [0, 1].
            order: of the nodes, a permutation (S,), one for the whole batch; None draws it.

        Returns:
            (B, T) int64 in [0, K).

        Raises:
            ValueError: if there are more nodes than O, or a label is no token.
        """
        nodes = labels.shape[1]
        if nodes > self.max_objects:
            raise ValueError(f"labels must have at most {self.max_objects} nodes, got {nodes}")
        if int(labels.min()) < 0 or int(labels.max()) >= self.codebook_size:
            raise ValueError(f"labels must lie in [0, {self.codebook_size})")
        order = torch.randperm(nodes) if order is None else order
        labels, boxes = labels[:, order], boxes[:, order]
        corners = [self.corner(boxes[..., :2]), self.corner(boxes[..., 2:])]
        written = torch.stack([labels, *corners], -1).flatten(1)  # (B, 3 S)
        tokens = labels.new_full((len(labels), self.length), self.padding)
        tokens[:, : written.shape[1]] = written
        tokens[:, -2], tokens[:, -1] = 0, self.sections**2 - 1  # the picture's own box
        return tokens

    def decode(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Read layouts back: (B, T) -> labels (B, O), -1 for padding, and boxes (B, O, 4)."""
        triples = tokens[:, :-2].unflatten(1, (self.max_objects, 3))
        there = (triples != self.padding).all(-1)
        boxes = torch.cat([self.point(triples[..., 1]), self.point(triples[..., 2])], -1)
        return torch.where(there, triples[..., 0], -1), boxes * there[..., None]
