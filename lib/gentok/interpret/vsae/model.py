"""TopK variational sparse autoencoder (Baker and Li 2025, arXiv:2509.22994).

A TopK sparse autoencoder whose activations are the mean of a Gaussian posterior, with a KL term
towards N(0, I). Where the paper's text and its released code disagree, both are here:

- ``deterministic``: what the released runs do. With fixed variance the code never samples, so the
  KL term 1/2 sum z^2 is an L2 penalty on all activations before selection.
- ``unit``: what the text says, z = mu + eps.
- ``learned``: sigma comes from the input, log sigma^2 = W_v x + b_v.

Shapes: B batch, D channels of an activation, F dictionary entries, k kept a sample.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.sae import SparseDictionary, TopKSAE

VARIANCES = ("deterministic", "unit", "learned")
PENALISED = ("all", "selected")
LOG_VARIANCE_RANGE = (-6.0, 2.0)  # sigma from 0.05 to 2.7
LARGEST_MEAN = 10.0  # means beyond it are not penalised further


@dataclass(frozen=True)
class VSAEConfig:
    """Settings of a TopK vSAE.

    Args:
        dim: channels D of the activations.
        num_features: dictionary entries F.
        k: entries kept for each sample.
        variance: ``"deterministic"`` (released runs), ``"unit"`` (the text) or ``"learned"``.
        kl_weight: beta; 1 in the published runs. The KL is a sum over units, so 1 is strong.
        kl_on: ``"all"`` units, or only the ``"selected"`` ones (a later file of the authors).
        kl_warmup: steps over which beta rises from 0; a tenth of the published runs' 10,001.
        relu: cut the mean at 0, as the released runs do; the later file does not.
        aux_weight: weight of the AuxK loss; 0 in the published runs.
        dead_after: samples without firing after which a feature counts as dead.
        published_params: parameters that the sheet computes for this setting, or None.
    """

    dim: int
    num_features: int
    k: int
    variance: str = "deterministic"
    kl_weight: float = 1.0
    kl_on: str = "all"
    kl_warmup: int = 1000
    relu: bool = True
    aux_weight: float = 0.0
    dead_after: int = 10_000_000
    published_params: int | None = None

    def __post_init__(self):
        if self.variance not in VARIANCES:
            raise ValueError(f"variance must be one of {VARIANCES}, got {self.variance!r}")
        if self.kl_on not in PENALISED:
            raise ValueError(f"kl_on must be one of {PENALISED}, got {self.kl_on!r}")
        if self.kl_weight < 0:
            raise ValueError(f"kl_weight must not be negative, got {self.kl_weight}")
        if self.kl_warmup < 0:
            raise ValueError(f"kl_warmup must not be negative, got {self.kl_warmup}")


def _published() -> dict[str, VSAEConfig]:
    """Pythia-70m (D 512, F 16 D) and gelu-1l (D 512, F 4 D), each at four sparsities."""
    presets = {}
    for k in (64, 128, 256, 512):
        size = {"dim": 512, "num_features": 8192, "k": k}
        presets[f"pythia-70m-k{k}"] = VSAEConfig(**size, published_params=8_397_312)
        presets[f"pythia-70m-k{k}-learned"] = VSAEConfig(
            **size, variance="learned", published_params=12_599_808
        )
        presets[f"gelu-1l-k{k}"] = VSAEConfig(
            dim=512, num_features=2048, k=k, published_params=2_099_712
        )
    return presets


PRESETS: dict[str, VSAEConfig] = {
    # 1.6 % of the dictionary, as pythia-70m-k128; D of the small language model of the chapter.
    "tiny": VSAEConfig(dim=128, num_features=1024, k=16, kl_warmup=60),
    # The same host, and the published F = 16 D: the trained weights of the book.
    "book": VSAEConfig(dim=128, num_features=2048, k=32, kl_warmup=400),
    **_published(),
}


class VSAE(SparseDictionary):
    """Encode to a Gaussian, keep the k entries of largest magnitude, decode.

    mu = ReLU(W_e x + b_e);  z = mu + sigma eps;  S = TopK(|z|);  x_hat = W_d (z on S) + b_d

    Unlike the TopK autoencoder it is compared with, it subtracts no bias from the input, starts
    with entries of length 0.1 and lets their length change. A kept value keeps its sign.
    """

    def __init__(self, config: VSAEConfig):
        super().__init__(
            config.dim,
            config.num_features,
            config.k,
            norm=0.1,
            aux_weight=config.aux_weight,
            dead_after=config.dead_after,
        )
        self.config = config
        if config.variance == "learned":
            self.log_variance = nn.Linear(config.dim, config.num_features)
            nn.init.kaiming_uniform_(self.log_variance.weight, a=0.01)
            nn.init.constant_(self.log_variance.bias, -2.0)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and log variance of the activations.

        Args:
            x: (..., D).

        Returns:
            mu: (..., F).
            log_variance: (..., F) in [-6, 2] if it is learned, else None.
        """
        self.check(x)
        mu = self.encoder(x)
        mu = F.relu(mu) if self.config.relu else mu
        if self.config.variance != "learned":
            return mu, None
        return mu, self.log_variance(x).clamp(*LOG_VARIANCE_RANGE)

    def sample(self, mu: Tensor, log_variance: Tensor | None) -> Tensor:
        """z in training, mu in evaluation (and in the deterministic mode always), (..., F)."""
        if not self.training or self.config.variance == "deterministic":
            return mu
        if log_variance is None:
            return mu + torch.randn_like(mu)
        return torch.addcmul(mu, (0.5 * log_variance).exp(), torch.randn_like(mu))

    def select(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The k entries of largest magnitude: signed values and indices, both (..., k)."""
        indices = z.detach().abs().topk(self.k, sorted=False).indices
        return z.gather(-1, indices), indices

    def encode_sparse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(..., D) -> kept values and their indices, both (..., k), in no order."""
        return self.select(self.sample(*self.posterior(x)))

    def encode(self, x: Tensor) -> Tensor:
        """Feature activations, (..., D) -> (..., F)."""
        return self.scatter(*self.encode_sparse(x))

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction, (..., D) -> (..., D)."""
        return self.combine(*self.encode_sparse(x)) + self.bias

    def kl(self, mu: Tensor, log_variance: Tensor | None, indices: Tensor) -> Tensor:
        """KL from N(mu, sigma^2) to N(0, 1), summed over units, averaged over the batch, in nats.

        With sigma fixed at 1 (or absent) it is 1/2 mu^2. Means beyond 10 cost no more, as in the
        released code. ``indices`` (B, k) are the kept units.
        """
        if self.config.kl_on == "selected":
            mu = mu.gather(-1, indices)
            log_variance = None if log_variance is None else log_variance.gather(-1, indices)
        square = mu.clamp(-LARGEST_MEAN, LARGEST_MEAN).square()
        if log_variance is None:
            return 0.5 * square.sum(-1).mean()
        return 0.5 * (square + log_variance.exp() - 1 - log_variance).sum(-1).mean()

    def kl_factor(self, step: int) -> float:
        """beta w(t): the weight of the KL term at a step; w rises linearly from 0 to 1."""
        warmup = self.config.kl_warmup
        return self.config.kl_weight * (min(1.0, step / warmup) if warmup else 1.0)

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """||x - x_hat||^2 + beta w(t) KL + alpha L_aux: sums over units, means over the batch.

        Args:
            batch: ``{"x": (B, D)}``, of mean squared norm 1 in the published runs.
            step: optimiser step, for the warm-up of the KL term.

        Returns:
            total, and its parts ``mse``, ``kl`` (unweighted, nats) and ``aux``.
        """
        x = batch["x"]
        mu, log_variance = self.posterior(x)
        z = self.sample(mu, log_variance)
        values, indices = self.select(z)
        residual = x - self.combine(values, indices) - self.bias
        mse, kl = residual.square().sum(-1).mean(), self.kl(mu, log_variance, indices)
        if self.training:
            self.count_idle(values, indices)
        total = mse + self.kl_factor(step) * kl
        parts = {"mse": mse.detach(), "kl": kl.detach()}
        if self.aux_weight:
            aux = self.aux_loss(residual, z, z.abs())
            total, parts["aux"] = total + self.aux_weight * aux, aux.detach()
        return total, parts


@dataclass(frozen=True)
class TopKConfig:
    """Settings of the TopK autoencoder that a vSAE is compared with.

    Args:
        dim: channels D; ``num_features``: entries F; ``k``: kept for each sample.
        aux_weight: weight of the AuxK loss; 1/32 in the published runs.
        l2_weight: of half the squares of all activations; 0 but in a controlled experiment.
    """

    dim: int
    num_features: int
    k: int
    aux_weight: float = 1 / 32
    l2_weight: float = 0.0


def build_topk(config: TopKConfig) -> TopKSAE:
    """The TopK autoencoder of a configuration, with random weights."""
    model = TopKSAE(
        config.dim,
        config.num_features,
        config.k,
        aux_weight=config.aux_weight,
        l2_weight=config.l2_weight,
    )
    model.config = config
    return model


def build(config: VSAEConfig) -> VSAE:
    """The autoencoder of a configuration, with random weights."""
    return VSAE(config)


def example(config: VSAEConfig, batch_size: int = 1, device: str = "meta") -> dict[str, Tensor]:
    """A batch that ``loss`` takes: ``{"x": (B, D)}`` of random activations."""
    return {"x": torch.randn(batch_size, config.dim, device=device)}
