"""The book's trained weights: load them, and make them again.

``python -m gentok.book.weights make enat`` trains a system in the profile ``long``, exports its
networks, measures what was exported, and writes ``weights/enat.safetensors``.
``python -m gentok.book.weights all --minutes 90`` makes what is missing until the time is over.
Both go on where they were stopped. On a machine with a GPU the same commands train there;
``--device`` says where else.
"""

import _thread
import argparse
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import gentok
from gentok.base import lightning_dit
from gentok.base.recipe import WEIGHTS as BASE
from gentok.book import registry
from gentok.book.records import use_installed_weights
from gentok.measure.throughput import training_share
from gentok.training.checkpoint import read_header as read_checkpoint_header
from gentok.training.profiles import Profile, profile
from gentok.training.weights import (
    CHECKOUT,
    Weights,
    digest,
    fetch,
    read,
    read_header,
    write,
)

RUNS = Path("runs") / "weights"  # checkpoints of trainings that are not done
ITEMS, CHECKED = 500, 100  # measured for the record, and again by a test


def names() -> list[str]:
    """All that weights are kept of: the base tokenizers first, since systems start from them."""
    slugs = [system.slug for system in registry.systems() if system.module]
    return [f"base/{name}" for name in BASE] + [name for slug in slugs for name in of_system(slug)]


def of_system(slug: str) -> dict[str, Weights]:
    """What is kept of a system, by file: ``<slug>``, and further ones ``<slug>_<what>``.

    Raises:
        ValueError: if there is no such system.
    """
    kept = getattr(registry.recipe(slug), "WEIGHTS", {})
    return {slug: kept} if isinstance(kept, Weights) else kept


def system_of(name: str) -> str:
    """The system to which a file belongs: ``enat`` to itself, ``fa_vae_photographs`` to fa_vae."""
    slugs = [system.slug for system in registry.systems() if system.module]
    owners = [slug for slug in slugs if name == slug or name.startswith(f"{slug}_")]
    return max(owners, key=len, default=name)


def of(name: str) -> Weights:
    """How a system's weights are kept.

    Raises:
        ValueError: if the name is unknown or no weights are kept of that system.
    """
    folder, _, base = name.rpartition("/")
    weights = BASE.get(base) if folder == "base" else None
    if not folder:
        weights = of_system(system_of(name)).get(name)
    if weights is None:
        raise ValueError(f"no weights are kept of {name!r}; there are: {', '.join(names())}")
    return weights


def load(name: str, folder: str | os.PathLike | None = None, download: bool = False) -> nn.Module:
    """As `gentok.pretrained`."""
    use_installed_weights()
    weights = of(name)
    return weights.assemble(**read(fetch(name, folder, download), weights)).eval()


def make(name: str, folder: Path = CHECKOUT, level: Profile | None = None, seed: int = 0) -> Path:
    """Train, export, measure what was exported, and write the file.

    Args:
        name: of a system or base tokenizer.
        folder: where ``<name>.safetensors`` goes.
        level: how much to train: the profile ``long`` if None.
        seed: of weights, batches and noise.

    Raises:
        KeyboardInterrupt: if it was stopped; the next call goes on from there.
    """
    weights, level = of(name), level or profile("long")
    out = RUNS / f"{name.replace('/', '-')}-{level.name}-{seed}.safetensors"
    print(f"{name}: training {weights.preset} ({level.name}, {level.device}), kept at {out}")
    weights.train(weights.preset, level, out=out, resume=True, seed=seed)
    path = folder / f"{name}.safetensors"
    header = {"name": name, "preset": weights.preset, "profile": level.name, "seed": seed}
    header |= {"stages": _stages(out), "made": _made(level.device)}
    header["data"] = {key: digest(images) for key, images in weights.data(level, seed).items()}
    modules = weights.collect(out)
    write(path, weights, modules, header)  # so that what is measured is what will be loaded
    system = weights.assemble(**read(path, weights)).eval()
    header["metrics"] = {"items": ITEMS, **weights.measure(system, ITEMS)}
    header["check"] = {"items": CHECKED, **weights.measure(system, CHECKED)}
    write(path, weights, modules, header)
    print(f"{name}: wrote {path}, {path.stat().st_size / 1e6:.1f} MB, {header['metrics']}")
    return path


