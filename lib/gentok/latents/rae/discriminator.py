"""The discriminator of RAE: small heads on the tokens of a frozen vision transformer.

As in StyleGAN-T (Sauer et al. 2023, 3.3) and in RAE's public code. The frozen network sees; the
heads, one for each tapped layer, say at every token whether the image is real. What they see is
augmented first (Zhao et al. 2020, DiffAugment), so that they cannot learn the images by heart.

Shapes: B batch, N tokens, D channels of a token.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class ConvBlock(nn.Sequential):
    """Spectrally normalised 1-D convolution along the tokens, local normalisation, LeakyReLU 0.2.

    StyleGAN-T normalises groups of 8 samples; RAE's public code each sample alone (its virtual
    batch is 1, eps 1e-6), which is instance normalisation.
    """

    def __init__(self, channels: int, kernel: int):
        convolution = nn.Conv1d(
            channels, channels, kernel, padding=kernel // 2, padding_mode="circular"
        )
        norm = nn.InstanceNorm1d(channels, eps=1e-6, affine=True)
        super().__init__(spectral_norm(convolution), norm, nn.LeakyReLU(0.2))


class TokenHead(nn.Module):
    """Tokens of one layer -> a logit each."""

    def __init__(self, dim: int):
        super().__init__()
        self.mix = ConvBlock(dim, 1)
        self.look = ConvBlock(dim, 9)
        self.judge = spectral_norm(nn.Conv1d(dim, 1, 1))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, N)."""
        x = self.mix(tokens.transpose(1, 2))  # (B, D, N)
        x = (x + self.look(x)) / math.sqrt(2)  # the division keeps the variance
        return self.judge(x)[:, 0]


class FeatureDiscriminator(nn.Module):
    """One head a layer; all their logits side by side.

    Args:
        dim: channels D of the frozen network's tokens.
        layers: number of tapped layers.
    """

    def __init__(self, dim: int, layers: int):
        super().__init__()
        self.heads = nn.ModuleList(TokenHead(dim) for _ in range(layers))

    def forward(self, layers: list[Tensor]) -> Tensor:
        """A list of (B, N, D) -> logits (B, layers * N); positive means real."""
        return torch.cat(
            [head(tokens) for head, tokens in zip(self.heads, layers, strict=True)], dim=1
        )


def quantise(x: Tensor) -> Tensor:
    """Round images in [-1, 1] to 8 bits: real ones have no more, and the judge must not see it."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def diff_augment(x: Tensor) -> Tensor:
    """Random translation, then brightness, saturation and contrast; gradients pass (DiffAugment).

    Args:
        x: images (B, 3, H, W); each gets its own draw.

    Returns:
        (B, 3, H, W); shifted by up to an eighth of the side; what comes in from outside is 0
        before the colours change, as in the public code.
    """
    x = _translate(x, ratio=0.125)
    amount = (len(x), 1, 1, 1)
    x = x + torch.rand(amount, device=x.device) - 0.5
    grey = x.mean(dim=1, keepdim=True)
    x = (x - grey) * (2 * torch.rand(amount, device=x.device)) + grey
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * (torch.rand(amount, device=x.device) + 0.5) + mean


def _translate(x: Tensor, ratio: float) -> Tensor:
    b, _, height, width = x.shape
    reach = (round(height * ratio), round(width * ratio))
    shift = [torch.randint(-r, r + 1, (b, 1, 1), device=x.device) for r in reach]
    # A border of zeros all around serves every pixel that moves in from outside.
    padded = F.pad(x, (1, 1, 1, 1))
    rows = torch.arange(height, device=x.device)[:, None] + shift[0] + 1  # (B, H, 1)
    columns = torch.arange(width, device=x.device) + shift[1] + 1  # (B, 1, W)
    rows, columns = rows.clamp(0, height + 1), columns.clamp(0, width + 1)
    image = torch.arange(b, device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image, rows, columns].permute(0, 3, 1, 2)
