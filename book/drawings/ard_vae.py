"""ARD-VAE: a VAE, and a look at encoded data that sets its prior once an epoch."""

from gentok.show.diagram import Diagram

DESCRIPTION = (
    "Below, a variational autoencoder: a picture passes an encoder, which gives means and "
    "variances of L axes; a sample of them passes a decoder to a picture. Above, other pictures of "
    "the same set pass the same encoder once an epoch. Their samples give a Gamma posterior of an "
    "axis' precision, and that a variance of the prior for each axis. It enters the KL term of the "
    "loss as a constant. After training, the variance and the decoder's Jacobian score each axis."
)


def draw() -> Diagram:
    """The drawing of the ARD-VAE chapter; shapes are those of ``blobs-12``."""
    d = Diagram("ARD-VAE: a prior that is read off data", DESCRIPTION, 1080, 500)
    held = d.data("X_alpha", (24, 86), (130, 60), ["(4000, 1, 16, 16)"])
    encoder = d.box("encoder", (216, 84), (120, 64), ["once an epoch"], frozen=True)
    samples = d.data("samples", (398, 86), (124, 60), ["z, (4000, 12)"])
    gamma = d.box("gamma_posterior", (584, 82), (164, 68), ["a, b of each axis"], new=True)
    prior = d.box("variance", (810, 82), (150, 68), ["b / a, (12,)"], new=True)

    image = d.data("image", (24, 304), (130, 60), ["(B, 1, 16, 16)"])
    below = d.box("encoder", (216, 302), (120, 64), ["trained"])
    z = d.data("z", (398, 304), (124, 60), ["mean + s noise"])
    decoder = d.box("decoder", (584, 302), (164, 64), ["trained"])
    made = d.data("image", (810, 304), (150, 60), ["made"])
    kl = d.box("kl_to_axes", (584, 202), (164, 56), ["beta KL"])
    score = d.box("jacobian_weights", (810, 396), (180, 68), ["after training"], new=True)

    d.arrow(held.right(), encoder.left())
    d.arrow(encoder.right(), samples.left())
    d.arrow(samples.right(), gamma.left())
    d.arrow(gamma.right(), prior.left())
    d.arrow(prior.bottom(), (885, 230), kl.right())
    d.note("a constant", (820, 222))
    d.arrow(image.right(), below.left())
    d.arrow(below.right(), z.left())
    d.arrow(z.right(), decoder.left())
    d.arrow(decoder.right(), made.left())
    d.arrow(z.top(), (460, 230), kl.left())
    d.note("mean, s", (516, 222))
    d.arrow(below.top(), encoder.bottom(), dashed=True)
    d.note("same weights", (330, 226))
    d.arrow(decoder.bottom(), (666, 430), score.left())
    d.note("which axes move the picture?", (560, 446))
    d.legend((24, 470))
    return d
