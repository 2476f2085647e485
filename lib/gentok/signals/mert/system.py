"""MERT as one thing: a codec that writes sound as codes, and a student that learned from them."""

import torch
from torch import Tensor, nn

from gentok.signals.mert.model import MERT
from gentok.signals.mert.spectral_codec import SpectralCodec, kept_levels


class Listener(nn.Module):
    """The acoustic teacher and its student.

    Args:
        codec: turns waveforms into codes and back.
        student: turns waveforms into features.
    """

    def __init__(self, codec: SpectralCodec, student: MERT):
        super().__init__()
        self.codec, self.student = codec, student

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Waveforms (B, L) -> hidden states of every layer of the student, (B, layers, T, D)."""
        return self.student.encode(x)

    @torch.no_grad()
    def resynthesise(self, wave: Tensor, number: int) -> Tensor:
        """Waveforms (B, L) as the first ``number`` codes of every frame give them back."""
        return self.codec.decode(kept_levels(self.codec.encode(wave), number))
