"""The discriminator of RAE: small heads on the tokens of a frozen vision transformer.

As in StyleGAN-T (Sauer et al. 2023, 3.3) and in RAE's public code. The frozen network sees; the
heads, one for each tapped layer, say at every token whether the image is real. What they see is
augmented first (Zhao et al. 2020, DiffAugment), so that they cannot learn the images by heart.

Shapes: B batch, N tokens, D channels of a token, G groups.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

GROUP = 8  # samples that share their statistics, a "virtual batch"


class LocalBatchNorm(nn.Module):
    """Batch normalisation over groups of at most 8 samples, in training and evaluation alike.

    No running averages: a real and a made batch are normalised each by its own statistics.
    """

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, N) -> (B, D, N)."""
        groups = math.gcd(len(x), -(-len(x) // GROUP))  # as many as divide the batch
        grouped = x.unflatten(0, (groups, -1))  # (G, B/G, D, N)
        mean = grouped.mean(dim=(1, 3), keepdim=True)
        var = grouped.var(dim=(1, 3), keepdim=True, unbiased=False)
        return ((grouped - mean) * (var + self.eps).rsqrt()).flatten(0, 1) * self.weight + self.bias


class ConvBlock(nn.Sequential):
    """Spectrally normalised 1-D convolution along the tokens, local batch norm, LeakyReLU 0.2."""

    def __init__(self, channels: int, kernel: int):
        convolution = nn.Conv1d(
            channels, channels, kernel, padding=kernel // 2, padding_mode="circular"
        )
        super().__init__(spectral_norm(convolution), LocalBatchNorm(channels), nn.LeakyReLU(0.2))


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
    """Random brightness, saturation, contrast and translation; gradients pass (DiffAugment).

    Args:
        x: images (B, 3, H, W); each gets its own draw.

    Returns:
        (B, 3, H, W); shifted by up to an eighth of the side, with zeros where nothing was.
    """
    amount = (len(x), 1, 1, 1)
    x = x + torch.rand(amount, device=x.device) - 0.5
    grey = x.mean(dim=1, keepdim=True)
    x = (x - grey) * (2 * torch.rand(amount, device=x.device)) + grey
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = (x - mean) * (torch.rand(amount, device=x.device) + 0.5) + mean
    return _translate(x, ratio=0.125)


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
