"""The playground computes what PyTorch computes, in a browser, from disk, on a foreign picture."""

import base64
import json
import shutil
from pathlib import Path

import pytest
import torch
from browser import CHROMIUM, Browser
from matplotlib.cbook import get_sample_data
from safetensors.torch import load

from gentok.base.recipe import WEIGHTS as BASE
from gentok.book import pairs, playground
from gentok.latents.fa_vae.recipe import WEIGHTS as FA_VAE
from gentok.measure.images import psnr
from gentok.measure.spectrum import band_errors
from gentok.signals.mert.recipe import WEIGHTS as MERT
from gentok.signals.mert.tunes import tunes
from gentok.training.weights import find, read

ROOT = pairs.find_root()
SCRIPTS = ("tensors", "layers", "wavelet", "tokenizers", "sound", "grid", "page")
FILES = {**FA_VAE, "base/kl_vae": BASE["kl_vae"], "base/vqgan": BASE["vqgan"], "mert": MERT}
PICTURES = [name for name in playground.TOKENIZERS if name != "codec"]
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


def model(name):
    file, part = playground.TOKENIZERS[name]
    return read(find(file), FILES[file])[part]


@pytest.mark.parametrize("name", playground.TOKENIZERS)
def test_scripts_hold_the_weights_bit_for_bit(name):
    text = playground.weight_script(name)
    stored = load(base64.b64decode(text.split('"')[3]))
    weights = model(name).state_dict()
    assert {key for key in weights if not key.endswith(playground.LEFT_OUT)} == set(stored)
    for key, tensor in stored.items():
        assert torch.equal(tensor.float(), weights[key]), key


def test_pictures_and_sound_are_held_out():
    examples = playground.examples_script()
    assert all(f'"{words}": "data:image/png' in examples for words in playground.PICTURES)
    assert examples.count("data:image/png") == len(playground.PICTURES) + 2
    assert examples.count("data:audio/wav") == 1


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page's two forms and its scripts, without the rest of the site."""
    folder = tmp_path_factory.mktemp("playground")
    for path in (ROOT / "book" / "_static" / "playground").iterdir():
        shutil.copy(path, folder)
    playground.write(folder)
    forms = [ROOT / "book" / "_ext" / name for name in ("playground.html", "playground_sound.html")]
    body = "".join(path.read_text("utf-8").replace("{scripts}", ".") for path in forms)
    scripts = "".join(f'<script src="{name}.js"></script>' for name in SCRIPTS)
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Playground</title>'
    head += '<meta name="viewport" content="width=device-width">'
    sheet = '<link rel="stylesheet" href="playground.css">'
    (folder / "page.html").write_text(f"{head}{sheet}{scripts}<body>{body}", "utf-8")
    return folder / "page.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    window = Browser(tmp_path_factory.mktemp("browser") / "profile")
    yield window
    window.close()


@pytest.fixture
def opened(browser, page):
    browser.open(page)
    browser.until("window.gentok?.sounds?.codes")
    settle(browser)
    return browser


def settle(browser):
    browser.until('document.querySelector("#pg-status").textContent.startsWith("Done")')


def do(browser, action):
    """An action, and the page's answer to it."""
    browser.run('document.querySelector("#pg-status").textContent = "asked"; 0')
    action()
    settle(browser)


def choose(browser, selector, value, event="change"):
    script = f'{{ const found = document.querySelector("{selector}"); found.value = {value!r};'
    do(browser, lambda: browser.run(f'{script} found.dispatchEvent(new Event("{event}")); }} 0'))


def numbers(browser, expression):
    return torch.tensor(json.loads(browser.run(f"JSON.stringify([...{expression}])")))


def now(browser):
    """The second row of the table: PSNR, four bands, bits."""
    row = browser.run('document.querySelector("#pg-errors tr:last-child").innerText')
    return [float(word.replace(",", "")) for word in row.split()[1:]]


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_codes_and_pictures_are_pytorchs(opened, name):
    """From a file that a reader chooses, in a folder of theirs."""
    with get_sample_data("grace_hopper.jpg") as file:
        photograph = Path(file.name)
    choose(opened, "#pg-tokenizer", name)
    do(opened, lambda: opened.choose_file("#pg-file", photograph))
    tokenizer = model(name)
    side = opened.run("gentok.pictures.x.h")
    x = numbers(opened, "gentok.pictures.x.data").view(1, 3, side, side)
    assert float(x.std()) > 0.2 and float(x.abs().max()) <= 1
    with torch.no_grad():
        z = tokenizer.encode(x)
        y = tokenizer.decode(z).clamp(-1, 1)
    values = "codes" if name.startswith("vqgan") else "data"
    found = numbers(opened, f"gentok.pictures.encoded.{values}")
    torch.testing.assert_close(found, z.flatten(), atol=1e-4, rtol=0)
    decoded = numbers(opened, "gentok.pictures.y.data").view_as(x)
    torch.testing.assert_close(decoded, y, atol=1e-4, rtol=0)
    bands = band_errors(x, y)
    shown = now(opened)
    assert shown[0] == pytest.approx(float(psnr(x, y)), abs=0.051)
    assert shown[1:5] == pytest.approx([bands[b] for b in ("LL", "LH", "HL", "HH")], abs=6e-5)
    assert opened.errors == []


