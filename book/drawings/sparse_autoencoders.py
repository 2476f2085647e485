"""A sparse autoencoder's picture: many directions in a plane, two of them add up to a point."""

import math

from gentok.show.diagram import Diagram, Point

DESCRIPTION = (
    "A plane with seven arrows of equal length from one origin, at uneven angles: the dictionary. "
    "A point x lies in the plane. Two of the arrows, stretched by their activations and laid end "
    "to end, lead to a point x-hat close to it. The other five take no part."
)
ORIGIN, LENGTH = (210, 250), 92
ANGLES = (8, 47, 98, 141, 196, 251, 312)  # degrees
USED = {1: 1.55, 0: 1.3}  # feature and activation
X = (452, 116)


def draw() -> Diagram:
    """The drawing of the primer."""
    d = Diagram("Many directions, few at a time", DESCRIPTION, 900, 400)
    for number, angle in enumerate(ANGLES):
        tip = along(ORIGIN, angle, LENGTH)
        d.arrow(ORIGIN, tip)
        place = along(ORIGIN, angle - 12 * (number in USED), LENGTH + 18)
        d.note(f"d{number}", (place[0], place[1] + 4), mono=True)
    corner = ORIGIN
    for number, activation in USED.items():
        end = along(corner, ANGLES[number], activation * LENGTH)
        d.arrow(corner, end, dashed=True)
        corner = end
    d.dot(corner)
    d.note("x-hat = 1.55 d1 + 1.30 d0", (corner[0] + 14, corner[1] + 20), anchor="start")
    d.dot(X, "x")
    d.note("the activation", (X[0] + 16, X[1] - 6), anchor="start")
    d.note("7 directions in 2 dimensions;", (560, 260), anchor="start")
    d.note("k = 2 of them fire, 5 are silent", (560, 282), anchor="start")
    return d


def along(start: Point, angle: float, length: float) -> Point:
    """The point at a distance and an angle in degrees, counted against the clock."""
    radians = math.radians(angle)
    return (start[0] + length * math.cos(radians), start[1] - length * math.sin(radians))
