"""The VQGAN tokenizer and what trains it."""

from gentok.show.diagram import Diagram

DESCRIPTION = (
    "A picture passes the encoder and becomes a grid of vectors. The quantizer replaces each by "
    "the nearest vector of a codebook and gives its number, the code. The decoder turns the grid "
    "back into a picture. In the backward pass gradients skip the quantizer. Three judges look at "
    "the reconstruction: the absolute error, a frozen network that compares features, and a "
    "discriminator that trains against the tokenizer."
)


def draw() -> Diagram:
    """The drawing of the VQGAN tokenizer."""
    d = Diagram("VQGAN: a picture becomes codes", DESCRIPTION, 1000, 470)
    x = d.data("x", (24, 118), (104, 60), ["(B, 3, H, W)"])
    encoder = d.box("encoder", (164, 104), (124, 88), ["convolutions,", "before: 1 x 1"])
    quantizer = d.box("quantizer", (424, 104), (156, 88), ["nearest of K codes", "moving averages"])
    decoder = d.box("decoder", (700, 104), (124, 88), ["after: 1 x 1,", "convolutions"])
    x_hat = d.data("x_hat", (872, 118), (104, 60), ["(B, 3, H, W)"])
    codes = d.data("codes", (452, 226), (100, 52), ["(B, N)"])
    error = d.data("l1", (164, 338), (160, 74), ["absolute error", "of pixels"])
    features = d.box("features", (398, 338), (208, 74), ["perceptual distance"], frozen=True)
    critic = d.box("discriminator", (672, 338), (180, 74), ["real or made?", "joins late"])

    d.arrow(x.right(), encoder.left())
    d.arrow(encoder.right(), quantizer.left())
    d.note("z (B, h, w, D)", (355, 139), mono=True)
    d.arrow(quantizer.right(), decoder.left())
    d.note("z_q", (638, 139), mono=True)
    d.arrow(decoder.right(), x_hat.left())
    d.arrow(quantizer.bottom(), codes.top())
    d.arrow(decoder.top(), (762, 72), (226, 72), encoder.top(), dashed=True)
    d.note("gradient passes straight through: as if z_q were z", (494, 64))
    d.line(x.bottom(), (76, 310), (924, 310), x_hat.bottom())
    for judge in (error, features, critic):
        d.arrow((judge.top()[0], 310), judge.top())
    d.note("x and x_hat to each judge", (340, 302))
    d.legend((28, 450))
    return d
