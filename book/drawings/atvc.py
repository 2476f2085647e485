"""Accountable chat: a discrete VAE, one stream of words and codes, a picture and an answer."""

from gentok.show.diagram import Diagram

DESCRIPTION = (
    "Above, a picture passes the frozen encoder of a discrete VAE and becomes nine codes. "
    "Order and codes are written into one stream, behind a start. A causal transformer continues "
    "the stream, place by place: nine codes of a re-created picture, then the words of an "
    "answer; at each place it chooses from the vocabulary of that place alone. The frozen decoder "
    "turns the codes into a picture. The answer decides whether that picture is kept: if the order "
    "is refused it is thrown away, and in training nothing is learned at its places."
)


def draw() -> Diagram:
    """The drawing of the chapter; shapes are those of ``orders-24``."""
    d = Diagram("An order, a picture, and an answer", DESCRIPTION, 1080, 420)
    picture = d.data("picture", (24, 60), (136, 62), ["(B, 3, 24, 24)"])
    encoder = d.box("encoder", (226, 54), (136, 74), ["likeliest code"], frozen=True)
    order = d.data("order", (24, 192), (136, 62), ["(B, 14) words"])
    source = d.data("source", (226, 192), (136, 62), ["(B, 9) codes"])
    image = d.data("image", (428, 192), (136, 62), ["(B, 9) codes"])
    answer = d.data("answer", (630, 192), (136, 62), ["(B, 17) words"])
    d.box("ChatStream", (24, 306), (742, 66), ["causal; each place has its own words"], new=True)
    decoder = d.box("decoder", (428, 54), (136, 74), ["(B, 3, 24, 24)"], frozen=True)
    choice = d.box("answer", (848, 186), (150, 74), ["keep, or refuse"], new=True)
    reply = d.data("reply", (848, 60), (150, 62), ["picture, reason"])

    d.arrow(picture.right(), encoder.left())
    d.arrow(encoder.bottom(), source.top())
    d.arrow(order.bottom(), (92, 306))
    d.arrow(source.bottom(), (294, 306))
    d.arrow((480, 306), image.bottom(0.38))
    d.arrow(image.bottom(0.68), (520, 306))
    d.arrow((682, 306), answer.bottom(0.38))
    d.arrow(answer.bottom(0.68), (722, 306))
    d.arrow(image.top(), decoder.bottom())
    d.arrow(answer.right(), choice.left())
    d.arrow(choice.top(), reply.bottom())
    d.arrow(decoder.right(), reply.left())
    d.legend((24, 402))
    return d
