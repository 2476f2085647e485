"""Damaged checkpoints, by the hundred: each ends in one clear line, and nothing is touched.

`HARDEN_SEEDS` says how often each kind of damage is tried.
"""

import json
import os
import random
import struct
import zipfile

import pytest
import torch
from harden.toy_system import one_line, take_the_place_of
from safetensors.torch import save_file
from torch import nn
from toy_training import Game, ToyConfig, batches, train_game

from gentok.training.checkpoint import HEADER, load_checkpoint, read_header, save
from gentok.training.loading import load_model
from gentok.training.loop import fit

pytestmark = pytest.mark.harden
SEEDS = range(int(os.environ.get("HARDEN_SEEDS", "3")))
SLUG = "fa_vae"
DAMAGES = {}  # name: (what it does, whether all readers refuse it or only a resumed run)


def damage(everyone=True):
    """Register ``function(rng, path)``, which spoils the file."""

    def register(function):
        DAMAGES[function.__name__] = (function, everyone)
        return function

    return register


# --- bytes ----------------------------------------------------------------------------------------


@damage()
def cut_short(rng, path):
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


@damage()
def bytes_behind_it(rng, path):
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.randint(1, 100)))


def flip(rng, path, low, high):
    """Flip one bit between two places."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(low, high)] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def header_length(path):
    """Bytes of the JSON of safetensors."""
    return struct.unpack("<Q", path.read_bytes()[:8])[0]


@damage()
def a_bit_of_the_length(rng, path):
    flip(rng, path, 0, 8)


@damage()
def a_bit_of_the_header(rng, path):
    # Not of the name of the digest: without one it is a file of before there were digests.
    content, name = path.read_bytes(), b'\\"sha256\\"'
    low = content.index(name)
    outside = [i for i in range(8, 8 + header_length(path)) if not low <= i < low + len(name)]
    place = rng.choice(outside)
    flip(rng, path, place, place + 1)


@damage()
def a_bit_of_the_numbers(rng, path):
    flip(rng, path, 8 + header_length(path), path.stat().st_size)


@damage()
def a_block_of_zeros(rng, path):
    content = bytearray(path.read_bytes())
    place = rng.randrange(8, len(content) - 64)
    content[place : place + 64] = bytes(64)
    path.write_bytes(content)


@damage()
def nothing_at_all(rng, path):
    path.write_bytes(b"")


@damage()
def noise(rng, path):
    path.write_bytes(rng.randbytes(rng.randint(1, 5000)))


@damage()
def an_absurd_length(rng, path):
    path.write_bytes(struct.pack("<Q", rng.getrandbits(63)) + path.read_bytes()[8:])


@damage()
def a_text(rng, path):
    path.write_text(
        rng.choice(["hello", "{}", "[]", "null", '{"gentok": 1}', "\ufeff\n", "é" * 99])
    )


@damage()
def a_pickle(rng, path):
    torch.save({"model.net.0.weight": torch.ones(rng.randint(1, 9))}, path)


@damage()
def an_archive(rng, path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", rng.randbytes(10))


@damage()
def of_someone_else(rng, path):
    save_file({"a": torch.ones(rng.randint(1, 9))}, path)


def with_header(path, text):
    """The same tensors under another header of ours."""
    save_file(load_checkpoint(path)[0], path, metadata={HEADER: text})


@damage()
def a_header_of_another_kind(rng, path):
    with_header(path, rng.choice(["", "null", "3", "[]", '"a"', "{", "nan", "\x00", "{}"]))


@damage()
def a_bottomless_header(rng, path):
    with_header(path, "[" * rng.choice([1000, 100_000]))


@damage()
def a_wrong_digest(rng, path):
    tensors, meta = load_checkpoint(path)
    with_header(path, json.dumps(meta | {"sha256": rng.choice(["", "0" * 64, "f" * 64, 3])}))


# --- tensors and header, written anew with a digest that fits -------------------------------------


def changed(path, tensors=None, drop=(), **meta):
    """Write the checkpoint again with other content."""
    old, header = load_checkpoint(path)
    header = {name: value for name, value in {**header, **meta}.items() if name not in drop}
    kept = {name: value for name, value in old.items() if name not in drop}
    save(path, kept | (tensors or {}), header)


def some_tensor(rng, path, start):
    """One of the floating tensors whose name starts so: (name, a copy)."""
    tensors = load_checkpoint(path)[0]
    names = [n for n, t in sorted(tensors.items()) if n.startswith(start) and t.numel() > 1]
    name = rng.choice([n for n in names if tensors[n].is_floating_point()])
    return name, tensors[name].clone()


@damage()
def weights_that_are_no_numbers(rng, path):
    name, tensor = some_tensor(rng, path, ("ema.net", "ema.critic"))
    tensor.view(-1)[rng.randrange(tensor.numel())] = rng.choice([float("nan"), float("inf")])
    changed(path, {name: tensor})


@damage(everyone=False)
def trained_weights_that_are_no_numbers(rng, path):
    name, tensor = some_tensor(rng, path, ("model.net", "model.critic"))
    changed(path, {name: tensor * float("nan")})


@damage()
def another_shape(rng, path):
    name, tensor = some_tensor(rng, path, "ema.")
    changed(path, {name: rng.choice([tensor.flatten()[1:], tensor[None], torch.zeros(0)])})


@damage()
def another_kind_of_number(rng, path):
    name, tensor = some_tensor(rng, path, ("ema.net", "ema.critic"))
    changed(path, {name: tensor.to(rng.choice([torch.int64, torch.bool, torch.complex64]))})


@damage()
def a_tensor_too_few(rng, path):
    changed(path, drop=[some_tensor(rng, path, "ema.")[0]])


@damage()
def a_tensor_too_many(rng, path):
    changed(path, {f"ema.extra{rng.random()}": torch.ones(2)})


@damage(everyone=False)
def moments_of_another_shape(rng, path):
    name, tensor = some_tensor(rng, path, "optimizer.")
    changed(path, {name: tensor.flatten()[1:]})


@damage(everyone=False)
def moments_that_are_no_numbers(rng, path):
    name, tensor = some_tensor(rng, path, "optimizer.")
    changed(path, {name: tensor * float("nan")})


@damage(everyone=False)
def negative_squares(rng, path):
    name, tensor = some_tensor(rng, path, "optimizer.")
    changed(path, {name.rsplit(".", 1)[0] + ".exp_avg_sq": -tensor.square() - 1})


@damage(everyone=False)
def a_moment_too_few(rng, path):
    changed(path, drop=[some_tensor(rng, path, "optimizer.")[0]])


@damage(everyone=False)
def a_moment_too_many(rng, path):
    changed(path, {"optimizer.of.nobody.exp_avg": torch.ones(2)})


@damage(everyone=False)
def an_absurd_count_of_updates(rng, path):
    name, _ = some_tensor(rng, path, "optimizer.")
    count = rng.choice([-1.0, 0.0, 1e9, float("nan"), float("inf")])
    changed(path, {name.rsplit(".", 1)[0] + ".step": torch.tensor(count)})


@damage()
def an_absurd_step(rng, path):
    changed(path, step=rng.choice([-1, 10**12, 2.5, "3", None, True, [], float("nan")]))


@damage()
def an_absurd_time(rng, path):
    changed(path, seconds=rng.choice([-1, float("nan"), float("inf"), "3", None, {}]))


@damage()
def a_history_of_garbage(rng, path):
    rows = [3, "a", {}, [3], [None], [{"step": 1}, {"step": 0}], [{"step": 99}], [{"step": "1"}],
            [{"step": 0, "loss": None}], [{"step": 0, "net/loss": float("nan")}],
            [{"step": 0, "lr": -1}], [{"step": 0.5}], [[1, 2]]]  # fmt: skip
    changed(path, history=rng.choice(rows))


@damage()
def a_configuration_of_garbage(rng, path):
    configs = [None, 3, "a", [], {"width": "8"}, {"width": None}, {"width": 8.5}, {"width": True},
               {"height": 3}, {"inner": 3}, {"inner": {"sizes": 3}}, {"inner": {"sizes": ["a"]}},
               {"width": [8]}, {"inner": {"size": [8]}}]  # fmt: skip
    changed(path, config=rng.choice(configs))


@damage()
def a_configuration_of_an_absurd_size(rng, path):
    changed(path, config={"width": rng.choice([-8, 0, 7, 10**6, 10**12, 10**30])})


@damage(everyone=False)
def settings_of_garbage(rng, path):
    old = load_checkpoint(path)[1]["settings"]
    name = rng.choice(sorted(old.keys() - {"steps"}))
    changed(path, settings={**old, name: rng.choice(["a", {}, [3], -7.5])})


@damage()
def settings_of_another_kind(rng, path):
    changed(path, settings=rng.choice([None, 3, "a", []]))


@damage(everyone=False)
def a_key_too_few(rng, path):
    changed(path, drop=[rng.choice(["step", "seconds", "history", "settings"])])


@damage()
def keys_of_another_kind(rng, path):
    name = rng.choice(["processes", "versions", "after", "model", "parts"])
    changed(path, **{name: rng.choice([0, -3, [3], 2.5])})


@damage()
def of_another_model(rng, path):
    model = nn.Linear(4, rng.randint(1, 3))
    model.loss = lambda batch, step: (model(batch["x"]).square().mean(), {})
    path.unlink()
    fit(model, batches, steps=2, out=path, progress=False)


@damage(everyone=False)
def of_a_longer_run(rng, path):
    path.unlink()
    train_game(path, rng.randint(7, 9), progress=False)


# --- what comes of it -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The bytes of a checkpoint in the middle of its run."""
    path = tmp_path_factory.mktemp("good") / "a.safetensors"

    def stop(step, model):
        if step == 3:
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        train_game(path, 6, save_every=3, on_step=stop, progress=False)
    return path.read_bytes()


