"""Vector quantisation: latents in a plane move to the code of their cell."""

from gentok.show.diagram import Diagram, Point

DESCRIPTION = (
    "A plane divided into five cells by straight lines. In each cell stands one code; seven "
    "latents lie in the plane, and an arrow leads from each to the code of its cell."
)
CODES = [(150, 130), (330, 110), (520, 150), (230, 270), (450, 290)]
LATENTS = [(96, 176), (200, 96), (390, 152), (560, 104), (300, 300), (164, 232), (520, 254)]
FRAME = [(30, 56), (630, 56), (630, 340), (30, 340)]


def draw() -> Diagram:
    """The drawing of the primer."""
    d = Diagram("Each latent becomes the nearest code", DESCRIPTION, 900, 364)
    for code in CODES:
        corners = cell(code)
        d.line(*corners, corners[0], radius=0)
    for z in LATENTS:
        near = min(CODES, key=lambda code, z=z: distance(code, z))
        part = 1 - 13 / distance(near, z) ** 0.5  # the arrow ends at the rim of the code
        d.arrow(z, (z[0] + part * (near[0] - z[0]), z[1] + part * (near[1] - z[1])))
        d.dot(z)
    for k, code in enumerate(CODES):
        d.dot(code, str(k))
    d.dot((664, 110))
    d.note("a latent z", (684, 114), anchor="start")
    d.dot((664, 150), "2")
    d.note("a code and its number", (684, 154), anchor="start")
    d.arrow((652, 190), (678, 190))
    d.note("z becomes its code", (684, 194), anchor="start")
    d.line((652, 230), (678, 230))
    d.note("where codes are equally near", (684, 234), anchor="start")
    return d


def distance(a: Point, b: Point) -> float:
    """Squared distance in pixels."""
    return (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2


def cell(code: Point) -> list[Point]:
    """Corners of the region that is nearer to this code than to all others."""
    corners = FRAME
    for other in CODES:
        if other == code:
            continue

        def nearer(p: Point, other: Point = other) -> float:
            return distance(p, other) - distance(p, code)  # linear in p

        kept = []
        for a, b in zip(corners, [*corners[1:], corners[0]], strict=True):
            at_a, at_b = nearer(a), nearer(b)
            if at_a >= 0:
                kept.append(a)
            if at_a * at_b < 0:
                part = at_a / (at_a - at_b)
                kept.append((a[0] + part * (b[0] - a[0]), a[1] + part * (b[1] - a[1])))
        corners = kept
    return corners
