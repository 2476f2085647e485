"""`make weights-all` end to end, with toy systems: kill, limit, what is there, device."""

import signal
import time
from pathlib import Path

import forked
import pytest
import torch
import toy_weights
from benchmarks import gpu

from gentok.base import lightning_dit
from gentok.book import weights
from gentok.training.checkpoint import load_checkpoint
from gentok.training.weights import read_header

PROCESSES = forked.context("gentok.book.weights")
FILES = ("base/one.safetensors", "base/two.safetensors")


def start(folder: Path, *options: str, over: int = -1):
    """The command that `make weights-all` runs, in a folder and a process of its own."""
    folder.mkdir(exist_ok=True)
    words = ["all", "--folder", ".", "--minutes", "5", *options]
    process = PROCESSES.Process(target=toy_weights.command, args=(folder, words, over))
    process.start()
    return process


def run(folder: Path, *options: str, over: int = -1) -> str:
    """The same to its end: what it printed."""
    process = start(folder, *options, over=over)
    process.join(timeout=180)
    assert process.exitcode == 0, (folder / "err").read_text()[-2000:]
    return (folder / "out").read_text()


def tensors(folder: Path) -> list[torch.Tensor]:
    found = [load_checkpoint(folder / file)[0] for file in FILES]
    return [tensor for file in found for _, tensor in sorted(file.items())]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All made in one go."""
    folder = tmp_path_factory.mktemp("whole")
    out = run(folder)
    assert out.count("wrote") == 2 and "device cpu" in out
    return folder


@pytest.mark.slow
def test_what_is_there_is_skipped_and_made_again_when_forced(whole):
    before = [(whole / file).stat().st_mtime_ns for file in FILES]
    out = run(whole)
    assert out.count("there already") == 2 and "training" not in out
    assert [(whole / file).stat().st_mtime_ns for file in FILES] == before
    weights_before = tensors(whole)
    assert run(whole, "--force").count("wrote") == 2
    assert [(whole / file).stat().st_mtime_ns for file in FILES] != before
    assert all(torch.equal(a, b) for a, b in zip(tensors(whole), weights_before, strict=True))


@pytest.mark.slow
def test_it_goes_on_after_a_kill(whole, tmp_path):
    folder = tmp_path / "killed"
    process = start(folder)
    kept = folder / "runs" / "weights" / "base-two-smoke-0.safetensors"
    deadline = time.monotonic() + 120
    while not kept.is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "it was done before it could be killed"
    assert (folder / FILES[0]).is_file() and not (folder / FILES[1]).exists()
    reached = load_checkpoint(kept)[1]["step"]
    out = run(folder)
    assert out.count("there already") == 1 and out.count("wrote") == 1
    assert 0 < reached < read_header(folder / FILES[1])["stages"]["main"]["step"]
    assert all(torch.equal(a, b) for a, b in zip(tensors(folder), tensors(whole), strict=True))


@pytest.mark.slow
def test_it_stops_at_its_limit_and_the_next_call_goes_on(whole, tmp_path):
    folder = tmp_path / "limited"
    out = run(folder, over=100)
    assert "time is over" in out and "goes on from here" in out and out.count("wrote") == 0
    kept = load_checkpoint(folder / "runs" / "weights" / "base-one-smoke-0.safetensors")[1]
    assert 100 < kept["step"] < kept["settings"]["steps"]
    assert run(folder).count("wrote") == 2
    assert all(torch.equal(a, b) for a, b in zip(tensors(folder), tensors(whole), strict=True))


@pytest.mark.slow
def test_the_device_may_be_said(whole, tmp_path):
    out = run(tmp_path / "named", "--device", "cpu:0")
    assert out.count("device cpu:0") == 2 and "on cpu:0, 5 minutes" in out
    pairs = zip(tensors(tmp_path / "named"), tensors(whole), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


# --- the share of a GPU's peak --------------------------------------------------------------------


def test_without_a_gpu_one_line_and_exit_code_two(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    out, err = capsys.readouterr()
    assert not out and err == "error: no GPU that torch can use; nothing is measured\n"


def test_the_share_in_words(monkeypatch, capsys):
    words = weights.lightning_share("tiny", 2, "cpu", steps=1, size=64)
    assert words.startswith("LightningDiT tiny, batch 2, bfloat16: ") and "matrix peak" in words
    assert "xl/1" in lightning_dit.PRESETS
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(gpu, "lightning_share", lambda batch_size: f"batch {batch_size}: 41 %")
    assert gpu.main(["--batch", "16"]) == 0
    assert capsys.readouterr().out.startswith("batch 16: 41 % on a GPU, torch ")

    def too_large(batch_size):
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(gpu, "lightning_share", too_large)
    assert gpu.main([]) == 2 and "no memory for a batch of 64" in capsys.readouterr().err


def test_the_limit_holds_without_alarm_signals(monkeypatch):
    """As on Windows: a timer interrupts the main thread, and not after the work is done."""
    monkeypatch.delattr(signal, "SIGALRM")
    # A shell's background job ignores Ctrl-C; there is no such job on Windows.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), weights._time_limit(0.05):
            for _ in range(500):
                time.sleep(0.01)
        with weights._time_limit(0.05):
            pass
        time.sleep(0.1)
    finally:
        signal.signal(signal.SIGINT, before)
