"""Residual quantisation: three codes, each of what the ones before have left over."""

from gentok.show.diagram import Diagram

DESCRIPTION = (
    "Three squares, one a level, each with five codes around the middle. In the first an arrow "
    "leads from the origin to the code that is nearest to the latent; a short line joins its tip "
    "to the latent. The second and third square show what is left over, enlarged, with codes of "
    "their own; the last rest is a fraction of the first."
)
CODES = (
    [(-70, -40), (-60, 60), (10, -70), (75, 50), (60, -30)],
    [(-60, -50), (-70, 30), (5, 65), (70, 40), (50, -60)],
    [(-65, 5), (-20, -60), (10, 60), (66, -10), (50, 60)],
)
SCALES = (1.0, 0.35, 0.12)  # size of a level's codes
LATENT = (50.0, 66.0)
SIDE = 220


def draw() -> Diagram:
    """The drawing of the primer."""
    d = Diagram("Each level quantises what is left", DESCRIPTION, 900, 330)
    rest = LATENT
    for level, (codes, scale) in enumerate(zip(CODES, SCALES, strict=True)):
        middle = (150 + 290 * level, 180)
        shown = (rest[0] / scale, rest[1] / scale)  # enlarged, so that codes fill the square
        near = min(codes, key=lambda c, z=shown: (c[0] - z[0]) ** 2 + (c[1] - z[1]) ** 2)
        corner = (middle[0] - SIDE / 2, middle[1] - SIDE / 2)
        far = (middle[0] + SIDE / 2, middle[1] + SIDE / 2)
        d.line(corner, (far[0], corner[1]), far, (corner[0], far[1]), corner, radius=0)
        for number, code in enumerate(codes):
            d.dot((middle[0] + code[0], middle[1] + code[1]), str(number))
        tip = (middle[0] + 0.86 * near[0], middle[1] + 0.86 * near[1])
        d.arrow(middle, tip)
        end = (middle[0] + shown[0], middle[1] + shown[1])
        d.line((middle[0] + near[0], middle[1] + near[1]), end)
        d.dot(end)
        rest = (rest[0] - scale * near[0], rest[1] - scale * near[1])
        words = ("what is quantised: r", "its rest, enlarged", "the rest of the rest")[level]
        d.note(words, (middle[0], 60))
        d.note(f"code {codes.index(near)}", (middle[0], 310))
    return d
