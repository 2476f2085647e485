"""What mends the pages for readers who do not see them; axe-core judges them in test_site.py."""

import sys

import pytest

from gentok.book import pairs

sys.path.insert(0, str(pairs.find_root() / "book" / "_ext"))
from accessible import mend  # noqa: E402


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ('<th style="a"></th>', '<td style="a"></td>'),
        ('<th scope="col" style="a"></th>', '<td style="a"></td>'),
        ('<th class="head"><p></p></th>', '<td class="head"></td>'),
        ("<th>arm</th>", "<th>arm</th>"),
        (
            '<a class="reference internal" href="video.html">Video</a><details><summary><i></i>',
            '<a class="reference internal" href="video.html">Video</a><details>'
            '<summary aria-label="Chapters of Video"><i></i>',
        ),
        ("<details><summary>More</summary>", "<details><summary>More</summary>"),
    ],
)
def test_mended_once_and_for_all(found, wanted):
    assert mend(found) == wanted
    assert mend(wanted) == wanted
