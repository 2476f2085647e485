"""Pictures from files and folders: upright, of the right brightness, the same in any order."""

import os
import pickle
import signal
import subprocess
import sys
import warnings

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from gentok.data import folder_batches, read_ahead
from gentok.data.image_folder import centre_crop, shifted_crop
from gentok.data.pictures import picture_size, read_picture


@pytest.fixture
def folder(tmp_path):
    """Two classes; the red of a picture says which one it is."""
    for c, name in enumerate(("dark", "light")):
        (tmp_path / name).mkdir()
        for i in range(5):
            picture = np.full((20, 30, 3), (100 * c + 10 * i, 255 * c, 0), np.uint8)
            Image.fromarray(picture).save(tmp_path / name / f"{i}.png")
    return tmp_path


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_batches_depend_on_the_step_alone(folder):
    draw, num_classes = folder_batches(folder, 16, 8, seed=3)
    assert num_classes == 2
    first, next_, again = draw(5), draw(6), draw(5)
    assert first["image"].shape == (8, 3, 16, 16) and first["label"].dtype == torch.int64
    assert equal(first, again) and not torch.equal(first["image"], next_["image"])
    # "dark" comes first in the alphabet: label 0 has green at -1, label 1 at +1.
    expected = first["label"].float() * 2 - 1
    torch.testing.assert_close(first["image"][:, 1].mean((1, 2)), expected)
    assert not equal(first, folder_batches(folder, 16, 8, seed=4)[0](5))


def test_every_picture_is_drawn(folder):
    draw, _ = folder_batches(folder, 4, 100, seed=0)
    red = (draw(0)["image"][:, 0, 0, 0] + 1) * 127.5
    assert set(red.round().int().tolist()) == {*range(0, 50, 10), *range(100, 150, 10)}


def test_a_picture_repeats_in_a_batch_with_other_crops(folder):
    draw, _ = folder_batches(folder, 16, 8, 3, _random_grey, repeats=3, workers=0)
    batch = draw(0)
    pictures = ((batch["image"][:, 0, 0, 0] + 1) * 127.5).round().int().tolist()
    assert pictures[:3] == pictures[3:6] and pictures[:2] == pictures[6:]
    assert len(set(batch["image"][:, 2, 0, 0].tolist())) == 8, "each has a crop of its own"
    with pytest.raises(ValueError, match="repeats must be 1 or more, got 0"):
        folder_batches(folder, 16, 8, 3, repeats=0)


def _random_grey(picture, size, rng):
    """The red of the picture, and a blue that the crop chose."""
    red, *_ = picture.getpixel((0, 0))
    return Image.new("RGB", (size, size), (red, 0, int(rng.integers(256))))


@pytest.mark.parametrize("crop", [centre_crop, shifted_crop])
def test_workers_and_order_change_nothing(folder, crop):
    steps = [0, 1, 2, 7, 8, 3, 3, 0]
    alone, _ = folder_batches(folder, 16, 4, 3, crop, workers=0)
    expected = [alone(step) for step in steps]
    for workers in (1, 2):
        draw, _ = folder_batches(folder, 16, 4, 3, crop, workers=workers)
        assert all(equal(draw(s), there) for s, there in zip(steps, expected, strict=True))
        draw.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_parts_are_the_rows_of_the_whole(folder, workers):
    whole, _ = folder_batches(folder, 16, 6, seed=3, crop=shifted_crop, workers=0)
    draw, _ = folder_batches(folder, 16, 6, seed=3, crop=shifted_crop, workers=workers)
    for step in (2, 3):
        for index in range(3):
            part, all_ = draw.part(step, index, 3), whole(step)
            rows = slice(2 * index, 2 * index + 2)
            assert equal(part, {name: value[rows] for name, value in all_.items()})
    with pytest.raises(ValueError, match="6 rows cannot be shared among 4 processes"):
        draw.part(0, 0, 4)
    draw.close()


def test_a_function_of_rows_leaves_the_parts(folder):
    """What is changed row by row is still read by each process for itself."""
    draw, _ = folder_batches(folder, 16, 6, seed=3, workers=0)
    halved = read_ahead.Mapped(draw, lambda batch, *_: {"image": batch["image"] / 2})
    whole = draw(5)["image"] / 2
    assert torch.equal(halved(5)["image"], whole)
    assert torch.equal(halved.part(5, 1, 3)["image"], whole[2:4])


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_draws_no_noise(folder, workers):
    """A resumed run starts its readers at another step; the noise of the steps must not shift."""
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    draw, _ = folder_batches(folder, 16, 4, seed=3, workers=workers)
    draw(0), draw(5)
    draw.close()
    assert torch.equal(torch.random.get_rng_state(), before)


def workers_since(others):
    """The children of this process that were not there before, without the resource tracker."""
    found = set(psutil.Process().children()) - others
    return [child for child in found if "resource_tracker" not in " ".join(child.cmdline())]


