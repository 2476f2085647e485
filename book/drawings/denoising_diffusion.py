"""Denoising diffusion: samples walk into noise, and noise walks back."""

import math
import random

from gentok.show.diagram import Diagram, Point

DESCRIPTION = (
    "Two panels. In the upper one wandering paths lead from two groups of samples on the left "
    "into one broad cloud of noise on the right. In the lower one wandering paths lead from the "
    "cloud on the right back to the two groups."
)
LEFT, RIGHT, STEPS = 150, 750, 24
TARGETS = (-1.0, 1.0)  # in units of the noise's standard deviation
UNIT = 38  # pixels of one unit
STARTS = (-1.9, -1.3, -0.8, -0.35, 0.3, 0.7, 1.2, 1.8)


def draw() -> Diagram:
    """The drawing of the primer."""
    d = Diagram("Into noise and back", DESCRIPTION, 900, 470)
    for middle, name in ((140, "the walk into noise"), (360, "the walk back")):
        d.note(name, (450, middle - 96))
        d.note("samples, t = 0", (LEFT - 16, middle + 4), anchor="end")
        d.note("noise, t = T", (RIGHT + 20, middle + 4), anchor="start")
    dice = random.Random(28)
    for k, start in enumerate(STARTS):
        away = spoiled(TARGETS[k % 2], dice)
        d.dot(at(0, away[0], 140))
        d.arrow(*[at(t, x, 140) for t, x in enumerate(away)])
        back = restored(start, dice)
        d.dot(at(STEPS, start, 360))
        d.arrow(*[at(STEPS - t, x, 360) for t, x in enumerate(back)])
    return d


def at(t: int, x: float, middle: float) -> Point:
    """Pixels of a state at a step."""
    return LEFT + t / STEPS * (RIGHT - LEFT), middle + UNIT * x


def alpha_bar(t: int) -> float:
    """Share of signal left after t steps: a squared cosine."""
    return math.cos(t / STEPS * 0.98 * math.pi / 2) ** 2


def spoiled(x: float, dice: random.Random) -> list[float]:
    """States 0 to T of a walk into noise."""
    path = [x]
    for t in range(1, STEPS + 1):
        alpha = alpha_bar(t) / alpha_bar(t - 1)
        path.append(alpha**0.5 * path[-1] + (1 - alpha) ** 0.5 * dice.gauss(0, 1))
    return path


def restored(x: float, dice: random.Random) -> list[float]:
    """States T to 0 of the walk back, with a perfect guess of the sample."""
    path = [x]
    for t in range(STEPS, 0, -1):
        now, then = alpha_bar(t), alpha_bar(t - 1)
        alpha = now / then
        weights = [math.exp(-((path[-1] - now**0.5 * m) ** 2) / (2 * (1 - now))) for m in TARGETS]
        guess = sum(w * m for w, m in zip(weights, TARGETS, strict=True)) / sum(weights)
        mean = then**0.5 * (1 - alpha) * guess + alpha**0.5 * (1 - then) * path[-1]
        variance = (1 - then) / (1 - now) * (1 - alpha)
        path.append(mean / (1 - now) + variance**0.5 * dice.gauss(0, 1))
    return path
