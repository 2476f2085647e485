"""Attention along the edges of a graph, in which an edge has a say of its own.

The graph transformer with edge features of Dwivedi and Bresson 2020 (arXiv:2012.09699, section
2.3), as the authors of the system use it: post-norm, batch norm, streams of nodes and of edges.

Shapes: M nodes and L edges of all graphs of a batch, D channels, h heads, d = D / h.
"""

import torch
from torch import Tensor, nn

LIMIT = 5.0  # of an exponent
EPSILON = 1e-6


class EdgeAttention(nn.Module):
    """A node gathers from nodes that point at it; each edge scales the score channel by channel.

    An edge acts on a node through the *weights* of what arrives alone. Where a single edge arrives,
    its weight is 1 whatever it says: the predicate of an only edge does not reach its object.
    """

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.edge = nn.Linear(dim, dim, bias=False)

    def forward(
        self, h: Tensor, e: Tensor, source: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            h: nodes, (M, D); ``e``: edges, (L, D).
            source, target: node at the start and the end of each edge, (L,) int64.

        Returns:
            what each node gathers, (M, D), zero where no edge arrives; the scores, (L, D).
        """
        q, k, v = (layer(h).unflatten(-1, (self.num_heads, -1)) for layer in self.maps)
        says = self.edge(e).unflatten(-1, (self.num_heads, -1))  # (L, h, d)
        # s = (K h_j * Q h_i) / sqrt(d) * W_E e_ji, elementwise: a vector, no dot product
        score = k[source] * q[target] * k.shape[-1] ** -0.5 * says  # (L, h, d)
        weight = score.sum(-1, keepdim=True).clamp(-LIMIT, LIMIT).exp()  # (L, h, 1)
        gathered = torch.zeros_like(v).index_add(0, target, weight * v[source])  # (M, h, d)
        total = weight.new_zeros(len(h), self.num_heads, 1).index_add(0, target, weight)
        return (gathered / (total + EPSILON)).flatten(1), score.flatten(1)

    @property
    def maps(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """To queries, keys and values."""
        return self.query, self.key, self.value


class MeanAggregation(EdgeAttention):
    """A graph convolution of equally many parameters: the mean of neighbour and edge, added.

    What Johnson et al. 2018 do, reduced to its core: an edge is part of the message. Queries only
    feed the stream of edges.
    """

    def forward(
        self, h: Tensor, e: Tensor, source: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `EdgeAttention`."""
        q, k, v = (layer(h) for layer in self.maps)  # (M, D) each
        message = v[source] + self.edge(e)  # (L, D)
        gathered = torch.zeros_like(v).index_add(0, target, message)
        count = h.new_zeros(len(h), 1).index_add(0, target, h.new_ones(len(target), 1))
        return gathered / count.clamp_min(1), k[source] * q[target] * self.edge(e)


class PostNorm(nn.Module):
    """Projection, residual and norm, then an MLP with the same: for nodes, and again for edges."""

    def __init__(self, dim: int, dropout: float):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.proj = nn.Linear(dim, dim)
        self.norm1 = nn.BatchNorm1d(dim)
        self.fc1 = nn.Linear(dim, 2 * dim)
        self.fc2 = nn.Linear(2 * dim, dim)
        self.norm2 = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor, gathered: Tensor) -> Tensor:
        """(rows, D), (rows, D) -> (rows, D); rows are those of all graphs, padding included."""
        x = self.norm1(x + self.proj(self.drop(gathered)))
        return self.norm2(x + self.fc2(self.drop(torch.relu(self.fc1(x)))))


class GraphLayer(nn.Module):
    """Attention along edges, then both streams' own layers.

    Args:
        dim: channels D; ``num_heads``, a divisor of D.
        dropout: on what is gathered and inside the MLPs.
        aggregation: ``"attention"``, or ``"mean"`` for the rival.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float, aggregation: str = "attention"):
        super().__init__()
        self.attention = AGGREGATIONS[aggregation](dim, num_heads)
        self.nodes = PostNorm(dim, dropout)
        self.edges = PostNorm(dim, dropout)

    def forward(
        self, h: Tensor, e: Tensor, source: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Nodes (M, D) and edges (L, D), as `EdgeAttention`; returns both anew."""
        gathered, score = self.attention(h, e, source, target)
        return self.nodes(h, gathered), self.edges(e, score)


AGGREGATIONS = {"attention": EdgeAttention, "mean": MeanAggregation}
