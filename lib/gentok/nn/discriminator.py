"""The patch discriminator (Isola et al. 2017, pix2pix; sizes as in VQGAN).

It answers "real or made?" once for every patch of the image, so it judges texture, not layout.
"""

from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Stacked 4x4 convolutions with BatchNorm from the second layer on and LeakyReLU 0.2.

    Args:
        in_channels: channels of the images (3) or of stacked wavelet bands (9).
        channels: width of the first layer; doubled by each further one, at most eightfold.
        num_layers: stride-2 layers; two stride-1 layers follow. 3 sees 70x70 pixels.
    """

    def __init__(self, in_channels: int = 3, channels: int = 64, num_layers: int = 3):
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        ]
        width = channels
        for layer in range(1, num_layers + 1):
            wider = channels * min(2**layer, 8)
            stride = 2 if layer < num_layers else 1
            layers += [
                # No bias: the normalisation that follows would remove it.
                nn.Conv2d(width, wider, 4, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(wider),
                nn.LeakyReLU(0.2),
            ]
            width = wider
        layers.append(nn.Conv2d(width, 1, 4, stride=1, padding=1))
        self.layers = nn.Sequential(*layers)
        self.apply(_init)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) -> one logit a patch, (B, 1, h, w); positive means real."""
        return self.layers(x)


def _init(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
