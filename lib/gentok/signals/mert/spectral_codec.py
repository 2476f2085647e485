"""The acoustic teacher of the book's presets: residual codes of a spectrum, heard through phases.

EnCodec (Défossez et al. 2022) codes the waveform. Its codes therefore say at which point of their
swing the tones are, too, which costs most of their bits and which no student of minutes can guess.
This codec is ours: the same residual codes (SoundStream, Zeghidour et al. 2021, III-C), one column
a frame, between two halves that see logarithmic magnitudes instead, as spectral codecs of speech do
(Langman et al. 2024). Phases are found afterwards by Griffin and Lim's method.

Shapes: B batch, L samples, T = 1 + L // hop frames, F frequencies, D latent channels, Q codebooks.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.griffin_lim import griffin_lim
from gentok.nn.latents import evaluating
from gentok.nn.spectrogram import check_wave
from gentok.signals.mert.residual_codec import ResidualCodec


@dataclass(frozen=True)
class SpectralCodecConfig:
    """Sizes of the codec.

    Args:
        rate: samples a second, Hertz.
        hop: samples between frames; ``window``: of the Fourier transform, samples.
        floor: amplitudes well below this are silence.
        channels: of both halves; ``depth`` residual units in each.
        dim: D, few, since all channels have unit variance and a code has to say something of each;
            ``num_codebooks`` (Q) of ``codebook_size`` vectors.
        warmup: training steps before the quantizer is put between the halves.
        commitment: weight of the pull of latents towards their codes.
        num_steps: of the search for phases.
    """

    rate: int = 8000
    hop: int = 160
    window: int = 1024
    floor: float = 0.02
    channels: int = 128
    depth: int = 2
    dim: int = 12
    num_codebooks: int = 4
    codebook_size: int = 64
    warmup: int = 100
    commitment: float = 0.1
    num_steps: int = 32
    published_params: int | None = None


class ResidualUnit(nn.Module):
    """GELU, 3-convolution over time, GELU, 1-convolution, around a skip."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv1d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        return x + self.conv2(F.gelu(self.conv1(F.gelu(x))))


class SpectralCodec(ResidualCodec):
    """An autoencoder of logarithmic spectra with residual vector quantization in its middle."""

    def __init__(self, config: SpectralCodecConfig):
        super().__init__(config)
        bins, width = config.window // 2 + 1, config.channels
        self.encoder = nn.Sequential(
            nn.Conv1d(bins, width, 1),
            *(ResidualUnit(width) for _ in range(config.depth)),
            nn.GELU(),
            nn.Conv1d(width, config.dim, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv1d(config.dim, width, 1),
            *(ResidualUnit(width) for _ in range(config.depth)),
            nn.GELU(),
            nn.Conv1d(width, bins, 1),
        )
        self.register_buffer("hann", torch.hann_window(config.window), persistent=False)

    def picture(self, wave: Tensor) -> Tensor:
        """Waveforms (B, L) -> log10(1 + amplitude / floor) of their frames, (B, F, T), from 0 up.

        A steady sine of amplitude a has amplitude a in the bin at its frequency.

        Raises:
            ValueError: if the wave is not float (B, L), or shorter than half a window.
        """
        check_wave(wave)
        config = self.config
        if wave.shape[1] <= config.window // 2:
            raise ValueError(
                f"wave must hold more than {config.window // 2} samples, got {wave.shape[1]}"
            )
        spectrum = torch.stft(
            wave, config.window, config.hop, window=self.hann, return_complex=True
        )  # (B, F, T)
        amplitude = spectrum.abs() * (2 / self.hann.sum())
        return torch.log10(1 + amplitude / config.floor)

    def latents(self, wave: Tensor) -> Tensor:
        """Waveforms (B, L) -> latents (B, T, D)."""
        return self.norm(self.encoder(self.picture(wave))).transpose(1, 2)

    def amplitudes(self, z: Tensor) -> Tensor:
        """Latents (B, T, D) -> amplitudes (B, F, T), at least 0."""
        picture = self.decoder(z.transpose(1, 2)).clamp_min(0)
        return self.config.floor * (10**picture - 1)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, T, Q), -1 for levels to leave out -> waveforms (B, (T - 1) * hop)."""
        with evaluating(self):
            amplitude = self.amplitudes(self.quantizer.lookup(codes))
        magnitude = amplitude * (self.hann.sum() / 2)
        return griffin_lim(magnitude, self.config.hop, self.config.num_steps)

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstruction of the picture of ``batch["wave"]`` (B, L).

        Returns:
            the total, and ``error`` (squared error of the picture, as a share of its variance: 1 is
            what the best constant scores), ``commitment``.
        """
        picture = self.picture(batch["wave"])
        z = self.norm(self.encoder(picture)).transpose(1, 2)
        commitment = z.new_zeros(())
        if step >= self.config.warmup:  # random codes would teach the decoder not to listen
            z, _, commitment = self.quantizer(z)
        error = F.mse_loss(self.decoder(z.transpose(1, 2)), picture) / picture.var()
        return error + commitment, {"error": error.detach(), "commitment": commitment.detach()}


def build(config: SpectralCodecConfig) -> SpectralCodec:
    """The codec of a configuration."""
    return SpectralCodec(config)


def kept_levels(codes: Tensor, number: int) -> Tensor:
    """The first ``number`` codes of every frame; the decoder adds nothing for the rest (-1)."""
    kept = codes.clone()
    kept[..., number:] = -1
    return kept
