"""Drawing the next token, and one token after the other: temperature, top-k and top-p.

Fan et al. 2018 (top-k), Holtzman et al. 2020 (top-p).

Guidance acts on logits by `gentok.process.guidance.guide` before they come here.

Shapes: K codes, n texts, P tokens of a prompt; the axes before K are arbitrary.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gentok.nn.place_head import check_drawable
from gentok.process.masked import sample_categorical


def filter_logits(logits: Tensor, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Set the logits of unlikely codes to -inf.

    Args:
        logits: (..., K).
        top_k: how many of the largest to keep at the most, or None; ties with the smallest of them
            stay, too.
        top_p: keep the smallest set of the most likely codes whose probability reaches ``top_p``,
            in (0, 1], or None. With both, top-k comes first and p is a share of what it kept.

    Returns:
        (..., K), at least one entry of each row is finite.

    Raises:
        ValueError: if ``top_k`` is below 1, ``top_p`` is not in (0, 1], or a row has no finite
            logit or a NaN.
    """
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must lie in (0, 1], got {top_p}")
    check_drawable(logits)
    if top_k is not None and top_k < logits.shape[-1]:
        smallest = logits.topk(top_k).values[..., -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    if top_p is not None and top_p < 1:
        probability, order = logits.softmax(-1).sort(-1, descending=True)
        before = probability.cumsum(-1) - probability  # mass of the more likely codes
        drop = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= top_p)
        logits = logits.masked_fill(drop, -torch.inf)
    return logits


def sample_next(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """One code a row from softmax(logits / temperature), filtered.

    Args:
        logits: (..., K).
        temperature: 0 takes the most likely code; 1 leaves the model's own distribution.
        top_k, top_p: see :func:`filter_logits`.

    Returns:
        (...), int64 in [0, K).

    Raises:
        ValueError: if ``temperature`` is negative, or a filter is out of its range.
    """
    if temperature < 0:
        raise ValueError(f"temperature must be at least 0, got {temperature}")
    if temperature == 0:
        check_drawable(logits)
        return logits.argmax(-1)
    return sample_categorical(filter_logits(logits / temperature, top_k, top_p))


@torch.no_grad()
def write_tokens(
    step: Callable[[Tensor], Tensor],
    prompt: Tensor,
    length: int,
    draw: Callable[[Tensor], Tensor] = sample_next,
) -> Tensor:
    """Draw a token, hand it back, draw the next.

    Args:
        step: takes the tokens that it has not seen yet, (n, any), and gives the logits of the token
            after each, (n, any, K); it remembers what came before, as a network with caches does.
        prompt: (n, P) int64, P at least 1.
        length: new tokens, at least 1.
        draw: logits (n, K) to tokens (n,).

    Returns:
        (n, length), int64, without the prompt.

    Raises:
        ValueError: if there is no prompt or nothing to write.
    """
    if prompt.ndim != 2 or not prompt.shape[1] or length < 1:
        raise ValueError(
            f"need a prompt (n, P) with P >= 1 and a length >= 1, "
            f"got {tuple(prompt.shape)} and {length}"
        )
    new, written = prompt, []
    for _ in range(length):
        new = draw(step(new)[:, -1])[:, None]  # (n, 1)
        written.append(new)
    return torch.cat(written, dim=1)
