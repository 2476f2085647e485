"""Pictures of sound: mel and constant-Q spectrograms as modules without parameters.

Mel: triangular filters spaced like the ear's pitch scale, as in speech recognition (Slaney's
form). Constant-Q: bins spaced like musical pitches, each with a window of the same number of
periods (Brown 1991; Brown and Puckette 1992); scaling as in nnAudio (Cheuk et al. 2020), whose
transform MERT uses as a teacher.

Shapes: B batch, L samples, T frames, F frequencies of a Fourier transform, M mel bands, K
constant-Q bins. Frame t is centred on sample t * hop, so T = 1 + L // hop.
"""

import math

import torch
from torch import Tensor, nn


def check_wave(wave: Tensor) -> None:
    """Raise ValueError unless ``wave`` is (B, L), floating point, with at least one sample."""
    if wave.ndim != 2 or not wave.is_floating_point() or wave.shape[1] < 1:
        raise ValueError(f"wave must be float (B, L), got {tuple(wave.shape)} {wave.dtype}")


def hertz_to_mel(hertz: Tensor) -> Tensor:
    """Slaney's mel scale: linear up to 1,000 Hz (15 mel), then logarithmic."""
    above = 15 + 27 * torch.log(hertz.clamp_min(1000) / 1000) / math.log(6.4)
    return torch.where(hertz < 1000, hertz * 15 / 1000, above)


def mel_to_hertz(mel: Tensor) -> Tensor:
    """The inverse of :func:`hertz_to_mel`."""
    return torch.where(mel < 15, mel * 1000 / 15, 1000 * torch.exp(math.log(6.4) / 27 * (mel - 15)))


def mel_filters(rate: int, n_fft: int, num_mels: int, low: float, high: float) -> Tensor:
    """Triangles of equal width in mel and of unit area in Hertz.

    Returns:
        (M, F), F = n_fft // 2 + 1, weights in 1 / Hertz.
    """
    edges = hertz_to_mel(torch.tensor([low, high], dtype=torch.float64))
    steps = torch.linspace(0, 1, num_mels + 2, dtype=torch.float64)
    corners = mel_to_hertz(edges[0] + (edges[1] - edges[0]) * steps)  # (M + 2,) Hertz
    hertz = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * rate / n_fft  # (F,)
    left, centre, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (hertz - left) / (centre - left), (right - hertz) / (right - centre)
    triangles = torch.minimum(rising, falling).clamp_min(0)  # (M, F), 1 at the centre
    return (triangles * 2 / (right - left)).float()


class MelSpectrogram(nn.Module):
    """Energy in mel bands.

    Args:
        rate: samples a second, Hertz.
        n_fft: length of the Hann window, samples.
        hop: samples between frames.
        num_mels: M.
        low, high: outer edges of the first and last triangle, Hertz; ``high`` is rate / 2 if None.
        power: 2 sums energies (speech recognition), 1 magnitudes (EnCodec's losses).

    Raises:
        ValueError: if the edges are not 0 <= low < high <= rate / 2.
    """

    def __init__(
        self,
        rate: int,
        n_fft: int,
        hop: int,
        num_mels: int,
        low: float = 0.0,
        high: float | None = None,
        power: float = 2.0,
    ):
        super().__init__()
        high = rate / 2 if high is None else high
        if not 0 <= low < high <= rate / 2:
            raise ValueError(f"need 0 <= low < high <= {rate / 2} Hz, got low={low}, high={high}")
        self.n_fft, self.hop, self.power = n_fft, hop, power
        filters = mel_filters(rate, n_fft, num_mels, low, high)
        self.register_buffer("filters", filters, persistent=False)  # (M, F)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Waveforms (B, L) -> band energies (B, M, T), at least 0; silence surrounds the clip."""
        check_wave(wave)
        spectrum = torch.stft(
            wave,
            self.n_fft,
            self.hop,
            window=self.window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )  # (B, F, T)
        return self.filters @ spectrum.abs() ** self.power


def log_mel(energy: Tensor, floor: float = 1e-5) -> Tensor:
    """Natural logarithm of band energies, never below log(floor); same shape."""
    return energy.clamp_min(floor).log()


