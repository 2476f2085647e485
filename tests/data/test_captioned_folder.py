"""Pairs of pictures and captions, as a stream of batches."""

import pytest
import torch
from PIL import Image

from gentok.data.captioned_folder import CaptionedFolder, captioned_batches


def pair(folder, name, colour, text="a field"):
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 10), colour).save(folder / f"{name}.png")
    if text is not None:
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")


def test_pairs_are_found_below_and_cut_to_the_middle(tmp_path):
    pair(tmp_path / "a", "one", (255, 0, 0), "\n  a  red\tfield \nmore")
    pair(tmp_path / "b" / "c", "two", (0, 0, 255), "blue")
    pair(tmp_path, "alone", (0, 255, 0), None)
    (tmp_path / "words.txt").write_text("no picture")
    found = CaptionedFolder(tmp_path, 8)
    assert len(found) == 2
    pixels, text = found[0]
    assert (
        pixels.shape == (8, 8, 3) and text == "a red field" and pixels[0, 0].tolist() == [255, 0, 0]
    )


def test_batches_are_a_function_of_the_step(tmp_path):
    for i in range(5):
        pair(tmp_path, str(i), (50 * i, 0, 0), f"number {i}")
    draw = captioned_batches(tmp_path, 8, 4, seed=1)
    first, again = draw(3), captioned_batches(tmp_path, 8, 4, seed=1)(3)
    assert first["image"].shape == (4, 3, 8, 8) and len(first["text"]) == 4
    assert torch.equal(first["image"], again["image"]) and first["text"] == again["text"]
    for image, text in zip(first["image"], first["text"], strict=True):
        shade = 50 * int(text.split()[1])
        assert image[0].mean().item() == pytest.approx(shade / 127.5 - 1, abs=1e-5)
    assert any(draw(s)["text"] != first["text"] for s in range(3))


def test_damaged_pairs_are_named_and_passed_over(tmp_path):
    pair(tmp_path, "a", (9, 9, 9), " \n ")
    pair(tmp_path, "b", (9, 9, 9))
    (tmp_path / "b.png").write_bytes(b"nothing")
    pair(tmp_path, "c", (200, 0, 0), "good")
    with pytest.warns(UserWarning, match="takes its place"):
        assert CaptionedFolder(tmp_path, 8)[0][1] == "good"
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(ValueError, match="3 pairs in a row"), pytest.warns(UserWarning):
        CaptionedFolder(tmp_path, 8)[0]
    with pytest.raises(FileNotFoundError, match="no picture with a caption"):
        CaptionedFolder(tmp_path / "empty", 8)
