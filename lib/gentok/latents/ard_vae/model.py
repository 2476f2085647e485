"""ARD-VAE: a variational autoencoder whose prior is estimated, axis by axis, from encoded data.

Saha, Joshi and Whitaker 2025 (arXiv:2501.10901). The fixed prior N(0, I) becomes N(0, sigma_l^2)
with a variance of its own for each latent axis, read off encoded samples of training pictures that
the steps of the epoch do not see, once an epoch and without gradient. Axes that the decoder needs
spread out; the others stay at a common low level. A Jacobian-weighted score then counts the former.

Pictures are in [-1, 1] at every door. The loss is taken in the range that the published weight of
the KL term belongs to: [0, 1], or [-1, 1] where the decoder is ``signed``.

Shapes: B batch, C channels, S pixels a side, L axes.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gentok.latents.ard_vae.networks import (
    NetworkConfig,
    build_decoder,
    build_encoder,
    in_chunks,
    squared_error,
)
from gentok.latents.ard_vae.plateau import Plateau
from gentok.nn.latents import LatentSpace, evaluating
from gentok.process.ard import gamma_posterior, kl_to_axes, kl_to_student
from gentok.process.relevance import jacobian_weights, relevant_axes

PRIORS = ("gaussian", "student", "normal", "learned")
LOOKED_AT = 100  # encoded samples at which the decoder's Jacobian is taken
SHARE = 0.99  # of all relevance that the relevant axes exceed


@dataclass(frozen=True)
class ARDVAEConfig:
    """Networks, and the prior.

    Args:
        network: sizes of encoder and decoder; ``network.latent_dim`` is L.
        beta: weight of the KL, a sum over axes, against a squared error summed over a picture.
        prior: ``"gaussian"``, variances estimated from samples, as in the authors' code;
            ``"student"``, the predictive prior itself; ``"normal"``, N(0, I): a plain VAE, or a
            beta-VAE; ``"learned"``, variances that follow the gradient: a mistake to learn from.
        published_params: where a source states a count (none does).
    """

    network: NetworkConfig
    beta: float
    prior: str = "gaussian"
    published_params: int | None = None

    def __post_init__(self):
        if self.prior not in PRIORS:
            raise ValueError(f"prior must be one of {PRIORS}, got {self.prior!r}")
        if not self.beta >= 0:
            raise ValueError(f"beta must be 0 or more, got {self.beta}")

    @property
    def latent_dim(self) -> int:
        """L."""
        return self.network.latent_dim


class Autoencoder(nn.Module):
    """Encoder, decoder, and the range of pictures: what ARD-VAE and its rivals share."""

    def __init__(self, config: ARDVAEConfig):
        super().__init__()
        self.config = config
        self.encoder = build_encoder(config.network)
        self.decoder = build_decoder(config.network)

    @property
    def latent_space(self) -> LatentSpace:
        """L floats a picture."""
        return LatentSpace("continuous", (self.config.latent_dim,), "image")

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (B, C, S, S) in [-1, 1] -> means and log-variances, (B, L) each.

        Raises:
            ValueError: if ``x`` has another shape or holds integers.
        """
        shape = self.config.network.image_shape
        if x.shape[1:] != shape or not x.is_floating_point():
            raise ValueError(
                f"x must be float (B, {', '.join(map(str, shape))}), got {tuple(x.shape)} {x.dtype}"
            )
        return self.encoder(x).chunk(2, dim=1)

    def encode(self, x: Tensor, sample: bool = False) -> Tensor:
        """Pictures (B, C, S, S) in [-1, 1] -> latents (B, L).

        Args:
            x: pictures.
            sample: draw from the posteriors instead of taking their means.
        """
        with evaluating(self):
            mean, logvar = self.moments(x)
        return _drawn(mean, logvar) if sample else mean

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, L) -> pictures (B, C, S, S) in [-1, 1]."""
        if z.ndim != 2 or z.shape[1] != self.config.latent_dim:
            raise ValueError(f"z must be (B, {self.config.latent_dim}), got {tuple(z.shape)}")
        with evaluating(self):
            made = self.decoder(z)
        return made if self.config.network.signed else 2 * made - 1

    def target(self, x: Tensor) -> Tensor:
        """Pictures in [-1, 1] -> the range in which their error is taken."""
        return x if self.config.network.signed else (x + 1) / 2


class ARDVAE(Autoencoder):
    """The model; what it knows about its axes are buffers, so a checkpoint holds them."""

    def __init__(self, config: ARDVAEConfig):
        super().__init__(config)
        axes = config.latent_dim
        # Gamma(a, b_l) of each axis' precision. Before the first look a = b = 1: variance 1.
        self.register_buffer("gamma_a", torch.ones(()))
        self.register_buffer("gamma_b", torch.ones(axes))
        # What `find_relevant` fills in, for reconstruction and sampling with relevant axes only.
        self.register_buffer("center", torch.zeros(axes))
        self.register_buffer("relevance", torch.ones(axes))
        self.register_buffer("relevant", torch.ones(axes, dtype=torch.bool))
        self.plateau = Plateau()
        if config.prior == "learned":
            self.log_variance = nn.Parameter(torch.zeros(axes))

    @property
    def variance(self) -> Tensor:
        """sigma_l^2 of the prior, (L,): b_l / a, a constant for the gradient."""
        if self.config.prior == "learned":
            return self.log_variance.exp()
        if self.config.prior == "normal":
            return torch.ones_like(self.gamma_b)
        return self.measured_variance

    @property
    def measured_variance(self) -> Tensor:
        """Second moment of encoded samples at the last look, (L,), whatever the prior is."""
        return self.gamma_b / self.gamma_a

    def kl(self, mean: Tensor, logvar: Tensor, z: Tensor) -> Tensor:
        """KL of posteriors to the prior, nats, (B, L); ``z`` is a sample of them."""
        if self.config.prior == "student":
            return kl_to_student(mean, logvar, z, self.gamma_a, self.gamma_b)
        return kl_to_axes(mean, logvar, self.variance)

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """|x - x_hat|^2 + beta KL (section 3 of the paper).

        Args:
            batch: ``image`` (B, C, S, S) in [-1, 1].
            step: not used.

        Returns:
            total, scalar; parts ``sse``, squared error a picture, and ``kl``, nats a picture.
        """
        x = batch["image"]
        mean, logvar = self.moments(x)
        z = _drawn(mean, logvar)
        sse = squared_error(self.target(x), self.decoder(z))
        kl = self.kl(mean, logvar, z).sum(1).mean()
        return sse + self.config.beta * kl, {"sse": sse, "kl": kl}

    @torch.no_grad()
    def update_prior(self, x: Tensor, noise: Tensor, means: bool = False) -> None:
        """Read the prior's variances off pictures; a fixed or learned prior stays as it is.

        Args:
            x: X_alpha, pictures (N, C, S, S) that the coming steps do not see.
            noise: standard Gaussian, (N, L): z = mean + s * noise.
            means: take means instead of samples, as one must not.
        """
        if self.config.prior in ("normal", "learned"):
            return
        with evaluating(self):
            moments = in_chunks(lambda part: torch.cat(self.moments(part), 1), x)
        mean, logvar = moments.chunk(2, dim=1)
        z = mean if means else mean + (0.5 * logvar).exp() * noise.to(mean)
        a, b = gamma_posterior(z)
        self.gamma_a.copy_(a)
        self.gamma_b.copy_(b)

    @torch.no_grad()
    def find_relevant(self, x: Tensor, noise: Tensor) -> Tensor:
        """Score all axes by variance times reaction of the decoder, and keep the relevant ones.

        Args:
            x: pictures to encode, (N, C, S, S); the Jacobian is taken at the first 100.
            noise: standard Gaussian, (N, L).

        Returns:
            scores r_l = w_l sigma_l^2, (L,).
        """
        with evaluating(self):
            moments = in_chunks(lambda part: torch.cat(self.moments(part), 1), x)
            mean, logvar = moments.chunk(2, dim=1)
            z = mean + (0.5 * logvar).exp() * noise.to(mean)
            a, b = gamma_posterior(z)  # anew, also under a fixed prior
            weight = jacobian_weights(self.decoder, z[:LOOKED_AT])
        self.gamma_a.copy_(a)
        self.gamma_b.copy_(b)
        self.center.copy_(mean.mean(0))
        self.relevance.copy_(weight * b / a)
        self.relevant.zero_()
        self.relevant[relevant_axes(self.relevance, SHARE)] = True
        return self.relevance.clone()

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw pictures (n, C, S, S): relevant axes from the prior, all others at their mean."""
        noise = torch.randn(n, self.config.latent_dim).to(self.center)
        spread = self.variance.sqrt() * self.relevant
        return self.decode(self.center + spread * noise)

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """There and back: the posterior's noise on relevant axes, the mean on all others."""
        with evaluating(self):
            mean, logvar = self.moments(x)
        noise = torch.randn_like(mean) * self.relevant
        return self.decode(mean + (0.5 * logvar).exp() * noise)

    @torch.no_grad()
    def steering_loss(self, x: Tensor, noise: Tensor) -> Tensor:
        """What the authors' code watches to halve its learning rate, ().

        Their printed KL has sigma^2 where log sigma^2 belongs. Training never sees the difference,
        a constant for the gradient; the rate is halved at other epochs.
        """
        with evaluating(self):
            mean, logvar = self.moments(x)
            z = mean + (0.5 * logvar).exp() * noise.to(mean)
            sse = squared_error(self.target(x), self.decoder(z))
        printed = kl_to_axes(mean, logvar, self.variance).sum(1).mean()
        printed += 0.5 * (self.variance - self.variance.log()).sum()
        return sse + self.config.beta * printed


