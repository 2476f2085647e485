"""The motion tokenizer of MoMask and Mogo: a convolutional autoencoder around residual codes.

Mogo (Fu 2024, arXiv:2412.07797) takes the RVQ-VAE of MoMask (Guo et al. 2024, 3.1) and, in its
released code, drops the reduction in time: one column of Q codes a frame. The layers, the training
of the codebooks (`sampled_rvq`) and the weights of the loss follow that code. The
codebook size behind the paper's numbers is not stated in it.

Shapes: B batch, T frames, F features, C width, D code channels, K codes, Q levels, N = T / factor.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.data.motion_features import feature_scale, feature_slices
from gentok.nn.latents import LatentSpace, evaluating
from gentok.signals.mogo.sampled_rvq import SampledResidualVQ


@dataclass(frozen=True)
class MotionRVQConfig:
    """Sizes and loss weights; the defaults are Mogo's released ones with width 512.

    Args:
        feature_dim: F, features a frame, 12 joints - 1.
        width: C; ``code_dim``: D; ``codebook_size``: K; ``num_levels``: Q.
        stages: down- and upsampling stages; ``stride``: of each, 1 or 2.
        dilations: of the residual blocks of a stage.
        dropout: after each residual block.
        decay: share of the past kept by the codebook's moving averages.
        temperature: of the draw of codes in training; 0 takes the nearest.
        level_dropout: probability that a training batch uses only its first levels.
        position_weight, commitment: weights of those terms beside the reconstruction.
        published_params: encoder and decoder; the codebooks are no trained parameters.
    """

    feature_dim: int = 263
    width: int = 512
    code_dim: int = 512
    codebook_size: int = 512
    num_levels: int = 6
    stages: int = 1
    stride: int = 1
    dilations: tuple[int, ...] = (9, 3, 1)
    dropout: float = 0.2
    decay: float = 0.99
    temperature: float = 0.5
    level_dropout: float = 0.2
    position_weight: float = 0.5
    commitment: float = 0.02
    published_params: int | None = None

    @property
    def factor(self) -> int:
        """Frames that share one column of codes."""
        return self.stride**self.stages


PRESETS: dict[str, MotionRVQConfig] = {
    # 18 joints of the book's skeleton; a codebook that follows quickly, for runs of minutes. The
    # temperature shrinks with the channels, as squared distances do: 0.5 at 512 is 0.016 at 16
    # (ours is twice that).
    "tiny": MotionRVQConfig(
        feature_dim=215,
        width=64,
        code_dim=16,
        codebook_size=64,
        num_levels=4,
        dropout=0.0,
        decay=0.9,
        temperature=0.03,
    ),
    # The weights that come with the book; the temperature is scaled as above.
    "world": MotionRVQConfig(
        feature_dim=215,
        width=96,
        code_dim=32,
        codebook_size=128,
        num_levels=4,
        dropout=0.0,
        decay=0.95,
        temperature=0.03,
    ),
    "momask": MotionRVQConfig(stages=2, stride=2, published_params=19_436_807),
    "mogo-512": MotionRVQConfig(published_params=11_041_031),
    # Codes of 1,024 channels; the transformer's own default codebook has as many entries.
    "mogo-1024": MotionRVQConfig(
        width=1024, code_dim=1024, codebook_size=1024, published_params=42_529_031
    ),
}


class ResidualConv(nn.Module):
    """x + Dropout(Conv1(ReLU(Conv3(ReLU x)))), the first convolution dilated."""

    def __init__(self, width: int, dilation: int, dropout: float):
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation),
            nn.ReLU(),
            nn.Conv1d(width, width, 1),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, N) -> (B, C, N)."""
        return x + self.layers(x)


