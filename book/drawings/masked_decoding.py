"""Masked decoding: one grid after 0, 2, 4, 6 and 8 steps."""

import random

from gentok.base.masked.unmask import mask_schedule
from gentok.show.diagram import Diagram

SIDE, STEPS = 8, 8
DESCRIPTION = (
    "Five grids of eight by eight tokens after 0, 2, 4, 6 and 8 decoding steps. Masked tokens "
    "become fewer, slowly at first; those of the last step are marked as new."
)


def draw() -> Diagram:
    """The drawing of the primer."""
    counts = mask_schedule(SIDE * SIDE, STEPS)
    order = list(range(SIDE * SIDE))
    random.Random(3).shuffle(order)  # the order in which tokens are revealed, last first
    d = Diagram("From nothing but masks to a picture", DESCRIPTION, 860, 290)
    for column, step in enumerate((0, 2, 4, 6, 8)):
        masked = set(order[: counts[step]])
        new = set(order[: counts[max(step - 1, 0)]]) - masked
        kinds = ["masked" if i in masked else "new" if i in new else "old" for i in range(64)]
        x = 30 + 164 * column
        d.tokens((x, 84), [kinds[i : i + SIDE] for i in range(0, 64, SIDE)], side=17)
        d.note(f"after step {step}", (x + 68, 72))
        d.note(f"{counts[step]} masked", (x + 68, 240))
    d.legend((30, 276), tokens=True)
    return d