def _drawn(mean: Tensor, logvar: Tensor) -> Tensor:
    return mean + (0.5 * logvar).exp() * torch.randn_like(mean)


# --- presets --------------------------------------------------------------------------------------

_MNIST = NetworkConfig(
    channels=1, image_size=32, latent_dim=128, width=64, start=2, up=(4, 2, 1), last_stride=2
)
_CIFAR10 = NetworkConfig(channels=3, image_size=32, latent_dim=256, width=128, start=8, up=(4, 2))
_CELEBA = NetworkConfig(
    channels=3,
    image_size=64,
    latent_dim=64,
    width=64,
    start=8,
    up=(4, 2, 1),
    signed=True,
    doubled=True,
)
_TINY = NetworkConfig(
    channels=1, image_size=16, latent_dim=16, width=8, start=2, up=(4, 2), last_stride=2
)
_BLOBS = NetworkConfig(kind="mlp", channels=1, image_size=16, latent_dim=12, width=256)

PRESETS: dict[str, ARDVAEConfig] = {
    # Small convolutions on scikit-learn's handwritten digits.
    "tiny": ARDVAEConfig(_TINY, beta=0.5),
    # The book's own, on blobs of four known factors: the chapter, its study and the weights.
    "blobs-6": ARDVAEConfig(replace(_BLOBS, latent_dim=6), beta=0.025),
    "blobs-12": ARDVAEConfig(_BLOBS, beta=0.025),
    "blobs-24": ARDVAEConfig(replace(_BLOBS, latent_dim=24), beta=0.025),
    # The published configurations, from the authors' code.
    "mnist": ARDVAEConfig(_MNIST, beta=0.5),
    "mnist-16": ARDVAEConfig(replace(_MNIST, latent_dim=16), beta=0.5),
    "cifar10": ARDVAEConfig(_CIFAR10, beta=0.05),
    "celeba": ARDVAEConfig(_CELEBA, beta=3.0),
    "celeba-128": ARDVAEConfig(replace(_CELEBA, width=128), beta=3.0),
}


def build(config: ARDVAEConfig) -> ARDVAE:
    """The model of a configuration, untrained."""
    return ARDVAE(config)


def example(config: ARDVAEConfig, batch_size: int = 1, device: str = "meta") -> dict[str, Tensor]:
    """A batch of the right shapes that ``loss`` takes (zeros)."""
    return {"image": torch.zeros(batch_size, *config.network.image_shape, device=device)}
