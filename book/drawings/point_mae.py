"""Point-MAE in pretraining: what the encoder sees, and who is told where hidden patches lie."""

from gentok.show.diagram import Diagram

DESCRIPTION = (
    "A cloud is cut into patches around centres. The points of the visible patches pass the "
    "tokenizer and become tokens; the visible centres pass the encoder's position MLP. Tokens and "
    "positions enter the deep encoder. Its output is joined with mask tokens and enters the "
    "shallow decoder, whose own position MLP is told the centres of visible and masked patches. "
    "A linear head gives the points of the masked patches, and the Chamfer distance compares them "
    "with the true ones. After pretraining only tokenizer, position MLP and encoder are kept."
)
PATCHES = [
    ["masked", "old", "masked", "masked"],
    ["old", "masked", "masked", "old"],
    ["masked", "masked", "old", "masked"],
]


def draw() -> Diagram:
    """The drawing of the chapter; depths are those of the paper and of `tiny`."""
    d = Diagram("Point-MAE, pretraining", DESCRIPTION, 1000, 470)
    cloud = d.data("points", (24, 176), (104, 62), ["(B, P, 3)"])
    group = d.box("group", (164, 164), (124, 86), ["farthest points,", "neighbours"])
    grid = d.tokens((184, 292), PATCHES, side=21)
    d.note("G patches: blue visible,", (226, 374))
    d.note("? masked", (226, 391))
    tokenizer = d.box("tokenizer", (346, 76), (140, 72), ["mini-PointNet"])
    position = d.box("position", (346, 176), (140, 62), ["MLP of a centre"])
    encoder = d.box(
        "encoder",
        (590, 92),
        (150, 118),
        ["12 blocks (tiny: 3)", "visible patches", "only"],
        new=True,
    )
    token = d.data("mask_token", (346, 372), (170, 50), ["one vector"])
    decoder_position = d.box(
        "decoder_position", (346, 278), (170, 70), ["MLP of a centre"], new=True
    )
    decoder = d.box(
        "decoder", (590, 292), (150, 104), ["4 blocks (tiny: 1)", "all patches"], new=True
    )
    head = d.box("head", (796, 306), (84, 76), ["linear"])
    out = d.data("predicted", (900, 304), (94, 80), ["(B, M, k, 3)"])

    d.arrow(cloud.right(), group.left())
    d.line(group.bottom(), grid.top())
    d.arrow(group.right(0.2), (316, 181.2), (316, 112), tokenizer.left())
    d.note("(B, V, k, 3)", (398, 66), mono=True)
    d.arrow(group.right(0.5), position.left())
    d.note("visible centres", (348, 254), anchor="start")
    d.arrow(tokenizer.right(), (558, 112), (558, 128), encoder.left(0.3))
    d.note("(B, V, D)", (524, 102), mono=True)
    d.arrow(position.right(), (558, 207), (558, 182), encoder.left(0.76))
    d.note("(B, V, D)", (524, 226), mono=True)
    d.arrow(group.right(0.85), (316, 237.1), (316, 313), decoder_position.left())
    d.note("all centres", (348, 271), anchor="start")
    d.arrow(encoder.bottom(0.5), decoder.top(0.5))
    d.note("z (B, V, D)", (676, 256), mono=True, anchor="start")
    d.arrow(decoder_position.right(), (558, 313), (558, 328), decoder.left(0.35))
    d.note("(B, G, D)", (550, 300), mono=True)
    d.arrow(token.right(), (558, 397), (558, 370), decoder.left(0.75))
    d.note("M copies", (566, 412), anchor="start")
    d.arrow(decoder.right(), head.left())
    d.note("last M", (768, 334))
    d.arrow(head.right(), out.left())
    d.note("kept after pretraining: tokenizer, position, encoder", (666, 66))
    d.legend((28, 452))
    return d
