"""Whether layouts and pictures do what their graphs say.

Shapes: n scenes, S nodes, E edges, M samples of a graph, C colours.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from gentok.base.vqgan import VQGAN
from gentok.data.graph_scenes import PALETTE, GraphScenes
from gentok.data.relations import DIRECTIONS, IN_IMAGE, opposite, relate
from gentok.measure.detect_boxes import detect_boxes, find_nodes
from gentok.nn.latents import evaluating
from gentok.process.autoregressive import sample_next
from gentok.tokens.sg2im.boxes import overlap
from gentok.tokens.sg2im.generator import SMALL_DRAW
from gentok.tokens.sg2im.layout import SGTransformer, graphs_of
from gentok.tokens.sg2im.model import SG2Im


def stated(edges: Tensor) -> Tensor:
    """Edges (n, E, 3) that say something of two objects, no padding, not "in image": (n, E)."""
    return edges[..., 1] > IN_IMAGE


def obeyed(
    edges: Tensor, boxes: Tensor, centres: Tensor | None = None, present: Tensor | None = None
) -> Tensor:
    """Which edges hold of boxes.

    Args:
        edges: (n, E, 3); ``boxes``: of the nodes, (n, S, 4).
        centres: of the nodes, (n, S, 2), where they are known better than as middles of boxes.
        present: which nodes there are, (n, S); what is absent obeys nothing.

    Returns:
        (n, E) bool; False where nothing is stated.
    """
    rows = torch.arange(len(edges))[:, None]
    subject, other = edges[..., 0].clamp_min(0), edges[..., 2].clamp_min(0)
    middles = () if centres is None else (centres[rows, subject], centres[rows, other])
    found = relate(boxes[rows, subject], boxes[rows, other], *middles)
    holds = (found == edges[..., 1]) & stated(edges)
    if present is not None:
        holds &= present[rows, subject] & present[rows, other]
    return holds


def turned(scenes: GraphScenes) -> GraphScenes:
    """Every relation replaced by its opposite, from both ends, so that the graph agrees."""
    said = scenes.edges[..., 1]
    said = torch.where(stated(scenes.edges), opposite(said.clamp_min(0)), said)
    edges = torch.stack([scenes.edges[..., 0], said, scenes.edges[..., 2]], -1)
    return replace(scenes, edges=edges)


def muted(scenes: GraphScenes) -> GraphScenes:
    """Scenes in whose graphs every edge says the same."""
    edges = torch.where(scenes.edges < 0, -1, scenes.edges * torch.tensor([1, 0, 1]))
    return replace(scenes, edges=edges)


@torch.no_grad()
def predict(
    model: SGTransformer, scenes: GraphScenes, signs: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Boxes (n, S, 4) in [0, 1] and logits; signs of the positions are all 1 if not given."""
    signs = torch.ones(model.config.position_dim) if signs is None else signs
    with evaluating(model):
        boxes, logits = model(graphs_of(scenes, model.config), signs)
    return boxes.clamp(0, 1), logits


def measure_layouts(
    model: SGTransformer, scenes: GraphScenes, constant: bool = False
) -> dict[str, float]:
    """Relations that predicted boxes obey, overlap with true boxes, and what becomes of opposites.

    Args:
        model: is asked.
        scenes: hold the answers.
        constant: ask with graphs in which every edge says the same.

    Returns:
        ``directions`` and ``nesting``: share of stated relations of either kind that are obeyed;
        ``two`` and ``three``: directions in scenes of so many objects; ``overlap`` of objects, and
        ``off``, the mean absolute error of an object's box; ``size``: its
        sides over the true ones; ``spread``: standard deviation of
        predicted centres; ``label``: accuracy; in scenes of two objects with all relations turned
        into their opposites ``turned`` and ``stale``: share of new and of old ones obeyed.
    """
    heard = muted if constant else (lambda graphs: graphs)
    boxes, logits = predict(model, heard(scenes))
    holds, asks = obeyed(scenes.edges, boxes), stated(scenes.edges)
    sideways = asks & (scenes.edges[..., 1] <= max(DIRECTIONS))
    real, many = scenes.labels > 0, scenes.num_objects[:, None] > 2
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    few = scenes[~many[:, 0] & ~(asks & ~sideways).any(1)]
    other = turned(few)
    anew, _ = predict(model, heard(other))
    found = {
        "directions": holds[sideways],
        "nesting": holds[asks & ~sideways],
        "two": holds[sideways & ~many],
        "three": holds[sideways & many],
        "overlap": overlap(boxes, scenes.boxes)[real],
        "off": (boxes - scenes.boxes).abs().mean(-1)[real],
        "size": (_sides(boxes) / _sides(scenes.boxes))[real],
        "label": (logits.argmax(-1) == scenes.labels)[real],
        "turned": obeyed(other.edges, anew)[stated(other.edges)],
        "stale": obeyed(few.edges, anew)[stated(few.edges)],
    }
    means = {name: float(values.float().mean()) for name, values in found.items()}
    return means | {"spread": float(centres[real].std(0).mean())}


