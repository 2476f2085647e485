"""What a nested network offers at inference: mixtures of widths, their cost, their agreement.

MatFormer (Devvrit et al. 2024, arXiv:2310.07707), 3 (Mix'n'Match), 4.1 (consistency) and 4.2
(retrieval). A mixture gives each layer its own granularity; g granularities and l layers make g^l
networks of which only g were trained.

Shapes: B batch, N tokens, D channels, K vocabulary, l layers, g granularities.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise, product

import torch
import torch.nn.functional as F
from torch import Tensor

from gentok.efficient.matformer.model import MatLM, NestedConfig
from gentok.efficient.matformer.nested import ACTIVATIONS

Mixture = tuple[str, ...]  # a granularity for each layer


def uniform(config: NestedConfig) -> list[Mixture]:
    """The granularities that were trained, small to large."""
    return [(name,) * config.depth for name in config.names]


def two_level(config: NestedConfig, adjacent: bool = False) -> list[Mixture]:
    """Mixtures whose early layers have one granularity and whose late layers a larger one.

    Args:
        adjacent: only pairs of neighbouring granularities: the paper's "least slope" rule. Without
            it, pairs far apart are in, too. The uniform mixtures are always in.
    """
    pairs = pairwise(config.names) if adjacent else combinations(config.names, 2)
    mixed = [
        (low,) * early + (high,) * (config.depth - early)
        for low, high in pairs
        for early in range(1, config.depth)
    ]
    return uniform(config) + mixed


def every_mixture(config: NestedConfig) -> list[Mixture]:
    """All g^l mixtures, in the order of `every_loss` flattened."""
    return list(product(config.names, repeat=config.depth))


def least_slope(config: NestedConfig, budget: float) -> Mixture:
    """The largest least-slope mixture whose blocks have at most ``budget`` parameters.

    Raises:
        ValueError: if not even the smallest granularity fits.
    """
    fitting = [m for m in two_level(config, adjacent=True) if block_params(config, m) <= budget]
    if not fitting:
        smallest = block_params(config, uniform(config)[0])
        raise ValueError(f"budget must be at least {smallest} parameters, got {budget}")
    return max(fitting, key=lambda mixture: block_params(config, mixture))


def on_chord(config: NestedConfig, mixture: Mixture, loss_of: Mapping[Mixture, float]) -> float:
    """What a two-level mixture would lose on the line between its trained neighbours.

    The line goes through the uniform networks of its first and of its last granularity, over
    parameters of the blocks.

    Args:
        mixture: early layers of one granularity, late ones of another.
        loss_of: losses of the uniform mixtures, and of any others.

    Raises:
        ValueError: if the mixture is uniform.
    """
    low, high = ((name,) * config.depth for name in (mixture[0], mixture[-1]))
    if low == high:
        raise ValueError(f"mixture must begin and end with two granularities, got {mixture}")
    start, size, end = (block_params(config, each) for each in (low, mixture, high))
    share = (size - start) / (end - start)
    return (1 - share) * loss_of[low] + share * loss_of[high]


def block_params(config: NestedConfig, mixture: str | Sequence[str] | None = None) -> int:
    """Parameters of all blocks: sum over layers of 4 D^2 + 2 D m, biases and norms included.

    Gated layers have a third matrix and no biases.
    """
    d = config.dim
    shared = 4 * d * d + 4 * d + 4 * d  # attention with biases, two norms
    gated = getattr(config, "gated", False)
    return sum(shared + (3 * d * m if gated else 2 * d * m + m + d) for m in config.widths(mixture))


def block_macs(
    config: NestedConfig, mixture: str | Sequence[str] | None = None, tokens: int = 1
) -> int:
    """Multiply-accumulates of all blocks for one sequence of ``tokens`` tokens.

    N (4 D^2 + 2 D m) a layer and 2 N^2 D for attention, counted in full as everywhere in the book.
    """
    d, n = config.dim, tokens
    matrices = 3 if getattr(config, "gated", False) else 2
    return sum(n * (4 * d * d + matrices * d * m) + 2 * n * n * d for m in config.widths(mixture))


@torch.no_grad()
def every_loss(model: MatLM, tokens: Tensor) -> Tensor:
    """Loss of all g^l mixtures on (B, N) tokens, nats: a tensor of l axes of length g.

    Mixtures that begin alike share their first layers: the tree of prefixes has (g^(l+1) - g)/(g-1)
    edges, each one block, where one by one there would be l g^l.
    """
    targets = tokens[:, 1:].flatten()
    granularities = [model.config.widths(name) for name in model.config.names]

    def grow(x: Tensor, layer: int) -> Tensor:
        if layer == len(model.blocks):
            logits = model.logits(model.norm(x)).flatten(0, 1)
            return F.cross_entropy(logits, targets)
        block = model.blocks[layer]
        return torch.stack([grow(block(x, w[layer]), layer + 1) for w in granularities])

    return grow(model.embedding(tokens[:, :-1]), 0)


def consistency(logits: Tensor, reference: Tensor) -> dict[str, float]:
    """How far a small model agrees with a large one that read the same prefixes.

    Args:
        logits: of the small model, (..., K); ``reference``: of the large one.

    Returns:
        agreement: share of places where both find the same token most likely;
        kl: KL(small || large), nats a token;
        overlap: mean of sum_x min(p, q), the chance that a draft is accepted at temperature 1.

    Raises:
        ValueError: if the shapes differ.
    """
    if logits.shape != reference.shape:
        raise ValueError(
            f"need logits of the same places, got {tuple(logits.shape)} and "
            f"{tuple(reference.shape)}"
        )
    q, p = logits.softmax(-1), reference.softmax(-1)
    return {
        "agreement": float((logits.argmax(-1) == reference.argmax(-1)).float().mean()),
        "kl": float(kl_per_token(logits, reference).mean()),
        "overlap": float(torch.minimum(p, q).sum(-1).mean()),
    }


def kl_per_token(logits: Tensor, reference: Tensor) -> Tensor:
    """KL(softmax(logits) || softmax(reference)): (..., K) twice -> (...), nats."""
    log_q, log_p = logits.log_softmax(-1), reference.log_softmax(-1)
    return (log_q.exp() * (log_q - log_p)).sum(-1)


def nearest(queries: Tensor, database: Tensor) -> Tensor:
    """Index of the most similar row by cosine: (Q, D) and (M, D) -> (Q,)."""
    return (F.normalize(queries, dim=-1) @ F.normalize(database, dim=-1).mT).argmax(-1)


def retrieval_accuracy(
    queries: Tensor, query_labels: Tensor, database: Tensor, labels: Tensor
) -> float:
    """Share of queries whose nearest neighbour in the database is of their class."""
    return float((labels[nearest(queries, database)] == query_labels).float().mean())


@torch.no_grad()
def neuron_contributions(model: MatLM, tokens: Tensor) -> Tensor:
    """Size of what each neuron adds to the residual stream: mean |h_i| times |column i|, (l, F).

    Args:
        model: with feed-forward layers that are not gated.
        tokens: (B, N), int64.
    """
    x, out = model.embedding(tokens), []
    for block in model.blocks:
        layer = block.mlp
        h = ACTIVATIONS[layer.activation](layer.up(block.norm2(block.attend(x))))  # (B, N, F)
        out.append(h.abs().mean((0, 1)) * layer.down.weight.norm(dim=0))
        x = block(x)
    return torch.stack(out)
