"""Transformer-based image generation from scene graphs: graph, layout, codes, picture.

Sortino et al. 2023 (arXiv:2303.04634). A graph transformer lays the graph out; a decoder-only
transformer draws the codes of a picture behind the layout's tokens; a frozen tokenizer decodes.

Shapes: B graphs, S nodes, N codes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gentok.nn.latents import evaluating
from gentok.nn.player import Player
from gentok.tokens.sg2im.generator import PUBLISHED_DRAW, ImageConfig, ImageGPT
from gentok.tokens.sg2im.layout import GraphConfig, SGTransformer

LAYOUTS = ("predicted", "true", "none")


@dataclass(frozen=True)
class SG2ImConfig:
    """Both transformers.

    Args:
        graph, image: their sizes.
        layouts: what the image transformer learns behind: ``"predicted"`` layouts, ``"true"`` ones
            (an option of the authors' code; the graph transformer then rests), or ``"none"``,
            padding alone, for comparison.
        published_params: of both together.
    """

    graph: GraphConfig
    image: ImageConfig
    layouts: str = "predicted"
    published_params: int | None = None

    def __post_init__(self):
        if self.layouts not in LAYOUTS:
            raise ValueError(f"layouts must be one of {LAYOUTS}, got {self.layouts!r}")


class SG2Im(nn.Module):
    """The two transformers. A layout is integers, so no gradient of a picture reaches it."""

    def __init__(self, config: SG2ImConfig):
        super().__init__()
        self.config = config
        self.layout = SGTransformer(config.graph)
        self.image = ImageGPT(config.image)

    def players(self) -> list[Player]:
        """Each transformer with its own loss and optimiser; the image's alone on true layouts."""
        image = Player("image", list(self.image.parameters()), self.image_loss)
        if self.config.layouts != "predicted":
            return [image]
        layout = Player("layout", list(self.layout.parameters()), self.layout_loss)
        return [layout, image]

    def loss(self, batch: dict[str, Tensor], step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of both players' losses; arguments as for `image_loss`."""
        layout, parts = self.layout_loss(batch, step)
        image, more = self.image_loss(batch, step)
        return layout + image, parts | more

    def layout_loss(
        self, batch: dict[str, Tensor], step: int = 0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """`SGTransformer.joint_loss`."""
        return self.layout.joint_loss(batch)

    def image_loss(
        self, batch: dict[str, Tensor], step: int = 0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean cross-entropy of the codes behind the layout's tokens.

        Args:
            batch: graphs as `SGTransformer.loss` takes them, and ``codes`` (B, N) int64.
            step: not used.
        """
        tokens = self.write(batch, self.config.layouts)
        nats = self.image.nats(tokens, batch["codes"]).mean()
        return nats, {"codes": nats.detach()}

    @torch.no_grad()
    def lay_out(self, graphs: dict[str, Tensor], signs: Tensor | None = None) -> tuple:
        """Predicted labels (B, S) int64 and boxes (B, S, 4) in [0, 1]."""
        with evaluating(self.layout):
            boxes, logits = self.layout(graphs, signs)
        return logits.argmax(-1), boxes.clamp(0, 1)

    def write(
        self,
        graphs: dict[str, Tensor],
        layouts: str = "predicted",
        order: Tensor | None = None,
        signs: Tensor | None = None,
    ) -> Tensor:
        """Tokens (B, T) of graphs' layouts.

        Args:
            graphs: as `SGTransformer.forward` takes them, with ``boxes`` for true layouts.
            layouts: ``"predicted"``, ``"true"`` or ``"none"``.
            order: of the nodes, (S,); None draws it, also at inference.
            signs: see `SGTransformer.forward`.
        """
        tokens = self.config.image.tokens
        labels, boxes = graphs["labels"], graphs.get("boxes")
        if labels.is_meta:
            return labels.new_zeros(len(labels), tokens.length)
        if layouts == "predicted":
            labels, boxes = self.lay_out(graphs, signs)
        written = tokens.encode(labels, boxes, order)
        return torch.full_like(written, tokens.padding) if layouts == "none" else written

    @torch.no_grad()
    def sample(
        self,
        n: int,
        graphs: dict[str, Tensor],
        draw: Callable[[Tensor], Tensor] = PUBLISHED_DRAW,
        **written,
    ) -> Tensor:
        """Draw codes (n, N) for ``n`` graphs; ``written`` are arguments of `write`."""
        with evaluating(self.image):
            return self.image.sample(n, self.write(graphs, **written), draw)


# --- presets --------------------------------------------------------------------------------------

_SCENES = GraphConfig(
    num_labels=4,
    num_predicates=7,
    dim=64,
    num_layers=3,
    num_heads=4,
    dropout=0.0,
    position_dim=4,
    symmetric=True,
)
_PICTURES = ImageConfig(
    codebook_size=100,  # nine places a side of a layout: the grid of the scenes
    num_codes=64,
    max_objects=4,
    dim=96,
    num_layers=3,
    num_heads=4,
    dropout=0.0,
)
_GPT = ImageConfig(published_params=339_159_744)
_COCO = GraphConfig(num_labels=184, num_predicates=7, published_params=100_146_044)
_VG = GraphConfig(num_labels=179, num_predicates=46, published_params=100_170_231)

PRESETS: dict[str, SG2ImConfig] = {
    # Scenes of two or three shapes: the chapter and its study, ...
    "tiny": SG2ImConfig(_SCENES, _PICTURES, layouts="true"),
    # ... and the book's weights, whose graphs have edges back from the image. The overlap term,
    # which makes boxes larger where their place is not certain, is left out.
    "scenes-32": SG2ImConfig(
        replace(_SCENES, back_edges=True, overlap_weight=0.0), _PICTURES, layouts="true"
    ),
    # The authors' code. Visual Genome's vocabularies are those of the counted configuration; what
    # CLEVR's were is not known, so its labels are all 96 kinds of object, and the image.
    "coco": SG2ImConfig(_COCO, _GPT, published_params=439_305_788),
    "visual-genome": SG2ImConfig(_VG, _GPT, published_params=439_329_975),
    "clevr": SG2ImConfig(GraphConfig(num_labels=97, num_predicates=5), _GPT),
}


def build(config: SG2ImConfig) -> SG2Im:
    """Both transformers of a configuration, untrained."""
    return SG2Im(config)


def example(config: SG2ImConfig, batch_size: int = 1, device: str = "meta") -> dict[str, Tensor]:
    """A batch of the right shapes that ``loss`` takes: S nodes, all "in image"."""
    nodes, image = min(config.image.max_objects, 9), config.image
    edges = torch.zeros(batch_size, nodes - 1, 3, dtype=torch.int64)
    edges[..., 0] = torch.arange(1, nodes)
    boxes = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(batch_size, nodes, 4)
    batch = {
        "labels": torch.zeros(batch_size, nodes, dtype=torch.int64),
        "boxes": boxes.clone(),
        "edges": edges,
        "positions": torch.zeros(batch_size, nodes, config.graph.position_dim),
        "codes": torch.zeros(batch_size, image.num_codes, dtype=torch.int64),
    }
    return {name: tensor.to(device) for name, tensor in batch.items()}
