"""Vector quantization with a codebook learned by moving averages, and its residual form.

Van den Oord et al. 2017 (VQ-VAE), 3.2 and appendix A.1; residual: Zeghidour et al. 2021
(SoundStream), III-C, from where the revival of dead codes comes, too.

Shapes: B batch, N tokens, D channels, K codes, Q levels.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.gather import distributed, once_a_step
from gentok.nn.precision import full_precision

FAR = 1e4  # squared distance from 0, in spreads, at which float32 begins to lose the gaps
SMALL, LARGE = 1e-12, 1e12  # of codes whose squares lie well inside float32's range


def nearest_code(z: Tensor, codebook: Tensor) -> Tensor:
    """Index of the closest row of ``codebook`` for each row of ``z``: (M, D), (K, D) -> (M,) int64.

    |z - e|^2 = |z|^2 - 2 z.e + |e|^2, and |z|^2 does not change which code is nearest. One matrix
    product instead of M x K differences; in float32, under autocast as well, since half precision
    loses the small gaps. So does float32 for codes that lie close together and far from 0, or whose
    squares leave its range: `_near_nought` moves these.
    """
    z, codebook = _near_nought(z.float(), codebook.float())
    return partial_distances(z, codebook).argmin(-1)


def partial_distances(z: Tensor, codebook: Tensor) -> Tensor:
    """|e|^2 - 2 z.e: squared distances less |z|^2, (M, D), (K, D), float32 -> (M, K)."""
    with full_precision(z):
        return torch.addmm(codebook.square().sum(-1), z, codebook.T, alpha=-2)


def _near_nought(z: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """The same picture about 0 and of a moderate scale; where it is so already, bit for bit.

    Neither a shift of both nor a common factor changes which code is nearest.
    """
    size = codebook.abs().amax()
    power = torch.exp2(-torch.log2(size).floor())  # a power of two rounds nothing
    moderate = ((size > SMALL) & (size < LARGE)) | ~power.isfinite() | (power == 0)
    factor = torch.where(moderate, 1.0, power)
    z, codebook = z * factor, codebook * factor
    centre = codebook.mean(0)
    spread = (codebook - centre).square().sum(-1).mean()
    centre = torch.where(centre.square().sum() > FAR * spread, centre, 0)
    return z - centre, codebook - centre


def check_latents(z: Tensor, dim: int) -> None:
    """ValueError unless ``z`` is (..., D), holds a latent, and all its numbers are finite.

    One latent that is not would stay in the moving averages for ever.
    """
    if z.shape[-1] != dim:
        raise ValueError(f"z must be (..., {dim}), got {tuple(z.shape)}")
    if not z.numel():
        raise ValueError(f"z must hold at least one latent, got {tuple(z.shape)}")
    if not z.is_meta and not z.isfinite().all():
        raise ValueError("z must be finite")


class VectorQuantizer(nn.Module):
    """Replace each latent by its nearest code; codes follow the mean of the latents choosing them.

    Args:
        codebook_size: K.
        dim: channels D of a latent and of a code.
        decay: share of the past kept by the moving averages at each training step.
        commitment: weight beta of the pull of latents towards their codes (equation 3).
        dead_threshold: a code whose averaged count falls below this many latents a step is replaced
            by a random latent of the batch; 0 turns revival off.
        epsilon: Laplace smoothing of the counts, so that no division is by zero.
    """

    def __init__(
        self,
        codebook_size: int,
        dim: int,
        decay: float = 0.99,
        commitment: float = 0.25,
        dead_threshold: float = 1.0,
        epsilon: float = 1e-5,
    ):
        super().__init__()
        self.decay, self.commitment = decay, commitment
        self.dead_threshold, self.epsilon = dead_threshold, epsilon
        bound = 1 / codebook_size
        codebook = torch.empty(codebook_size, dim).uniform_(-bound, bound)
        # A parameter without gradient: saved, moved and counted with the model, moved by averages.
        self.codebook = nn.Parameter(codebook, requires_grad=False)  # (K, D)
        self.register_buffer("counts", torch.ones(codebook_size))  # N_k
        self.register_buffer("sums", codebook.clone())  # m_k

    @property
    def codebook_size(self) -> int:
        """Number of codes K."""
        return self.codebook.shape[0]

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantize latents; in training mode, move the codebook, too.

        Args:
            z: encoder output, (..., D), float.

        Returns:
            z_q: nearest codes, (..., D); the gradient passes straight through to ``z``.
            codes: indices in [0, K), (...), int64.
            loss: commitment term, scalar, squared latent units (mean over elements).

        Raises:
            ValueError: if the last axis of ``z`` is not D, ``z`` is empty or not finite, or the
                moving averages are not in float32.
        """
        z_q, codes, loss = self.quantize(z)
        # Value of z_q, gradient of z: argmin has none of its own.
        return z + (z_q - z).detach(), codes, loss

    def quantize(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`forward`, but ``z_q`` carries no gradient."""
        check_latents(z, dim := self.codebook.shape[1])
        flat = z.detach().reshape(-1, dim).float()  # (M, D)
        codes = nearest_code(flat, self.codebook)  # (M,)
        z_q = F.embedding(codes, self.codebook).view_as(z)
        if self.training:
            self.check_precision()
            self._update(flat, codes)
        loss = self.commitment * F.mse_loss(z, z_q)
        return z_q, codes.view(z.shape[:-1]), loss

    def check_precision(self) -> None:
        """ValueError unless the averages are in float32: in half precision they stand still.

        A step of 1 % is less than half precision resolves.
        """
        if self.sums.dtype != torch.float32:
            raise ValueError(
                f"a codebook learns in float32, got {self.sums.dtype}: keep the quantizer in it "
                "and train under autocast"
            )

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes (...), int64 in [0, K) -> vectors (..., D).

        Raises:
            ValueError: if a code lies outside [0, K).
        """
        if codes.numel():
            low, high = int(codes.min()), int(codes.max())
            if low < 0 or high >= self.codebook_size:
                raise ValueError(
                    f"codes must lie in [0, {self.codebook_size}), got [{low}, {high}]"
                )
        return F.embedding(codes, self.codebook)

    @once_a_step
    @torch.no_grad()
    def _update(self, z: Tensor, codes: Tensor) -> None:
        size = self.codebook_size
        counts = torch.bincount(codes, minlength=size).to(z.dtype)  # (K,)
        sums = torch.zeros_like(self.sums).index_add_(0, codes, z)  # (K, D)
        if distributed():
            dist.all_reduce(counts)
            dist.all_reduce(sums)
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        total = self.counts.sum()
        smoothed = (self.counts + self.epsilon) / (total + size * self.epsilon) * total
        self.codebook.copy_(self.sums / smoothed[:, None])
        if self.dead_threshold > 0:
            self._revive(z)

    def _revive(self, z: Tensor) -> None:
        """Move codes that nobody chooses onto latents of this batch."""
        dead = self.counts < self.dead_threshold  # (K,)
        if not dead.any():
            return
        picks = z[torch.randint(len(z), (int(dead.sum()),), device=z.device)]
        if distributed():
            dist.broadcast(picks, src=0)  # every process must hold the same codebook
        self.codebook[dead] = picks
        self.counts[dead] = self.dead_threshold
        self.sums[dead] = picks * self.dead_threshold


class ResidualVQ(nn.Module):
    """Quantize, subtract, quantize what is left: Q coarse-to-fine codes a token.

    Args:
        num_levels: Q.
        codebook_size, dim, kwargs: of each level's :class:`VectorQuantizer`.
        quantize_dropout: in training, keep a uniform random number of levels of each batch, so that
            every prefix of the codes is a usable description.
    """

    def __init__(
        self,
        num_levels: int,
        codebook_size: int,
        dim: int,
        quantize_dropout: bool = False,
        **kwargs: float,
    ):
        super().__init__()
        self.quantize_dropout = quantize_dropout
        self.levels = nn.ModuleList(
            VectorQuantizer(codebook_size, dim, **kwargs) for _ in range(num_levels)
        )

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantize latents (..., D).

        Returns:
            z_q: sum of the levels' codes, (..., D), straight-through.
            codes: (..., Q), int64; -1 at levels that dropout left out.
            loss: commitment, mean over the levels used, scalar.
        """
        keep = len(self.levels)
        if self.training and self.quantize_dropout:
            keep = agreed(int(torch.randint(1, keep + 1, ())), z.device)
        residual, codes, losses = z, [], []
        for level in self.levels[:keep]:
            step, level_codes, loss = level.quantize(residual)
            residual = residual - step
            codes.append(level_codes)
            losses.append(loss)
        dropped = [torch.full_like(codes[0], -1)] * (len(self.levels) - keep)
        z_q = z - residual.detach()  # what the levels took away; gradient of z
        return z_q, torch.stack(codes + dropped, dim=-1), torch.stack(losses).mean()

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes (..., Q) -> vectors (..., D); levels marked -1 add nothing."""
        total = 0.0
        for level, quantizer in enumerate(self.levels):
            index = codes[..., level]
            total = total + quantizer.lookup(index.clamp_min(0)) * (index >= 0)[..., None]
        return total


def agreed(number: int, device: torch.device) -> int:
    """The first process's number, for all: where levels differ, so do their collective calls."""
    if not distributed():
        return number
    shared = torch.tensor(number, device=device)
    dist.broadcast(shared, src=0)
    return int(shared)
