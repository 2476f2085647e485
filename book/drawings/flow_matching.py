"""Flow matching: straight lines of training, and the paths of their mean speed."""

import math
import random

from gentok.show.diagram import Diagram, Point

DESCRIPTION = (
    "Two panels. In the upper one straight lines join points of noise on the left, at random, to "
    "two groups of samples on the right, and cross. In the lower one paths start at the same "
    "points and follow the mean speed: they bend towards the nearer group and never cross."
)
LEFT, RIGHT, STEPS = 150, 750, 40
TARGETS = (-1.0, 1.0)  # in units of the noise's standard deviation
UNIT = 42  # pixels of one unit
STARTS = (-1.9, -1.3, -0.8, -0.35, 0.3, 0.7, 1.2, 1.8)


def draw() -> Diagram:
    """The drawing of the primer."""
    d = Diagram("From noise to samples", DESCRIPTION, 900, 450)
    ends = [TARGETS[k % 2] for k in range(len(STARTS))]
    random.Random(4).shuffle(ends)
    for middle, name in ((140, "lines of training"), (350, "paths of the mean speed")):
        d.note(name, (450, middle - 92))
        d.note("noise, t = 0", (LEFT - 16, middle + 4), anchor="end")
        d.note("samples, t = 1", (RIGHT + 20, middle + 4), anchor="start")
    for start, end in zip(STARTS, ends, strict=True):
        d.dot(at(0, start, 140))
        d.arrow(at(0, start, 140), at(1, end, 140))
        d.dot(at(0, start, 350))
        d.arrow(*[at(t, x, 350) for t, x in followed(start)])
    return d


def at(t: float, x: float, middle: float) -> Point:
    """Pixels of a state at a time."""
    return LEFT + t * (RIGHT - LEFT), middle + UNIT * x


def followed(x: float) -> list[Point]:
    """(time, state) along the path of the mean speed; every fifth step."""
    path = [(0.0, x)]
    for step in range(STEPS):
        t = step / STEPS
        x += mean_speed(x, t) / STEPS
        if (step + 1) % 5 == 0:
            path.append(((step + 1) / STEPS, x))
    return path


def mean_speed(x: float, t: float) -> float:
    """E[target - noise | x_t = x] for two equally likely targets."""
    noises = [(x - t * target) / (1 - t) for target in TARGETS]
    weights = [math.exp(-noise * noise / 2) for noise in noises]
    pairs = zip(weights, TARGETS, noises, strict=True)
    return sum(w * (target - noise) for w, target, noise in pairs) / sum(weights)
