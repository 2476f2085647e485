"""Scene graphs to images: a graph transformer lays out, a GPT draws the codes of the picture."""

from gentok.tokens.sg2im.annotated import Annotated, AnnotatedBatches, AnnotatedSet
from gentok.tokens.sg2im.attention import EdgeAttention, GraphLayer, MeanAggregation
from gentok.tokens.sg2im.boxes import complete_overlap_loss, overlap
from gentok.tokens.sg2im.figures import draw_graph, draw_layout
from gentok.tokens.sg2im.generator import ImageConfig, ImageGPT
from gentok.tokens.sg2im.laplacian import laplacian_positions
from gentok.tokens.sg2im.layout import GraphConfig, SGTransformer, graphs_of, with_back_edges
from gentok.tokens.sg2im.model import PRESETS, SG2Im, SG2ImConfig, build, example
from gentok.tokens.sg2im.pipeline import ScenePipeline
from gentok.tokens.sg2im.readout import (
    colours_of,
    entropy_of,
    measure_codes,
    measure_layouts,
    measure_pictures,
    muted,
    obeyed,
    predict,
    stated,
    swapped,
    turned,
)
from gentok.tokens.sg2im.tokens import LayoutTokens

__all__ = [
    "PRESETS",
    "Annotated",
    "AnnotatedBatches",
    "AnnotatedSet",
    "EdgeAttention",
    "GraphConfig",
    "GraphLayer",
    "ImageConfig",
    "ImageGPT",
    "LayoutTokens",
    "MeanAggregation",
    "SG2Im",
    "SG2ImConfig",
    "SGTransformer",
    "ScenePipeline",
    "build",
    "colours_of",
    "complete_overlap_loss",
    "draw_graph",
    "draw_layout",
    "entropy_of",
    "example",
    "graphs_of",
    "laplacian_positions",
    "measure_codes",
    "measure_layouts",
    "measure_pictures",
    "muted",
    "obeyed",
    "overlap",
    "predict",
    "stated",
    "swapped",
    "turned",
    "with_back_edges",
]
