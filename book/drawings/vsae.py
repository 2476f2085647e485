"""The vSAE on the residual stream of one token, and where its reconstruction goes."""

from gentok.show.diagram import Diagram

DESCRIPTION = (
    "A frozen language model: tokens, two blocks, the residual stream x, a third block and the "
    "head. From x an arrow leads to the encoder, which gives a mean mu for each of F features. "
    "Noise is added to it where the mode has noise. TopK keeps the k values of largest magnitude. "
    "The dictionary adds up their rows to x-hat, which is compared with x and can replace it in "
    "the language model. A KL term pulls all means towards zero."
)


def draw() -> Diagram:
    """The drawing of the vSAE chapter; sizes are those of its language model."""
    d = Diagram("A dictionary for what stands between two blocks", DESCRIPTION, 1000, 490)
    tokens = d.data("tokens", (24, 68), (104, 56), ["128 bytes"])
    low = d.box("blocks 0, 1", (176, 60), (150, 72), ["GPT-NeoX"], frozen=True)
    x = d.data("x", (380, 68), (120, 56), ["(B, D)  D = 128"])
    high = d.box("block 2", (560, 60), (150, 72), ["GPT-NeoX"], frozen=True)
    head = d.box("head", (776, 60), (200, 72), ["next character, nats"], frozen=True)
    d.arrow(tokens.right(), low.left())
    d.arrow(low.right(), x.left())
    d.arrow(x.right(), high.left())
    d.arrow(high.right(), head.left())

    encoder = d.box("encoder", (24, 232), (150, 84), ["mu = ReLU(W x + b)"])
    sample = d.box("sample", (244, 232), (150, 84), ["z = mu + sigma eps"], new=True)
    select = d.box("select", (464, 232), (150, 84), ["k largest |z|"], new=True)
    rows = d.box("dictionary", (684, 232), (150, 84), ["sum of k rows, + b"])
    x_hat = d.data("x-hat", (884, 244), (92, 60), ["(B, D)"])
    d.arrow(x.bottom(0.3), (416, 180), (99, 180), encoder.top())
    d.arrow(encoder.right(), sample.left())
    d.note("(B, F)", (209, 262), mono=True)
    d.arrow(sample.right(), select.left())
    d.note("(B, F)", (429, 262), mono=True)
    d.arrow(select.right(), rows.left())
    d.note("(B, k)", (649, 262), mono=True)
    d.arrow(rows.right(), x_hat.left())
    d.arrow(x_hat.top(), (930, 180), (464, 180), x.bottom(0.7), dashed=True)
    d.note("put back, to see what the language model loses", (700, 172))

    kl = d.box("kl", (24, 374), (370, 64), ["beta w(t) 1/2 sum mu^2 ..., over all F"], new=True)
    loss = d.box("loss", (684, 374), (292, 64), ["|x - x-hat|^2 + KL"])
    d.arrow(encoder.bottom(), (99, 374))
    d.arrow(sample.bottom(), (319, 374))
    d.arrow(kl.right(), loss.left())
    d.arrow(x_hat.bottom(), (930, 374))
    d.note("released runs: no noise, sigma = 0", (319, 220))
    d.legend((24, 474))
    return d