def constant_q_frequencies(low: float, num_bins: int, bins_per_octave: int) -> Tensor:
    """Centres of the bins in Hertz, (K,), float64: low * 2^(k / bins_per_octave)."""
    return low * torch.exp2(torch.arange(num_bins, dtype=torch.float64) / bins_per_octave)


class ConstantQ(nn.Module):
    """Magnitudes of a constant-Q transform.

    Bin k is the inner product of the sound around a frame with a Hann-windowed complex tone of
    frequency f_k and length l_k = ceil(Q rate / f_k), Q = 1 / (2^(1 / bins_per_octave) - 1): the
    same number of periods for every bin. Tones have L1 norm 1, and bin k is multiplied by
    sqrt(l_k). A steady sine of amplitude a at f_k gives a sqrt(l_k) / 2.

    The product is taken in the frequency domain, octave by octave. An octave's tones are half as
    long as those of the octave below, so a Fourier transform of half the length serves it, and
    seen from there every octave fills the same few frequencies. Frequencies more than two octaves
    above are left out: a Hann window's side lobes there are below 1e-4 of its peak.

    Args:
        rate: samples a second, Hertz.
        hop: samples between frames.
        low: frequency of bin 0, Hertz (32.7 is the note C1).
        num_bins: K; ``bins_per_octave``: 12 is one a semitone.

    Raises:
        ValueError: if a bin lies at or above half the rate.
    """

    def __init__(self, rate: int, hop: int, low: float, num_bins: int, bins_per_octave: int):
        super().__init__()
        top = low * 2 ** ((num_bins - 1) / bins_per_octave)
        if not 0 < low <= top < rate / 2:
            raise ValueError(f"bins must lie between 0 and {rate / 2} Hz, got {low} to {top:.1f}")
        self.hop, self.num_bins = hop, num_bins
        self.sizes: list[int] = []  # of the Fourier transforms
        device = torch.get_default_device()
        with torch.device("cpu"):  # computed, not loaded: their shapes depend on values
            frequencies = constant_q_frequencies(low, num_bins, bins_per_octave)
            for octave, centres in enumerate(frequencies.split(bins_per_octave)):
                tones = _tones(centres, rate, bins_per_octave)  # (b, N)
                size = tones.shape[1]
                kept = int(8 * centres[0] / rate * size) + 1  # two octaves above this one
                kernel = torch.fft.fft(tones)[:, : min(kept, size // 2 + 1)].conj() / size
                kernel = kernel.resolve_conj().to(device, torch.complex64)
                self.sizes.append(size)
                self.register_buffer(f"kernel{octave}", kernel, persistent=False)  # (b, f)

    def forward(self, wave: Tensor) -> Tensor:
        """Waveforms (B, L) -> magnitudes (B, K, T), at least 0; silence surrounds the clip."""
        check_wave(wave)
        octaves = []
        for octave, size in enumerate(self.sizes):
            kernel = self.get_buffer(f"kernel{octave}")
            spectrum = torch.stft(
                wave,
                size,
                self.hop,
                window=torch.ones(size, device=wave.device),
                center=True,
                pad_mode="constant",
                return_complex=True,
            )  # (B, N / 2 + 1, T)
            octaves.append((kernel @ spectrum[:, : kernel.shape[1]]).abs())
        return torch.cat(octaves, dim=1)


def _tones(centres: Tensor, rate: int, bins_per_octave: int) -> Tensor:
    """The complex tones of one octave, centred in frames of a common power of two, (b, N)."""
    quality = 1 / (2 ** (1 / bins_per_octave) - 1)
    lengths = torch.ceil(quality * rate / centres).long()  # (b,) samples
    size = 2 ** math.ceil(math.log2(int(lengths.max())))  # N
    tones = torch.zeros(len(centres), size, dtype=torch.complex128)
    for tone, centre, length in zip(tones, centres, lengths.tolist(), strict=True):
        window = torch.hann_window(length, dtype=torch.float64)
        time = torch.arange(length, dtype=torch.float64) - length // 2  # samples from the frame
        phase = 2 * math.pi * float(centre) / rate * time
        start = size // 2 - length // 2
        # L1 norm 1 times sqrt(length)
        tone[start : start + length] = torch.polar(window, phase) / window.sum() * math.sqrt(length)
    return tones
