"""Mend what keeps the pages from readers who do not see them: names, roles, empty headers.

The theme, myst-nb and sphinxcontrib-bibtex write these; each rule here names the rule of axe-core
that it answers, and a test runs axe-core over every page. Mended pages stay as they are when they
are mended again, so that a build of some pages may pass over all.
"""

import re
from pathlib import Path

RULES = (
    # summary-name: the arrows that unfold a part in the sidebar.
    (
        r'(<a class="[^"]*reference internal" href="[^"]*">([^<]*)</a><details[^>]*>)<summary>',
        r'\1<summary aria-label="Chapters of \2">',
    ),
    # label-content-name-mismatch: a name that leaves out the words that are seen.
    (r'(<button class="btn search-button-field[^>]*?) aria-label="Search"', r"\1"),
    (r'<summary aria-label="Toggle hidden content">', "<summary>"),
    (r'(<i class="theme-switch [^>]*?) title="[^"]*">', r'\1 aria-hidden="true">'),
    # region: the sidebar's title belongs to no landmark.
    (
        r'(<div id="pst-primary-sidebar" class="[^"]*")>',
        r'\1 role="complementary" aria-label="Sidebar">',
    ),
    # empty-table-header: the corner of a table that pandas or an author left empty.
    (r"<th((?: style=\"[^\"]*\"| class=\"[^\"]*\")*)(?: scope=\"\w+\")?"
     r"((?: style=\"[^\"]*\"| class=\"[^\"]*\")*)>\s*(?:<p></p>)?\s*</th>", r"<td\1\2></td>"),
    # aria-deprecated-role, aria-required-children: entries of the bibliography are a list's items.
    (r'role="doc-biblioentry"', 'role="listitem"'),
)  # fmt: skip
PATTERNS = tuple((re.compile(pattern), words) for pattern, words in RULES)


def mend(html: str) -> str:
    """The page with all rules applied."""
    for pattern, words in PATTERNS:
        html = pattern.sub(words, html)
    return html


def mend_all(app, error):
    """Mend every page of the site."""
    if error is not None or app.builder.name != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        html = path.read_text("utf-8")
        if (mended := mend(html)) != html:
            path.write_text(mended, "utf-8")


def setup(app):
    app.connect("build-finished", mend_all, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
