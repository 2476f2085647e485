"""The adversarial loss: two players, and what moves which."""

from gentok.show.diagram import Diagram

DESCRIPTION = (
    "An image passes encoder and decoder and becomes a reconstruction. Both go to the "
    "discriminator, which gives one logit a patch. The hinge loss of both logits moves the "
    "discriminator. The reconstruction error and minus the logits of the reconstruction move "
    "encoder and decoder."
)


def draw() -> Diagram:
    """The drawing of the primer."""
    d = Diagram("Two players", DESCRIPTION, 960, 380)
    image = d.data("image x", (30, 150), (96, 56), ["(B, 3, H, W)"])
    encoder = d.box("encoder", (170, 146), (110, 64))
    decoder = d.box("decoder", (340, 146), (110, 64))
    made = d.data("made", (500, 150), (104, 56), ["(B, 3, H, W)"])
    judge = d.box("discriminator", (668, 132), (140, 92), ["one logit", "a patch"])
    hinge = d.data("hinge loss", (842, 150), (104, 56), ["both kinds"])
    error = d.data("error + fooling", (296, 290), (198, 56), ["moves encoder, decoder"])

    d.arrow(image.right(), encoder.left())
    d.arrow(encoder.right(), decoder.left())
    d.note("z", (310, 168), mono=True)
    d.arrow(decoder.right(), made.left())
    d.arrow(made.right(), judge.left())
    d.arrow(image.top(), (78, 84), (738, 84), judge.top())
    d.note("real", (408, 76))
    d.arrow(judge.right(), hinge.left())
    d.arrow(hinge.bottom(), (894, 262), (760, 262), judge.bottom(0.66), dashed=True)
    d.note("moves the discriminator", (846, 280))
    d.arrow(image.bottom(), (78, 318), error.left())
    d.note("|x - made|", (180, 310), mono=True)
    d.arrow(judge.bottom(0.33), (714, 318), error.right())
    d.note("- D(made)", (610, 310), mono=True)
    d.arrow(error.top(), decoder.bottom(), dashed=True)
    d.legend((30, 366))
    return d
