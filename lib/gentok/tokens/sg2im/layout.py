"""SGTransformer: from a scene graph to a layout, a box and a class for every node.

Sortino et al. 2023 (arXiv:2303.04634) and its code.

Shapes: B graphs, S nodes, E edges, P position channels, D channels, C labels.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.data.graph_scenes import GraphScenes
from gentok.data.relations import IN_IMAGE
from gentok.tokens.sg2im.attention import AGGREGATIONS, GraphLayer
from gentok.tokens.sg2im.boxes import complete_overlap_loss
from gentok.tokens.sg2im.laplacian import laplacian_positions


@dataclass(frozen=True)
class GraphConfig:
    """Sizes of the graph transformer.

    Args:
        num_labels: C, the image's 0 included; ``num_predicates``: the image's 0 included.
        dim: D; ``num_layers`` of ``num_heads`` heads; ``dropout``.
        position_dim: P, eigenvectors of the Laplacian.
        symmetric: take those of the graph with edges in both directions.
        back_edges: let the image's node answer every object, which the paper's graph does not:
            then at least two edges arrive at an object, and a predicate can act on it.
        aggregation: ``"attention"``, or ``"mean"`` for the rival without it.
        overlap_weight: of the complete overlap loss in the first stage; 0 for none.
        published_params: where the authors' code gives a count.
    """

    num_labels: int
    num_predicates: int
    dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    dropout: float = 0.1
    position_dim: int = 32
    symmetric: bool = False
    back_edges: bool = False
    aggregation: str = "attention"
    overlap_weight: float = 1.0
    published_params: int | None = None

    def __post_init__(self):
        if self.dim % self.num_heads or self.dim % 4:
            raise ValueError(
                f"dim must be a multiple of 4 and of num_heads={self.num_heads}, got {self.dim}"
            )
        if self.aggregation not in AGGREGATIONS:
            raise ValueError(
                f"aggregation must be one of {tuple(AGGREGATIONS)}, got {self.aggregation!r}"
            )


class SGTransformer(nn.Module):
    """Layers of attention along edges between two tables and two heads."""

    def __init__(self, config: GraphConfig):
        super().__init__()
        self.config = config
        dim = config.dim
        self.labels = nn.Embedding(config.num_labels, dim)
        self.predicates = nn.Embedding(config.num_predicates, dim)
        self.position = nn.Linear(config.position_dim, dim)
        self.drop = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(
            GraphLayer(dim, config.num_heads, config.dropout, config.aggregation)
            for _ in range(config.num_layers)
        )
        half, quarter, gelu = dim // 2, dim // 4, nn.GELU
        self.box_head = nn.Sequential(
            nn.Linear(dim, half), gelu(), nn.Linear(half, quarter), gelu(),
            nn.Linear(quarter, 4), nn.SiLU(),
        )  # fmt: skip
        # The last GELU, on the logits, is the authors' code's.
        self.label_head = nn.Sequential(
            nn.Linear(dim, half), gelu(), nn.Linear(half, config.num_labels), gelu()
        )
        for layer in (*self.box_head, *self.label_head):
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_uniform_(layer.weight)
        # Ours: boxes start inside the picture. A coordinate that starts below 0 everywhere is
        # clipped before the loss, gets no gradient, and never comes back.
        nn.init.constant_(self.box_head[-2].bias, 0.5)

    def forward(self, graphs: dict[str, Tensor], signs: Tensor | None = None) -> tuple:
        """Lay out graphs.

        Args:
            graphs: ``labels`` (B, S) int64; ``edges`` (B, E, 3) int64, rows of -1 for padding;
                ``positions`` (B, S, P).
            signs: of the positions' columns, (P,); None draws them, one for the whole batch, in
                training and out of it, since an eigenvector has none of its own.

        Returns:
            boxes (B, S, 4), about [0, 1]; logits of labels (B, S, C).

        Raises:
            ValueError: if a label, predicate or node is out of range.
        """
        labels, edges = graphs["labels"], graphs["edges"]
        self.check(labels, edges)
        if self.config.back_edges:
            edges = with_back_edges(edges)
        e, source, target = self.flat_edges(edges, labels.shape[1])
        if signs is None:
            signs = torch.randint(0, 2, (self.config.position_dim,), device=labels.device) * 2 - 1
        h = self.drop(self.labels(labels)) + self.position(graphs["positions"] * signs)
        h = h.flatten(0, 1)  # (B, S, D) -> (B S, D)
        for layer in self.layers:
            h, e = layer(h, e, source, target)
        h = h.unflatten(0, labels.shape)  # (B, S, D)
        return self.box_head(h), self.label_head(h)

    def flat_edges(self, edges: Tensor, num_nodes: int) -> tuple[Tensor, Tensor, Tensor]:
        """Edges of all graphs in one row, without padding: features (L, D), sources, targets (L,).

        Nodes count through the batch: node s of graph b is b S + s.
        """
        first = torch.arange(len(edges), device=edges.device)[:, None] * num_nodes
        source, predicate, target = edges[..., 0] + first, edges[..., 1], edges[..., 2] + first
        # A tensor without numbers (on the meta device) has no padding to leave out.
        valid = edges[..., 0] >= 0 if not edges.is_meta else slice(None)
        rows = (part[valid].flatten() for part in (predicate, source, target))
        predicate, source, target = rows
        return self.predicates(predicate), source, target

    def check(self, labels: Tensor, edges: Tensor) -> None:
        """ValueError unless labels, predicates and nodes are in range."""
        if edges.ndim != 3 or edges.shape[-1] != 3 or labels.ndim != 2:
            raise ValueError(
                f"need labels (B, S) and edges (B, E, 3), "
                f"got {tuple(labels.shape)} and {tuple(edges.shape)}"
            )
        if labels.is_meta:
            return
        bounds = {"labels": (labels, self.config.num_labels)}
        bounds["predicates"] = (edges[..., 1], self.config.num_predicates)
        bounds["nodes"] = (edges[..., ::2], labels.shape[1])
        for name, (values, bound) in bounds.items():
            low = -1 if name != "labels" else 0
            if values.numel() and not low <= int(values.min()) <= int(values.max()) < bound:
                raise ValueError(
                    f"{name} must lie in [0, {bound}), "
                    f"got {int(values.min())} to {int(values.max())}"
                )

    def loss(self, batch: dict[str, Tensor], step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error and complete overlap of boxes, cross-entropy of labels, weight 1 each.

        The loss of the first stage. Boxes are clipped to [0, 1] before. All nodes count, the
        image's and padding too, as in the authors' code.

        Args:
            batch: graphs as for `forward`, and ``boxes`` (B, S, 4) in [0, 1].
            step: not used.
        """
        boxes, logits = self(batch)
        boxes = boxes.clamp(0, 1)
        parts = {
            "squared": F.mse_loss(boxes, batch["boxes"]),
            "overlap": complete_overlap_loss(boxes, batch["boxes"]).mean(),
            "label": F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten()),
        }
        total = parts["squared"] + self.config.overlap_weight * parts["overlap"] + parts["label"]
        return total, {name: value.detach() for name, value in parts.items()}

    def joint_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """10 x absolute error + cross-entropy + complete overlap, of boxes as they are.

        The layout's own loss in the joint stage; arguments as for `loss`.
        """
        boxes, logits = self(batch)
        absolute = F.l1_loss(boxes, batch["boxes"])
        overlap = complete_overlap_loss(boxes, batch["boxes"]).mean()
        label = F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())
        parts = {"absolute": absolute, "overlap": overlap, "label": label}
        return 10 * absolute + label + overlap, {k: v.detach() for k, v in parts.items()}


def with_back_edges(edges: Tensor) -> Tensor:
    """To every edge "in image" one that returns: (B, E, 3) -> (B, 2 E, 3), padded."""
    back = torch.where(edges[..., 1:2] == IN_IMAGE, edges.flip(-1), -1)
    return torch.cat([edges, back], 1)


def graphs_of(scenes: GraphScenes, config: GraphConfig) -> dict[str, Tensor]:
    """What `SGTransformer` reads and learns of scenes: labels, boxes, edges and positions."""
    size = scenes.labels.shape[1]
    positions = laplacian_positions(scenes.edges, size, config.position_dim, config.symmetric)
    return {
        "labels": scenes.labels,
        "boxes": scenes.boxes,
        "edges": scenes.edges,
        "positions": positions,
    }
