"""The single-plane decoder of the Axial Transformer, and the contexts it is compared with.

Ho et al. 2019 (arXiv:1912.12180), section 3. A plane is one picture of K values a pixel. The
*outer* layers sum up all earlier rows, the *inner* layers go along a row. Beside the paper's
decoder stand three with equally many parameters and another context: rows alone, columns above,
and full attention on all earlier pixels.

Shapes: n or B planes, H W pixels, D channels, K values.
"""

import torch
from torch import Tensor, nn

from gentok.nn.causal import CausalSelfAttention
from gentok.nn.place_head import check_drawable
from gentok.tokens.axial.layers import (
    ALMOST_ZERO,
    COLUMN,
    ROW,
    AxialAttention,
    Block,
    GridPosition,
    init_embedding,
    init_fan_in,
    shift,
)


class PlaneDecoder(nn.Module):
    """p(plane | condition), pixel by pixel in raster order, exactly.

    Args:
        height, width: H and W; ``num_values``: K.
        dim: channels D; ``num_heads`` must divide it.
        outer_layers: blocks over the rows above, an even number: row, column, row, column, ...
        inner_layers: causal row blocks.
        mlp_ratio: hidden width of the MLPs over D; ``dropout``: on every residual branch.

    Raises:
        ValueError: if ``outer_layers`` is odd.
    """

    # Axis and mask of an outer pair. Rows are read whole, to their end: the shift below makes that
    # legal, since by then a row is only ever seen from the rows under it.
    OUTER = ((ROW, False), (COLUMN, True))

    def __init__(
        self,
        height: int,
        width: int,
        num_values: int,
        dim: int,
        num_heads: int,
        outer_layers: int,
        inner_layers: int,
        mlp_ratio: int = 1,
        dropout: float = 0.0,
    ):
        super().__init__()
        if outer_layers % 2:
            raise ValueError(f"outer_layers come in pairs, row and column; got {outer_layers}")
        self.size = (height, width)
        self.num_values = num_values
        self.embedding = nn.Embedding(num_values, dim)
        init_embedding(self.embedding.weight)
        self.position = GridPosition(height, width, dim)

        def block(axis: int, causal: bool) -> Block:
            return Block(AxialAttention(dim, num_heads, axis, causal), dim, mlp_ratio, dropout)

        self.outer = nn.ModuleList(block(*self.OUTER[i % 2]) for i in range(outer_layers))
        self.inner = nn.ModuleList(block(ROW, True) for _ in range(inner_layers))
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.head = nn.Linear(dim, num_values)
        init_fan_in(self.head, ALMOST_ZERO)  # so the first loss is log K

    def forward(self, plane: Tensor, condition: Tensor | float = 0.0) -> Tensor:
        """Logits of every pixel, each from the pixels before it.

        Args:
            plane: (B, H, W) int64 in [0, K).
            condition: what else is known, (B, H, W, D), or 0.

        Returns:
            (B, H, W, K).
        """
        return self.logits(self.embedding(plane), condition)

    def logits(self, h: Tensor, condition: Tensor | float = 0.0) -> Tensor:
        """Logits (B, H, W, K) from the pixels' embeddings h, (B, H, W, D)."""
        where = self.position() + condition
        return self.read(self.along(h, self.above(h, where), where))

    def above(self, h: Tensor, where: Tensor) -> Tensor:
        """Outer layers: at (i, j) a summary of all rows before i, (B, H, W, D)."""
        u = h + where
        for block in self.outer:
            u = block(u)
        return shift(u, COLUMN)

    def along(self, h: Tensor, u: Tensor, where: Tensor) -> Tensor:
        """Inner layers, no mixing between rows: any number of rows, (B, rows, W, D)."""
        # Positions are added after the shift: they name the pixel to predict, not the one read.
        r = shift(h, ROW) + u + where
        for block in self.inner:
            r = block(r)
        return r

    def read(self, features: Tensor) -> Tensor:
        """(..., D) -> logits (..., K)."""
        return self.head(self.norm(features))

    def draw(self, noise: Tensor, condition: Tensor | float, given: Tensor) -> Tensor:
        """Sample a plane: outer layers once a row, inner layers once a pixel, on its row alone.

        Args:
            noise: Gumbel noise times the temperature, (n, H, W, K).
            condition: (n, H, W, D), or 0.
            given: values to keep, (n, H, W) int64, -1 where a pixel is to be drawn.

        Returns:
            (n, H, W) int64 in [0, K).
        """
        plane = given.clamp_min(0)  # pixels not drawn yet are never looked at
        where = (self.position() + condition).expand(len(plane), -1, -1, -1)
        for i in range(plane.shape[1]):
            u = self.above(self.embedding(plane), where)[:, i : i + 1]  # (n, 1, W, D)
            for j in range(plane.shape[2]):
                h = self.embedding(plane[:, i : i + 1])
                r = self.along(h, u, where[:, i : i + 1])  # (n, 1, W, D)
                plane[:, i, j] = choose(self.read(r[:, 0, j]), noise[:, i, j], given[:, i, j])
        return plane