def _encoder(config: MotionRVQConfig) -> nn.Sequential:
    c, stride = config.width, config.stride
    kernel, padding = (3, 1) if stride == 1 else (2 * stride, stride // 2)
    layers = [nn.Conv1d(config.feature_dim, c, 3, padding=1), nn.ReLU()]
    for _ in range(config.stages):
        layers.append(nn.Conv1d(c, c, kernel, stride, padding))
        layers += [ResidualConv(c, d, config.dropout) for d in config.dilations]
    return nn.Sequential(*layers, nn.Conv1d(c, config.code_dim, 3, padding=1))


def _decoder(config: MotionRVQConfig) -> nn.Sequential:
    c = config.width
    layers = [nn.Conv1d(config.code_dim, c, 3, padding=1), nn.ReLU()]
    for _ in range(config.stages):
        layers += [ResidualConv(c, d, config.dropout) for d in config.dilations]
        layers.append(nn.Upsample(scale_factor=config.stride, mode="nearest"))
        layers.append(nn.Conv1d(c, c, 3, padding=1))
    layers += [nn.Conv1d(c, c, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv1d(c, config.feature_dim, 3, padding=1))


class MotionRVQ(nn.Module):
    """Frames of features to columns of Q codes and back."""

    def __init__(self, config: MotionRVQConfig):
        super().__init__()
        if config.stride not in (1, 2) or min(config.stages, config.num_levels) < 1:
            raise ValueError(
                "stride must be 1 or 2, stages and num_levels at least 1; got "
                f"{config.stride}, {config.stages} and {config.num_levels}"
            )
        self.config = config
        self.encoder, self.decoder = _encoder(config), _decoder(config)
        self.quantizer = SampledResidualVQ(
            config.num_levels,
            config.level_dropout,
            codebook_size=config.codebook_size,
            dim=config.code_dim,
            decay=config.decay,
            temperature=config.temperature,
        )
        self.register_buffer("mean", torch.zeros(config.feature_dim))
        self.register_buffer("spread", torch.ones(config.feature_dim))
        self.positions = feature_slices((config.feature_dim + 1) // 12)["positions"]

    def set_statistics(self, features: Tensor) -> None:
        """Take the scale of the features (`feature_scale`) from sample ones (..., F)."""
        mean, spread = feature_scale(features)
        self.mean.copy_(mean)
        self.spread.copy_(spread)

    def normalize(self, features: Tensor) -> Tensor:
        """Features (..., F) in their own units -> what the networks see."""
        return (features - self.mean) / self.spread

    def denormalize(self, features: Tensor) -> Tensor:
        """The way back, (..., F)."""
        return features * self.spread + self.mean

    def latents(self, motion: Tensor) -> Tensor:
        """Features (B, T, F) -> latents (B, N, D).

        Raises:
            ValueError: if the motion is not (B, T, F), or T no multiple of the factor.
        """
        size, factor = self.config.feature_dim, self.config.factor
        if motion.ndim != 3 or motion.shape[2] != size or motion.shape[1] % factor:
            raise ValueError(
                f"motion must be (B, T, {size}) with T a multiple of {factor}, "
                f"got {tuple(motion.shape)}"
            )
        return self.encoder(self.normalize(motion).mT).mT

    @property
    def latent_space(self) -> LatentSpace:
        """(N, Q) codes a clip; N grows with its frames."""
        config = self.config
        return LatentSpace("discrete", (None, config.num_levels), "motion", config.codebook_size)

    def encode(self, x: Tensor) -> Tensor:
        """Features (B, T, F) -> the nearest codes (B, N, Q), int64, whatever the training mode."""
        with evaluating(self):
            return self.quantizer(self.latents(x))[1]

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, N, Q), levels marked -1 left out -> features (B, T, F)."""
        return self.denormalize(self.from_latents(self.quantizer.lookup(codes)))

    def from_latents(self, z_q: Tensor) -> Tensor:
        """Quantized latents (B, N, D) -> normalised features (B, T, F)."""
        return self.decoder(z_q.mT).mT

    def loss(self, batch: dict[str, Tensor], step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Smooth L1 of normalised features, again on local joint positions, and commitment.

        Args:
            batch: ``motion`` (B, T, F), features in their own units.
            step: unused.
        """
        z_q, _, commitment = self.quantizer(self.latents(batch["motion"]))
        target, out = self.normalize(batch["motion"]), self.from_latents(z_q)
        reconstruction = F.smooth_l1_loss(out, target)
        position = F.smooth_l1_loss(out[..., self.positions], target[..., self.positions])
        c = self.config
        total = reconstruction + c.position_weight * position + c.commitment * commitment
        parts = {
            "reconstruction": reconstruction.detach(),
            "position": position.detach(),
            "commitment": commitment.detach(),
        }
        return total, parts

    @property
    def reach(self) -> int:
        """Columns on either side that a decoded frame depends on."""
        reach = 0
        for layer in reversed(list(self.decoder.modules())):
            if isinstance(layer, nn.Conv1d):
                reach += layer.dilation[0] * (layer.kernel_size[0] // 2)
            elif isinstance(layer, nn.Upsample):
                reach = math.ceil(reach / layer.scale_factor)
        return reach

    @torch.no_grad()
    def decode_stream(self, columns: Iterable[Tensor]) -> Iterator[Tensor]:
        """Decode columns as they come; a column's frames appear once ``reach`` more have come.

        The decoder looks to both sides, so a stream lags behind the generator by ``reach``
        columns. Each step decodes one window of 2 reach + 1 columns, and the frames are those of
        decoding everything at once.

        Args:
            columns: codes (B, Q), one after the other; a stream may be endless.

        Yields:
            features (B, factor, F).
        """
        window, first = [], 0  # `first`: the window's first column, counted from the beginning
        done, factor, reach = 0, self.config.factor, self.reach
        for column in columns:
            window.append(column)
            if first + len(window) > done + reach:
                at = (done - first) * factor
                yield self.decode(torch.stack(window, dim=1))[:, at : at + factor]
                done += 1
                if done - first > reach:
                    window, first = window[1:], first + 1
        if window:  # the end of the stream is the end of the clip
            yield from self.decode(torch.stack(window, dim=1))[:, (done - first) * factor :].split(
                factor, dim=1
            )


def build(config: MotionRVQConfig) -> MotionRVQ:
    """The tokenizer of a configuration."""
    return MotionRVQ(config)


def example(config: MotionRVQConfig, batch_size: int, device: str = "meta") -> dict[str, Tensor]:
    """A batch that :meth:`MotionRVQ.loss` takes: windows of 64 frames."""
    return {"motion": torch.zeros(batch_size, 64, config.feature_dim, device=device)}
