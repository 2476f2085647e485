"""Mogo as one thing: sentences in, moving skeletons out, as long as one likes."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from gentok.data.folder import find
from gentok.data.motion_features import features_to_positions
from gentok.signals.mogo.model import Mogo, MogoConfig
from gentok.signals.mogo.motion_rvq import MotionRVQ
from gentok.signals.mogo.motion_text import CLIP, ClipText, HashedWords


def sentence_encoder(config: MogoConfig) -> ClipText | HashedWords:
    """CLIP for sentence vectors of 512 channels, hashed words for others."""
    if config.text_dim == 512:
        return ClipText(find("clip-vit-base-patch32") or CLIP)
    return HashedWords(config.text_dim)


class TextToMotion(nn.Module):
    """Tokenizer, transformer and sentence encoder.

    Args:
        tokenizer: turns motion features into columns of codes and back.
        generator: writes columns of codes.
    """

    def __init__(self, tokenizer: MotionRVQ, generator: Mogo):
        super().__init__()
        self.tokenizer, self.generator = tokenizer, generator
        self.text = sentence_encoder(generator.config)

    def encode(self, x: Tensor) -> Tensor:
        """Features (B, T, F) -> codes (B, N, Q)."""
        with torch.no_grad():
            return self.tokenizer.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        """Codes (B, N, Q) -> features (B, T, F)."""
        with torch.no_grad():
            return self.tokenizer.decode(z)

    def stream(self, captions: Sequence[str], **options: float | None) -> Iterator[Tensor]:
        """Features (B, factor, F) of one column after the other, without end.

        Args:
            captions: a sentence a clip.
            options: of `Mogo.stream`.
        """
        device = next(self.parameters()).device
        columns = self.generator.stream(self.text.encode(captions).to(device), **options)
        return self.tokenizer.decode_stream(columns)

    def sample(self, n: int, captions: Sequence[str], frames: int, **options) -> Tensor:
        """Joint positions of clips.

        Args:
            n: clips; ``frames``: of each.
            captions: a sentence a clip; fewer are taken in turn.
            options: of `Mogo.stream`.

        Returns:
            (n, frames, J, 3), metres; each clip starts above the origin and faces +x.

        Raises:
            ValueError: if there is no caption, or ``frames`` < 1.
        """
        if not captions or frames < 1:
            raise ValueError(f"need captions and frames >= 1, got {list(captions)} and {frames}")
        sentences = [captions[i % len(captions)] for i in range(n)]
        text = self.text.encode(sentences).to(next(self.parameters()).device)
        # As in `stream`, the decoder looks ahead: the last frames need columns after them.
        columns = -(-frames // self.tokenizer.config.factor) + self.tokenizer.reach
        codes = self.generator.sample(n, text, columns, **options)
        return features_to_positions(self.decode(codes)[:, :frames])
