"""A discrete VAE with Gumbel noise, and the same network as dalle-pytorch 1.6 writes it.

The package itself cannot be installed beside the others: it asks for torchvision, and for versions
of its helpers that are not made any more. Its `DiscreteVAE` is restated here from its description:
`F.gumbel_softmax` over the channels, an einsum with the codebook, `F.kl_div` against the uniform
law. Both sides have the same convolutions, but that ours makes logits by a linear layer, so that
codes are the last axis from the start.

Shapes: B images of 32 x 32, 8 x 8 places, K = 512 codes of D = 64 channels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import Work, Workload, backward
from gentok.nn.gumbel_quantize import GumbelQuantizer

CODES, DIM, WIDTH = 512, 64, 64
KL_WEIGHT = 0.1


class ResBlock(nn.Module):
    """Two 3x3 convolutions and a 1x1 one around a skip, as DALL-E's tokenizer has them."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return x + self.net(x)


def encoder() -> nn.Sequential:
    """(B, 3, 32, 32) -> (B, C, 8, 8)."""
    first = nn.Conv2d(3, WIDTH, 4, stride=2, padding=1)
    second = nn.Conv2d(WIDTH, WIDTH, 4, stride=2, padding=1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), ResBlock())


def decoder() -> nn.Sequential:
    """(B, D, 8, 8) -> (B, 3, 32, 32)."""
    first = nn.ConvTranspose2d(WIDTH, WIDTH, 4, stride=2, padding=1)
    second = nn.ConvTranspose2d(WIDTH, WIDTH, 4, stride=2, padding=1)
    return nn.Sequential(
        nn.Conv2d(DIM, WIDTH, 1), ResBlock(), first, nn.ReLU(), second, nn.ReLU(),
        nn.Conv2d(WIDTH, 3, 1),
    )  # fmt: skip


class DVAE(nn.Module):
    """Ours: the library's quantizer between two convolutional halves."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = encoder(), decoder()
        self.logits = nn.Linear(WIDTH, CODES)
        self.quantizer = GumbelQuantizer(CODES, DIM)

    def forward(self, x: Tensor) -> Tensor:
        """Squared error + weighted KL to the uniform law, summed over places: a scalar."""
        h = self.encoder(x).permute(0, 2, 3, 1)  # (B, 8, 8, C)
        z, _, kl = self.quantizer(self.logits(h))
        x_hat = self.decoder(z.permute(0, 3, 1, 2))
        return F.mse_loss(x_hat, x) + KL_WEIGHT * kl.flatten(1).sum(1).mean()


class RestatedDVAE(nn.Module):
    """dalle-pytorch's: codes are channels throughout."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = encoder(), decoder()
        self.logits = nn.Conv2d(WIDTH, CODES, 1)
        self.codebook = nn.Embedding(CODES, DIM)

    def forward(self, x: Tensor) -> Tensor:
        """As :meth:`DVAE.forward`."""
        logits = self.logits(self.encoder(x))  # (B, K, 8, 8)
        soft = F.gumbel_softmax(logits, tau=1.0, dim=1)
        x_hat = self.decoder(torch.einsum("bkhw,kd->bdhw", soft, self.codebook.weight))
        log_q = logits.flatten(2).transpose(1, 2).log_softmax(-1)  # (B, 64, K)
        log_uniform = torch.full_like(log_q[:1, :1, :1], -math.log(CODES))
        kl = F.kl_div(log_uniform, log_q, reduction="sum", log_target=True) / len(x)
        return F.mse_loss(x_hat, x) + KL_WEIGHT * kl


def dvae() -> tuple[Work, Work]:
    """Loss and gradients of 64 images."""
    ours, peer, x = DVAE(), RestatedDVAE(), torch.rand(64, 3, 32, 32)
    return backward(lambda: ours(x), ours), backward(lambda: peer(x), peer)


DISCRETE = Workload(
    "Gumbel dVAE, training, 64 images 32x32",
    "DiscreteVAE as dalle-pytorch has it (benchmarks/dvae.py)",
    1.0,
    dvae,
    training=True,
)
