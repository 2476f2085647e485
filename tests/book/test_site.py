"""The rendered site: built without warnings, complete without a network, readable by everybody."""

import json
import os
import re
import shutil
import subprocess
import sys
import zlib
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


BROWSER_OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--virtual-time-budget=10000",
    "--enable-logging=stderr",
    "--dump-dom",
]


def browse(path: Path, profile: Path) -> tuple[str, str]:
    """Open a page from the file system in headless Chromium; returns its final HTML and its log."""
    line = [CHROMIUM, *BROWSER_OPTIONS, f"--user-data-dir={profile}", path.resolve().as_uri()]
    # Without a proxy: the site must not need the network, and must not wait for one.
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    run = subprocess.run(line, capture_output=True, text=True, timeout=120, env=environment)
    return run.stdout, run.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@every_page
def test_page_in_a_browser(site, page, tmp_path):
    html, log = browse(SITE / f"{page}.html", tmp_path / "profile")
    assert "</html>" in html, log
    formulas = len(re.findall(r'class="math notranslate', site[page].text))
    assert html.count("<mjx-container") == formulas
    assert "data-mjx-error=" not in html, "a formula has a syntax error"
    assert 'fill="red"' not in html, "a formula uses an undefined macro"
    complaints = [x for x in log.splitlines() if "CONSOLE" in x and re.search("Uncaught|Error", x)]
    assert complaints == []


# A page is opened in a frame of the width that is asked for, and looked at from outside the frame.
LOOK = """<!doctype html><title>waiting</title>
<iframe src="PAGE" width="WIDTH" height="900"></iframe>
<script>
const frame = document.querySelector("iframe");
const luminance = (rgb) => rgb.map((v) => v / 255)
  .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const numbers = (colour) => colour.match(/[0-9.]+/g).map(Number);
function contrast(page, node) {
  const ink = luminance(numbers(page.getComputedStyle(node).color).slice(0, 3));
  let paper = [255, 255, 255];
  for (let up = node; up; up = up.parentElement) {
    const colour = numbers(page.getComputedStyle(up).backgroundColor);
    if (colour.length === 3 || colour[3] > 0) { paper = colour.slice(0, 3); break; }
  }
  const [low, high] = [ink, luminance(paper)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}
frame.addEventListener("load", () => setTimeout(async () => {
  const page = frame.contentWindow, root = page.document.documentElement;
  await page.MathJax?.startup?.promise;
  const all = (query) => [...page.document.querySelectorAll(query)];
  const wider = (node) => node.scrollWidth > node.clientWidth + 1;
  const seen = { page: root.scrollWidth, tables: all("table.gentok-rows").length };
  seen.wide_tables = all("table.gentok-rows")
    .filter((node) => node.getBoundingClientRect().right > WIDTH)
    .map((node) => node.textContent.slice(0, 60));
  seen.wide_code = all("div.cell_input pre, .gentok-code pre").filter(wider)
    .map((node) => node.textContent.slice(0, 60));
  seen.formulas = all("div.math mjx-container").length;
  seen.wide_formulas = all("div.math").filter(wider).map((node) => node.id || node.textContent);
  root.dataset.theme = "dark";
  seen.faint = all("figcaption, figcaption *, caption, .gentok-rows *, .gentok-code p *")
    .filter((node) => contrast(page, node) < 4.5)
    .map((node) => `${contrast(page, node).toFixed(2)} ${node.textContent.trim().slice(0, 60)}`);
  document.title = JSON.stringify(seen);
}, 1500));
</script>"""


def look(page: str, width: int, profile: Path) -> dict:
    """What a reader with a window of this width meets on a page: see `LOOK`."""
    path = SITE / f"{page}.html"
    outside = path.with_name(f".{path.stem}.{width}.html")
    outside.write_text(LOOK.replace("PAGE", path.name).replace("WIDTH", str(width)), "utf-8")
    options = [*BROWSER_OPTIONS, "--allow-file-access-from-files", "--window-size=1500,1000"]
    line = [CHROMIUM, *options, f"--user-data-dir={profile}", outside.resolve().as_uri()]
    try:
        run = subprocess.run(line, capture_output=True, text=True, timeout=120)
    finally:
        outside.unlink()
    title = re.search("<title>(.*?)</title>", run.stdout, re.S)
    assert title and title[1].startswith("{"), run.stderr
    return json.loads(unescape(title[1]))


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [1366, 390])
@pytest.mark.parametrize("page", [*CHAPTERS, "book/teaching", "book/ledger", PRIMER])
def test_nothing_scrolls_sideways_and_captions_are_legible(site, page, width, tmp_path):
    seen = look(page, width, tmp_path / "profile")
    assert seen["page"] <= width, "the page is wider than the window"
    assert seen["wide_tables"] == []
    assert seen["faint"] == [], "captions need a contrast of 4.5 in the dark theme"
    if width == 1366:
        assert seen["wide_code"] == [], "code is cut at the usual width of a laptop"
        assert seen["wide_formulas"] == [], "formulas are cut at the usual width of a laptop"
        assert seen["formulas"] or page not in CHAPTERS, "formulas are not set"


@pytest.fixture(scope="module")
def browser(site, tmp_path_factory):
    window = Browser(tmp_path_factory.mktemp("browser") / "profile")
    yield window
    window.close()


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [1366, 390])
@pytest.mark.parametrize("page", [*TOC, "search", "genindex"])
def test_axe_finds_nothing_serious(browser, page, width):
    assert axe.findings(browser, SITE / f"{page}.html", width) == []
    assert browser.errors == []
