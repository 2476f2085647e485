"""Denoising diffusion: the way to noise, the way back, and what a network may predict.

Ho et al. 2020 (DDPM, arXiv:2006.11239); velocity: Salimans and Ho 2022 (arXiv:2202.00512), 4.

Time is the papers' own: steps t = 0, ..., T - 1 count from data to noise, the opposite of this
book's flow time, and t = -1 stands for the clean sample. A step backwards goes from t to any
earlier s, not only to t - 1: what it needs of the schedule are the two shares of signal alpha-bar.

Shapes: B batch; the rest of a sample's axes are arbitrary. An alpha-bar is a float for the whole
batch, or (B,).
"""

import torch
from torch import Tensor

PREDICTIONS = ("noise", "data", "velocity")
VARIANCES = ("small", "large", "learned")


def spread(value: float | Tensor, like: Tensor) -> float | Tensor:
    """A number for each sample, (B,), made to multiply ``like`` (B, ...); a float stays one."""
    if not isinstance(value, Tensor):
        return value
    dtype = torch.promote_types(like.dtype, torch.float32)  # half precision loses 1 - alpha-bar
    return value.to(like.device, dtype).view(-1, *[1] * (like.ndim - 1))


def diffuse(x0: Tensor, noise: Tensor, alpha_bar: float | Tensor) -> Tensor:
    """x_t = sqrt(alpha-bar) x_0 + sqrt(1 - alpha-bar) eps (equation 4): (B, ...) each."""
    return spread(alpha_bar**0.5, x0) * x0 + spread((1 - alpha_bar) ** 0.5, x0) * noise


def target(x0: Tensor, noise: Tensor, alpha_bar: float | Tensor, prediction: str) -> Tensor:
    """What the network learns: eps, x_0, or v = sqrt(alpha-bar) eps - sqrt(1 - alpha-bar) x_0."""
    if prediction == "noise":
        return noise
    if prediction == "data":
        return x0
    return spread(alpha_bar**0.5, x0) * noise - spread((1 - alpha_bar) ** 0.5, x0) * x0


def data_weights(
    alpha_bar: float | Tensor, prediction: str
) -> tuple[float | Tensor, float | Tensor]:
    """The clean sample is a sum of state and output: the weights of x_t and of the output."""
    signal, noise = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    if prediction == "noise":
        return 1 / signal, -noise / signal  # equation 4 solved for x_0
    if prediction == "data":
        return 0.0, 1.0
    return signal, -noise  # Salimans and Ho, appendix D


def to_data(output: Tensor, x_t: Tensor, alpha_bar: float | Tensor, prediction: str) -> Tensor:
    """The clean sample that a network's output stands for: (B, ...) -> (B, ...)."""
    if prediction == "data":
        return output
    of_state, of_output = data_weights(alpha_bar, prediction)
    return spread(of_state, x_t) * x_t + spread(of_output, x_t) * output


def to_noise(x0: Tensor, x_t: Tensor, alpha_bar: float | Tensor) -> Tensor:
    """The noise that leads from ``x0`` to ``x_t``: equation 4 solved for eps."""
    return (x_t - spread(alpha_bar**0.5, x_t) * x0) / spread((1 - alpha_bar) ** 0.5, x_t)


def posterior_mean(
    x0: Tensor, x_t: Tensor, alpha_bar_t: float | Tensor, alpha_bar_s: float | Tensor
) -> Tensor:
    """Mean of q(x_s | x_t, x_0) for an s before t (equation 7, where s = t - 1)."""
    alpha = alpha_bar_t / alpha_bar_s
    of_data = alpha_bar_s**0.5 * (1 - alpha) / (1 - alpha_bar_t)
    of_state = alpha**0.5 * (1 - alpha_bar_s) / (1 - alpha_bar_t)
    return spread(of_data, x0) * x0 + spread(of_state, x_t) * x_t


def posterior_variance(alpha_bar_t: float | Tensor, alpha_bar_s: float | Tensor) -> float | Tensor:
    """Variance of q(x_s | x_t, x_0), beta-tilde (equation 7); 0 where s is the clean sample."""
    return (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)


