"""Sparse autoencoders: a vector as a sum of a few entries of a large dictionary.

The TopK autoencoder is that of Gao et al. 2024 (arXiv:2406.04093, 2.3 and A.2) with the training
rules of the public `dictionary_learning` library: unit-norm dictionary entries, their gradient kept
tangent to the sphere, a bias that starts at the geometric median, and the AuxK loss for dead
features. The dictionary W_d is stored transposed, one entry a row, so that decoding k entries
is a weighted lookup and not a product with all F of them.

Shapes: B batch, D channels of an activation, F dictionary entries ("features"), k kept a sample.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.gather import distributed, once_a_step

THRESHOLD_DECAY = 0.999  # share of its past that the running threshold keeps at each step


@torch.no_grad()
def geometric_median(points: Tensor, max_iterations: int = 100, tolerance: float = 1e-5) -> Tensor:
    """The point with the least sum of distances, by Weiszfeld's iteration from the mean.

    Args:
        points: (N, D).
        max_iterations: upper bound on the iterations.
        tolerance: stop when the estimate moves less than this, in the units of ``points``.

    Returns:
        (D,). Less drawn to outliers than the mean.
    """
    guess = points.mean(0)
    for _ in range(max_iterations):
        distance = (points - guess).norm(dim=1)  # (N,)
        # Points that the estimate has landed on pull nowhere, but may hold it.
        here = distance <= 1e-6 * distance.max()
        weights = torch.where(here, 0, 1 / distance.clamp(min=1e-12))
        if here.all():
            return guess
        moved = (weights / weights.sum()) @ points
        if here.any():  # stay if they outweigh the pull of the others (Vardi and Zhang 2000, 2.6)
            pull = (weights[:, None] * (points - guess)).sum(0).norm()
            if pull <= here.sum():
                return points[here].mean(0)
            moved = moved.lerp(guess, here.sum() / pull)
        if (moved - guess).norm() < tolerance:
            return moved
        guess = moved
    return guess


def unit_rows(weight: Tensor) -> Tensor:
    """Each row scaled to length 1; a row of zeros stays one."""
    return weight / weight.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def without_parallel_gradient(rows: Tensor) -> Tensor:
    """The same rows; going back, each row's gradient loses its component along the row.

    For rows of length 1 this keeps a gradient step on the sphere to first order. A longer row would
    only rescale its feature, so without the rule optimisers with momentum waste their steps there.
    """
    same = rows.view_as(rows)
    if same.requires_grad:
        fixed = rows.detach()
        same.register_hook(lambda grad: grad - (grad * fixed).sum(-1, keepdim=True) * fixed)
    return same


class SparseDictionary(nn.Module):
    """What TopK autoencoders share: encoder, dictionary, decoding, and the watch on dead features.

    Args:
        dim: channels D of an activation.
        num_features: dictionary entries F.
        k: entries kept for each sample.
        norm: length of the random dictionary entries at the start; the encoder starts as their
            transpose (tied), all biases at 0.
        aux_weight: weight alpha of the AuxK loss; 0 leaves it out.
        aux_k: dead features that AuxK revives at once; D/2 if None.
        dead_after: a feature is dead when it has not fired for this many samples in training.

    Raises:
        ValueError: if ``dim`` is not positive, or ``k`` is not between 1 and ``num_features``.
    """

    def __init__(
        self,
        dim: int,
        num_features: int,
        k: int,
        norm: float = 1.0,
        aux_weight: float = 0.0,
        aux_k: int | None = None,
        dead_after: int = 10_000_000,
    ):
        super().__init__()
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        if not 1 <= k <= num_features:
            raise ValueError(f"k must be between 1 and num_features={num_features}, got {k}")
        self.k, self.aux_weight, self.dead_after = k, aux_weight, dead_after
        self.aux_k = max(1, dim // 2) if aux_k is None else aux_k
        self.dictionary = nn.Parameter(norm * unit_rows(torch.randn(num_features, dim)))  # W_d^T
        self.encoder = nn.Linear(dim, num_features)
        self.bias = nn.Parameter(torch.zeros(dim))
        with torch.no_grad():
            self.encoder.weight.copy_(self.dictionary)  # (F, D) is W_e = W_d^T
            self.encoder.bias.zero_()
        self.register_buffer("idle", torch.zeros(num_features, dtype=torch.int64))

    @property
    def dead(self) -> Tensor:
        """Which features have not fired for ``dead_after`` training samples, bool (F,)."""
        return self.idle >= self.dead_after

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless the last axis of ``x`` is D."""
        if x.shape[-1] != (dim := self.bias.numel()):
            raise ValueError(f"expected activations (..., {dim}), got {tuple(x.shape)}")

    def decoder_rows(self) -> Tensor:
        """The dictionary as decoding uses it, (F, D)."""
        return self.dictionary

    def combine(self, values: Tensor, indices: Tensor) -> Tensor:
        """Sum of the chosen entries times their values, without the bias.

        Args:
            values: (..., k).
            indices: entries in [0, F), (..., k), int64.

        Returns:
            (..., D).
        """
        rows = self.decoder_rows()
        kind = values.device.type
        if kind != "meta" and torch.is_autocast_enabled(kind):
            # The lookup kernel takes one dtype only; autocast mixes two. The product does not care.
            dense = values.new_zeros(*values.shape[:-1], len(rows)).scatter(-1, indices, values)
            return dense @ rows
        flat = F.embedding_bag(
            indices.flatten(0, -2),
            rows,
            per_sample_weights=values.flatten(0, -2),
            mode="sum",
        )  # (B, D)
        return flat.unflatten(0, values.shape[:-1])

    def decode(self, f: Tensor) -> Tensor:
        """Feature activations (..., F) -> activations (..., D)."""
        return f @ self.dictionary + self.bias

    def scatter(self, values: Tensor, indices: Tensor) -> Tensor:
        """Kept values and their places, both (..., k) -> dense features (..., F)."""
        dense = values.new_zeros(*values.shape[:-1], self.dictionary.shape[0])
        return dense.scatter(-1, indices, values)

    @once_a_step
    @torch.no_grad()
    def count_idle(self, values: Tensor, indices: Tensor) -> None:
        """Add a batch to the count of samples since each feature last fired.

        Once a step: with accumulated gradients AuxK sees what was dead before the step.
        A value of either sign is a firing; a kept zero is not.
        """
        fired = torch.zeros_like(self.idle)
        fired.index_add_(0, indices.flatten(), (values != 0).flatten().to(fired.dtype))
        rows = values.shape[0]
        if distributed():  # every process has rows of its own, as many as the others
            dist.all_reduce(fired)
            rows *= dist.get_world_size()
        self.idle.add_(rows).masked_fill_(fired > 0, 0)

    def aux_loss(self, residual: Tensor, activations: Tensor, strength: Tensor) -> Tensor:
        """AuxK (Gao et al. 2024, A.2): let the strongest dead features explain what is left over.

        Args:
            residual: e = x - x_hat, (B, D); taken as a constant.
            activations: what a feature would contribute, before any selection, (B, F).
            strength: what selection goes by (the activation or its magnitude), (B, F).

        Returns:
            ||e - W_d f_aux||^2 / Var(e), a scalar; 0 while no feature is dead, and where e does not
            vary: one row, or nothing left over. No bias is added: the residual already lacks it.
        """
        dead = self.dead
        number = min(self.aux_k, int(dead.sum()))
        if number == 0:
            return residual.new_zeros(())
        indices = strength.masked_fill(~dead, -torch.inf).topk(number, sorted=False).indices
        target = residual.detach()
        error = target - self.combine(activations.gather(-1, indices), indices)
        spread = (target - target.mean(0)).square().sum(-1).mean()
        varies = spread > 1e-6 * target.square().sum(-1).mean()
        scale = torch.where(varies, spread, 1)
        return torch.where(varies, error.square().sum(-1).mean() / scale, 0)

    @torch.no_grad()
    def scale_biases(self, factor: float) -> None:
        """Make the autoencoder work on inputs ``factor`` times as large; features scale with them.

        Training uses activations of mean squared norm 1; this takes the result back to the
        language model's own units.
        """
        self.encoder.bias *= factor
        self.bias *= factor


