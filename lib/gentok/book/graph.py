"""The graph of what builds on what, drawn from the registry.

Every chapter has a line of its own, so that arrows, which run along lines and between columns,
never cross a box. Its column is the longest way to it from a chapter that needs none.
"""

from html import escape

from gentok.book import registry
from gentok.show.diagram import INK, NEW_EDGE, PAPER, QUIET, SANS, rounded

LINE, TOP = 30, 96  # pixels: of a chapter, and above the first one
LEFT, COLUMN, BOX, TALL = 20, 264, 172, 22
TRUNK = 13  # pixels from one chapter's trunk to the next one's
COLOURS = ("#0b63a5", "#9c3f00", "#4a5560", "#00674b")
DASHES = ("", "7 3", "2 3", "8 3 2 3")
DESCRIPTION = (
    "A line for each chapter, grouped by part. Arrows run from a chapter to those that build on "
    "it. Frames of finished chapters are thick, of planned ones dashed. The same graph stands as a "
    "table below the figure."
)


def depth(slug: str) -> int:
    """Chapters on the longest way to this one."""
    return max((1 + depth(earlier) for earlier in registry.prerequisites(slug)), default=0)


def prerequisites_svg() -> str:
    """The graph as the text of an SVG file."""
    systems = registry.systems()
    bands, boxes, y = [], {}, TOP
    for part in registry.PARTS:
        start = y
        for system in (system for system in systems if system.part == part):
            boxes[system.slug] = (LEFT + 90 + COLUMN * depth(system.slug), y + (LINE - TALL) / 2)
            y += LINE
        bands.append((part, start, y - start))
        y += 8
    width = int(max(x for x, _ in boxes.values()) + BOX + 24)
    parts = [_band(name, start, height, width) for name, start, height in bands]
    parts += _arrows(boxes)
    parts += [_box(system, *boxes[system.slug]) for system in systems]
    return _page(parts, width, y + 12)


def _band(name: str, y: float, height: float, width: int) -> str:
    return (
        f'<rect x="8" y="{y:g}" width="{width - 16}" height="{height:g}" rx="6" fill="#eff1f1"/>'
        f'<text x="{LEFT}" y="{y + height / 2 + 5:g}" font-size="14" font-weight="700" '
        f'fill="{INK}">{name}</text>'
    )


def _arrows(boxes: dict[str, tuple[float, float]]) -> list[str]:
    """From each chapter one trunk in the gap behind its column, and from it an arrow a follower."""
    drawn, taken = [], {}
    sources = [slug for slug in boxes if any(slug in registry.prerequisites(s) for s in boxes)]
    for slug in sources:
        (x, y), column = boxes[slug], depth(slug)
        place = taken[column] = taken.get(column, -1) + 1
        trunk = x + BOX + 14 + TRUNK * place
        colour, dash = COLOURS[place % 4], DASHES[place % 4]
        for follower in boxes:
            if slug not in registry.prerequisites(follower):
                continue
            to_x, to_y = boxes[follower]
            # Two arrows into one box end one above the other.
            known = list(registry.prerequisites(follower))
            to_y += TALL * (known.index(slug) + 1) / (len(known) + 1)
            middle = y + TALL / 2
            path = rounded([(x + BOX, middle), (trunk, middle), (trunk, to_y), (to_x - 2, to_y)], 6)
            drawn.append(
                f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.7" '
                f'stroke-dasharray="{dash}" marker-end="url(#h{place % 4})"/>'
            )
    return drawn


def _box(system: registry.System, x: float, y: float) -> str:
    done = system.state == "complete"
    look = f'stroke="{NEW_EDGE}" stroke-width="2.4"' if done else (
        f'stroke="{QUIET}" stroke-width="1.2" stroke-dasharray="4 3"'
    )  # fmt: skip
    fill, weight = ("#ffffff", 700) if done else (PAPER, 400)
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{BOX}" height="{TALL}" rx="5" fill="{fill}" {look}/>'
        f'<text x="{x + BOX / 2:g}" y="{y + TALL / 2 + 4.5:g}" font-size="13" '
        f'font-weight="{weight}" text-anchor="middle" fill="{INK}">{escape(system.slug)}</text>'
    )


def _page(parts: list[str], width: int, height: float) -> str:
    heads = "".join(
        f'<marker id="h{i}" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{colour}"/></marker>'
        for i, colour in enumerate(COLOURS)
    )
    done = sum(system.state == "complete" for system in registry.systems())
    legend = (
        f'<rect x="{LEFT}" y="54" width="34" height="18" rx="4" fill="#ffffff" '
        f'stroke="{NEW_EDGE}" stroke-width="2.4"/>'
        f'<text x="{LEFT + 44}" y="68" font-size="14" fill="{INK}">finished ({done})</text>'
        f'<rect x="{LEFT + 160}" y="54" width="34" height="18" rx="4" fill="{PAPER}" '
        f'stroke="{QUIET}" stroke-width="1.2" stroke-dasharray="4 3"/>'
        f'<text x="{LEFT + 204}" y="68" font-size="14" fill="{INK}">planned '
        f"({len(registry.systems()) - done})</text>"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:g}" '
            f'width="{width}" height="{height:g}" role="img" aria-labelledby="title desc" '
            f'font-family="{SANS}">',
            '<title id="title">Prerequisites between the chapters</title>',
            f'<desc id="desc">{DESCRIPTION}</desc>',
            f"<defs>{heads}</defs>",
            f'<rect width="{width}" height="{height:g}" fill="{PAPER}"/>',
            f'<text x="{LEFT}" y="34" font-size="18" font-weight="700" fill="{INK}">What each '
            "chapter builds on</text>",
            legend,
            *parts,
            "</svg>\n",
        ]
    )
