"""Batches that worker processes read ahead from disk, still a pure function of the step.

PyTorch's `DataLoader` reads in an order; a batch source is asked for a step. Asked for one step
after another, as training does, the workers are always a few batches ahead. Asked for any other
step, they start anew from there: the batch is the same, it only takes longer.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

SMALL = 2000  # items; fewer are read in the process itself
MOST_WORKERS = 8


def num_workers(items: int) -> int:
    """Worker processes for a set of so many items: none for a small set, else by the cores.

    Processes that train together on one machine share its cores (``LOCAL_WORLD_SIZE``).
    """
    if items < SMALL or multiprocessing.current_process().daemon:  # a daemon has no children
        return 0
    there = getattr(os, "sched_getaffinity", None)  # what this process may use; not on every system
    cores = len(there(0)) if there else os.cpu_count() or 1
    return max(0, min(MOST_WORKERS, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)) - 1))


class ReadAhead:
    """A batch source, ``batches(step)``, on a map-style data set.

    Args:
        dataset: gives an item for a key.
        keys: ``keys(step)``, the keys of a step's batch; a pure function.
        collate: puts a list of items together to a batch; a function of a module, since it runs in
            the workers.
        workers: processes that read; by default what `num_workers` says.
    """

    def __init__(
        self,
        dataset: Dataset,
        keys: Callable[[int], list],
        collate: Callable[[list], Any],
        workers: int | None = None,
    ):
        self.dataset, self.keys, self.collate = dataset, keys, collate
        self.workers = num_workers(len(dataset)) if workers is None else workers
        self._next: tuple[int, int, int] | None = None  # what the stream gives next
        self._stream: Iterator | None = None

    def __call__(self, step: int) -> Any:
        """The whole batch of a step."""
        return self.part(step, 0, 1)

    def part(self, step: int, index: int, count: int) -> Any:
        """Part ``index`` of ``count`` equal parts of a batch: the rows of one process of several.

        Raises:
            ValueError: if the rows do not divide, or an item cannot be read.
        """
        if self._next != (step, index, count):
            self.close()
            self._stream = iter(self._loader(step, index, count))
        self._next = None  # nothing to go on with, should this step fail
        try:
            batch = next(self._stream)
        except ValueError as error:
            # A worker's error carries its traceback as text; its last line is what was said.
            raise ValueError(str(error).strip().rsplit("ValueError: ", 1)[-1]) from None
        self._next = (step + 1, index, count)
        return batch

    def close(self) -> None:
        """End the workers; the next call starts new ones."""
        self._stream, self._next = None, None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_stream": None, "_next": None}  # another process reads for itself

    def _loader(self, step: int, index: int, count: int) -> DataLoader:
        return DataLoader(
            self.dataset,
            batch_sampler=_Parts(self.keys, step, index, count),
            num_workers=self.workers,
            collate_fn=self.collate,
            worker_init_fn=_deaf,
            # Its own: the loader would draw from the generator that makes a step's noise.
            generator=torch.Generator(),
        )


class Mapped:
    """A batch source whose batches pass a function, each process's rows by themselves.

    Args:
        source: what it reads from.
        change: ``change(batch, step, index, count)`` -> a batch of as many rows; they are part
            ``index`` of ``count`` equal parts of the step's batch.
    """

    def __init__(self, source: ReadAhead, change: Callable[..., Any]):
        self.source, self.change = source, change

    def __call__(self, step: int) -> Any:
        """The whole batch of a step."""
        return self.part(step, 0, 1)

    def part(self, step: int, index: int, count: int) -> Any:
        """As :meth:`ReadAhead.part`."""
        return self.change(self.source.part(step, index, count), step, index, count)


def _deaf(worker: int) -> None:
    """Ctrl-C goes to all processes of a terminal; whoever asks for batches decides when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Parts:
    """One part of the keys of each step, from a step on, without end."""

    def __init__(self, keys: Callable[[int], list], step: int, index: int, count: int):
        self.keys, self.step, self.index, self.count = keys, step, index, count

    def __iter__(self) -> Iterator[list]:
        step = self.step
        while True:
            keys = self.keys(step)
            if len(keys) % self.count:
                raise ValueError(
                    f"a batch of {len(keys)} rows cannot be shared among {self.count} processes"
                )
            size = len(keys) // self.count
            yield keys[self.index * size : (self.index + 1) * size]
            step += 1
