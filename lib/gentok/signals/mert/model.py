"""MERT: music understanding from masked audio with two teachers (Li et al. 2023, arXiv:2306.00107).

A HuBERT encoder sees a waveform in which spans of frames are hidden and pieces of other recordings
are mixed in. Where frames are hidden it predicts, for the clean audio, the residual codes of a
neural codec (the acoustic teacher) and the magnitudes of a constant-Q transform (the musical
teacher). The paper states the idea; sizes, constants and initialisation follow the authors'
released configurations and code. HuBERT's masked cross-entropy: Hsu et al. 2021, II-B.

Shapes: B batch, L samples, T frames, M hidden frames of a clip, Q codebooks, D channels, K bins.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.spectrogram import ConstantQ
from gentok.signals.mert.masking import mix_in_batch, span_mask
from gentok.signals.mert.wave_encoder import WaveEncoder, WaveEncoderConfig

SPARE_FRAMES = 3  # targets of a clip may outnumber the unpadded convolutions' frames by this


@dataclass(frozen=True)
class MERTConfig(WaveEncoderConfig):
    """Encoder and objective; the defaults are MERT-95M's.

    Args:
        num_codebooks: Q; ``codebook_size``: codes of each.
        special_symbols: labels that fairseq's dictionaries hold before the first code.
        final_dim: width in which frames and label vectors are compared.
        label_low: label vectors start uniform in [``label_low``, 1). Released is 0: then all labels
            look much alike at first, which 400,000 updates forget and 1,000 do not.
        temperature: cosines are divided by it, so logits lie within +-1 / temperature.
        cqt_bins: K; ``cqt_bins_per_octave``, ``cqt_low`` (Hertz): of the musical teacher.
        rvq_weight, cqt_weight: of the two teachers; ``feature_penalty``: of the mean square of the
            convolutions' output.
        mask_share, mask_length: of :func:`~gentok.signals.mert.masking.span_mask`, frames.
        mixture_probability, mixture_lengths: of :func:`~gentok.signals.mert.masking.mix_in_batch`,
            samples.
        clip: samples of a training clip.
        published_params: of the encoder with its mask vector; the heads are not counted.
    """

    num_codebooks: int = 8
    codebook_size: int = 1024
    special_symbols: int = 4
    final_dim: int = 64
    label_low: float = 0.0
    temperature: float = 0.1
    cqt_bins: int = 336
    cqt_bins_per_octave: int = 48
    cqt_low: float = 32.7
    rvq_weight: float = 1.0
    cqt_weight: float = 1.0
    feature_penalty: float = 10.0
    mask_share: float = 0.8
    mask_length: int = 5
    mixture_probability: float = 0.5
    mixture_lengths: tuple[int, int] = (12_000, 24_000)
    clip: int = 120_000
    published_params: int | None = None

    @property
    def num_classes(self) -> int:
        """Labels of a codebook, special symbols included."""
        return self.codebook_size + self.special_symbols


# What a constant-Q teacher weighs against the codes is its mean square over their nats: a student
# that draws nothing loses the one, a student that knows nothing the other. Published: magnitudes at
# 24 kHz with 48 bins an octave over 8 ln 1028. A weight of CQT_BALANCE restores that share at 8 kHz
# with bins of a semitone and four codebooks of 68 labels (a test computes it).
CQT_BALANCE = 0.65
# 8 kHz, 50 frames a second by four convolutions instead of seven, 1.5 s, bins of a semitone.
# A penalty of 10 would silence the convolutions in so short a training before they speak.
TINY = MERTConfig(
    rate=8000,
    conv_channels=32,
    conv_kernels=(10, 8, 8, 4),
    conv_strides=(5, 4, 4, 2),
    dim=64,
    depth=3,
    num_heads=4,
    position_kernel=32,
    position_groups=4,
    dropout=0.0,
    layer_drop=0.0,
    feature_gradient=1.0,
    num_codebooks=4,
    codebook_size=64,
    final_dim=32,
    cqt_bins=60,
    cqt_bins_per_octave=12,
    cqt_low=65.41,
    cqt_weight=CQT_BALANCE,
    feature_penalty=0.1,
    mixture_lengths=(1200, 2400),
    clip=12_000,
)
# 330M's layout, which bears a higher rate; label vectors start on all sides: minutes are enough.
STUDY = replace(TINY, pre_norm=True, label_low=-1.0)
PRESETS: dict[str, MERTConfig] = {
    "tiny": TINY,
    # What the chapter trains live and compares; deeper, to see whether training is stable; and what
    # the book's weights hold.
    "study": STUDY,
    "deep": replace(STUDY, depth=8),
    "world": replace(STUDY, conv_channels=64, dim=128, depth=4, position_groups=8, final_dim=64),
    "mert-95m": MERTConfig(published_params=94_371_712),
    "mert-330m": MERTConfig(
        dim=1024,
        depth=24,
        num_heads=16,
        pre_norm=True,
        dropout=0.0,
        layer_drop=0.0,
        feature_gradient=1.0,
        attention_relaxation=32.0,
        final_dim=128,
        mixture_lengths=(12_000, 36_000),
        clip=122_880,
        published_params=315_428_992,
    ),
}


class CodeHead(nn.Module):
    """Which code has a frame? By cosine with a learned vector for every label of every codebook."""

    def __init__(self, config: MERTConfig):
        super().__init__()
        shape = (config.num_codebooks, config.num_classes, config.final_dim)
        self.temperature, self.first = config.temperature, config.special_symbols
        self.project = nn.Linear(config.dim, config.num_codebooks * config.final_dim)
        self.labels = nn.Parameter(
            torch.empty(shape).uniform_(config.label_low, 1)
        )  # (Q, classes, final)

    def forward(self, x: Tensor) -> Tensor:
        """Frames (B, M, D) -> logits (B, M, Q, classes), within +-1 / temperature."""
        frames = self.project(x).unflatten(-1, (len(self.labels), -1))  # (B, M, Q, final)
        frames, labels = F.normalize(frames, dim=-1), F.normalize(self.labels, dim=-1)
        return torch.einsum("bmqf,qcf->bmqc", frames, labels) / self.temperature

    def loss(self, x: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of codes (B, M, Q), and the share of right first guesses.

        Returns:
            nats a hidden frame: mean over frames, SUM over codebooks; and a share in [0, 1].
        """
        logits, target = self(x), codes + self.first
        nats = F.cross_entropy(logits.flatten(0, 2), target.flatten()) * codes.shape[-1]
        return nats, (logits.argmax(-1) == target).float().mean()


