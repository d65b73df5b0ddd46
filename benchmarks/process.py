"""A process for each side of a work, which answers when told to and says how long it took.

In one process the sides would leave each other memory in pieces, and threads that still spin. Each
process makes the data itself, after the same on small data, so that imports and the buffers of
libraries do not count. Run as ``python -m benchmarks.process WORK SIDE [--quick]`` it reads what to do,
a line for each, and writes what came of it, as JSON.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.rows import Array, Side, Work, works

ROOT = Path(__file__).parents[1]

#: Seconds before a call, in which the threads of the one before fall asleep: those of OpenBLAS are busy
#: waiting for more work for a tenth of a second.
PAUSE = 0.2

#: Seconds after which a process that says nothing is given up.
PATIENCE = 120.0

#: Seconds between two looks at the memory of a process, which take some hundredths of a CPU.
LOOK = 0.002


class FailedError(Exception):
    """A side did not answer."""


class Process:
    """One side, in a process of its own."""

    def __init__(self, work: Work, side: Side, quick: bool) -> None:
        command = [sys.executable, "-m", "benchmarks.process", work.key, str(work.sides.index(side))]
        command += ["--quick"] * quick
        self._process = subprocess.Popen(
            command, cwd=ROOT, text=True, stdin=PIPE, stdout=PIPE, stderr=DEVNULL
        )

    def wait(self) -> dict[str, Any]:
        """Return what it says next; raise FailedError if it failed."""
        assert self._process.stdout is not None
        patience = threading.Timer(PATIENCE, self._process.kill)
        patience.start()
        try:
            said = json.loads(self._process.stdout.readline())
        except json.JSONDecodeError:
            raise FailedError("the process ended") from None
        finally:
            patience.cancel()
        if "failed" in said:
            raise FailedError(said["failed"])
        return dict(said)

    def call(self) -> float:
        """Let it answer, and return how long that took."""
        time.sleep(PAUSE)
        return float(self._ask("call")["seconds"])

    def watched_call(self) -> tuple[float, float | None]:
        """Do the same, and return its peak of anonymous memory, in bytes beside what was there before.

        Only Linux tells that.
        """
        watch = _Watch(self._process.pid)
        watch.start()
        try:
            return self.call(), watch.growth
        finally:
            watch.over.set()
            watch.join()

    def answer(self, file: Path) -> Array:
        """Return the last answer, which is put into a file."""
        self._ask(str(file))
        return np.asarray(np.load(file, mmap_mode="r"))

    def remarks(self) -> list[str]:
        """Return what has to be said of the way it answers."""
        return list(self._ask("remarks")["remarks"])

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, what: str) -> dict[str, Any]:
        """Tell it what to do, and return what it says."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{what}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise FailedError("the process ended") from None
        return self.wait()


class _Watch(threading.Thread):
    """Looks at the memory of a process, again and again."""

    def __init__(self, number: int) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self._number = number
        self._before = self._highest = _anonymous(number)

    def run(self) -> None:
        while self._highest is not None and not self.over.wait(LOOK):
            self._highest = max(self._highest, _anonymous(self._number) or 0)

    @property
    def growth(self) -> float | None:
        """Return by how much the memory has grown at its peak."""
        if self._before is None or self._highest is None:
            return None
        return float(self._highest - self._before)


def _anonymous(number: int) -> int | None:
    """Return the anonymous memory of a process in bytes, where the system tells."""
    try:
        text = Path(f"/proc/{number}/status").read_text()
    except OSError:
        return None
    lines = [line for line in text.splitlines() if line.startswith("RssAnon:")]
    return int(lines[0].split()[1]) * 1024 if lines else None


def _serve(key: str, index: int, quick: bool) -> None:
    """Do what standard input asks for; failures are told, not raised."""
    channel = os.fdopen(os.dup(1), "w")
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)  # libraries may complain there

    def say(**what: object) -> None:
        print(json.dumps(what), file=channel, flush=True)

    try:
        for data_is_small in (True, quick):
            work = next(w for w in works(data_is_small) if w.key == key)
            side = work.sides[index]
            given = side.prepare(work.make())
            if data_is_small:
                side.run(given)
        _give_back()
        say(ready=True)
        answer = None
        for line in sys.stdin:
            what = line.strip()
            if what == "call":
                answer = None
                gc.collect()
                start = time.perf_counter()
                answer = side.run(given)
                say(seconds=time.perf_counter() - start)
            elif what == "remarks":
                say(remarks=peers.remarks())
            else:
                np.save(what, np.asarray(side.read(answer), np.float64))
                say(saved=what)
    except Exception as error:  # a peer that breaks is a line of the table, not the end of it
        say(failed=type(error).__name__)


def _give_back() -> None:
    """Return freed memory to the system, where the C library knows how."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), "--quick" in sys.argv)
