"""The rendered site: built without warnings, complete without a network, readable by everybody."""

import re
import shutil
import subprocess
import sys
import zlib
from functools import cache
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import axe
import pytest
from browser import Browser

from gentok.book import pairs

ROOT = pairs.find_root()
SITE = ROOT / "_build" / "html"
TOC = re.findall(r"(?:file|root): (\S+)", (ROOT / "book" / "_toc.yml").read_text("utf-8"))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
REMOTE = re.compile(r"^(https?:)?//", re.I)
# What a browser loads by itself, as opposed to a link that a reader may follow.
LOADS = {"src", "srcset", "poster", "data"}
CHAPTERS = [page for page in TOC if page.startswith("notebooks/")]
BASE = "https://generative-tokenizers.github.io/generative-tokenizers/"
WITHOUT_WORDS = {"book/bibliography"}  # pages that are a list from end to end
PRIMER = "book/primers/vector_quantisation"
pytestmark = [pytest.mark.book, pytest.mark.slow]
every_page = pytest.mark.parametrize("page", TOC)


class Page(HTMLParser):
    """Tags of one page: what it loads, links to and shows, and the anchors it has."""

    def __init__(self, path: Path):
        super().__init__()
        self.loads, self.links, self.images, self.anchors, self.styles = [], [], [], set(), []
        self.text = path.read_text("utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors.update(v for k, v in attributes if k == "id" or (tag == "a" and k == "name"))
        self.styles.append(values.get("style") or "")
        self.loads += [values[key] for key in LOADS if values.get(key)]
        if tag == "link" and values.get("rel") not in {"next", "prev", "canonical"}:
            self.loads.append(values.get("href", ""))
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag == "img":
            self.images.append(values)


@pytest.fixture(scope="module")
def site():
    """Build the site with warnings as errors, and read every page once."""
    builder = Path(sys.executable).with_name("jupyter-book")
    # --all: a page that did not change since the last build would not repeat its warnings.
    line = [builder, "build", ".", "--toc", "book/_toc.yml", "--all", "-W", "--keep-going", "-q"]
    run = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    if run.returncode != 0:
        pytest.fail(f"the site does not build without warnings:\n{run.stderr}", pytrace=False)
    return {name: Page(SITE / f"{name}.html") for name in TOC}


def test_front_page_forwards_to_the_book(site):
    assert "book/index.html" in (SITE / "index.html").read_text("utf-8")


def test_the_site_is_small_enough_to_download(site):
    size = sum(path.stat().st_size for path in SITE.rglob("*") if path.is_file())
    assert size < 50e6, f"{size / 1e6:.1f} MB"
    assert not list(SITE.rglob("*.map")) and list(SITE.glob("_images/*.webp"))


@every_page
def test_page_loads_nothing_from_the_network(site, page):
    assert [address for address in site[page].loads if REMOTE.match(address)] == []
    remote = re.compile(r"url\(['\"]?(https?:)?//")
    assert [style for style in site[page].styles if remote.search(style)] == []


def test_style_sheets_load_nothing_from_the_network(site):
    remote = re.compile(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^)'\"]+")
    for path in (SITE / "_static").rglob("*.css"):
        assert remote.findall(path.read_text("utf-8")) == [], path.name


@every_page
def test_every_image_has_alt_text(site, page):
    for image in site[page].images:
        alt = image.get("alt") or ""
        assert "/" not in alt and ".png" not in alt, f"a file name is no alt text: {image}"
        if "logo__image" in image.get("class", ""):
            continue  # the book's name stands beside it: read aloud, a second name is noise
        assert len(alt.split()) >= 2, f"say what is seen: {image}"


@every_page
def test_links_inside_the_site_resolve(site, page):
    here = SITE / f"{page}.html"
    for link in site[page].links + site[page].loads:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (here.parent / unquote(parts.path)).resolve() if parts.path else here
        assert target.exists(), f"{link} leads nowhere"
        name = target.relative_to(SITE.resolve()).with_suffix("").as_posix()
        if parts.fragment and name in site:
            assert unquote(parts.fragment) in site[name].anchors, f"{link}: no such anchor"


@every_page
def test_notebook_pages_can_be_launched(site, page):
    if page.startswith("notebooks/"):
        links = " ".join(site[page].links)
        assert "colab.research.google.com" in links and "mybinder.org" in links


def test_search_knows_every_page(site):
    index = (SITE / "searchindex.js").read_text("utf-8")
    assert [page for page in TOC if f'"{page}"' not in index] == []


def test_every_file_of_weights_shows_how_good_it_is(site):
    table = re.search(r'<table class="[^"]*weights.*?</table>', site["book/weights"].text, re.S)[0]
    rows = re.findall(r"<tr.*?</tr>", table, re.S)[1:]
    assert len(rows) == len(list((ROOT / "weights").rglob("*.safetensors")))
    for row in rows:
        name, _, _, quality, _ = re.findall(r"<td.*?</td>", row, re.S)
        assert quality.count(",") >= 1, f"only the number of items: {name}"


@every_page
def test_page_describes_itself(site, page):
    text = site[page].text
    assert text.count(f'rel="canonical" href="{BASE}{page}.html"') == 1
    if page not in WITHOUT_WORDS:
        found = re.findall(r'<meta (?:name|property)="(?:og:)?description" content="([^"]+)"', text)
        assert len(found) == 2 and found[0] == found[1] and 40 < len(unescape(found[0])) <= 202


def test_sitemap_names_every_page_and_404_leads_home(site):
    places = re.findall("<loc>(.*?)</loc>", (SITE / "sitemap.xml").read_text("utf-8"))
    assert {f"{BASE}{page}.html" for page in TOC} <= set(places)
    assert f'href="{BASE}book/index.html"' in (SITE / "404.html").read_text("utf-8")


def test_the_inventory_serves_other_projects(site):
    """Names of the library, under the page where they are explained."""
    data = (SITE / "objects.inv").read_bytes().split(b"\n", 4)[4]
    entries = dict(line.split(" ", 1) for line in zlib.decompress(data).decode().splitlines())
    for name, page in {
        "gentok.nn.conv.ConvEncoder": "nn",
        "gentok.nn.quantize.ResidualVQ.lookup": "nn",
        "gentok.training.loop.fit": "training",
        "gentok.latents.fa_vae.model.FAVAE.encode": "latents",
        "gentok.measure.spectrum.band_errors": "measure",
    }.items():
        assert entries[name].startswith("py:") and f"book/api/{page}.html#" in entries[name]


def test_names_of_the_library_and_of_torch_lead_to_references(site):
    links = {name: " ".join(page.links) for name, page in site.items()}
    assert "https://docs.pytorch.org/docs/stable/" in links["book/api/nn"]
    assert "api/nn.html#module-gentok.nn.conv" in links["book/playground"]


@pytest.mark.parametrize("page", CHAPTERS)
def test_chapters_link_the_first_use_of_terms(site, page):
    found = re.findall(r"glossary\.html#(term-[^\"]+)", site[page].text)
    assert len(set(found)) > 5


def test_no_analytics(site):
    pattern = re.compile(r"google-analytics|googletagmanager|gtag\(|plausible\.io|matomo", re.I)
    assert [name for name, page in site.items() if pattern.search(page.text)] == []


# What a reader meets on a page, apart from its words; the page is in the dark theme afterwards.
LOOK = """(() => {
  const luminance = (rgb) => rgb.map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const numbers = (colour) => colour.match(/[0-9.]+/g).map(Number);
  function contrast(node) {
    const ink = luminance(numbers(getComputedStyle(node).color).slice(0, 3));
    let paper = [255, 255, 255];
    for (let up = node; up; up = up.parentElement) {
      const colour = numbers(getComputedStyle(up).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) { paper = colour.slice(0, 3); break; }
    }
    const [low, high] = [ink, luminance(paper)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  }
  const root = document.documentElement;
  const all = (query) => [...document.querySelectorAll(query)];
  const wider = (node) => node.scrollWidth > node.clientWidth + 1;
  const html = root.outerHTML, has = (text) => html.includes(text);
  const seen = { page: root.scrollWidth, set: html.split("<mjx-container").length - 1 };
  seen.wrong = [`data-mjx-error="`, `fill="red"`].filter(has); // syntax; an undefined macro
  seen.wide_tables = all("table.gentok-rows")
    .filter((node) => node.getBoundingClientRect().right > WIDTH)
    .map((node) => node.textContent.slice(0, 60));
  seen.wide_code = all("div.cell_input pre, .gentok-code pre").filter(wider)
    .map((node) => node.textContent.slice(0, 60));
  seen.formulas = all("div.math mjx-container").length;
  seen.wide_formulas = all("div.math").filter(wider).map((node) => node.id || node.textContent);
  root.dataset.theme = "dark";
  seen.faint = all("figcaption, figcaption *, caption, .gentok-rows *, .gentok-code p *")
    .filter((node) => contrast(node) < 4.5)
    .map((node) => `${contrast(node).toFixed(2)} ${node.textContent.trim().slice(0, 60)}`);
  return seen;
})()"""


@pytest.fixture(scope="module")
def visit(site, tmp_path_factory):
    """Opens a page in a window of a width, once: what is seen, what axe finds, what went wrong."""
    window = Browser(tmp_path_factory.mktemp("browser") / "profile")

    @cache
    def visited(page, width):
        window.open(SITE / f"{page}.html", width)
        axe.settle(window)
        seen = window.run(LOOK.replace("WIDTH", str(width)))
        seen["axe"] = axe.findings(window, width)
        return seen | {"errors": list(window.errors)}

    yield visited
    window.close()


needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
every_width = pytest.mark.parametrize("width", [1366, 390])


@needs_browser
@every_page
def test_page_in_a_browser(visit, site, page):
    seen = visit(page, 1366)
    formulas = len(re.findall(r'class="math notranslate', site[page].text))
    assert (seen["set"], seen["wrong"], seen["errors"]) == (formulas, [], [])


@needs_browser
@every_width
@pytest.mark.parametrize("page", [*CHAPTERS, "book/teaching", "book/ledger", PRIMER])
def test_nothing_scrolls_sideways_and_captions_are_legible(visit, page, width):
    seen = visit(page, width)
    assert seen["page"] <= width, "the page is wider than the window"
    assert seen["wide_tables"] == []
    assert seen["faint"] == [], "captions need a contrast of 4.5 in the dark theme"
    if width == 1366:
        assert seen["wide_code"] == [], "code is cut at the usual width of a laptop"
        assert seen["wide_formulas"] == [], "formulas are cut at the usual width of a laptop"
        assert seen["formulas"] or page not in CHAPTERS, "formulas are not set"


@needs_browser
@every_width
@pytest.mark.parametrize("page", [*TOC, "search", "genindex"])
def test_axe_finds_nothing_serious(visit, page, width):
    seen = visit(page, width)
    assert seen["axe"] == [] and seen["errors"] == []