class MERT(nn.Module):
    """The student, its two heads, and the musical teacher (which has no parameters).

    Raises:
        ValueError: as :class:`~gentok.signals.mert.wave_encoder.WaveEncoder`.
    """

    def __init__(self, config: MERTConfig):
        super().__init__()
        self.config = config
        self.encoder = WaveEncoder(config)
        self.code_head = CodeHead(config)
        self.cqt_head = nn.Linear(config.dim, config.cqt_bins)
        self.constant_q = ConstantQ(
            config.rate,
            config.stride,
            config.cqt_low,
            config.cqt_bins,
            config.cqt_bins_per_octave,
        )

    def encode(self, x: Tensor) -> Tensor:
        """Clean waveforms (B, L) -> hidden states of every layer, (B, depth + 1, T, D)."""
        return self.encoder(x)

    @torch.no_grad()
    def musical(self, wave: Tensor) -> Tensor:
        """The musical teacher's targets of clean clips: (B, L) -> magnitudes (B, T, K)."""
        frames = self.config.num_frames(wave.shape[1])
        return self.constant_q(wave)[..., :frames].transpose(1, 2)

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Masked prediction of both teachers.

        Args:
            batch: ``wave``, clean clips (B, L); ``codes`` of the acoustic teacher for the same
                clips, (B, T', Q), T' = T or a little more: the surplus is cut off; and, where it
                was computed beforehand, ``cqt``: :meth:`musical` of the same clips.

        Returns:
            the total, and ``rvq`` (nats a hidden frame, summed over codebooks), ``cqt`` (squared
            magnitude), ``penalty`` (mean square of the convolutions' output), ``accuracy``
            (share of codes guessed).

        Raises:
            ValueError: if the codes have another number of codebooks, or do not fit the frames.
        """
        config, wave = self.config, batch["wave"]
        frames = config.num_frames(wave.shape[1])
        codes = self._aligned(batch["codes"], frames)
        # The targets first: they are those of the clean sound.
        magnitudes = batch["cqt"] if "cqt" in batch else self.musical(wave)  # (B, T, K)
        mixed = mix_in_batch(wave, config.mixture_probability, config.mixture_lengths)
        mask, index = (
            part.to(wave.device)
            for part in span_mask(len(wave), frames, config.mask_share, config.mask_length)
        )
        features = self.encoder.convolve(mixed)
        hidden = take(self.encoder.contextualise(features, mask)[-1], index)  # (B, M, D)
        rvq, accuracy = self.code_head.loss(hidden, take(codes, index))
        cqt = F.mse_loss(self.cqt_head(hidden), take(magnitudes, index))
        penalty = features.square().mean()
        total = config.rvq_weight * rvq + config.cqt_weight * cqt
        total = total + config.feature_penalty * penalty
        parts = {"rvq": rvq, "cqt": cqt, "penalty": penalty, "accuracy": accuracy}
        return total, {name: value.detach() for name, value in parts.items()}

    def _aligned(self, codes: Tensor, frames: int) -> Tensor:
        """Codes of the frames that the convolutions have; cut, never stretched."""
        surplus = codes.shape[1] - frames
        if codes.shape[2] != self.config.num_codebooks or not 0 <= surplus <= SPARE_FRAMES:
            raise ValueError(
                f"codes must be (B, {frames} to {frames + SPARE_FRAMES}, "
                f"{self.config.num_codebooks}), got {tuple(codes.shape)}"
            )
        return codes[:, :frames]


def take(x: Tensor, index: Tensor) -> Tensor:
    """Frames ``index`` (B, M) of ``x`` (B, T, C): (B, M, C)."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


def build(config: MERTConfig) -> MERT:
    """The model of a configuration."""
    return MERT(config)


def example(config: MERTConfig, batch_size: int = 1, device: str = "cpu") -> dict[str, Tensor]:
    """A batch of noise that `loss` takes."""
    shape = (batch_size, config.num_frames(config.clip) + 1, config.num_codebooks)
    return {
        "wave": 0.1 * torch.randn(batch_size, config.clip, device=device),
        "codes": torch.randint(config.codebook_size, shape, device=device),
    }
