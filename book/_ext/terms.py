"""Link the first use of each glossary term in a chapter, a primer or a part's introduction.

Nobody has to write `{term}`: the terms are read from book/glossary.md, and a word is linked where
it first stands in running text; where an author has linked it by hand, that link is the first use.
"""

import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

PAGES = ("notebooks/", "book/parts/", "book/primers/")
# Words of plain English, too: where they stand, they seldom mean the entry.
EVERYDAY = {"arm", "claim", "condition", "occupancy", "profile", "probe", "token", "verdict"}
CLOSED = (
    nodes.reference, nodes.title, nodes.literal, nodes.math, nodes.raw, nodes.caption,
    nodes.table, nodes.figure, addnodes.pending_xref, nodes.strong, nodes.topic,
)  # fmt: skip


def glossary_terms(text):
    """The terms of a glossary page: lines at its left edge between the fence and its end."""
    inside = text.partition("```{glossary}")[2].partition("```")[0]
    return [line.strip() for line in inside.splitlines() if line[:1].strip()]


def pattern_of(terms):
    """All terms as one pattern, long ones first; an English plural is the term, too."""
    ends = (re.escape(term) for term in sorted(terms, key=len, reverse=True))
    return re.compile(rf"(?<![\w-])({'|'.join(ends)})(?:e?s)?(?![\w-])", re.I)


def open_to_links(node):
    """Whether a text stands in running words, not inside a link, a heading or a table."""
    above = node.parent
    in_paragraph = False
    while above is not None:
        if isinstance(above, CLOSED):
            return False
        in_paragraph = in_paragraph or isinstance(above, nodes.paragraph)
        above = above.parent
    return in_paragraph


def link(term, words):
    inline = nodes.inline("", words, classes=["xref", "std", "std-term"])
    return addnodes.pending_xref(
        "", inline, refdomain="std", reftype="term", reftarget=term, refexplicit=True, refwarn=True
    )


def split(text, pattern, names, seen):
    """A text as texts and links to terms that were not seen before."""
    parts, at = [], 0
    for match in pattern.finditer(text):
        term = names[match[1].lower()]
        if term not in seen:
            seen.add(term)
            parts += [nodes.Text(text[at : match.start()]), link(term, match[0])]
            at = match.end()
    return [*parts, nodes.Text(text[at:])] if parts else []


def link_terms(app, doctree):
    page = app.env.docname
    if not page.startswith(PAGES):
        return
    path = Path(app.srcdir) / "book" / "glossary.md"
    app.env.note_dependency(str(path))
    names = {t.lower(): t for t in glossary_terms(path.read_text("utf-8")) if t not in EVERYDAY}
    by_hand = [x["reftarget"] for x in doctree.findall(addnodes.pending_xref) if is_term(x)]
    seen = {names.get(target.lower(), target) for target in by_hand}
    pattern = pattern_of(names.values())
    for text in list(doctree.findall(nodes.Text)):
        if open_to_links(text) and (parts := split(text.astext(), pattern, names, seen)):
            for part in parts:
                if isinstance(part, addnodes.pending_xref):
                    part["refdoc"] = page
            text.parent.replace(text, parts)


def is_term(node):
    return node.get("reftype") == "term"


def setup(app):
    app.connect("doctree-read", link_terms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
