"""The output layer of a token generator, with a vocabulary per place.

Where text and codes share a stream, a place's tokens come from a known range of the vocabulary
(Ramesh et al. 2021, DALL-E, and its open code: logits of the other modality are masked). Here only
that range is computed: outside it nothing is drawn, learned or paid for.

Shapes: B batch, N places, D channels, V vocabulary.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.gpt_block import init_gpt


class PlaceHead(nn.Module):
    """Hidden states to logits over the range that belongs to the place.

    Args:
        dim: channels D; ``vocabulary``: V.
        places: number of token places.
        segments: runs (places, low, high) in order; None: all places have all of V.
        bias: whether there is one.
        tied: an embedding whose table is the weight too.

    Raises:
        ValueError: if the runs do not cover the places, or a range is empty or not in [0, V].
    """

    def __init__(
        self,
        dim: int,
        vocabulary: int,
        places: int,
        segments: Sequence[tuple[int, int, int]] | None = None,
        bias: bool = False,
        tied: nn.Embedding | None = None,
    ):
        super().__init__()
        self.linear = nn.Linear(dim, vocabulary, bias=bias)
        init_gpt(self.linear)
        if tied is not None:
            self.linear.weight = tied.weight
        self.spans: list[tuple[int, int, int, int]] = []  # (first place, end, low, high)
        start = 0
        for count, low, high in segments or ((places, 0, vocabulary),):
            if count < 1 or not 0 <= low < high <= vocabulary:
                raise ValueError(
                    f"segments must be (places >= 1, low < high in [0, {vocabulary}]), "
                    f"got {(count, low, high)}"
                )
            self.spans.append((start, start + count, low, high))
            start += count
        if start != places:
            raise ValueError(f"segments must cover {places} places, got {start}")

    def range_of(self, place: int) -> tuple[int, int]:
        """[low, high), the tokens that may stand at a place; raises ValueError outside."""
        for start, stop, low, high in self.spans:
            if start <= place < stop:
                return low, high
        raise ValueError(f"place must lie in [0, {self.spans[-1][1]}), got {place}")

    def part(self, hidden: Tensor, low: int, high: int) -> Tensor:
        """Logits of [low, high) alone: (..., D) -> (..., high - low)."""
        bias = self.linear.bias
        return F.linear(
            hidden, self.linear.weight[low:high], None if bias is None else bias[low:high]
        )

    def forward(self, hidden: Tensor, first: int = 0) -> Tensor:
        """Logits of the whole vocabulary, -inf outside each place's range.

        Args:
            hidden: (B, N, D); places beyond the last are not masked.
            first: the place that ``hidden[:, 0]`` predicts.

        Returns:
            (B, N, V).
        """
        logits = self.linear(hidden)
        token = torch.arange(logits.shape[-1], device=logits.device)
        barred = torch.zeros(logits.shape[1:], dtype=torch.bool, device=logits.device)  # (N, V)
        for start, stop, low, high in self.spans:
            here = slice(max(start - first, 0), max(stop - first, 0))
            barred[here] = (token < low) | (token >= high)
        return logits.masked_fill(barred, -torch.inf)

    def nats(self, hidden: Tensor, tokens: Tensor, first: int = 0) -> Tensor:
        """Cross-entropy of each token over its place's range.

        Args:
            hidden: (B, N, D); ``tokens``: what each predicts, (B, N) int64.
            first: the place of ``tokens[:, 0]``.

        Returns:
            (B, N), nats.

        Raises:
            ValueError: if a token is not in its place's range, or there are too many.
        """
        if first + tokens.shape[1] > self.spans[-1][1]:
            raise ValueError(
                f"tokens must fit {self.spans[-1][1]} places, got {first + tokens.shape[1]}"
            )
        parts = []
        for start, stop, low, high in self.spans:
            here = slice(max(start - first, 0), max(stop - first, 0))
            target = tokens[:, here] - low
            if target.numel() == 0:
                continue
            if (target < 0).any() or (target >= high - low).any():
                raise ValueError(
                    f"tokens at places {start} to {stop - 1} must lie in [{low}, {high}), "
                    f"got {int(tokens[:, here].min())} to {int(tokens[:, here].max())}"
                )
            logits = self.part(hidden[:, here], low, high)  # (B, places, high - low)
            parts.append(F.cross_entropy(logits.transpose(1, 2), target, reduction="none"))
        return torch.cat(parts, dim=1)


def check_drawable(logits: Tensor) -> None:
    """ValueError unless every row of logits (..., K) has a largest one, and it is finite.

    NaN would be drawn each time, as the largest; where all is forbidden some code would be drawn.
    """
    if logits.is_meta or not logits.numel():
        return
    if not logits.detach().amax(-1).isfinite().all():  # NaN, too, if one of the row is
        raise ValueError("logits must have a finite largest entry in each row, and no NaN")


def draw_token(logits: Tensor) -> Tensor:
    """One draw from softmax(logits) a row by the inverse of its distribution function.

    One uniform number a row, where `torch.multinomial` takes one an entry.

    Args:
        logits: (B, K).

    Returns:
        (B,), int64 in [0, K).

    Raises:
        ValueError: as `check_drawable`.
    """
    check_drawable(logits)
    reached = logits.float().softmax(-1).cumsum(-1)  # (B, K)
    level = torch.rand(len(logits), 1, device=logits.device) * reached[:, -1:]  # below the total
    return torch.searchsorted(reached, level, right=True)[:, 0].clamp_max_(logits.shape[-1] - 1)
