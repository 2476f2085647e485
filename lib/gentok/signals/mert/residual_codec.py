"""What the two codecs of the book share: what stands between their halves, and codes of a sound.

Shapes: B batch, L samples, T frames, D latent channels, Q codebooks.
"""

import torch
from torch import Tensor, nn

from gentok.nn.latents import LatentSpace, evaluating
from gentok.nn.quantize import ResidualVQ


class ResidualCodec(nn.Module):
    """A norm and a residual quantizer; a codec adds the halves around them, and ``latents``.

    Args:
        config: of the codec: ``dim`` (D), ``num_codebooks`` (Q), ``codebook_size``, ``commitment``.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        # Unit variance of every channel: codebooks and commitment know the size of what comes.
        self.norm = nn.BatchNorm1d(config.dim, affine=False)
        self.quantizer = ResidualVQ(
            config.num_codebooks,
            config.codebook_size,
            config.dim,
            quantize_dropout=True,  # any prefix of the codes must be decodable
            decay=0.95,
            commitment=config.commitment,
            dead_threshold=0.5,
        )

    @property
    def latent_space(self) -> LatentSpace:
        """(T, Q) codes a clip; T grows with its length."""
        config = self.config
        return LatentSpace("discrete", (None, config.num_codebooks), "wave", config.codebook_size)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Waveforms (B, L) in [-1, 1] -> codes (B, T, Q), int64. Codebooks stay as they are."""
        with evaluating(self):
            return self.quantizer(self.latents(x))[1]