class ColumnDecoder(PlaneDecoder):
    """Outer layers along columns only: the pixels above and to the right are never seen."""

    OUTER = ((COLUMN, True), (COLUMN, True))


class RowDecoder(PlaneDecoder):
    """Inner layers only: every row is drawn as if the others did not exist.

    It has as many layers as the full decoder; they all go along the row.
    """

    def __init__(self, *size: int, outer_layers: int, inner_layers: int, **options):
        super().__init__(*size, outer_layers=0, inner_layers=outer_layers + inner_layers, **options)

    def above(self, h: Tensor, where: Tensor) -> Tensor:
        """Nothing is known of the rows above."""
        return torch.zeros_like(h)


class FullDecoder(PlaneDecoder):
    """Causal attention on all earlier pixels in every layer: the dear alternative.

    One shift by one raster place takes the part of the two shifts.
    """

    def __init__(self, *size: int, outer_layers: int, inner_layers: int, **options):
        super().__init__(*size, outer_layers=0, inner_layers=0, **options)
        *_, dim, num_heads = size
        block_options = {
            name: options[name] for name in ("mlp_ratio", "dropout") if name in options
        }
        self.blocks = nn.ModuleList(
            Block(RasterAttention(dim, num_heads), dim, **block_options)
            for _ in range(outer_layers + inner_layers)
        )

    def logits(self, h: Tensor, condition: Tensor | float = 0.0) -> Tensor:
        """Logits (B, H, W, K) from the pixels' embeddings h, (B, H, W, D)."""
        raster = h.flatten(1, 2)[:, None]  # (B, 1, HW, D): one long row
        r = shift(raster, ROW).view_as(h) + self.position() + condition
        for block in self.blocks:
            r = block(r)
        return self.read(r)

    def draw(self, noise: Tensor, condition: Tensor | float, given: Tensor) -> Tensor:
        """As `PlaneDecoder.draw`, by a full pass for every pixel: there are no parts to save."""
        return draw_naive(self, noise, condition, given)


class LSTMDecoder(PlaneDecoder):
    """The paper's variant: a recurrent network goes along the row, in place of attention.

    The outer layers stay. The paper does not state the LSTM's sizes; here it has as many layers as
    the inner stack and the stream's width D, and what it says is added to the stream.
    """

    def __init__(self, *size: int, inner_layers: int, **options):
        super().__init__(*size, inner_layers=0, **options)
        *_, dim, _ = size
        self.inner_norm = nn.LayerNorm(dim, eps=1e-5)
        self.lstm = nn.LSTM(dim, dim, inner_layers, batch_first=True)

    def along(self, h: Tensor, u: Tensor, where: Tensor) -> Tensor:
        """The LSTM from left to right in every row: any number of rows, (B, rows, W, D)."""
        r = shift(h, ROW) + u + where
        out, _ = self.lstm(self.inner_norm(r).flatten(0, 1))  # (B rows, W, D)
        return r + out.view_as(r)

    def draw(self, noise: Tensor, condition: Tensor | float, given: Tensor) -> Tensor:
        """As `PlaneDecoder.draw`; the state is carried along, so that a pixel costs one step."""
        plane = given.clamp_min(0)
        where = (self.position() + condition).expand(len(plane), -1, -1, -1)
        for i in range(plane.shape[1]):
            stay = self.above(self.embedding(plane), where)[:, i] + where[:, i]  # (n, W, D)
            left, state = torch.zeros_like(stay[:, :1]), None  # nothing is left of the first pixel
            for j in range(plane.shape[2]):
                r = left + stay[:, j : j + 1]  # (n, 1, D)
                out, state = self.lstm(self.inner_norm(r), state)
                logits = self.read(r + out)[:, 0]
                plane[:, i, j] = choose(logits, noise[:, i, j], given[:, i, j])
                left = self.embedding(plane[:, i, j : j + 1])
        return plane


class RasterAttention(CausalSelfAttention):
    """Causal attention over all pixels in raster order, on grids (B, H, W, D)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, D) -> (B, H, W, D)."""
        return super().forward(x.flatten(1, 2)).view_as(x)


def choose(logits: Tensor, noise: Tensor, given: Tensor) -> Tensor:
    """Gumbel-max draw (n,) from logits (n, K), except where a value is given (not -1)."""
    check_drawable(logits)
    return torch.where(given >= 0, given, (logits + noise).argmax(-1))


def draw_naive(
    decoder: PlaneDecoder, noise: Tensor, condition: Tensor | float, given: Tensor
) -> Tensor:
    """Sample a plane by one pass of the whole decoder a pixel; arguments as `PlaneDecoder.draw`."""
    plane = given.clamp_min(0)
    for i in range(plane.shape[1]):
        for j in range(plane.shape[2]):
            logits = decoder(plane, condition)[:, i, j]  # (n, K)
            plane[:, i, j] = choose(logits, noise[:, i, j], given[:, i, j])
    return plane


DECODERS: dict[str, type[PlaneDecoder]] = {
    "axial": PlaneDecoder,
    "lstm": LSTMDecoder,
    "columns": ColumnDecoder,
    "rows": RowDecoder,
    "full": FullDecoder,
}