class GaussianDiffusion:
    """A schedule together with what the network predicts. It has no parameters.

    Args:
        betas: (T,), in (0, 1), see :mod:`gentok.process.diffusion_schedules`.
        prediction: ``"noise"``, ``"data"`` or ``"velocity"``.
        variance: of a step backwards: ``"small"`` (beta-tilde, right for a single point),
            ``"large"`` (beta, right for Gaussian data), or ``"learned"`` between the two, by a
            network whose output has twice the channels (:mod:`gentok.process.learned_variance`).

    Raises:
        ValueError: on fewer than two betas, betas outside (0, 1), or an unknown name.
    """

    def __init__(self, betas: Tensor, prediction: str = "noise", variance: str = "small"):
        if betas.ndim != 1 or len(betas) < 2 or not ((betas > 0) & (betas < 1)).all():
            raise ValueError(f"betas must be two or more in (0, 1), got {tuple(betas.shape)}")
        if prediction not in PREDICTIONS:
            raise ValueError(f"prediction must be one of {PREDICTIONS}, got {prediction!r}")
        if variance not in VARIANCES:
            raise ValueError(f"variance must be one of {VARIANCES}, got {variance!r}")
        self.prediction, self.variance = prediction, variance
        # One more entry, 1, at the end: index -1 is the clean sample.
        alpha_bar = (1 - betas.double()).cumprod(0)
        self._alpha_bar = torch.cat([alpha_bar, alpha_bar.new_ones(1)])  # (T + 1,)
        self._shares = self._alpha_bar.tolist()

    @property
    def num_steps(self) -> int:
        """Number of training steps T."""
        return len(self._shares) - 1

    def alpha_bar(self, t: int | Tensor) -> float | Tensor:
        """Share of signal left at step t: a float for an int, (B,) for (B,) int64.

        Raises:
            ValueError: if an int lies outside [-1, T).
        """
        if isinstance(t, Tensor):
            dtype = torch.float32 if t.device.type == "mps" else torch.float64
            return self._alpha_bar.to(t.device, dtype)[t]
        if not -1 <= t < self.num_steps:
            raise ValueError(f"t must lie in [-1, {self.num_steps}), got {t}")
        return self._shares[t]

    def random_steps(self, n: int, device: torch.device | str | None = None) -> Tensor:
        """n uniform training steps, (n,) int64 in [0, T)."""
        return torch.randint(self.num_steps, (n,), device=device)

    def q_sample(self, x0: Tensor, noise: Tensor, t: int | Tensor) -> Tensor:
        """Clean samples and noise, (B, ...) -> x_t (B, ...), a draw of q(x_t | x_0)."""
        return diffuse(x0, noise, self.alpha_bar(t))

    def split(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """A network's output -> its prediction (B, C, ...) and its variance half, if it has one.

        Raises:
            ValueError: if the variance is learned and axis 1 is odd.
        """
        if self.variance != "learned":
            return output, None
        if output.shape[1] % 2:
            raise ValueError(f"output must have twice the channels, got {tuple(output.shape)}")
        prediction, variance = output.chunk(2, dim=1)
        return prediction, variance

    def predict_data(self, output: Tensor, x_t: Tensor, t: int | Tensor) -> Tensor:
        """The clean sample that the network's output (B, C or 2C, ...) stands for, (B, C, ...)."""
        return to_data(self.split(output)[0], x_t, self.alpha_bar(t), self.prediction)

    def simple_loss(self, output: Tensor, x0: Tensor, noise: Tensor, t: int | Tensor) -> Tensor:
        """Squared error of the prediction, (B,), mean over all axes but the first (equation 14).

        Not averaged over the batch, since some papers weigh or mask samples (MAR: its tokens).

        Raises:
            ValueError: if the prediction and ``x0`` differ in shape.
        """
        prediction = self.split(output)[0]
        if prediction.shape != x0.shape:
            raise ValueError(f"expected {tuple(x0.shape)}, predicted {tuple(prediction.shape)}")
        wanted = target(x0, noise, self.alpha_bar(t), self.prediction)
        return (prediction - wanted).square().flatten(1).mean(1)
