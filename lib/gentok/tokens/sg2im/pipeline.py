"""The whole way from a graph to a picture: tokenizer, layout and codes as one thing.

Shapes: n graphs, S nodes, H = W pixels.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gentok.base.vqgan import VQGAN
from gentok.data.graph_scenes import GraphScenes
from gentok.nn.latents import evaluating
from gentok.tokens.sg2im.generator import SMALL_DRAW
from gentok.tokens.sg2im.layout import graphs_of
from gentok.tokens.sg2im.model import SG2Im


class ScenePipeline(nn.Module):
    """What a reader of trained weights gets: scenes in, layouts and pictures out.

    Raises:
        ValueError: if tokenizer and generator differ in the codes.
    """

    def __init__(self, tokenizer: VQGAN, generator: SG2Im):
        super().__init__()
        mine, theirs = generator.config.image, tokenizer.config
        if (mine.codebook_size, mine.num_codes) != (theirs.codebook_size, theirs.grid**2):
            raise ValueError(
                f"the tokenizer writes {theirs.grid**2} of {theirs.codebook_size} codes, "
                f"the generator {mine.num_codes} of {mine.codebook_size}"
            )
        self.tokenizer, self.generator = tokenizer, generator

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Images (n, 3, H, W) in [-1, 1] -> codes (n, N)."""
        return torch.cat([self.tokenizer.encode(part) for part in x.split(256)])

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes (n, N) -> images (n, 3, H, W), about [-1, 1]."""
        with evaluating(self.tokenizer):
            return torch.cat([self.tokenizer.decode(part) for part in codes.split(256)])

    def lay_out(self, scenes: GraphScenes, signs: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Predicted labels (n, S) and boxes (n, S, 4) in [0, 1]; see `SGTransformer.forward`."""
        return self.generator.lay_out(graphs_of(scenes, self.generator.config.graph), signs)

    @torch.no_grad()
    def sample(
        self, scenes: GraphScenes, draw: Callable[[Tensor], Tensor] = SMALL_DRAW, **written
    ) -> Tensor:
        """Draw a picture for every scene's graph.

        Args:
            scenes: n graphs; their pictures and boxes are not looked at, unless layouts are true.
            draw: logits (n, K) to choices (n,). The published top-k of 100, of 8,192 codes, would
                leave all of a small codebook; `SMALL_DRAW` keeps 5.
            written: see `SG2Im.write`: ``layouts``, ``order``, ``signs``.

        Returns:
            images (n, 3, H, W), about [-1, 1].
        """
        graphs = graphs_of(scenes, self.generator.config.graph)
        return self.decode(self.generator.sample(len(scenes), graphs, draw, **written))
