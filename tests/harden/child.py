"""One input after another in a process of its own: a crash, a bomb or a loop ends that alone."""

import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Sequence

SPARE = 1 << 30  # bytes that a reader of a small file may take beyond what the process has
LONGEST = 20  # seconds of the processor after which an input counts as endless
PATIENCE = 900  # seconds without an answer: it waits for something that never comes


def _address_space() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _serve(task: Callable[[int], str], numbers: Sequence[int], out: int, spare: int) -> None:
    limit = _address_space() + spare
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    for number in numbers:
        used = int(time.process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (used + LONGEST, hard))
        answer = json.dumps([number, task(number)])
        os.write(out, answer.encode() + b"\n")


def answers(task: Callable[[int], str], count: int, spare: int = SPARE) -> list[str]:
    """``task(0)`` to ``task(count - 1)``, in forks of this process under a limit of memory.

    A fork that ends early, or is silent for long, answers with how it ended; the next input goes to
    a new fork.
    """
    found: list[str] = []
    while len(found) < count:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(read)
                _serve(task, range(len(found), count), write, spare)
                status = 0
            finally:
                os._exit(status)
        os.close(write)
        ending = _listen(read, child, found)
        os.close(read)
        if len(found) < count:
            found.append(ending)
    return found


def _listen(read: int, child: int, found: list[str]) -> str:
    """Collect the answers of a fork; how it ended."""
    rest, deadline = b"", time.monotonic() + PATIENCE
    while select.select([read], [], [], max(0.0, deadline - time.monotonic()))[0]:
        block = os.read(read, 1 << 16)
        if not block:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            name = signal.Signals(-status).name if status < 0 else status
            return f"the process ended: {name}"
        *lines, rest = (rest + block).split(b"\n")
        found += [json.loads(line)[1] for line in lines]
        deadline = time.monotonic() + PATIENCE
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return f"no answer in {PATIENCE} seconds"
