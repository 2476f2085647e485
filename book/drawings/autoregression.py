"""Autoregression: who sees whom in training, and what one step of writing computes."""

from gentok.show.diagram import Diagram

SIDE = 6
DESCRIPTION = (
    "Left, a square of six by six: row i marks the tokens that place i reads, itself and those "
    "before it; the upper right half is hidden. Right, writing with a cache: a single row of six, "
    "the last token is new, the five before it are kept keys and values."
)


def draw() -> Diagram:
    """The drawing of the primer."""
    d = Diagram("Each token reads those before it", DESCRIPTION, 860, 330)
    rows = [["old"] * i + ["new"] + ["masked"] * (SIDE - 1 - i) for i in range(SIDE)]
    d.tokens((150, 86), rows, side=30)
    d.note("training: all places in one pass", (240, 72))
    d.note("what is read", (240, 290))
    d.note("place 1", (140, 106), anchor="end")
    d.note(f"place {SIDE}", (140, 106 + 30 * (SIDE - 1)), anchor="end")
    row = d.tokens((480, 146), [["old"] * (SIDE - 1) + ["new"]], side=30)
    d.note("writing: one row a step", (570, 72))
    d.note("kept in the cache", (555, 132))
    draw_box = d.data("softmax", (704, 126), (112, 70), ["of logits / T", "draw one"])
    d.arrow(row.right(), draw_box.left())
    d.arrow(draw_box.bottom(), (760, 250), (645, 250), (645, 182))
    d.note("the token drawn is the next one read", (620, 272))
    d.legend((30, 316), tokens=True)
    return d
