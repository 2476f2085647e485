"""ENAT's network at one decoding step: which token passes which part."""

from gentok.show.diagram import Diagram

DESCRIPTION = (
    "A grid of tokens is embedded and split into new, old and masked ones. New tokens pass the "
    "deep encoder, which also reads the old tokens' features of the step before, projected by f. "
    "Encoded new and projected old features together are the visible features. Masked tokens pass "
    "the shallow decoder, which reads the visible features. Visible and decoded features together "
    "pass the head, which gives logits, and are handed to the next step."
)
GRID = [
    ["old", "masked", "masked", "masked"],
    ["old", "old", "new", "masked"],
    ["masked", "new", "old", "masked"],
    ["masked", "masked", "new", "masked"],
]


def draw() -> Diagram:
    """The drawing of the ENAT chapter; depths are those of ENAT-L and of `tiny`."""
    d = Diagram("ENAT, one step of decoding", DESCRIPTION, 1000, 530)
    grid = d.tokens((28, 186), GRID, side=27)
    d.note("codes (B, N)", (82, 172), mono=True)
    embedding = d.box("embedding", (170, 208), (116, 64), ["code, position"])
    before = d.data("features", (344, 216), (124, 66), ["the step before,", "at old tokens"])
    encoder = d.box(
        "encoder", (508, 68), (190, 96), ["22 blocks (tiny: 3)", "x: new tokens"], new=True
    )
    previous = d.box("previous", (508, 212), (190, 74), ["f(z) = z + MLP(LN(z))"], new=True)
    decoder = d.box(
        "decoder", (508, 374), (190, 96), ["2 blocks (tiny: 1)", "x: masked tokens"], new=True
    )
    visible = d.data("visible", (740, 218), (96, 62), ["new + old"])
    after = d.data("features", (864, 300), (116, 62), ["all N tokens"])
    head = d.box("head", (864, 408), (116, 74), ["norm, logits", "(B, N, K)"])

    d.arrow(grid.right(), embedding.left())
    d.arrow(embedding.right(0.3), (316, 227), (316, 116), encoder.left())
    d.note("new (B, n, D)", (440, 107), mono=True)
    d.arrow(embedding.right(0.7), (316, 253), (316, 422), decoder.left())
    d.note("masked (B, m, D)", (412, 413), mono=True)
    d.arrow(before.right(), previous.left(), dashed=True)
    d.note("no gradient", (406, 300))
    d.arrow(previous.top(), encoder.bottom())
    d.note("context: old", (612, 193), anchor="start")
    d.arrow(encoder.right(), (788, 116), visible.top())
    d.note("(B, n, D)", (742, 107), mono=True)
    d.arrow(previous.right(), visible.left())
    d.arrow(visible.bottom(0.3), (769, 328), (603, 328), decoder.top())
    d.note("context: visible", (686, 320))
    d.arrow(visible.right(), (922, 249), after.top())
    d.arrow(decoder.right(), (790, 422), (790, 331), after.left())
    d.note("(B, m, D)", (744, 413), mono=True)
    d.arrow(after.bottom(), head.top())
    d.arrow(after.right(0.35), (992, 322), (992, 48), (368.8, 48), before.top(0.2), dashed=True)
    d.note("for the next step", (900, 66))
    d.legend((28, 512), tokens=True)
    return d
