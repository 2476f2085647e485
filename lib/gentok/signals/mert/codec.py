"""The acoustic teacher: a neural codec with residual codes, small and ours, or EnCodec.

Encoder and decoder follow EnCodec (Défossez et al. 2022, 3.1), itself after SoundStream: residual
units and strided convolutions, channels doubling with each stride. Left out of ours: the two-layer
LSTM between convolutions and quantizer, weight normalisation, causal padding, the adversarial and
feature-matching losses with the discriminator, the balancer of loss gradients, entropy coding.
Ours alone, so that a training of minutes gets anywhere: every latent channel is normalised to unit
variance over all frames, and the first steps leave the quantizer out (EnCodec starts its codebooks
by k-means).

Shapes: B batch, L samples, T = ceil(L / stride) frames, D latent channels, Q codebooks.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.spectrogram import MelSpectrogram, check_wave
from gentok.signals.mert.residual_codec import ResidualCodec


@dataclass(frozen=True)
class CodecConfig:
    """Sizes of the codec.

    Args:
        rate: samples a second, Hertz.
        level: root mean square of the recordings; inside, sound is divided by it.
        strides: of the encoder, in order; their product is the samples of a frame.
        channels: of the first layer.
        dim: D; ``num_codebooks`` (Q) of ``codebook_size`` vectors.
        warmup: training steps before the quantizer is put between the halves.
        mel_windows: lengths in samples of the spectrograms that the loss compares.
        wave_weight, mel_weight: of the losses, as EnCodec's; ``commitment``: EnCodec has 1 under a
            balancer of gradients, which ours lacks.
    """

    rate: int = 8000
    level: float = 0.2
    strides: tuple[int, ...] = (5, 4, 4, 2)
    channels: int = 8
    dim: int = 32
    num_codebooks: int = 4
    codebook_size: int = 64
    warmup: int = 100
    mel_windows: tuple[int, ...] = (64, 256, 1024)
    wave_weight: float = 0.1
    mel_weight: float = 1.0
    commitment: float = 0.1
    published_params: int | None = None

    @property
    def stride(self) -> int:
        """Samples of a frame."""
        return math.prod(self.strides)


PRESETS: dict[str, CodecConfig] = {"tiny": CodecConfig()}


class ResidualUnit(nn.Module):
    """ELU, 3-convolution to half the width, ELU, 1-convolution back, around a skip (1x1)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv1d(channels, channels // 2, 3, padding=1)
        self.conv2 = nn.Conv1d(channels // 2, channels, 1)
        self.skip = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L) -> (B, C, L)."""
        return self.skip(x) + self.conv2(F.elu(self.conv1(F.elu(x))))


class Down(nn.Module):
    """ELU and a convolution twice as long as its stride: (B, C, L) -> (B, 2C, L / stride)."""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.pad = (stride // 2, stride - stride // 2)
        self.conv = nn.Conv1d(channels, 2 * channels, 2 * stride, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(F.elu(x), self.pad))


class Up(nn.Module):
    """The mirror of :class:`Down`: (B, 2C, T) -> (B, C, T * stride)."""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.cut = (stride // 2, stride - stride // 2)
        self.conv = nn.ConvTranspose1d(2 * channels, channels, 2 * stride, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(F.elu(x))  # (B, C, T * stride + stride)
        return out[..., self.cut[0] : out.shape[-1] - self.cut[1]]


class Codec(ResidualCodec):
    """A convolutional autoencoder of sound with residual vector quantization between its halves."""

    def __init__(self, config: CodecConfig):
        super().__init__(config)
        widths = [config.channels * 2**i for i in range(len(config.strides) + 1)]
        self.encoder = nn.Sequential(nn.Conv1d(1, widths[0], 7, padding=3))
        for width, stride in zip(widths, config.strides, strict=False):
            self.encoder.extend([ResidualUnit(width), Down(width, stride)])
        self.encoder.extend([nn.ELU(), nn.Conv1d(widths[-1], config.dim, 7, padding=3)])
        self.decoder = nn.Sequential(nn.Conv1d(config.dim, widths[-1], 7, padding=3))
        for width, stride in reversed(list(zip(widths, config.strides, strict=False))):
            self.decoder.extend([Up(width, stride), ResidualUnit(width)])
        self.decoder.extend([nn.ELU(), nn.Conv1d(widths[0], 1, 7, padding=3)])
        for layer in self.modules():
            if isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d)):
                _keep_variance(layer)
        self.mels = nn.ModuleList(
            MelSpectrogram(config.rate, size, size // 4, max(4, size // 16), power=1.0)
            for size in config.mel_windows
        )

    def latents(self, wave: Tensor) -> Tensor:
        """Waveforms (B, L), filled with silence to whole frames -> latents (B, T, D)."""
        check_wave(wave)
        padded = F.pad(wave, (0, -wave.shape[1] % self.config.stride))
        # Without a norm over frames the first thing to be learned is a constant latent and the
        # mean spectrum, and from there the way on is long.
        return self.norm(self.encoder(padded[:, None] / self.config.level)).transpose(1, 2)

    def synthesise(self, z: Tensor) -> Tensor:
        """Latents (B, T, D) -> waveforms (B, T * stride)."""
        return self.decoder(z.transpose(1, 2))[:, 0] * self.config.level

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, T, Q), -1 for levels to leave out -> waveforms (B, T * stride)."""
        return self.synthesise(self.quantizer.lookup(codes))

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstruction of ``batch["wave"]`` (B, L), without the quantizer in the first steps.

        Returns:
            the total, and ``wave`` (mean absolute error), ``mel`` (absolute error of mel bands plus
            squared error of their decades, mean over windows), ``commitment``.
        """
        wave = batch["wave"]
        z = self.latents(wave)
        commitment = z.new_zeros(())
        if step >= self.config.warmup:  # a quantizer of random codes would teach silence first
            z, _, commitment = self.quantizer(z)
        guess = self.synthesise(z)[:, : wave.shape[1]]
        error = F.l1_loss(guess, wave)
        mel = torch.stack([self._mel_error(m, guess, wave) for m in self.mels]).mean()
        total = self.config.wave_weight * error + self.config.mel_weight * mel + commitment
        parts = {"wave": error, "mel": mel, "commitment": commitment}
        return total, {name: value.detach() for name, value in parts.items()}

    @staticmethod
    def _mel_error(transform: MelSpectrogram, guess: Tensor, wave: Tensor) -> Tensor:
        ours, theirs = transform(guess), transform(wave)
        # A loud tone has about 0.3. Without a floor the silence between tones would decide.
        decades = [band.clamp_min(1e-2).log10() for band in (ours, theirs)]
        return F.l1_loss(ours, theirs) + F.mse_loss(*decades)


def _keep_variance(conv: nn.Conv1d | nn.ConvTranspose1d) -> None:
    """Start with outputs as large as inputs and without a bias."""
    taps = conv.kernel_size[0] / (conv.stride[0] if isinstance(conv, nn.ConvTranspose1d) else 1)
    nn.init.normal_(conv.weight, std=(conv.in_channels * taps) ** -0.5)
    nn.init.zeros_(conv.bias)


def build(config: CodecConfig) -> Codec:
    """The codec of a configuration."""
    return Codec(config)


class EnCodecTeacher(nn.Module):
    """Meta's EnCodec as MERT's published teacher: 24 kHz, 75 frames a second, 8 codes of 1,024.

    Args:
        source: a hub name such as ``"facebook/encodec_24khz"``, or a folder in the hub's format.
        bandwidth: kilobits a second; 6.0 is eight codebooks.

    Raises:
        FileNotFoundError: if ``source`` is no folder and the hub has no copy or cannot be reached.
        ValueError: if the model does not offer the bandwidth.
    """

    def __init__(self, source: str | Path, bandwidth: float = 6.0):
        super().__init__()
        from transformers import EncodecModel  # slow to import; only the published presets need it

        try:
            self.model = EncodecModel.from_pretrained(str(source)).eval().requires_grad_(False)
        except OSError as error:
            reason = str(error).splitlines()[0]
            raise FileNotFoundError(f"no EnCodec at {source!r}: {reason}") from error
        offered = self.model.config.target_bandwidths
        if bandwidth not in offered:
            raise ValueError(f"bandwidth must be one of {offered}, got {bandwidth}")
        self.bandwidth = bandwidth

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Waveforms (B, L) at the model's rate -> codes (B, T, Q), int64."""
        check_wave(x)
        codes = self.model.encode(x[:, None], bandwidth=self.bandwidth).audio_codes
        return codes[0].transpose(1, 2)  # (chunks, B, Q, T), one chunk