def _sides(boxes: Tensor) -> Tensor:
    """Mean of width and height: (..., 4) -> (...)."""
    return (boxes[..., 2:] - boxes[..., :2]).mean(-1)


def measure_pictures(images: Tensor, scenes: GraphScenes) -> dict[str, float]:
    """What a detector reads off pictures of graphs.

    Args:
        images: (n, 3, H, W) in [-1, 1], one for each scene; ``scenes``: their graphs.

    Returns:
        ``relations``: share of stated relations that are obeyed, an absent object obeys none;
        ``directions`` and ``nesting``, of either kind; ``objects``: share that are there;
        ``all``: share of pictures in which everything stated holds.
    """
    present, boxes, centres, _ = find_nodes(detect_boxes(images), scenes.labels)
    holds, asks = obeyed(scenes.edges, boxes, centres, present), stated(scenes.edges)
    sideways = asks & (scenes.edges[..., 1] <= max(DIRECTIONS))
    found = {
        "relations": holds[asks],
        "directions": holds[sideways],
        "nesting": holds[asks & ~sideways],
        "objects": present[scenes.labels > 0],
        "all": (holds | ~asks).all(1),
    }
    return {name: float(values.float().mean()) for name, values in found.items()}


def colours_of(images: Tensor, scenes: GraphScenes) -> Tensor:
    """Index into PALETTE of each node's colour in pictures, (n, S) int64; -1 where none is seen."""
    return find_nodes(detect_boxes(images), scenes.labels)[3]


def entropy_of(colours: Tensor) -> float:
    """Mean entropy of an object's colour over samples of one graph.

    Args:
        colours: (M, graphs, S), -1 where there is none.

    Returns:
        nats, over the objects that are seen in half of the samples or more.
    """
    counts = torch.nn.functional.one_hot(colours.clamp_min(0), len(PALETTE)).float()
    counts = (counts * (colours >= 0)[..., None]).sum(0)  # (graphs, S, C)
    total = counts.sum(-1, keepdim=True)
    share = counts / total.clamp_min(1)
    seen = total[..., 0] >= len(colours) / 2
    return float(torch.special.entr(share).sum(-1)[seen].mean())


def swapped(scenes: GraphScenes) -> Tensor:
    """For each scene another one of equally many objects, (n,): padding tells their number."""
    other = torch.arange(len(scenes))
    for count in scenes.num_objects.unique():
        same = (scenes.num_objects == count).nonzero()[:, 0]
        other[same] = same.roll(1)
    return other


@torch.no_grad()
def measure_codes(
    model: SG2Im,
    tokenizer: VQGAN,
    scenes: GraphScenes,
    codes: Tensor,
    draws: int = 16,
    seed: int = 0,
) -> dict[str, float]:
    """How well codes are predicted behind true layouts, and what the drawn pictures show.

    Layouts are true ones, in the order of the nodes; the arm that learned without any is asked
    without any.

    Args:
        model: is asked; ``tokenizer``: decodes.
        scenes: n, that the model did not see; ``codes``: theirs, (n, N).
        draws: pictures of each of the first graphs, as many graphs, for the entropy of colours.
        seed: of the sampler.

    Returns:
        ``nats`` a code under the scene's layout, ``other`` under that of another scene of as many
        objects; ``relations`` and ``objects`` of drawn pictures, ``greedy``: relations where each
        code is the most likely one; ``entropy`` of an object's colour over pictures of one layout,
        ``enough``: 0.8 of that in the data.
    """
    layouts = "none" if model.config.layouts == "none" else "true"
    graphs = graphs_of(scenes, model.config.graph)
    order = torch.arange(scenes.labels.shape[1])
    with evaluating(model):
        written = model.write(graphs, layouts, order)
        found = {
            "nats": float(model.image.nats(written, codes).mean()),
            "other": float(model.image.nats(written[swapped(scenes)], codes).mean()),
        }

        def drawn(tokens: Tensor, draw: Callable[[Tensor], Tensor] = SMALL_DRAW) -> Tensor:
            return tokenizer.decode(model.image.sample(len(tokens), tokens, draw))

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            seen = measure_pictures(drawn(written), scenes)
            again = torch.arange(min(draws, len(scenes))).repeat(draws)
            colours = colours_of(drawn(written[again]), scenes[again])
        likely = drawn(written, lambda logits: sample_next(logits, temperature=0))
    found |= {"relations": seen["relations"], "objects": seen["objects"]}
    found["greedy"] = measure_pictures(likely, scenes)["relations"]
    found["entropy"] = entropy_of(colours.unflatten(0, (draws, -1)))
    return found | {"enough": 0.8 * math.log(len(PALETTE))}
