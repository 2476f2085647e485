"""Orders, what becomes of a scene that obeys them, and the three answers.

The rules of CLEVR-ATVC (Zhang and Liu 2024, TMLR) on a small grid: an order names one or two
objects by colour and shape. It is obeyed; or it cannot be, because a named object is not there; or
it is forbidden, because a disc may not be put under an object (the paper's sphere). *Forbidden*
goes before *cannot* where both hold.

An order is drawn first and its scene afterwards, with the object or with another one in its place,
so that the words alone do not tell which of *yes* and *cannot* is right.

Shapes: n orders, G rows and columns of places. A kind of object is a number from 1 up; 0 is floor.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from gentok.data.imageset import generator
from gentok.data.words import Words

SHAPES = ("disc", "square", "triangle")
COLOURS = ("red", "yellow", "green", "blue")
KINDS = tuple((colour, shape) for shape in SHAPES for colour in COLOURS)  # kind k is KINDS[k - 1]
DISC = SHAPES.index("disc")

YES, CANNOT, FORBIDDEN = TYPES = range(3)
SHARES = (0.4, 0.4, 0.2)  # of the types; what is forbidden can be read off the words
TYPE_NAMES = ("yes", "cannot", "forbidden")
COLOUR, POSITION, ON_TOP, UNDER, REMOVE = range(5)
TEMPLATES = (
    "please exchange color of the {a} and the {b}.",
    "please exchange position of the {a} and the {b}.",
    "please put the {a} on top of the {b}.",
    "please put the {a} under the {b}.",
    "please remove the {a}.",
)
ANSWERS = (
    "no problem.",
    "this action cannot be done. because there is no {x}.",
    "this action is forbidden. because you cannot put the {x} under an object.",
)
WORDS = Words(
    (
        *("please", "exchange", "color", "position", "of", "the", "and", "put", "on", "top"),
        *("under", "remove", ".", *COLOURS, *SHAPES),
        *("no", "problem", "this", "action", "cannot", "be", "done", "because", "there", "is"),
        *("forbidden", "you", "an", "object"),
    )
)
ORDER_LENGTH, ANSWER_LENGTH = 14, 17  # words, the end included; the longest order leaves one free
OTHERS = 2  # objects at most that an order does not name


@dataclass(frozen=True)
class Orders:
    """Orders with their scenes.

    Attributes:
        template: index into TEMPLATES, (n,) int64.
        a, b: kinds that are named, (n,) int64; ``b`` is another object of the scene where the
            template names one.
        type: YES, CANNOT or FORBIDDEN, (n,).
        absent: kind that is named and not there, (n,); 0 where all are.
        before, after: kind at each place, (n, G, G); equal where the order is refused.
    """

    template: Tensor
    a: Tensor
    b: Tensor
    type: Tensor
    absent: Tensor
    before: Tensor
    after: Tensor

    def __len__(self) -> int:
        return len(self.template)

    def __getitem__(self, index: slice | Tensor) -> "Orders":
        """The orders that a slice, positions (m,) or a mask (n,) selects."""
        return Orders(*(getattr(self, f.name)[index] for f in fields(self)))

    def texts(self) -> list[str]:
        """What is ordered, in words."""
        rows = zip(self.template.tolist(), self.a.tolist(), self.b.tolist(), strict=True)
        return [TEMPLATES[t].format(a=name_of(a), b=name_of(b)) for t, a, b in rows]

    def answers(self) -> list[str]:
        """What is right to answer, with the reason of a refusal."""
        named = torch.where(self.type == FORBIDDEN, self.a, self.absent)
        rows = zip(self.type.tolist(), named.tolist(), strict=True)
        return [ANSWERS[t].format(x=name_of(x) if x else "") for t, x in rows]

    def changed(self) -> Tensor:
        """Places that obeying changes, (n, G, G) bool."""
        return self.before != self.after


def name_of(kind: int) -> str:
    """Colour and shape of a kind: "red disc"."""
    return " ".join(KINDS[kind - 1])


def shape_of(kind: Tensor) -> Tensor:
    """Index into SHAPES of kinds from 1 up, any shape."""
    return (kind - 1) // len(COLOURS)


def colour_of(kind: Tensor) -> Tensor:
    """Index into COLOURS of kinds from 1 up, any shape."""
    return (kind - 1) % len(COLOURS)


def draw_orders(
    n: int,
    seed: int = 0,
    type: Tensor | None = None,
    grid: int = 3,
    templates: tuple[int, ...] = tuple(range(5)),
    colours: int = len(COLOURS),
) -> Orders:
    """Draw orders and their scenes.

    Args:
        n: number of orders.
        seed: the same seed gives the same orders.
        type: (n,); drawn by SHARES if None. Two calls that differ in YES and CANNOT alone give the
            same orders, with and without the named object: counterfactual pairs.
        grid: G.
        templates: indices into TEMPLATES; without UNDER nothing is forbidden.
        colours: how many of COLOURS occur, from the first on; 2 at least.

    Raises:
        ValueError: if ``n`` < 1, ``grid`` < 3, ``colours`` is not in 2 to 4, or a template is
            unknown or missing for a type.
    """
    if n < 1 or grid < 3:
        raise ValueError(f"need n >= 1 and grid >= 3, got {n} and {grid}")
    if not templates or not set(templates) <= set(range(len(TEMPLATES))):
        raise ValueError(f"templates must be some of 0 to {len(TEMPLATES) - 1}, got {templates}")
    if not 2 <= colours <= len(COLOURS):
        raise ValueError(f"colours must lie in [2, {len(COLOURS)}], got {colours}")
    rng = generator(seed, 47)
    shares = torch.tensor(SHARES if UNDER in templates else SHARES[:FORBIDDEN])
    drawn = torch.multinomial(shares, n, replacement=True, generator=rng)
    type = drawn if type is None else type
    if UNDER not in templates and (type == FORBIDDEN).any():
        raise ValueError("templates must hold UNDER where orders are forbidden")
    which = torch.randint(len(templates), (n,), generator=rng)
    template = torch.where(type == FORBIDDEN, UNDER, torch.tensor(templates)[which])
    a, b = _names(rng, template, type, colours)
    others = _unnamed(rng, a, b, colours)
    before, target = _places(rng, template, a, b, others, grid)
    after = _obeyed(template, a, b, before, target)
    # What stands in the place of an object that is not there: a kind that is nowhere else.
    spare = others[:, OTHERS]
    second = (torch.rand(n, generator=rng) < 0.5) & (template != REMOVE)
    missing = (type == CANNOT) | ((type == FORBIDDEN) & (torch.rand(n, generator=rng) < 0.5))
    absent = torch.where(missing, torch.where(second, b, a), 0)
    gone = (before == absent[:, None, None]) & missing[:, None, None]
    before = torch.where(gone, spare[:, None, None], before)
    after = torch.where((type == YES)[:, None, None], after, before)
    return Orders(template, a, b, type, absent, before, after)


def twins(n: int, seed: int = 0, **options) -> tuple[Orders, Orders]:
    """The same orders twice: once they can be obeyed, once a named object is another one.

    Args: as `draw_orders`, without ``type``.
    """
    return tuple(draw_orders(n, seed, torch.full((n,), type), **options) for type in (YES, CANNOT))


def _names(
    rng: torch.Generator, template: Tensor, type: Tensor, colours: int
) -> tuple[Tensor, Tensor]:
    """Kinds of the two objects, (n,) each, among the pairs that a template allows."""
    kinds = torch.arange(1, len(KINDS) + 1)
    one, two = (x.flatten() for x in torch.meshgrid(kinds, kinds, indexing="ij"))
    known = (colour_of(one) < colours) & (colour_of(two) < colours)
    differ = (one != two) & known
    disc = shape_of(one) == DISC
    # To exchange colours is to exchange places for one shape, and nothing at all for one colour.
    apart = (shape_of(one) != shape_of(two)) & (colour_of(one) != colour_of(two)) & known
    allowed = torch.stack([apart, differ, differ, differ & ~disc, differ, differ & disc])
    rule = torch.where(type == FORBIDDEN, len(TEMPLATES), template)
    score = torch.rand(len(template), len(one), generator=rng).masked_fill(~allowed[rule], -1)
    pair = score.argmax(1)
    return one[pair], two[pair]


def _unnamed(rng: torch.Generator, a: Tensor, b: Tensor, colours: int) -> Tensor:
    """OTHERS + 1 different kinds that are neither ``a`` nor ``b``, (n, OTHERS + 1)."""
    score = torch.rand(len(a), len(KINDS) + 1, generator=rng)
    rows = torch.arange(len(a))
    score[:, 0] = score[rows, a] = score[rows, b] = -1
    score[:, 1:][:, colour_of(torch.arange(1, len(KINDS) + 1)) >= colours] = -1
    return score.topk(OTHERS + 1, 1).indices


def _places(
    rng: torch.Generator, template: Tensor, a: Tensor, b: Tensor, others: Tensor, grid: int
) -> tuple[Tensor, Tensor]:
    """Scenes (n, G, G) in which every order can be obeyed, and the place above or below ``b``."""
    n, rows = len(a), torch.arange(len(a))
    # Put on top: not on the highest row; put under: not on the lowest.
    low = (template == ON_TOP).long()
    high = grid - (template == UNDER).long()
    row = low + (torch.rand(n, generator=rng) * (high - low)).long()
    column = torch.randint(grid, (n,), generator=rng)
    here = row * grid + column
    target = here + grid * ((template == UNDER).long() - (template == ON_TOP).long())
    score = torch.rand(n, grid * grid, generator=rng)
    score[rows, here] = -1
    score[rows, target] = -1  # stays free; it is ``here`` itself where nothing is put
    free = score.topk(OTHERS + 1, 1).indices
    scene = torch.zeros(n, grid * grid, dtype=torch.int64)
    scene[rows, here], scene[rows, free[:, 0]] = b, a
    count = torch.randint(OTHERS + 1, (n,), generator=rng)
    for k in range(OTHERS):
        scene[rows, free[:, k + 1]] = torch.where(k < count, others[:, k], 0)
    return scene.view(n, grid, grid), target


def _obeyed(template: Tensor, a: Tensor, b: Tensor, before: Tensor, target: Tensor) -> Tensor:
    """Scenes after the orders, (n, G, G), where all that is named is there."""
    x, y = a[:, None, None], b[:, None, None]
    is_a, is_b = before == x, before == y
    kinds = len(COLOURS)
    recoloured = [(shape_of(p) * kinds + colour_of(q) + 1) for p, q in ((x, y), (y, x))]
    places = torch.arange(before[0].numel()).view(before[0].shape)
    moved = torch.where(is_a, 0, torch.where(places == target[:, None, None], x, before))
    after = {
        COLOUR: torch.where(is_a, recoloured[0], torch.where(is_b, recoloured[1], before)),
        POSITION: torch.where(is_a, y, torch.where(is_b, x, before)),
        ON_TOP: moved,
        UNDER: moved,
        REMOVE: torch.where(is_a, 0, before),
    }
    result = before
    for number, scene in after.items():
        result = torch.where((template == number)[:, None, None], scene, result)
    return result
