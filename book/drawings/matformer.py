"""MatFormer's block: everything is shared but the neurons of the feed-forward layer."""

from gentok.show.diagram import Diagram

DESCRIPTION = (
    "Tokens are embedded, pass l blocks of attention and a nested feed-forward layer, a norm and "
    "the embedding again as head, which gives logits. Below, the F neurons of the nested layer in "
    "a row, cut into four bands of an eighth, an eighth, a quarter and a half. S reads the first "
    "band, M the first two, L the first three and XL all."
)
EIGHTH = 84  # pixels of F/8 neurons
BANDS = [("F/8", 1), ("F/8", 1), ("F/4", 2), ("F/2", 4)]
START, TOP = 130, 252  # of the row of neurons


def draw() -> Diagram:
    """The drawing of the MatFormer chapter."""
    d = Diagram("MatFormer: one set of weights, four widths", DESCRIPTION, 1000, 550)
    tokens = d.data("tokens", (24, 84), (92, 62), ["(B, N)"])
    embedding = d.box("embedding", (160, 80), (118, 70), ["shared"])
    attention = d.box("attention", (350, 80), (150, 70), ["after norm1", "full width, shared"])
    mlp = d.box("mlp", (550, 80), (170, 70), ["after norm2", "the first m neurons"], new=True)
    head = d.box("norm, logits", (764, 80), (126, 70), ["embedding again"])
    logits = d.data("logits", (914, 84), (78, 62), ["(B, N, K)"])
    parts = [tokens, embedding, attention, mlp, head, logits]
    for left, right in zip(parts, parts[1:], strict=False):
        d.arrow(left.right(), right.left())
    d.note("(B, N, D)", (314, 106), mono=True)
    d.line((334, 76), (334, 66), (736, 66), (736, 76))
    d.note("l blocks; each may have its own m", (535, 58))

    end = START + 8 * EIGHTH
    d.arrow(mlp.bottom(), (mlp.bottom()[0], TOP - 24))
    d.note("x (B, N, D)", (mlp.bottom()[0] + 52, 196), mono=True)
    x = START
    for name, share in BANDS:
        d.box(name, (x, TOP), (share * EIGHTH, 60), ["neurons"], new=True)
        x += share * EIGHTH
    for line, words in enumerate(("up: rows", "down: columns", "its bias: whole")):
        d.note(words, (end + 14, TOP + 18 + 18 * line), anchor="start")
    d.line((START, TOP - 14), (START, TOP - 22), (end, TOP - 22), (end, TOP - 14))
    for level, (name, share) in enumerate((("S", 1), ("M", 2), ("L", 4), ("XL", 8))):
        y, end = TOP + 86 + 32 * level, START + EIGHTH * share
        d.line((START, y - 6), (START, y + 6))
        d.line((START, y), (end, y))
        d.line((end, y - 6), (end, y + 6))
        d.note(name, (START - 22, y + 5), mono=True)
        d.note(f"m = {'F' if share == 8 else f'F/{8 // share}'}", (end + 12, y + 5), anchor="start")
    d.note("A width m reads the first m neurons: the small layer is a part of the large one.",
           (START, TOP + 226), anchor="start")  # fmt: skip
    d.legend((28, 532))
    return d
