"""Damage to a file, drawn by a seed: what disks, downloads, other programs and enemies do to it."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np

Rng = np.random.Generator
MAGIC = (
    *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"II*\0", b"RIFF\xff\xff\xff\xffWAVE"),
    *(
        b"PK\x03\x04",
        b"PAR1",
        b"\x93NUMPY\x01\x00",
        b"\x1f\x8b\x08\0",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
    ),
    *(b"{", b"[[", b"\0\0\x08\x03", b"\x80\x02"),
)
EXTREME = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF)
WORDS = (
    b"nan",
    b"-inf",
    b"1e999",
    b"-1",
    b"0",
    b"9" * 30,
    b"null",
    b'"',
    b"#",
    b"\\",
    b"\xff",
    b"",
)


def truncated(data: bytes, rng: Rng) -> bytes:
    return data[: rng.integers(len(data))]


def headless(data: bytes, rng: Rng) -> bytes:
    return data[1 + rng.integers(min(len(data), 64)) :]


def flipped(data: bytes, rng: Rng, reach: int | None = None) -> bytes:
    """One to eight bits turned; with ``reach`` among the first bytes only."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 9)):
        out[rng.integers(min(len(out), reach or len(out)))] ^= 1 << rng.integers(8)
    return bytes(out)


def flipped_head(data: bytes, rng: Rng) -> bytes:
    return flipped(data, rng, reach=64)


def random_bytes(data: bytes, rng: Rng) -> bytes:
    return rng.bytes(int(rng.integers(1, 2 * len(data) + 2)))


def random_behind_magic(data: bytes, rng: Rng) -> bytes:
    return data[: rng.integers(4, 33)] + rng.bytes(len(data))


def wrong_magic(data: bytes, rng: Rng) -> bytes:
    magic = MAGIC[rng.integers(len(MAGIC))]
    return magic + data[len(magic) :]


def _block(data: bytes, rng: Rng) -> tuple[int, int]:
    start = int(rng.integers(len(data)))
    return start, start + int(rng.integers(1, max(2, len(data) // 4)))


def zeroed_block(data: bytes, rng: Rng) -> bytes:
    start, stop = _block(data, rng)
    return data[:start] + b"\0" * len(data[start:stop]) + data[stop:]


def full_block(data: bytes, rng: Rng) -> bytes:
    start, stop = _block(data, rng)
    return data[:start] + b"\xff" * len(data[start:stop]) + data[stop:]


def lost_block(data: bytes, rng: Rng) -> bytes:
    start, stop = _block(data, rng)
    return data[:start] + data[stop:]


def inserted_block(data: bytes, rng: Rng) -> bytes:
    at = int(rng.integers(len(data)))
    return data[:at] + rng.bytes(int(rng.integers(1, 200))) + data[at:]


def repeated_block(data: bytes, rng: Rng) -> bytes:
    start, stop = _block(data, rng)
    return data[:stop] + data[start:stop] + data[stop:]


def appended(data: bytes, rng: Rng) -> bytes:
    return data + rng.bytes(int(rng.integers(1, 500)))


def extreme_number(data: bytes, rng: Rng) -> bytes:
    """A whole number of 1 to 8 bytes, of either order, becomes one of the ends of its range."""
    width = int(rng.choice([1, 2, 4, 8]))
    value = EXTREME[rng.integers(len(EXTREME))] & ((1 << 8 * width) - 1)
    at = int(rng.integers(min(len(data), int(rng.choice([64, 1 << 30])))))
    order = "little" if rng.random() < 0.5 else "big"
    return data[:at] + value.to_bytes(width, order) + data[at + width :]


def extreme_word(data: bytes, rng: Rng) -> bytes:
    """A word of a text becomes another: a number out of range, none, a sign of the grammar."""
    words = data.split(b" ")
    words[rng.integers(len(words))] = WORDS[rng.integers(len(WORDS))]
    return b" ".join(words)


DAMAGES: tuple[Callable[[bytes, Rng], bytes], ...] = (
    *(truncated, headless, flipped, flipped_head, random_bytes, random_behind_magic, wrong_magic),
    *(zeroed_block, full_block, lost_block, inserted_block, repeated_block, appended),
    *(extreme_number, extreme_word),
)


def damaged(data: bytes, others: Sequence[bytes], seed: int) -> Iterator[tuple[str, bytes]]:
    """Endless damaged copies of a file, each with a name: empty, each of ``others``, all kinds."""
    yield "empty", b""
    for i, other in enumerate(others):
        yield f"other_{i}", other
    turn = 0
    while True:
        for damage in DAMAGES:
            out = damage(data, np.random.default_rng([seed, turn]))
            if out != data:
                yield f"{damage.__name__}_{turn}", out
            turn += 1


def some(data: bytes, others: Sequence[bytes], seed: int, count: int) -> list[tuple[str, bytes]]:
    """The first ``count`` of `damaged`."""
    return list(islice(damaged(data, others, seed), count))