def test_no_worker_outlives_its_reader(folder):
    others = set(psutil.Process().children())  # of tests that came before
    draw, _ = folder_batches(folder, 16, 4, seed=3, workers=2)
    draw(0), draw(9)
    mine = workers_since(others)
    assert len(mine) == 2
    draw.close()
    _, alive = psutil.wait_procs(mine, timeout=20)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def test_ctrl_c_in_a_terminal_does_not_end_the_workers(folder):
    """It reaches them, too; a training that wants to end its step still needs its batch."""
    expected = [folder_batches(folder, 16, 4, seed=3, workers=0)[0](step) for step in range(12)]
    others = set(psutil.Process().children())
    draw, _ = folder_batches(folder, 16, 4, seed=3, workers=2)
    assert all(equal(draw(step), expected[step]) for step in (0, 1))  # both workers are up
    mine = workers_since(others)
    assert len(mine) == 2
    for worker in mine:
        worker.send_signal(signal.SIGINT)
    assert all(equal(draw(step), expected[step]) for step in range(2, 12))
    draw.close()


@pytest.mark.slow
def test_a_program_ends_with_its_readers_open(folder):
    code = (
        "import sys; from gentok.data import folder_batches\n"
        "draw, _ = folder_batches(sys.argv[1], 16, 4, seed=3, workers=2)\n"
        "print(draw(0)['label'].shape[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "4", "")


def test_a_reader_can_be_sent_to_another_process(folder):
    draw, _ = folder_batches(folder, 16, 4, seed=3, workers=0)
    expected = draw(2)
    assert pickle.loads(pickle.dumps(draw.dataset))[(0, 2, 0)][1] == 0
    copy = read_ahead.ReadAhead.__new__(read_ahead.ReadAhead)
    copy.__dict__.update(draw.__getstate__())
    assert equal(copy(2), expected) and copy._stream is not draw._stream


@pytest.mark.parametrize(
    ("items", "cores", "local", "workers"),
    [(100, 16, 1, 0), (5000, 1, 1, 0), (5000, 2, 1, 1), (5000, 64, 1, 8), (5000, 64, 8, 7)],
)
def test_workers_go_by_the_cores(monkeypatch, items, cores, local, workers):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local))
    assert read_ahead.num_workers(items) == workers


def test_one_damaged_picture_is_named_and_passed_over(folder):
    whole, _ = folder_batches(folder, 16, 64, seed=3)
    expected = whole(0)
    damaged = folder / "dark" / "2.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    draw, _ = folder_batches(folder, 16, 64, seed=3)
    with pytest.warns(UserWarning, match=r"dark/2\.png cannot be read"):
        batch = draw(0)
    red = expected["image"][:, 0, 0, 0]
    hit = ((red + 1) * 127.5).round() == 20
    assert hit.any() and torch.equal(batch["label"], expected["label"])
    assert torch.equal(batch["image"][~hit], expected["image"][~hit])
    assert (((batch["image"][hit][:, 0, 0, 0] + 1) * 127.5).round() == 30).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_folder_of_damaged_pictures_is_refused_in_one_line(folder, workers):
    for file in folder.glob("*/*.png"):
        file.write_bytes(b"no picture")
    draw, _ = folder_batches(folder, 16, 4, seed=3, workers=workers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=r"10 pictures in a row .*\.png cannot be read") as hit:
            draw(0)
    assert "\n" not in str(hit.value)
    draw.close()


def test_folders_without_pictures_are_named(folder):
    (folder / ".cache").mkdir()  # passed over
    (folder / "dark" / "notes.txt").write_text("no picture")
    (folder / "dark" / "train_1.png").write_bytes((folder / "dark" / "0.png").read_bytes())
    assert len(folder_batches(folder, 16, 4, seed=3)[0].dataset) == 11, "no name means a split"
    (folder / "train").mkdir()
    with pytest.raises(FileNotFoundError, match="no pictures .*train"):
        folder_batches(folder, 16, 4, seed=3)
    with pytest.raises(FileNotFoundError, match="no folder .*absent"):
        folder_batches(folder / "absent", 16, 4, seed=3)
    with pytest.raises(FileNotFoundError, match="it has no sub-folder"):
        folder_batches(folder / "dark", 16, 4, seed=3)


# --- one picture ----------------------------------------------------------------------------------


def test_greys_of_sixteen_bits_keep_their_brightness(tmp_path):
    values = np.array([[0, 257 * 64, 257 * 128, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "grey.png")
    assert np.asarray(read_picture(tmp_path / "grey.png"))[0, :, 0].tolist() == [0, 64, 128, 255]


def test_a_picture_taken_sideways_comes_upright(tmp_path):
    picture = Image.fromarray(np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 10)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees, clockwise
    picture.save(tmp_path / "a.png", exif=exif)
    turned = np.rot90(np.asarray(picture), -1)
    assert np.array_equal(np.asarray(read_picture(tmp_path / "a.png")), turned)
    assert picture_size(tmp_path / "a.png") == read_picture(tmp_path / "a.png").size


@pytest.mark.parametrize("fault", ["cut", "empty", "text", "floats", "huge", "absent"])
def test_what_is_no_picture_is_refused_by_name(tmp_path, fault, monkeypatch):
    path = tmp_path / "a.tif"
    Image.fromarray(np.random.default_rng(0).integers(255, size=(40, 40, 3), dtype=np.uint8)).save(
        path
    )
    if fault == "floats":
        Image.fromarray(np.ones((4, 4), np.float32)).save(path)
    if fault == "huge":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    cut = {"cut": path.read_bytes()[:900], "empty": b"", "text": b"hello"}
    if fault in cut:
        path.write_bytes(cut[fault])
    if fault == "absent":
        path.unlink()
    wanted = FileNotFoundError if fault == "absent" else ValueError
    with pytest.raises(wanted, match=r"a\.tif"):
        read_picture(path)
