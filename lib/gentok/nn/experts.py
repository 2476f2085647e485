"""Mixtures of experts: many feed-forward layers, of which a token meets a few.

Expert choice (Zhou et al. 2022, arXiv:2202.09368): each *expert* takes the tokens that it scores
highest, equally many for all experts, so that none is idle and none is crowded. A token may be
taken by several experts, or by none. Token choice (Shazeer et al. 2017): each *token* goes to its
best experts, and the router may send most of them to one.

Shapes: B batch, N tokens, D channels, F hidden width, E experts, k tokens an expert or experts a
token.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.token_masks import take_tokens


class Experts(nn.Module):
    """E feed-forward layers of two matrices without biases: GELU(x W1) W2.

    Args:
        num_experts: E; ``dim``: D; ``hidden``: F.
    """

    def __init__(self, num_experts: int, dim: int, hidden: int):
        super().__init__()
        self.w1 = nn.Parameter(torch.empty(num_experts, dim, hidden))
        self.w2 = nn.Parameter(torch.empty(num_experts, hidden, dim))
        nn.init.trunc_normal_(self.w1, std=0.02)
        nn.init.trunc_normal_(self.w2, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Rows of each expert, (B, E, k, D) -> (B, E, k, D)."""
        hidden = F.gelu(torch.einsum("bekd,edf->bekf", x, self.w1))
        return torch.einsum("bekf,efd->bekd", hidden, self.w2)

    def one(self, expert: int, x: Tensor) -> Tensor:
        """Rows (m, D) of one expert -> (m, D)."""
        return F.gelu(x @ self.w1[expert]) @ self.w2[expert]


class Router(nn.Module):
    """What both kinds of mixture share: the experts, and the probability of each for a token.

    Args:
        dim: D; ``hidden``: F; ``num_experts``: E.
        capacity: how many experts a token meets on average, in (0, E].

    Raises:
        ValueError: if ``num_experts`` is below 1 or ``capacity`` is out of its range.
    """

    def __init__(self, dim: int, hidden: int, num_experts: int, capacity: float):
        super().__init__()
        if num_experts < 1 or not 0 < capacity <= num_experts:
            raise ValueError(
                "need num_experts >= 1 and 0 < capacity <= num_experts, "
                f"got {num_experts} and {capacity}"
            )
        self.num_experts, self.capacity = num_experts, capacity
        self.gate = nn.Linear(dim, num_experts, bias=False)
        self.experts = Experts(num_experts, dim, hidden)

    def probabilities(self, x: Tensor) -> Tensor:
        """softmax over experts, (B, N, D) -> (B, N, E)."""
        return self.gate(x).softmax(-1)


class ExpertChoice(Router):
    """Each expert takes the k = int(capacity N / E) tokens of a sample that it scores highest.

    out_n = sum over the experts e that took token n of p(e | n) expert_e(x_n). No auxiliary loss.
    """

    def tokens_per_expert(self, num_tokens: int) -> int:
        """k of N tokens.

        Raises:
            ValueError: if it would be 0.
        """
        count = int(self.capacity * num_tokens / self.num_experts)
        if count < 1:
            raise ValueError(
                f"{num_tokens} tokens at capacity {self.capacity} leave none for each of "
                f"{self.num_experts} experts; keep more tokens"
            )
        return count

    def choose(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What each expert takes.

        Args:
            x: tokens, (B, N, D).

        Returns:
            weights: p(e | n) of the tokens taken, (B, E, k).
            index: their places, (B, E, k) int64.
        """
        scores = self.probabilities(x).transpose(1, 2)  # (B, E, N)
        return scores.topk(self.tokens_per_expert(x.shape[1]), dim=-1)

    def loads(self, x: Tensor) -> Tensor:
        """k for every expert, (B, N, D) -> (B, E)."""
        index = self.choose(x)[1]
        return torch.full(index.shape[:2], index.shape[2], device=x.device)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D); zeros for a token that no expert took."""
        weights, index = self.choose(x)
        places = index.flatten(1)  # (B, E k)
        rows = take_tokens(x, places).unflatten(1, index.shape[1:])  # (B, E, k, D)
        out = weights[..., None] * self.experts(rows)
        wide = places[..., None].expand(-1, -1, x.shape[-1])
        return out.new_zeros(x.shape).scatter_add(1, wide, out.flatten(1, 2))


class TokenChoice(Router):
    """Each token goes to its k = capacity best experts, however crowded they are.

    out_n = sum over its experts e of p(e | n) expert_e(x_n). As dear as `ExpertChoice` of the same
    capacity; there is no loss that would spread the load.

    Raises:
        ValueError: if ``capacity`` is no whole number.
    """

    def __init__(self, dim: int, hidden: int, num_experts: int, capacity: float):
        super().__init__(dim, hidden, num_experts, capacity)
        if capacity != int(capacity):
            raise ValueError(f"capacity must be a whole number of experts, got {capacity}")

    def choose(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Where each token goes: weights p(e | n) and experts, (B, N, k) each."""
        return self.probabilities(x).topk(int(self.capacity), dim=-1)

    def loads(self, x: Tensor) -> Tensor:
        """How many tokens come to each expert, (B, N, D) -> (B, E)."""
        return F.one_hot(self.choose(x)[1], self.num_experts).sum((1, 2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        weights, index = (part.flatten(0, 1) for part in self.choose(x))  # (B N, k)
        rows = x.flatten(0, 1)
        out = torch.zeros_like(rows)
        for expert in range(self.num_experts):
            row, slot = (index == expert).nonzero(as_tuple=True)
            taken = weights[row, slot, None] * self.experts.one(expert, rows[row])
            out = out.index_add(0, row, taken.to(out.dtype))
        return out.view_as(x)
