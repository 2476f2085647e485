"""FA-VAE: two branches between a wavelet transform and its inverse."""

from gentok.show.diagram import Diagram

DESCRIPTION = (
    "An image is split by a one-level Haar transform into one low and three high bands of half the "
    "size. Each side passes its own encoder to a latent and its own decoder back, with its own "
    "discriminator; no arrow joins the two branches. The low branch alone has a perceptual and a "
    "vision-foundation loss, through frozen networks. The inverse transform makes the image. The "
    "two latents, stacked on channels, are what a diffusion transformer learns."
)


def draw() -> Diagram:
    """The drawing of the FA-VAE chapter; shapes are those of ``photographs-64``."""
    d = Diagram("FA-VAE: two autoencoders that never meet", DESCRIPTION, 1080, 560)
    image = d.data("image", (20, 240), (118, 60), ["(B, 3, 64, 64)"])
    haar = d.box("haar2d", (168, 236), (92, 68), ["fixed"], new=True)
    low = d.box("low.encoder", (372, 136), (120, 64), ["conv VAE"], new=True)
    high = d.box("high.encoder", (372, 344), (120, 64), ["conv VAE"], new=True)
    z_low = d.data("z_L", (516, 138), (118, 60), ["(B, 8, 16, 16)"])
    z_high = d.data("z_H", (516, 346), (118, 60), ["(B, 8, 16, 16)"])
    low_out = d.box("low.decoder", (656, 136), (120, 64), ["conv VAE"], new=True)
    high_out = d.box("high.decoder", (656, 344), (120, 64), ["conv VAE"], new=True)
    inverse = d.box("inverse_haar2d", (826, 236), (142, 68), ["fixed"], new=True)
    made = d.data("image", (990, 240), (76, 60), ["made"])
    eyes = d.box("vf, perceptual", (338, 40), (188, 56), ["losses of z_L, x_L"], frozen=True)
    judge_low = d.box("discriminator", (656, 40), (130, 56), ["low band"])
    judge_high = d.box("discriminator", (656, 448), (130, 56), ["high bands"])
    latent = d.data("[z_L; z_H]", (513, 240), (124, 60), ["for a generator"])

    d.arrow(image.right(), haar.left())
    d.arrow(haar.top(), (214, 168), low.left())
    d.note("LL / 2", (290, 134))
    d.note("(B, 3, 32, 32)", (290, 158), mono=True)
    d.arrow(haar.bottom(), (214, 376), high.left())
    d.note("(B, 9, 32, 32)", (290, 366), mono=True)
    d.note("4 LH, 4 HL, 4 HH", (290, 398))
    d.arrow(low.right(), z_low.left())
    d.arrow(high.right(), z_high.left())
    d.arrow(z_low.right(), low_out.left())
    d.arrow(z_high.right(), high_out.left())
    d.arrow(low_out.right(), (897, 168), inverse.top())
    d.arrow(high_out.right(), (897, 376), inverse.bottom())
    d.arrow(inverse.right(), made.left())
    d.arrow(eyes.bottom(), low.top(), dashed=True)
    d.arrow(judge_low.bottom(), low_out.top(0.54), dashed=True)
    d.arrow(judge_high.top(), high_out.bottom(0.54), dashed=True)
    d.note("no such loss: they look at low frequencies", (432, 440))
    d.arrow(z_low.bottom(), latent.top())
    d.arrow(z_high.top(), latent.bottom())
    d.legend((24, 540))
    return d
