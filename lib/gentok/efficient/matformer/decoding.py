"""Speculative decoding with two sizes of one network (MatFormer, arXiv:2310.07707, 4.1).

A small submodel drafts, the largest verifies. Attention is not nested, so keys and values of all
sizes have one shape, and both may share one cache: the verifier overwrites what the draft wrote,
and the draft goes on from the verifier's keys and values ("shared attention cache").

Shapes: N tokens.
"""

import torch
from torch import Tensor

from gentok.efficient.matformer.model import MatLM, Submodel, fresh_context
from gentok.process.speculative import Cached, Speculation, speculate


def predictor(model: MatLM, submodel: Submodel = None, caches: list | None = None) -> Cached:
    """A submodel with caches, new ones if None, as `gentok.process.speculative` takes it."""
    caches = model.new_caches() if caches is None else caches
    return Cached(lambda tokens, held: model(tokens, submodel, held), caches)


def write(
    model: MatLM,
    prompt: Tensor,
    length: int,
    draft: Submodel = "S",
    draft_model: MatLM | None = None,
    shared_cache: bool = True,
    **law,
) -> Speculation:
    """Write ``length`` tokens that follow the law of the whole ``model``.

    When the context is full, a fresh one starts from the last half of it, as in `MatLM.sample`.

    Args:
        model: the verifier, at full width.
        prompt: (N,), int64.
        draft: the submodel that drafts; of ``draft_model`` if given, else of ``model``.
        draft_model: another network with the same vocabulary, for comparison.
        shared_cache: draft and verifier use one cache; only within one model.
        law: ``k``, ``temperature``, ``top_k``, ``top_p`` as `speculate`.

    Raises:
        ValueError: if a cache is to be shared between two models.
    """
    if shared_cache and draft_model is not None:
        raise ValueError("shared_cache: two models have two attentions and cannot share a cache")
    context, tokens, parts = model.config.context, prompt, []
    while (left := length - (len(tokens) - len(prompt))) > 0:
        held, room = fresh_context(tokens, left, context)
        verifier = predictor(model)
        caches = verifier.caches if shared_cache else None
        drafter = predictor(draft_model or model, draft, caches)
        part = speculate(drafter, verifier, held, room, **law)
        parts.append(part)
        tokens = torch.cat([tokens, part.tokens])
    return Speculation(
        torch.cat([part.tokens for part in parts]),
        torch.cat([part.origin for part in parts]),
        sum(part.drafted for part in parts),
        sum(part.accepted for part in parts),
        sum(part.verifier_calls for part in parts),
    )