@pytest.fixture
def spoilt(good, tmp_path, monkeypatch):
    """A function that puts a damaged checkpoint into an empty folder and gives its path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GENTOK_PROFILE", raising=False)
    take_the_place_of(monkeypatch, {SLUG})

    def make(kind, seed):
        path = tmp_path / "a.safetensors"
        path.write_bytes(good)
        DAMAGES[kind][0](random.Random(f"{kind} {seed}"), path)
        return path

    return make


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", DAMAGES)
def test_readers_refuse_it_in_one_line(spoilt, kind, seed):
    path, everyone = spoilt(kind, seed), DAMAGES[kind][1]
    before = path.read_bytes()
    try:
        load_model(path, ToyConfig, Game)
    except ValueError as error:
        assert "\n" not in str(error) and "a.safetensors" in str(error)
    else:
        assert not everyone, "a damaged checkpoint was taken for a good one"
    for read in (load_checkpoint, read_header):
        try:
            read(path)
        except ValueError as error:
            assert "\n" not in str(error) and "a.safetensors" in str(error)
    assert path.read_bytes() == before


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", DAMAGES)
def test_commands_refuse_it_in_one_line(spoilt, capfd, kind, seed):
    path, everyone = spoilt(kind, seed), DAMAGES[kind][1]
    before = path.read_bytes()
    codes = (2,) if everyone else (0,)
    one_line(capfd, ["sample", SLUG, "--from", path, "--out", "sample.txt"], codes)
    one_line(capfd, ["evaluate", SLUG, "--from", path, "--json"], codes)
    one_line(capfd, ["train", SLUG, "--out", path, "--resume"], (2,))
    assert path.read_bytes() == before, "a file that was refused is not touched"
    left = sorted(place.name for place in path.parent.iterdir())
    assert left == [path.name] + ["sample.txt"] * (not everyone), "something was left over"


def test_the_undamaged_one_is_taken(good, spoilt, capfd, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(good)
    one_line(capfd, ["sample", SLUG, "--from", path, "--out", "sample.txt"], (0,))
    one_line(capfd, ["train", SLUG, "--out", path, "--resume"], (0,))
    assert load_checkpoint(path)[1]["step"] == 6
