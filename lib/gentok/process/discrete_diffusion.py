"""Diffusion on codes: tokens are kept, replaced by a random code, or masked, step by step.

Austin et al. 2021 (D3PM, arXiv:2107.03006) for the transition matrices; Gu et al. 2022
(VQ-Diffusion, arXiv:2111.14822), section 4, for mask-and-replace, its closed form and the
prediction of x_0.

Steps are the papers': t = 0, ..., T - 1 from data to noise, t = -1 the clean codes. A step
backwards goes from t to any earlier s by the exact jump, so that few steps make no other chain.

Shapes: B batch, N tokens, K codes. A state lies in [0, K]: code K is MASK. Distributions are
natural logarithms, float32.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gentok.process.masked import sample_categorical

LOG_ZERO = -70.0  # stands for log 0, as in VQ-Diffusion: finite, so gradients stay finite


def linear_chain(num_steps: int = 100, replaced: float = 0.1) -> tuple[Tensor, Tensor]:
    """Corruption that grows evenly until nothing is left: VQ-Diffusion's published schedule.

    Args:
        num_steps: T.
        replaced: share of the tokens that end as random codes, the others end as MASK. 0.1 is
            the paper's mask-and-replace, 0 the absorbing chain, 1 the uniform one.

    Returns:
        Probability after step t of being untouched, and of being MASK: (T,) each, float64.

    Raises:
        ValueError: if ``num_steps`` is below 1 or ``replaced`` not in [0, 1].
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    if not 0 <= replaced <= 1:
        raise ValueError(f"replaced must lie in [0, 1], got {replaced}")
    corrupted = torch.arange(1, num_steps + 1, dtype=torch.float64) / num_steps
    corrupted = corrupted * (1 - 1e-5)  # something is kept to the end: its logarithm is needed
    return 1 - corrupted, (1 - replaced) * corrupted


def released_chain(num_steps: int = 100) -> tuple[Tensor, Tensor]:
    """VQ-Diffusion's schedule as released: kept from 0.99999 to 9e-6, masked the reverse.

    The two add up to 0.999999 at every step, so that one token in a million is ever replaced: in
    effect a chain that only masks, whatever the paper's text says. Returns as
    :func:`linear_chain`.
    """
    if num_steps < 2:
        raise ValueError(f"num_steps must be at least 2, got {num_steps}")
    kept = torch.linspace(0.99999, 9e-6, num_steps, dtype=torch.float64)
    return kept, torch.linspace(9e-6, 0.99999, num_steps, dtype=torch.float64)


