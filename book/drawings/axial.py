"""The Axial Transformer on one colour plane: what runs once a plane, once a row, once a pixel."""

from gentok.show.diagram import Diagram

DESCRIPTION = (
    "Three lanes. Top: earlier planes pass the exterior, a convolution and row and column blocks "
    "without masks, and become the condition c. Middle: the plane is embedded to h; h plus "
    "positions and c passes the outer blocks, rows without mask and columns with one, and is "
    "shifted down to u. Bottom: h is shifted right, u, positions and c are added, and the sum "
    "passes the inner blocks, masked rows, a norm and the head, which gives logits."
)


def draw() -> Diagram:
    """The drawing of the chapter; depths are those of the book's trained weights."""
    d = Diagram("Axial Transformer, one colour plane", DESCRIPTION, 1000, 520)
    for y, words in ((64, "once a plane"), (196, "once a row"), (462, "once a pixel, in its row")):
        d.note(words, (28, y), anchor="start")
    earlier = d.data("earlier planes", (28, 84), (132, 70), ["shades, and which", "plane is next"])
    exterior = d.box(
        "exterior", (244, 76), (250, 86), ["conv, rows and columns,", "no masks (2 blocks)"],
        new=True,
    )  # fmt: skip
    condition = d.data("c + positions", (640, 88), (130, 62), ["(B, H, W, D)"])
    plane = d.data("plane", (28, 278), (86, 60), ["(B, H, W)"])
    embedding = d.box("embedding", (142, 270), (106, 76), ["h", "(B, H, W, D)"])
    d.dot((330, 240), "+")
    outer = d.box(
        "outer", (400, 204), (220, 76), ["rows, no mask; columns,", "masked (4 blocks)"], new=True
    )
    down = d.box("shift down", (690, 206), (112, 72), ["by a row"], new=True)
    right = d.box("shift right", (232, 378), (116, 60), ["by a pixel"])
    d.dot((480, 408), "+")
    inner = d.box("inner", (560, 370), (180, 76), ["rows, masked", "(4 blocks)"], new=True)
    head = d.box("norm, head", (782, 376), (104, 64), ["Linear"])
    logits = d.data("logits", (908, 378), (86, 60), ["(B,H,W,K)"])

    d.arrow(earlier.right(), exterior.left())
    d.arrow(exterior.right(), condition.left())
    d.arrow(condition.bottom(), (705, 182), (330, 182), (330, 227))
    d.arrow(plane.right(), embedding.left())
    d.arrow(embedding.top(0.7), (216, 240), (317, 240))
    d.arrow((343, 240), outer.left(0.474))
    d.arrow(outer.right(), down.left())
    d.arrow(down.bottom(), (746, 324), (480, 324), (480, 395))
    d.note("u: all rows above", (610, 316))
    d.dot((374, 182))
    d.arrow((374, 182), (374, 452), (480, 452), (480, 421))
    d.note("again", (428, 444))
    d.arrow(embedding.bottom(), (195, 408), right.left())
    d.arrow(right.right(), (467, 408))
    d.arrow((493, 408), inner.left())
    d.arrow(inner.right(), head.left())
    d.arrow(head.right(), logits.left())
    d.legend((28, 502))
    return d
