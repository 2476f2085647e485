"""Mogo: how one frame is written, and how it becomes motion."""

from gentok.show.diagram import Diagram

DESCRIPTION = (
    "On the left columns of four codes, one column a frame, and the text. Codes are embedded by "
    "one table and summed from level 0 down, so that level i gets the sum of levels 0 to i of past "
    "frames. Four causal transformers stand one above the other, four, two, one and one blocks "
    "deep; each reads the text, its level and its sums. One output layer gives the logits of the "
    "next frame's four codes, which are drawn at once, go back as the newest column, and go to the "
    "tokenizer: its decoder turns columns into motion, its encoder made the training's columns."
)
DEPTHS = (4, 2, 1, 1)


def draw() -> Diagram:
    """The drawing of the Mogo chapter; depths are those of `tiny` and `world`."""
    d = Diagram("Mogo, one frame", DESCRIPTION, 1000, 520)
    past = d.tokens((28, 100), [["old"] * 4 for _ in range(4)], side=27)
    d.note("codes (B, T, Q), past frames", (30, 84), anchor="start")
    text = d.data("text", (28, 268), (108, 58), ["(B, D_text)"])
    embedding = d.box("embedding", (176, 112), (118, 84), ["one table for", "all levels"])
    sums = d.box(
        "prefix_sums", (326, 112), (130, 84), ["level i: sum", "of levels 0 to i"], new=True
    )
    prefix = d.box("prefix", (326, 256), (130, 82), ["[text, level]", "of each level"])
    places = (64, 152, 240, 328)
    levels = []
    for i, (y, depth) in enumerate(zip(places, DEPTHS, strict=True)):
        words = [f"{depth} block{'s' * (depth > 1)}, causal"]
        levels.append(d.box(f"levels[{i}]", (526, y), (160, 66), words, new=True))
    head = d.box("head", (756, 190), (104, 78), ["one for all", "(B, Q, K)"])
    new = d.tokens((906, 175), [["new"]] * 4, side=27)
    d.note("next frame", (908, 158), anchor="end")
    d.arrow(past.right(), embedding.left())
    d.arrow(embedding.right(), sums.left())
    d.arrow(text.right(), prefix.left())
    for level, (at, off) in zip(levels, ((0.2, 0), (0.4, 8), (0.6, 16), (0.8, 24)), strict=True):
        start = sums.right(at)
        x = 474 + off if level in levels[:2] else 498 - off + 16
        d.arrow(start, (x, start[1]), (x, level.left(0.35)[1]), level.left(0.35))
    for level, at in zip(levels, (0.2, 0.4, 0.6, 0.8), strict=True):
        start = prefix.right(at)
        d.arrow(start, (510, start[1]), (510, level.left(0.75)[1]), level.left(0.75), dashed=True)
    for level, at in zip(levels, (0.2, 0.4, 0.6, 0.8), strict=True):
        end = head.left(at)
        d.arrow(level.right(), (722, level.right()[1]), (722, end[1]), end)
    d.arrow(head.right(), new.left())
    d.note("draw", (883, 220))
    d.arrow(new.top(), (919.5, 48), (82, 48), (82, 74))
    d.note("goes back as the newest column: one pass a frame", (500, 42))
    decoder = d.box("decoder", (756, 410), (104, 66), ["1-D conv"])
    codebook = d.box("quantizer", (880, 398), (106, 90), ["sum of Q", "code vectors", "(B, T, D)"])
    motion = d.data("motion", (612, 414), (110, 58), ["(B, T, F)"])
    d.arrow(new.bottom(), (919.5, 398))
    d.arrow(codebook.left(), decoder.right())
    d.arrow(decoder.left(), motion.right())
    encoder = d.box("encoder", (470, 410), (104, 66), ["1-D conv"])
    d.arrow(motion.left(), encoder.right(), dashed=True)
    d.arrow(encoder.left(), (14, 443), (14, 154), past.left(), dashed=True)
    d.note("in training: codes of real clips", (240, 434))
    d.legend((28, 506), tokens=False)
    return d
