"""ViTok: two plain transformers around a code of L tokens of c numbers."""

from gentok.show.diagram import Diagram

DESCRIPTION = (
    "A picture is cut into patches, each a token. A transformer with rotary positions and a linear "
    "layer give mean and variance of c numbers a token; their L times c means are the code, E "
    "floats. A linear layer, a second transformer and a transposed convolution make a picture of "
    "it. Below, the three stages: the first trains everything by squared error, KL and LPIPS; the "
    "second holds the encoder side still and lets the decoder play against a discriminator; the "
    "third trains a diffusion transformer on the codes, one token a code vector."
)


def draw() -> Diagram:
    """The drawing of the ViTok chapter; shapes are those of ``study-32``."""
    d = Diagram("ViTok: E = L c floats between two transformers", DESCRIPTION, 1080, 470)
    image = d.data("image", (24, 84), (120, 60), ["(B, 3, 32, 32)"])
    cut = d.box("to_tokens", (176, 82), (116, 64), ["8 x 8 patches"])
    encoder = d.box("encoder", (324, 82), (116, 64), ["2 blocks, RoPE"], new=True)
    code = d.box("to_code", (472, 82), (116, 64), ["mean, variance"])
    z = d.data("z", (624, 76), (132, 76), ["L = 16 tokens", "of c = 4: E = 64"])
    decoder = d.box("decoder", (792, 82), (116, 64), ["3 blocks, RoPE"], new=True)
    pixels = d.box("to_pixels", (940, 82), (116, 64), ["patches"])
    made = d.data("image", (938, 206), (120, 60), ["made"])
    loss = d.box("loss", (624, 206), (132, 60), ["L2, KL, LPIPS"])
    frozen = d.box("encoder side", (176, 330), (264, 60), ["stage 2: as it was"], frozen=True)
    judge = d.box("discriminator", (792, 330), (140, 60), ["stage 2"])
    dit = d.box("ViTokDiT", (560, 330), (150, 60), ["a token a code"])

    d.arrow(image.right(), cut.left())
    d.arrow(cut.right(), encoder.left())
    d.arrow(encoder.right(), code.left())
    d.arrow(code.right(), z.left())
    d.arrow(z.right(), decoder.left())
    d.arrow(decoder.right(), pixels.left())
    d.arrow(pixels.bottom(), made.top())
    d.arrow(made.left(), loss.right())
    d.arrow(image.bottom(), (84, 236), loss.left())
    d.arrow(made.bottom(), (998, 360), judge.right())
    d.arrow(cut.bottom(), frozen.top(0.22), dashed=True)
    d.note("same weights", (286, 296))
    d.arrow(frozen.right(), dit.left())
    d.note("codes, drawn from the posterior", (500, 318))
    d.legend((24, 440))
    return d