class TopKSAE(SparseDictionary):
    """f = TopK(ReLU(W_e (x - b) + b_e)), x_hat = W_d f + b, entries of length 1.

    Args:
        dim, num_features, k, aux_weight, aux_k, dead_after: as for :class:`SparseDictionary`; the
            default ``aux_weight`` of 1/32 is Gao et al.'s.
        l2_weight: weight of 1/2 sum of squares of all F activations before TopK; 0 in the method
            as published, more in the controlled experiments of `interpret/vsae`.
    """

    def __init__(
        self,
        dim: int,
        num_features: int,
        k: int,
        aux_weight: float = 1 / 32,
        aux_k: int | None = None,
        dead_after: int = 10_000_000,
        l2_weight: float = 0.0,
    ):
        super().__init__(dim, num_features, k, 1.0, aux_weight, aux_k, dead_after)
        self.l2_weight = l2_weight
        # Running mean of the smallest kept activation; negative until the first batch.
        self.register_buffer("threshold", torch.tensor(-1.0))

    def start_at(self, x: Tensor) -> None:
        """Put the bias at the geometric median of some samples (B, D): the first batch."""
        self.check(x)
        self.bias.data.copy_(geometric_median(x))

    def decoder_rows(self) -> Tensor:
        """Entries of length 1 whose gradient has no component along the entry, (F, D)."""
        return without_parallel_gradient(self.dictionary)

    @torch.no_grad()
    def normalize(self) -> None:
        """Bring every dictionary entry back to length 1."""
        self.dictionary.copy_(unit_rows(self.dictionary))

    def train(self, mode: bool = True) -> "TopKSAE":
        """Also normalise: `loss` does it before each step, this after the last one."""
        self.normalize()
        return super().train(mode)

    def activations(self, x: Tensor) -> Tensor:
        """All F activations before selection, (..., D) -> (..., F), at least 0."""
        self.check(x)
        return F.relu(self.encoder(x - self.bias))

    def encode_sparse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(..., D) -> kept values and their indices, both (..., k), in no order."""
        return self.activations(x).topk(self.k, sorted=False)

    def encode(self, x: Tensor, use_threshold: bool = False) -> Tensor:
        """Feature activations.

        Args:
            x: (..., D).
            use_threshold: keep what exceeds the running threshold, however many that is, instead
                of the k largest of each sample.

        Returns:
            (..., F), at least 0.
        """
        if use_threshold:
            a = self.activations(x)
            return a * (a > self.threshold)
        return self.scatter(*self.encode_sparse(x))

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction, (..., D) -> (..., D)."""
        return self.combine(*self.encode_sparse(x)) + self.bias

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """||x - x_hat||^2 + alpha L_aux, summed over channels, averaged over the batch.

        Args:
            batch: ``{"x": (B, D)}``, of mean squared norm 1 in the published runs.
            step: not used.

        Returns:
            total, and its parts ``mse``, ``aux`` and ``l2``.
        """
        x = batch["x"]
        if self.training:
            self.normalize()
        a = self.activations(x)
        values, indices = a.topk(self.k, sorted=False)
        residual = x - self.combine(values, indices) - self.bias
        mse = residual.square().sum(-1).mean()
        if self.training:
            self.count_idle(values, indices)
            self._follow_threshold(values)
        total, parts = mse, {"mse": mse.detach()}
        if self.aux_weight:
            aux = self.aux_loss(residual, a, a)
            total, parts["aux"] = total + self.aux_weight * aux, aux.detach()
        if self.l2_weight:
            l2 = 0.5 * a.square().sum(-1).mean()
            total, parts["l2"] = total + self.l2_weight * l2, l2.detach()
        return total, parts

    @once_a_step
    @torch.no_grad()
    def _follow_threshold(self, values: Tensor) -> None:
        """Move the threshold towards the batch's mean of the smallest kept activation."""
        smallest = values.masked_fill(values <= 0, torch.inf).amin(-1)  # (B,)
        smallest = smallest[smallest.isfinite()]
        smallest = smallest.to(torch.promote_types(smallest.dtype, torch.float32))
        rows, now = len(smallest), smallest.mean()
        if distributed():  # the mean over the rows of all processes
            both = torch.stack([smallest.sum().double(), now.new_tensor(rows).double()])
            dist.all_reduce(both)
            rows, now = int(both[1]), both[0] / both[1]
        if rows:
            now = now.to(self.threshold.dtype)
            kept = torch.where(self.threshold < 0, now, self.threshold)
            self.threshold.copy_(kept.lerp(now, 1 - THRESHOLD_DECAY))

    @torch.no_grad()
    def scale_biases(self, factor: float) -> None:
        """As :meth:`SparseDictionary.scale_biases`; the threshold scales too."""
        super().scale_biases(factor)
        self.threshold *= factor
