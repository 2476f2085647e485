"""The files of ``weights/``: what they keep, what they refuse, where they are looked for."""

import json
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gentok.data import ImageSet
from gentok.training import weights as weights_file
from gentok.training.checkpoint import HEADER
from gentok.training.weights import Learned, Weights, digest, fetch, find, read, read_header, write


@dataclass(frozen=True)
class Config:
    """Width of a layer."""

    width: int = 96
    shape: tuple[int, ...] = (2, 3)


class Layer(nn.Module):
    """A matrix, a bias, a count, and a number too large for half precision."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.linear = nn.Linear(64, config.width)
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("large", torch.tensor([1e6, 1.0]))


def kept(eight_bits=False):
    return Weights(
        preset="tiny",
        parts={"net": (Config, Layer)},
        train=None,
        collect=None,
        assemble=lambda net: net,
        measure=None,
        data=None,
        eight_bits=eight_bits,
    )


@pytest.mark.parametrize("eight_bits", [False, True])
def test_what_is_written_is_read(tmp_path, eight_bits):
    torch.manual_seed(0)
    module = Layer(Config(width=80))
    path = write(tmp_path / "a.safetensors", kept(eight_bits), {"net": module}, {"seed": 7})
    again = read(path, kept(eight_bits))["net"]
    assert again.config == Config(width=80) and not again.training
    assert not any(p.requires_grad for p in again.parameters())
    assert again.count == 3 and again.large.tolist() == [1e6, 1.0]
    assert torch.equal(again.linear.bias, module.linear.bias.half().float())
    error = (again.linear.weight - module.linear.weight).abs()
    if eight_bits:  # half a step of each row's own scale
        steps = module.linear.weight.abs().amax(1, keepdim=True) / 127
        assert (error <= 0.5001 * steps).all() and error.max() > 0
    else:
        assert torch.equal(again.linear.weight, module.linear.weight.half().float())
    header = read_header(path)
    matrix = 64 * 80 * (1 if eight_bits else 2) + (80 * 4 if eight_bits else 0)
    assert header["seed"] == 7 and header["bytes"] == matrix + 80 * 2 + 8 + 2 * 4
    assert header["parts"] == {"net": {"width": 80, "shape": [2, 3]}}


def test_refused(tmp_path, monkeypatch):
    module, path = Layer(Config()), tmp_path / "a.safetensors"
    write(path, kept(), {"net": module}, {})
    other = Weights("tiny", {"other": (Config, Layer)}, *[None] * 5)
    with pytest.raises(ValueError, match=r"holds \['net'\], accepted: \['other'\]"):
        read(path, other)
    save_file({"x": torch.zeros(1)}, tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="not a checkpoint written by gentok"):
        read(tmp_path / "b.safetensors", kept())
    monkeypatch.setattr(weights_file, "LARGEST", 1000)
    with pytest.raises(ValueError, match="at most 1,000 are accepted"):
        write(tmp_path / "c.safetensors", kept(), {"net": module}, {})
    assert not (tmp_path / "c.safetensors").exists()


def test_the_named_folder_comes_before_the_variable_and_both_before_the_checkout(
    tmp_path, monkeypatch
):
    places = {name: tmp_path / name for name in ("named", "variable", "checkout")}
    monkeypatch.setattr(weights_file, "CHECKOUT", places["checkout"])
    monkeypatch.setenv("GENTOK_WEIGHTS", str(places["variable"]))
    assert find("base/a", places["named"]) is None
    with pytest.raises(FileNotFoundError, match=r"`make weights NB=base/a` makes them"):
        fetch("base/a")
    for name in ("checkout", "variable", "named"):
        path = places[name] / "base" / "a.safetensors"
        path.parent.mkdir(parents=True)
        path.touch()
        assert find("base/a", places["named"]) == path == fetch("base/a", places["named"])


def test_the_hub_is_asked_only_on_request(tmp_path, monkeypatch):
    monkeypatch.setattr(weights_file, "CHECKOUT", tmp_path / "nothing")
    monkeypatch.delenv("GENTOK_WEIGHTS", raising=False)
    asked = []

    def download(repository, name):
        asked.append((repository, name))
        return str(tmp_path / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(FileNotFoundError):
        fetch("enat")
    assert asked == []
    assert fetch("enat", download=True) == tmp_path / "enat.safetensors"
    assert asked == [(weights_file.HUB, "enat.safetensors")]


def test_a_digest_sees_every_pixel_and_label():
    images = torch.zeros(3, 3, 4, 4, dtype=torch.uint8)
    first = digest(ImageSet(images, torch.tensor([0, 1, 1]), ("a", "b"), "zeros"))
    changed = images.clone()
    changed[2, 1, 3, 3] = 1
    second = digest(ImageSet(changed, torch.tensor([0, 1, 1]), ("a", "b"), "zeros"))
    third = digest(ImageSet(images, torch.tensor([0, 1, 0]), ("a", "b"), "zeros"))
    assert first["items"] == 3 and first["source"] == "zeros"
    assert len({row["sha256"] for row in (first, second, third)}) == 3


def test_a_digest_of_other_data_sees_every_number():
    numbers = torch.randn(4, 3, 2)
    first = digest(Learned("noise", (numbers,)))
    changed = numbers.clone()
    changed[3, 2, 1] += 1
    second = digest(Learned("noise", (changed,)))
    assert first["items"] == 4 and first["source"] == "noise"
    assert first["sha256"] != second["sha256"] and len(first["sha256"]) == 64


def test_naming_the_loader_imports_no_torch():
    code = "import gentok, sys, json; print(json.dumps('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False


def test_a_header_that_is_none_is_refused_by_name(tmp_path):
    path = tmp_path / "toy.safetensors"
    tensors = {"a": torch.ones(2)}
    for content in (b"", b"\xff" * 40, None, {}, {HEADER: "{"}, {HEADER: "[1]"}):
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            save_file(tensors, path, content)
        with pytest.raises(ValueError, match=r"toy\.safetensors is"):
            read_header(path)
    with pytest.raises(FileNotFoundError, match="absent"):
        read_header(tmp_path / "absent.safetensors")
