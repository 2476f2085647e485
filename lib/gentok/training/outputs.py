"""What a command writes: checked before the work starts, whole or not there, one writer a file."""

import glob
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gentok.training.stages import SUFFIX

COMPANION = re.compile(r"[.-][A-Za-z_]\w*")  # what recipes put behind the name of a checkpoint


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
def only_writer(out: Path) -> Iterator[None]:
    """Keep other runs away from a checkpoint while the block runs; a dead run keeps nobody away.

    Where the system knows no such locks (Windows) nothing is kept away.

    Raises:
        ValueError: if another process is at it.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    path = out.with_name(f".{out.name}.lock")
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"--out: another run is writing {out}") from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def whole_file(out: Path) -> Iterator[Path]:
    """A place to write to; what the block wrote there becomes ``out`` if it ends well.

    Raises:
        ValueError: if it wrote a picture of another kind than the name says.
    """
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as workshop:
        new = Path(workshop) / out.name
        yield new
        _check_kind(new)
        os.replace(new, out)


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
