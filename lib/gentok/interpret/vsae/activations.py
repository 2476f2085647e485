"""Activations of a language model, as a sparse autoencoder trains on them.

Shapes: N contexts, T tokens a context, D width; M = N (T - 1) activations.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gentok.base.language_model import ResidualModel, residual_stream
from gentok.interpret.vsae.corpus import Corpus


@dataclass(frozen=True)
class Activations:
    """The residual stream after one layer over a corpus, without the first token of each context.

    Args:
        x: activations in units of ``scale``, (M, D); mean squared norm about 1.
        scale: root mean square norm of the raw activations.
        token: the token at which each was read, (M,), int64.
        context: index of its context in the corpus, (M,), int64.
        position: its place in that context, from 1, (M,), int64.
        labels: name to class at each, (M,), int64, -1 where a label does not apply.
    """

    x: Tensor
    scale: float
    token: Tensor
    context: Tensor
    position: Tensor
    labels: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.x)


def collect(
    model: ResidualModel, corpus: Corpus, layer: int, scale: float | None = None
) -> Activations:
    """Run a corpus through a language model and keep its residual stream after a layer.

    The first position of a context is left out: it sees no text, and its activation is an outlier.

    Args:
        model: the language model.
        corpus: contexts made with the model's own tokenizer.
        layer: block, from 0.
        scale: what to divide by; measured on these activations if None. Test activations take the
            scale of the training ones.

    Raises:
        ValueError: if the corpus holds tokens outside the model's vocabulary, or the layer is
            unknown.
    """
    vocabulary = model.vocab_size
    if int(corpus.tokens.max()) >= vocabulary:
        raise ValueError(f"corpus holds token {int(corpus.tokens.max())}, model has {vocabulary}")
    stream = residual_stream(model, corpus.tokens, layer)[:, 1:]  # (N, T - 1, D)
    contexts, length, dim = stream.shape
    x = stream.reshape(-1, dim)
    if scale is None:
        scale = float(x.square().sum(-1).mean().sqrt())
    return Activations(
        x=x / scale,
        scale=scale,
        token=corpus.tokens[:, 1:].flatten(),
        context=torch.arange(contexts).repeat_interleave(length),
        position=torch.arange(1, length + 1).repeat(contexts),
        labels={name: values[:, 1:].flatten() for name, values in corpus.labels.items()},
    )


def pick(labels: Tensor, count: int, seed: int = 0) -> Tensor:
    """Indices of ``count`` activations to which a label applies, in a random but fixed order.

    Args:
        labels: (M,), -1 where the label does not apply.
        count: how many; all that apply if there are fewer.
    """
    applies = (labels >= 0).nonzero()[:, 0]
    order = torch.randperm(len(applies), generator=torch.Generator().manual_seed(seed))
    return applies[order[:count]]


def pick_evenly(groups: Tensor, count: int, seed: int = 0) -> Tensor:
    """Indices with about equally many of each group, ``count`` in all; group -1 is left out.

    A group with fewer members than its share gives all it has.
    """
    present = [int(group) for group in groups.unique() if group >= 0]
    share = -(-count // len(present))
    chosen = [
        pick(torch.where(groups == group, group, -1), share, seed + number)
        for number, group in enumerate(present)
    ]
    return torch.cat(chosen)