@needs_browser
@pytest.mark.slow
def test_channels_and_bits_are_taken_away(opened):
    x = numbers(opened, "gentok.pictures.x.data").view(1, 3, 64, 64)
    whole, fa_vae = now(opened), model("fa_vae")
    do(opened, lambda: opened.run('document.querySelector("[data-keep=low]").click()'))
    with torch.no_grad():
        z = fa_vae.encode(x)
        z[:, 8:] = 0
        y = fa_vae.decode(z).clamp(-1, 1)
    shown = now(opened)
    assert shown[0] == pytest.approx(float(psnr(x, y)), abs=0.051) and shown[0] < whole[0]
    assert shown[5] == whole[5] / 2
    do(opened, lambda: opened.run('document.querySelector("[data-keep=all]").click()'))
    assert now(opened) == whole
    choose(opened, "#pg-bits", "2", "input")
    levels = numbers(opened, "gentok.pictures.z.data").view(16, -1)
    assert max(len(row.unique()) for row in levels) == 4
    assert now(opened)[0] < whole[0] and now(opened)[5] == whole[5] / 8


@needs_browser
@pytest.mark.slow
def test_cells_are_edited_by_keyboard_and_by_click(opened):
    before = now(opened)
    opened.run('document.querySelector("#pg-grid [tabindex=\\"0\\"]").focus()')
    for key in ("ArrowRight", "ArrowDown", "ArrowUp", "ArrowDown"):
        opened.press(key)
    label = "document.activeElement.getAttribute('aria-label')"
    old = opened.run(label)
    assert old.startswith("row 2, column 2: ")
    for _ in range(6):
        do(opened, lambda: opened.press("+"))
    assert opened.run(label).endswith(", changed") and opened.run(label) != old
    assert opened.run("[...gentok.pictures.edits.keys()].join()") == "17"
    assert now(opened) != before
    opened.press("Enter")
    assert opened.run("document.activeElement.id") == "pg-value"
    do(opened, lambda: opened.run('document.querySelector("#pg-reset").click()'))
    assert now(opened) == before
    choose(opened, "#pg-tokenizer", "vqgan_shapes")
    opened.run('document.querySelectorAll("#pg-grid [role=gridcell]")[9].click()')
    old = opened.run("gentok.pictures.z.codes[9]")
    choose(opened, "#pg-value", str((old + 100) % 256))
    codes = numbers(opened, "gentok.pictures.z.codes")
    assert int(codes[9]) == (old + 100) % 256
    with torch.no_grad():
        y = model("vqgan_shapes").decode(codes[None]).clamp(-1, 1)
    decoded = numbers(opened, "gentok.pictures.y.data").view_as(y)
    torch.testing.assert_close(decoded, y, atol=1e-4, rtol=0)
    choose(opened, "#pg-bits", "3", "input")
    assert len(numbers(opened, "gentok.pictures.given().codes").unique()) <= 9  # one is the edit


@needs_browser
@pytest.mark.slow
def test_codec_hears_what_pytorchs_hears(opened, tmp_path):
    codec = model("codec")
    sound = tmp_path / "sound.wav"
    sound.write_bytes(base64.b64decode(playground.wav(tunes(1, 77, 12_000, 8_000)[1][0])))
    opened.choose_file("#pg-sound-file", sound)
    example = numbers(opened, "gentok.sounds.wave")
    opened.until(f"gentok.sounds.wave[100] !== {float(example[100])}")
    wave = numbers(opened, "gentok.sounds.wave").float()[None]
    codes = codec.encode(wave)  # (1, T, Q)
    found = numbers(opened, "gentok.sounds.codes.codes").view(4, -1).T
    assert (found != codes[0]).float().mean() < 0.01  # ties in the last bit
    with torch.no_grad():
        amplitude = codec.amplitudes(codec.quantizer.lookup(found[None]))
    picture = torch.log10(1 + amplitude / codec.config.floor)[0]
    said = numbers(opened, "gentok.sounds.said.data").view_as(picture)
    torch.testing.assert_close(said, picture.float(), atol=1e-4, rtol=0)
    # Phases are random in both: what is heard must have nearly the spectrum that was asked for.
    heard = numbers(opened, "gentok.sounds.codec.hear(gentok.sounds.said)").float()[None]
    ours = (codec.picture(heard)[0] - picture).square().mean()
    theirs = (codec.picture(codec.decode(found[None]))[0] - picture).square().mean()
    assert ours < 1.5 * theirs
    opened.run(
        '{ const slider = document.querySelector("#pg-levels"); slider.value = 1;'
        'slider.dispatchEvent(new Event("input")); } 0'
    )
    assert "456 bits" in opened.run('document.querySelector("#pg-sound-status").textContent')
    assert opened.errors == []


@needs_browser
@pytest.mark.slow
def test_what_is_no_picture_is_named(opened, tmp_path):
    wrong = tmp_path / "notes.png"
    wrong.write_text("no picture")
    opened.choose_file("#pg-file", wrong)
    opened.until('document.querySelector("#pg-status").textContent.startsWith("notes.png is no")')


@needs_browser
@pytest.mark.slow
def test_page_fits_a_phone(browser, page):
    browser.open(page, width=390)
    browser.until("window.gentok?.sounds?.codes")
    assert browser.run("document.documentElement.scrollWidth") <= 390
