"""What a command writes: checked before the work starts, whole or not there, one writer a file."""

import glob
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from gentok.training.stages import SUFFIX

COMPANION = re.compile(r"[.-][A-Za-z_]\w*")  # what recipes put behind the name of a checkpoint
_held: set[str] = set()  # locks of this process


def check_place(out: Path, option: str = "--out") -> None:
    """Refuse a place where no file can be written, before anything is computed.

    Raises:
        ValueError: if something that is no regular file has the name.
        OSError: if its folder cannot be made or written.
    """
    if out.exists() and not out.is_file():
        raise ValueError(f"{option}: {out} is there and is no regular file")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{option}: cannot write in {out.parent}: {reason}") from error


def companions(out: Path) -> list[Path]:
    """Checkpoints of stages that stand beside a checkpoint and belong to it.

    ``a.tokenizer.safetensors`` and ``a-generator.safetensors`` beside ``a.safetensors``.
    """
    base = out.name.removesuffix(SUFFIX)
    found = out.parent.glob(f"{glob.escape(base)}[.-]*{SUFFIX}")
    return sorted(
        path
        for path in found
        if path != out and COMPANION.fullmatch(path.name.removesuffix(SUFFIX)[len(base) :])
    )


@contextmanager
def only_writer(out: Path, option: str = "--out") -> Iterator[None]:
    """Keep other processes away from a file while the block runs; a dead one keeps nobody away.

    Where the system or the file system knows no such locks nothing is kept away. In a process that
    holds the lock already nothing changes.

    Raises:
        ValueError: if another process is at it.
        OSError: if its folder cannot be written.
    """
    path = out.with_name(f".{out.name}.lock")
    key = os.path.abspath(path)
    if key in _held:
        yield
        return
    file = _locked(path, f"{option}: another run is writing {out}")
    _held.add(key)
    try:
        yield
    finally:
        _held.discard(key)
        if file is not None:
            path.unlink(missing_ok=True)
            file.close()


def _locked(path: Path, refusal: str) -> IO | None:
    """The open file that holds a lock, or None where there are no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    while True:
        file = open(path, "w")  # noqa: SIM115  (it is open as long as the lock is held)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                return file
        except BlockingIOError:
            file.close()
            raise ValueError(refusal) from None
        except FileNotFoundError:  # its last holder has removed it between the two lines
            pass
        except OSError:  # a file system without locks
            file.close()
            path.unlink(missing_ok=True)
            return None
        file.close()


@contextmanager
def whole_file(out: Path) -> Iterator[Path]:
    """A place to write to; what the block wrote there, and beside it, stands at ``out`` afterwards.

    If it does not end well, nothing has changed.

    Raises:
        ValueError: if it wrote a picture of another kind than the name says, or another process is
            writing the file.
    """
    workshop = out.with_name(f".{out.name}.tmp")
    with only_writer(out):
        try:
            shutil.rmtree(workshop, ignore_errors=True)  # of a run that was killed
            workshop.mkdir()
            new = workshop / out.name
            yield new
            _check_kind(new)
            for made in sorted(workshop.iterdir()):  # a picture may come with its sound
                os.replace(made, out.with_name(made.name))
        finally:
            shutil.rmtree(workshop, ignore_errors=True)


def _check_kind(path: Path) -> None:
    """A GIF is not to be called .png: programs that go by the name would refuse it."""
    from PIL import Image, UnidentifiedImageError

    ending = path.suffix.lower()
    wanted = Image.registered_extensions().get(ending)
    try:
        with Image.open(path) as picture:
            found = picture.format
    except UnidentifiedImageError:  # sound, text, a table
        return
    if found != wanted and not {found, wanted} <= {"JPEG", "MPO", "JPEG2000"}:
        raise ValueError(f"--out: this system writes {found} files, the name ends in {ending!r}")
