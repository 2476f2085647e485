"""RAE: a frozen encoder, a decoder trained on noisy tokens, and DiT^DH on the tokens."""

from gentok.show.diagram import Diagram

DESCRIPTION = (
    "Above, the tokenizer: an image passes a frozen encoder to tokens; noise is added to them in "
    "training only; the decoder, which alone is trained, paints the image. A discriminator looks "
    "at it through a frozen network. Below, the generator: noisy tokens, time and class enter a "
    "narrow, deep backbone; what it says steers each token of a wide, shallow head, which reads "
    "the noisy tokens once more and gives the velocity. Sampled tokens go to the decoder."
)


def draw() -> Diagram:
    """The drawing of the RAE chapter; shapes are those of ``world-32``."""
    d = Diagram("RAE: draw in the space of a recogniser", DESCRIPTION, 1080, 560)
    image = d.data("image", (20, 128), (124, 60), ["(B, 3, 32, 32)"])
    encoder = d.box("encoder", (188, 122), (136, 72), ["ViT, no last", "affine"], frozen=True)
    z = d.data("z", (368, 128), (124, 60), ["(B, 64, 8, 8)"])
    noise = d.box("add_noise", (536, 122), (136, 72), ["training only"], new=True)
    decoder = d.box("decoder", (716, 122), (136, 72), ["ViT, trained"], new=True)
    made = d.data("image", (936, 128), (124, 60), ["made"])
    judge = d.box("discriminator", (716, 40), (136, 56), ["small heads"])
    eyes = d.box("eyes", (936, 40), (124, 56), ["ViT"], frozen=True)

    noisy = d.data("x_t", (20, 376), (124, 60), ["standardised"])
    backbone = d.box("backbone", (250, 290), (180, 76), ["narrow, deep", "t, y: one for all"])
    head = d.box("head", (560, 368), (180, 76), ["wide, 2 blocks", "s: one a token"], new=True)
    v = d.data("v", (800, 376), (110, 60), ["velocity"])
    times = d.box("shift_times", (250, 458), (180, 62), ["alpha = sqrt(m / n)"], new=True)

    d.arrow(image.right(), encoder.left())
    d.arrow(encoder.right(), z.left())
    d.arrow(z.right(), noise.left())
    d.arrow(noise.right(), decoder.left())
    d.arrow(decoder.right(), made.left())
    d.arrow(made.top(), eyes.bottom(), dashed=True)
    d.arrow(eyes.left(), judge.right(), dashed=True)
    d.arrow(judge.bottom(), decoder.top(), dashed=True)
    d.arrow(z.bottom(), (430, 236), (82, 236), noisy.top())
    d.note("per channel and position", (250, 226))
    d.arrow(noisy.right(0.3), (196, 394), (196, 328), backbone.left())
    d.note("(B, 64, 64)", (172, 350), mono=True, anchor="end")
    d.arrow(noisy.right(0.6), (560, 412))
    d.note("x_t again", (346, 402))
    d.arrow(backbone.right(), (650, 328), head.top())
    d.note("s (B, 64, 192)", (560, 318), mono=True)
    d.arrow(head.right(), v.left())
    d.arrow(v.right(), (976, 406), (976, 250), (784, 250), decoder.bottom(), dashed=True)
    d.note("Euler steps, then sampled z", (880, 240))
    d.arrow(times.left(), (82, 489), noisy.bottom(), dashed=True)
    d.note("t", (190, 480), mono=True)
    d.legend((24, 542))
    return d
