"""axe-core, which finds what keeps a page from readers with other tools than eyes and a mouse.

`vendor/axe.min.js` is version 4.14.1 as npm has it, by Deque Systems, under the MPL 2.0; it is used
in tests only and is no part of the package or of the site.
"""

import json
from pathlib import Path

from browser import Browser

SCRIPT = Path(__file__).parent / "vendor" / "axe.min.js"
GRAVE = ("moderate", "serious", "critical")
RUN = """axe.run(document, OPTIONS).then((found) => JSON.stringify(
  found.violations.filter(({impact}) => IMPACTS.includes(impact))
    .map(({id, nodes}) => [id, nodes.map((node) => node.html.slice(0, 160))])))"""
# A colour that is on its way from one theme to the other has the contrast of neither.
STILL = """document.head.insertAdjacentHTML("beforeend", "<style>*, ::before, ::after " +
  "{ transition: none !important; animation: none !important }</style>"); 0"""
# What depends on the theme, and what does not.
CONTRAST = {"runOnly": ["color-contrast"]}
OTHERS = {"rules": {"color-contrast": {"enabled": False}}}
PHONE = 500  # pixels of width; colours are those of a wide window


def settle(browser: Browser) -> None:
    """Wait until the open page has set its formulas; from then on all changes show at once."""
    browser.run(STILL)
    browser.run("window.MathJax?.startup?.promise?.then(() => 0)")
    browser.run("new Promise((done) => setTimeout(done, 100))")


def findings(browser: Browser, width: int) -> list[list]:
    """Theme, rule and places of all that is found on the open page, in a window of this width."""
    browser.run(SCRIPT.read_text("utf-8") + "; 0")
    if width <= PHONE:
        return _judged(browser, "light", OTHERS)
    return _judged(browser, "light", {}) + _judged(browser, "dark", CONTRAST)


def _judged(browser: Browser, theme: str, options: dict) -> list[list]:
    browser.theme(theme)
    options = json.dumps({"resultTypes": ["violations"], **options})
    run = RUN.replace("OPTIONS", options).replace("IMPACTS", json.dumps(GRAVE))
    return [[theme, *violation] for violation in json.loads(browser.run(run))]
