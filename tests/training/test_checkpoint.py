"""Checkpoints: what is written comes back, and nothing half-written or foreign is taken for one."""

import json
import os
import resource
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from toy_training import Game, Inner, ToyConfig, train_game

from gentok.training.checkpoint import HEADER, digest_of, load_checkpoint, read_header, save
from gentok.training.configs import may_open, restore_config
from gentok.training.loading import load_model, load_weights


def test_round_trip(tmp_path):
    tied = torch.arange(6.0).reshape(2, 3)
    tensors = {
        "a": tied,
        "b": tied,
        "transposed": tied.T,
        "scalar": torch.tensor(3, dtype=torch.int64),
        "half": torch.randn(2).bfloat16(),
        "empty": torch.zeros(0, 4),
        "flag": torch.tensor([True, False]),
    }
    meta = {"step": 3, "history": [{"loss": 0.1 + 0.2}], "config": None, "name": "größe"}
    path = save(tmp_path / "new" / "folder" / "a.safetensors", tensors, meta)
    read, read_meta = load_checkpoint(path)
    assert read_meta == meta
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor)
    assert os.listdir(path.parent) == [path.name]


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        path = save(tmp_path / "a.safetensors", {"a": torch.ones(1)}, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a good checkpoint."""
    path = tmp_path_factory.mktemp("whole") / "a.safetensors"
    return save(path, {"a": torch.randn(50)}, {"step": 1}).read_bytes()


@given(fraction=st.floats(0, 1, exclude_max=True))
@settings(max_examples=30, deadline=None)
def test_cut_short(whole, tmp_path_factory, fraction):
    path = tmp_path_factory.mktemp("cut") / "a.safetensors"
    path.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(ValueError, match=r"checkpoint .*a\.safetensors is damaged") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


@given(content=st.binary(max_size=300))
@settings(max_examples=50, deadline=None)
def test_random_bytes(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("random") / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged or of another kind"):
        load_checkpoint(path)


def test_foreign_and_missing_files(tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.ones(1)}, foreign)
    with pytest.raises(ValueError, match="not a checkpoint written by gentok"):
        load_checkpoint(foreign)
    pickled = tmp_path / "pickled.pt"
    torch.save({"a": torch.ones(1)}, pickled)
    with pytest.raises(ValueError, match="damaged or of another kind"):
        load_checkpoint(pickled)
    for nothing in (tmp_path / "nothing", tmp_path):
        with pytest.raises(FileNotFoundError, match="no checkpoint at"):
            load_checkpoint(nothing)


def test_a_file_too_large_for_the_disk_leaves_the_old_one(tmp_path):
    path = save(tmp_path / "a.safetensors", {"a": torch.ones(10)}, {"step": 1})
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, limits[1]))  # as a full disk would
    try:
        with pytest.raises(OSError, match=r"could not save checkpoint .*earlier checkpoint is in"):
            save(path, {"a": torch.ones(1_000_000)}, {"step": 2})
        with pytest.raises(OSError, match="could not save checkpoint") as caught:
            save(tmp_path / "b.safetensors", {"a": torch.ones(1_000_000)}, {"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "earlier" not in str(caught.value) and "\n" not in str(caught.value)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


def test_an_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="could not save checkpoint"):
        save(tmp_path / "file" / "a.safetensors", {"a": torch.ones(1)}, {})


def test_load_model_rebuilds_the_configuration_and_takes_the_average(tmp_path):
    def build(config):
        assert config == ToyConfig(width=8, inner=Inner(sizes=(8, 8)))
        return Game(config)

    out = tmp_path / "a.safetensors"
    fitted = train_game(out, 3)
    model = load_model(out, ToyConfig, build)
    assert not model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, fitted.ema.state_dict()[name])
    without = load_model(train_game_without_average(tmp_path), ToyConfig, Game)
    assert not torch.equal(without.critic.weight, model.critic.weight)


def train_game_without_average(folder):
    """A checkpoint of the same run that keeps no average."""
    train_game(folder / "b.safetensors", 3, ema=None)
    return folder / "b.safetensors"


def test_load_model_refuses_another_system(tmp_path):
    path = save(tmp_path / "a.safetensors", {}, {"config": {"height": 3}, "model": "other.Model"})
    with pytest.raises(
        ValueError, match=r"holds a other\.Model without a configuration that .*Toy"
    ):
        load_model(path, ToyConfig, Game)


def test_load_weights_is_all_or_nothing():
    net = nn.Linear(2, 2)
    before = net.weight.clone()
    with pytest.raises(ValueError, match=r"weight is \(2, 3\) there and \(2, 2\) here"):
        load_weights(net, {"m.bias": torch.ones(2), "m.weight": torch.ones(2, 3)}, "m.", "it")
    with pytest.raises(ValueError, match="extra is .* there and absent here"):
        load_weights(net, {**{f"m.{k}": v for k, v in net.state_dict().items()},
                           "m.extra": torch.ones(1)}, "m.", "it")  # fmt: skip
    assert torch.equal(net.weight, before)


def test_a_checkpoint_from_before_there_were_digests_loads(tmp_path):
    """As the book's weights are, and with the history in the header."""
    meta = {"step": 1, "history": [{"step": 0, "loss": 0.1}], "config": None}
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(2)}, path, metadata={HEADER: json.dumps(meta)})
    tensors, read = load_checkpoint(path)
    assert read == meta and torch.equal(tensors["a"], torch.ones(2))
    assert digest_of(path) is None and digest_of(tmp_path / "nothing") is None


def test_a_long_history_does_not_fill_the_header(tmp_path):
    rows = [{"step": step, "loss": step / 3} for step in range(20_000)]
    path = save(tmp_path / "a.safetensors", {"a": torch.ones(2)}, {"history": rows})
    tensors, meta = load_checkpoint(path)
    assert meta["history"] == rows and tensors.keys() == {"a"}
    assert int.from_bytes(path.read_bytes()[:8], "little") < 1000
    assert read_header(path) == ({"a": (2,)}, {})


def test_every_bit_counts(tmp_path):
    """Whatever bit of the numbers is flipped, the file is refused."""
    path = save(tmp_path / "a.safetensors", {"a": torch.zeros(3)}, {"step": 1})
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    for place in range(start, len(content)):
        spoilt = bytearray(content)
        spoilt[place] ^= 1 << place % 8
        path.write_bytes(spoilt)
        with pytest.raises(ValueError, match="its content is not what was written"):
            load_checkpoint(path)


def test_a_device_or_a_folder_is_never_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "folder", Path(os.devnull)):
        with pytest.raises(OSError, match="could not save checkpoint .* is no regular file"):
            save(place, {"a": torch.ones(1)}, {})
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_names_in_a_checkpoint_are_opened_only_if_the_book_knows_them():
    config = restore_config(Names, {"network": "stranger/network", "sizes": [[1, 2], [3, 4]]})
    assert config == Names("stranger/network", ((1, 2), (3, 4)))
    with pytest.raises(ValueError, match=r"'stranger/network' is named by the checkpoint alone"):
        may_open(config.network, ("ours/network",), "network")
    known = restore_config(Names, {"network": "ours/network"}).network
    assert not may_open(known, ("ours/network",), "network"), "the hub is not asked"
    assert may_open("mine", ("ours/network",), "network"), "the reader names what the reader likes"


@dataclass(frozen=True)
class Names:
    """A configuration that names a network."""

    network: str | None = None
    sizes: tuple[tuple[int, int], ...] = ()