class DiscreteDiffusion:
    """A chain over K codes and MASK, known by its closed form. It has no parameters.

    Args:
        codebook_size: K.
        kept: alpha-bar_t, probability of being untouched up to step t, (T,), falling, positive.
        masked: gamma-bar_t, probability of being MASK after step t, (T,), not falling.

    Raises:
        ValueError: if these are no such probabilities.
    """

    def __init__(self, codebook_size: int, kept: Tensor, masked: Tensor):
        kept, masked = kept.double(), masked.double()
        if codebook_size < 2 or kept.ndim != 1 or kept.shape != masked.shape or not len(kept):
            raise ValueError(
                f"need codebook_size >= 2 and (T,) twice, got {codebook_size}, {tuple(kept.shape)} "
                f"and {tuple(masked.shape)}"
            )
        if (kept <= 0).any() or (masked < 0).any() or (kept + masked > 1 + 1e-9).any():
            raise ValueError("kept must be positive, masked not negative, their sum at most 1")
        if (kept.diff() > 0).any() or (masked.diff() < 0).any():
            raise ValueError("kept may not rise, masked may not fall")
        self.codebook_size = codebook_size
        # Index -1, one past the last step, is the clean sample: all kept, none masked.
        self._kept = torch.cat([kept, kept.new_ones(1)])  # (T + 1,)
        self._masked = torch.cat([masked, masked.new_zeros(1)])

    @property
    def num_steps(self) -> int:
        """Number of training steps T."""
        return len(self._kept) - 1

    def cumulative(self, t: Tensor, s: Tensor | int = -1) -> tuple[Tensor, Tensor, Tensor]:
        """The jump from step s to step t, in one: alpha, beta, gamma (equations 7 and 8).

        A token is kept with alpha + beta, becomes any one other code with beta, MASK with gamma;
        MASK stays MASK. From s = -1 these are the cumulative alpha-bar, beta-bar and gamma-bar.

        Args:
            t: (B,) int64; ``s``: (B,) or int, earlier than t.

        Returns:
            alpha, beta, gamma: (B,) float64 each, alpha + K beta + gamma = 1.
        """
        t = t.cpu()  # in double precision, which not every device has
        s = s.cpu() if isinstance(s, Tensor) else s
        alpha = self._kept[t] / self._kept[s]
        # A ratio of what is not yet masked; 1 where MASK has everything already.
        left = 1 - self._masked[s]
        gamma = torch.where(left > 0, 1 - (1 - self._masked[t]) / left, torch.ones_like(alpha))
        replaced = 1 - alpha - gamma
        # Where nothing is ever replaced, a rounding error would allow the impossible.
        replaced = replaced.where(replaced > 1e-12, torch.zeros_like(replaced))
        return alpha, replaced / self.codebook_size, gamma

    def q_sample(self, x0: Tensor, t: Tensor) -> Tensor:
        """Codes (B, N) int64 -> a draw of q(x_t | x_0), (B, N) int64 in [0, K]."""
        alpha, _, gamma = (_column(share, x0).squeeze(-1) for share in self.cumulative(t))
        u = torch.rand(x0.shape, device=x0.device)
        replaced = torch.randint(self.codebook_size, x0.shape, device=x0.device)
        x_t = torch.where(u < alpha + gamma, x0, replaced)
        return torch.where(u < gamma, self.codebook_size, x_t)

    def prior_sample(self, batch: int, num_tokens: int, device=None) -> Tensor:
        """A draw of the state after the last step, when the codes are forgotten: (B, N) int64."""
        x = torch.randint(self.codebook_size, (batch, num_tokens), device=device)
        hidden = torch.rand(batch, num_tokens, device=device) < self._masked[-2].item()
        return x.masked_fill(hidden, self.codebook_size)

    def posterior(self, log_x0: Tensor, x_t: Tensor, t: Tensor, s: Tensor | int) -> Tensor:
        """log p(x_s | x_t) = log sum over x_0 of q(x_s | x_t, x_0) p(x_0) (equations 6 and 11).

        q(x_s | x_t, x_0) = q(x_t | x_s) q(x_s | x_0) / q(x_t | x_0) in K operations a token,
        not K^2: outside its diagonal a transition matrix has but one value.

        Args:
            log_x0: log p(x_0 | x_t) over the codes, (B, N, K); for a known x_0 its log one-hot.
            x_t: the state, (B, N) int64 in [0, K]; ``t``, ``s``: (B,) int64, s before t, or -1.

        Returns:
            (B, N, K + 1), normalised. MASK has probability 0 where ``x_t`` is a code.
        """
        from_start = self._to_state(x_t, t, -1)[..., :-1]  # log q(x_t | x_0), (B, N, K)
        # An x_0 that cannot lead to x_t is out, however much the network believes in it.
        weight = (log_x0 - from_start).masked_fill(from_start <= LOG_ZERO, -torch.inf)
        total = weight.logsumexp(-1, keepdim=True)  # (B, N, 1)
        alpha, beta, gamma = (_log(_column(share, x_t)) for share in self.cumulative(_like(s, t)))
        # Sum over x_0 of q(x_s | x_0) p(x_0) / q(x_t | x_0).
        codes = torch.logaddexp(weight + alpha, total + beta)
        ways = torch.cat([codes, total + gamma], dim=-1)  # (B, N, K + 1)
        return F.log_softmax(ways + self._to_state(x_t, t, s), dim=-1)

    def bound(self, logits: Tensor, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """One term of the variational bound for each token, nats (equation 9).

        KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)); at t = 0 -log p(x_0 | x_1).

        Args:
            logits: of x_0, the network's, (B, N, K): it never predicts MASK.
            x0: clean codes, (B, N); ``x_t``: their corruption, (B, N); ``t``: (B,) int64.

        Returns:
            (B, N). Times T it estimates the bound without its constant, where t is uniform.
        """
        log_x0 = self._log_x0(logits)
        truth = self.posterior(self._one_hot(x0), x_t, t, t - 1)
        model = self.posterior(log_x0, x_t, t, t - 1)
        kl = (truth.exp() * (truth.clamp_min(LOG_ZERO) - model.clamp_min(LOG_ZERO))).sum(-1)
        likelihood = log_x0.gather(-1, x0[..., None]).squeeze(-1)
        return torch.where((t == 0)[:, None], -likelihood, kl)

    def auxiliary(self, logits: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """-log p(x_0 | x_t) at every token, (B, N), times 2 - t/T: more at little noise.

        Added to the bound with a small weight (5e-4; section 4.2, the factor from the code).
        """
        likelihood = self._log_x0(logits).gather(-1, x0[..., None]).squeeze(-1)
        return -likelihood * (2 - t / self.num_steps)[:, None]

    def step(
        self, logits: Tensor, x_t: Tensor, t: Tensor, s: Tensor | int, truncation: float = 1.0
    ) -> Tensor:
        """A draw of p(x_s | x_t), (B, N) int64, from the network's logits of x_0 (B, N, K)."""
        log_x0 = truncate(self._log_x0(logits), truncation)
        return sample_categorical(self.posterior(log_x0, x_t, t, s))

    def _log_x0(self, logits: Tensor) -> Tensor:
        if logits.shape[-1] != self.codebook_size:
            raise ValueError(
                f"logits must be (B, N, {self.codebook_size}), got {tuple(logits.shape)}"
            )
        return F.log_softmax(logits.float(), dim=-1).clamp_min(LOG_ZERO)

    def _one_hot(self, x0: Tensor) -> Tensor:
        """log one-hot, (B, N) -> (B, N, K)."""
        log_x0 = torch.full((*x0.shape, self.codebook_size), LOG_ZERO, device=x0.device)
        return log_x0.scatter(-1, x0[..., None], 0.0)

    def _to_state(self, x_t: Tensor, t: Tensor, s: Tensor | int) -> Tensor:
        """log q(x_t | x_s) for each x_s, (B, N, K + 1): a column of the transition matrix."""
        alpha, beta, gamma = (_column(share, x_t) for share in self.cumulative(t, s))
        hidden = (x_t == self.codebook_size)[..., None]  # (B, N, 1)
        size = (*x_t.shape, self.codebook_size + 1)
        column = _log(torch.where(hidden, gamma, beta)).expand(size)
        stay = _log(torch.where(hidden, torch.ones_like(alpha), alpha + beta))
        column = column.scatter(-1, x_t[..., None], stay)  # MASK stays MASK, a code is kept
        gone = torch.full_like(stay, LOG_ZERO)  # MASK never turns into a code
        return torch.cat([column[..., :-1], torch.where(hidden, stay, gone)], dim=-1)


def truncate(log_p: Tensor, mass: float) -> Tensor:
    """Keep the likeliest codes until their mass reaches ``mass``, the first always: (..., K).

    A code stays if the mass before it is below ``mass``; the others become ``LOG_ZERO``, and the
    rest is not normalised (Tang et al. 2022, Improved VQ-Diffusion, arXiv:2205.16007, 3.2). The
    papers take 0.86 without guidance, 1 (all codes) with.

    Raises:
        ValueError: if ``mass`` is not in (0, 1].
    """
    if not 0 < mass <= 1:
        raise ValueError(f"mass must lie in (0, 1], got {mass}")
    if mass == 1:
        return log_p
    ordered, index = log_p.sort(dim=-1, descending=True)
    before = ordered.exp().cumsum(-1) - ordered.exp()  # exactly 0 for the first
    dropped = torch.zeros_like(log_p, dtype=torch.bool).scatter(-1, index, before >= mass)
    return log_p.masked_fill(dropped, LOG_ZERO)


@torch.no_grad()
def discrete_sample(
    diffusion: DiscreteDiffusion,
    network: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    steps: Sequence[int],
    truncation: float = 1.0,
    known: Tensor | None = None,
) -> Tensor:
    """From the chain's end state to codes.

    Args:
        diffusion: the chain.
        network: (x_t (B, N) int64, t (B,) int64) -> logits of x_0 (B, N, K), guided if wanted.
        x: the state after the last step, (B, N), see :meth:`DiscreteDiffusion.prior_sample`.
        steps: steps to visit, falling, from T - 1 to 0; after the last follows the clean sample.
        truncation: see :func:`truncate`.
        known: codes to hold fixed, (B, N), MASK where they are to be found (inpainting).

    Returns:
        Codes, (B, N) int64 in [0, K).

    Raises:
        ValueError: if ``steps`` is empty or does not fall.
    """
    steps = list(steps)
    jumps = list(zip(steps, [*steps[1:], -1], strict=True))
    if not steps or any(t <= s for t, s in jumps):
        raise ValueError(f"steps must fall and be at least 0, got {steps[:8]}")
    for t, s in jumps:
        if known is not None:
            x = torch.where(known < diffusion.codebook_size, known, x)
        now = torch.full((len(x),), t, device=x.device)
        x = diffusion.step(network(x, now), x, now, s, truncation)
    return x if known is None else torch.where(known < diffusion.codebook_size, known, x)


def _column(share: Tensor, x: Tensor) -> Tensor:
    """(B,) float64 -> (B, 1, 1) float32 on the device of the codes (B, N)."""
    return share.to(x.device, torch.float32)[:, None, None]


def _log(share: Tensor) -> Tensor:
    return share.log().clamp_min(LOG_ZERO)


def _like(s: Tensor | int, t: Tensor) -> Tensor:
    return s if isinstance(s, Tensor) else torch.full_like(t, s)
