"""A tokenizer whose encoder looks at one patch at a time, for pictures of few kinds of patches.

The convolutional encoder of `gentok.base.vqgan` sees the whole picture at every place, so that a
patch of plain floor gets another code with every other neighbour, and a transformer has to learn
which. Where the encoder sees its own patch alone, equal patches have equal codes; what the codes
leave open, such as the shade of a patch, the decoder reads off the neighbours.

Shapes: B images, D channels of a code, h = w rows and columns of patches.
"""

from torch import nn

from gentok.base.vqgan import VQGAN, VQGANConfig

HIDDEN = 64  # channels between a patch and its latent


class PatchTokenizer(VQGAN):
    """VQGAN with a patch-wise encoder; quantizer, decoder and loss are those of the base."""

    def __init__(self, config: VQGANConfig):
        super().__init__(config)
        side = config.factor
        self.encoder = nn.Sequential(
            nn.Conv2d(3, HIDDEN, side, stride=side),  # (B, 3, H, W) -> (B, 64, h, w)
            nn.SiLU(),
            nn.Conv2d(HIDDEN, HIDDEN, 1),
            nn.SiLU(),
            nn.Conv2d(HIDDEN, config.code_dim, 1),
        )


def build_tokenizer(config: VQGANConfig) -> VQGAN:
    """The tokenizer of a configuration, untrained: the published one as published."""
    return VQGAN(config) if config.published_params is not None else PatchTokenizer(config)