def make_all(
    folder: Path = CHECKOUT, minutes: float = 90, force: bool = False, level: Profile | None = None
) -> list[Path]:
    """Make what is missing, in order, until the time is over; the next call goes on.

    Args:
        folder: where the files go.
        minutes: of wall time, all together.
        force: make those again that are there.
        level: how much to train, and where: the profile ``long`` if None.
    """
    level = level or profile("long")
    print(f"weights for {', '.join(names())} on {level.device}, {minutes:g} minutes")
    if level.device.startswith("cuda"):
        print(f"{lightning_share(device=level.device)} on {torch.cuda.get_device_name()}")
    done = []
    try:
        with _time_limit(60 * minutes):
            for name in names():
                path = folder / f"{name}.safetensors"
                if path.is_file() and not force:
                    print(f"{name}: there already, {_summary(path)}")
                    continue
                done.append(make(name, folder, level))
    except KeyboardInterrupt as stopped:
        print(f"time is over or stopped ({stopped}); the same command goes on from here")
    return done


def _stages(out: Path) -> dict[str, Any]:
    """Steps, seconds and settings of every stage, from the checkpoints of the training."""
    found = {}
    for path in sorted(out.parent.glob(f"{out.stem}*{out.suffix}")):
        meta = read_checkpoint_header(path)[1]
        if "settings" in meta:  # not the copy of a tokenizer that was trained before
            name = path.name[len(out.stem) :].removesuffix(out.suffix).strip(".-") or "main"
            keys = ("model", "step", "seconds", "settings")
            found[name] = {key: meta[key] for key in keys}
    return found


def _made(device: str) -> dict[str, Any]:
    """Where, when and with what."""
    machine = platform.processor() or platform.machine()
    if device.startswith("cuda"):
        machine = torch.cuda.get_device_name()
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": f"{machine}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "device": device,
        "commit": _commit(),
        "versions": {
            "gentok": gentok.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def _commit() -> str | None:
    """The commit of the checkout, with a plus if files differ from it."""
    root = CHECKOUT.parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "lib") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _summary(path: Path) -> str:
    metrics = read_header(path)["metrics"]
    return ", ".join(f"{key} {value:.4g}" for key, value in metrics.items())


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Send the process a Ctrl-C when the time is over: a training saves itself then and stops."""

    def stop(number: int, frame: Any) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job
            raise KeyboardInterrupt("time is over")
        os.kill(os.getpid(), signal.SIGINT)

    if not hasattr(signal, "SIGALRM"):  # Windows: another thread presses the key
        timer = threading.Timer(seconds, _thread.interrupt_main)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def lightning_share(
    preset: str = "xl/1", batch_size: int = 64, device: str = "cuda", **options: int
) -> str:
    """How much of what a device multiplies at its best a LightningDiT uses in training, in words.

    Args:
        preset: of `gentok.base.lightning_dit`.
        batch_size, device: of the training, in bfloat16.
        options: ``steps`` and ``size`` of `gentok.measure.throughput.training_share`.
    """
    model = lightning_dit.build(lightning_dit.PRESETS[preset]).to(device)
    batch = lightning_dit.example(model.config, batch_size=batch_size, device=device)
    share = training_share(model, batch, **options)
    return f"LightningDiT {preset}, batch {batch_size}, bfloat16: {share}"


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns an exit code."""
    parser = argparse.ArgumentParser(prog="python -m gentok.book.weights", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("make", help="make one file")
    one.add_argument("name", help=f"one of: {', '.join(names())}")
    every = commands.add_parser("all", help="make what is missing")
    every.add_argument("--minutes", type=float, default=90, help="stop after this long (90)")
    every.add_argument("--force", action="store_true", help="make what is there again")
    for command in (one, every):
        command.add_argument("--folder", type=Path, default=CHECKOUT, help="where the files go")
        command.add_argument("--device", help="where to train (the fastest that is there)")
    options = parser.parse_args(arguments)
    level = profile("long")
    if options.device:
        level = replace(level, device=options.device)
    try:
        if options.command == "make":
            make(options.name, options.folder, level)
        else:
            make_all(options.folder, options.minutes, options.force, level)
    except KeyboardInterrupt as stopped:
        print(f"stopped ({stopped}); the same command goes on from here", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
