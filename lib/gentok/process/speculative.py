"""Speculative decoding: a cheap model drafts, a good one verifies (Leviathan et al. 2023, 2.3).

The draft proposes k tokens one after the other; the verifier looks at all of them in one pass. Each
is kept or refused at random in such a way that the tokens written follow the verifier's own law,
exactly, whatever the draft is like. A bad draft costs time and never quality.

Models come as *predictors*: objects with ``extend(tokens)``, which adds tokens (1, n) and returns
their next-token logits (1, n, K); ``len``, how many tokens they hold; and ``truncate(length)``,
which takes refused tokens back. `Cached` makes one from a network with key-value caches, `Prefix`
from any function of the whole prefix.

Shapes: B batch, k drafted tokens, K codes, N tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from gentok.nn.causal import KVCache
from gentok.nn.place_head import check_drawable
from gentok.process.autoregressive import filter_logits

ACCEPTED, CORRECTED, BONUS = 0, 1, 2  # who wrote a token


class Predictor(Protocol):
    """What `speculate` asks of a model."""

    def extend(self, tokens: Tensor) -> Tensor:
        """New tokens (1, n) -> logits of the token after each of them, (1, n, K)."""

    def truncate(self, length: int) -> None:
        """Forget all tokens after the first ``length``."""

    def __len__(self) -> int: ...


class Cached:
    """A network with key-value caches as a predictor.

    Two predictors may be given the same caches if their attention layers are the same: then what
    the verifier computed is what the draft goes on from (MatFormer's shared attention cache).

    Args:
        network: ``network(tokens (1, n), caches) -> logits (1, n, K)``; appends to the caches.
        caches: one a layer, all of equal length.
    """

    def __init__(
        self, network: Callable[[Tensor, Sequence[KVCache]], Tensor], caches: Sequence[KVCache]
    ):
        self.network = network
        self.caches = caches

    def __len__(self) -> int:
        return len(self.caches[0])

    def extend(self, tokens: Tensor) -> Tensor:
        """Tokens (1, n) -> (1, n, K)."""
        return self.network(tokens, self.caches)

    def truncate(self, length: int) -> None:
        """Forget all tokens after the first ``length``."""
        for cache in self.caches:
            cache.truncate(length)


class Prefix:
    """Any function from a prefix (1, N) to the logits at all its places (1, N, K); no cache."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        self.function = function
        self.tokens = torch.empty(1, 0, dtype=torch.int64)

    def __len__(self) -> int:
        return self.tokens.shape[1]

    def extend(self, tokens: Tensor) -> Tensor:
        """Tokens (1, n) -> (1, n, K)."""
        self.tokens = torch.cat([self.tokens.to(tokens.device), tokens], dim=1)
        return self.function(self.tokens)[:, -tokens.shape[1] :]

    def truncate(self, length: int) -> None:
        """Forget all tokens after the first ``length``."""
        self.tokens = self.tokens[:, :length]


@dataclass
class Speculation:
    """What `speculate` wrote, and how.

    Args:
        tokens: the new tokens, (N,), int64.
        origin: (N,): 0 an accepted draft, 1 the verifier's correction of a refused draft, 2 the
            token that the verifier adds when all drafts of a round were accepted.
        drafted: tokens proposed and verified; ``accepted``: of these, how many were kept.
        verifier_calls: passes of the verifier.
    """

    tokens: Tensor
    origin: Tensor
    drafted: int
    accepted: int
    verifier_calls: int

    @property
    def acceptance(self) -> float:
        """Share of accepted among the drafts up to the first refused one of each round.

        Drafts behind a refused one are never judged, so they do not count in ``drafted``.
        """
        return self.accepted / max(self.drafted, 1)

    @property
    def tokens_per_call(self) -> float:
        """New tokens for each pass of the verifier; plain decoding has 1."""
        return len(self.tokens) / max(self.verifier_calls, 1)


def next_distribution(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """Probabilities of the next token as the sampler uses them.

    Args:
        logits: (..., K).
        temperature: 0 puts all mass on the most likely code, so that sampling is greedy.
        top_k, top_p: see `gentok.process.autoregressive.filter_logits`.

    Returns:
        (..., K), rows sum to 1.

    Raises:
        ValueError: if the temperature is negative or a filter out of range.
    """
    if temperature < 0:
        raise ValueError(f"temperature must be at least 0, got {temperature}")
    if temperature == 0:
        check_drawable(logits)
        return F.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
    return filter_logits(logits / temperature, top_k, top_p).softmax(-1)


def verify(drafts: Tensor, draft_law: Tensor, verifier_law: Tensor) -> tuple[Tensor, Tensor]:
    """Accept a prefix of the drafts and draw the token after it.

    A draft x with probabilities q(x) of the draft model and p(x) of the verifier is accepted with
    probability min(1, p/q). The first refused one is replaced by a draw from the residual law,
    proportional to max(p - q, 0); if none is refused, one more token comes from p.

    Args:
        drafts: (B, k), int64, each drawn from its row of ``draft_law``.
        draft_law: q, (B, k, K); ``verifier_law``: p, (B, k + 1, K), the last for the extra token.

    Returns:
        Number of accepted drafts (B,) in [0, k], and the token that follows them (B,).

    Raises:
        ValueError: if shapes do not fit.
    """
    batch, k = drafts.shape
    if draft_law.shape[:2] != (batch, k) or verifier_law.shape[:2] != (batch, k + 1):
        raise ValueError(
            f"need laws (B, k, K) and (B, k + 1, K) for drafts {tuple(drafts.shape)}, "
            f"got {tuple(draft_law.shape)} and {tuple(verifier_law.shape)}"
        )
    chosen = drafts[..., None]
    p = verifier_law[:, :k].gather(-1, chosen).squeeze(-1)  # (B, k)
    q = draft_law.gather(-1, chosen).squeeze(-1)
    kept = torch.rand_like(p) * q < p  # u < p / q without the division
    accepted = kept.long().cumprod(-1).sum(-1)  # (B,): up to the first refusal
    # Behind the last draft there is nothing to subtract: the residual there is p itself.
    residual = (verifier_law - F.pad(draft_law, (0, 0, 0, 1))).clamp_min(0)  # (B, k+1, K)
    rows = torch.arange(batch, device=drafts.device)
    residual = residual[rows, accepted]  # (B, K)
    # Where p = q a refusal has probability 0, and rounding alone can ask for it.
    empty = residual.sum(-1, keepdim=True) <= 0
    residual = torch.where(empty, verifier_law[rows, accepted], residual)
    return accepted, torch.multinomial(residual, 1).squeeze(-1)


@torch.no_grad()
def speculate(
    draft: Predictor,
    verifier: Predictor,
    prompt: Tensor,
    length: int,
    k: int = 4,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Speculation:
    """Write tokens that follow the verifier's law, most of them proposed by the draft.

    Args:
        draft, verifier: predictors that hold no tokens yet; they may share caches.
        prompt: (N,), int64, at least one token.
        length: new tokens to write, at least 1.
        k: drafts a round, at least 1; the last rounds may draft fewer.
        temperature, top_k, top_p: of the law, applied to both models; 0 is greedy decoding.

    Raises:
        ValueError: if an argument is out of its range or a predictor is not empty.
    """
    if prompt.ndim != 1 or not len(prompt):
        raise ValueError(f"prompt must be (N,) with N >= 1, got {tuple(prompt.shape)}")
    if length < 1 or k < 1:
        raise ValueError(f"length and k must be at least 1, got {length} and {k}")
    if len(draft) or len(verifier):
        raise ValueError(f"predictors must be empty, hold {len(draft)} and {len(verifier)} tokens")
    law = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    tokens, origin, drafted, kept, calls = prompt, [], 0, 0, 0
    verified = 0  # tokens that the verifier has read
    while len(tokens) - len(prompt) < length:
        room = length - (len(tokens) - len(prompt)) - 1  # one token comes from the verifier
        proposal, q = _draft(draft, tokens, min(k, room), law)
        verifier.truncate(verified)  # shared caches hold the draft's keys: overwrite them
        logits = verifier.extend(torch.cat([tokens, proposal])[None, verified:])
        p = next_distribution(logits[:, -len(proposal) - 1 :], **law)
        accepted, following = verify(proposal[None], q, p)
        count, calls = int(accepted), calls + 1
        drafted += min(count + 1, len(proposal))
        kept += count
        verified = len(tokens) + count
        last = BONUS if count == len(proposal) else CORRECTED
        origin += [ACCEPTED] * count + [last]
        tokens = torch.cat([tokens, proposal[:count], following])
        for model in (verifier, draft):
            model.truncate(min(len(model), verified))
    return Speculation(tokens[len(prompt) :], torch.tensor(origin), drafted, kept, calls)


def _draft(draft: Predictor, tokens: Tensor, count: int, law: dict) -> tuple[Tensor, Tensor]:
    """Propose ``count`` tokens: (count,), and the laws they were drawn from, (1, count, K)."""
    proposal, laws = tokens[:0], []
    for _ in range(count):
        everything = torch.cat([tokens, proposal])
        # Also reads what the verifier has written since the draft's last turn.
        logits = draft.extend(everything[None, len(draft) :])[:, -1]
        laws.append(next_distribution(logits, **law))
        proposal = torch.cat([proposal, torch.multinomial(laws[-1], 1)[0]])
    return proposal, torch.stack(laws, 1) if laws else torch.empty(1, 0, 1)
