"""A process for each side of a row, which answers when told to and says how long it took.

In one process the sides would leave each other memory in pieces, and threads that still spin. Each process
makes the data itself, after the same on small data, so that imports and the buffers of libraries do not
count. It computes once for each line of its input, and writes pickles of (failure, value): where its mvgauss
is, then the seconds of each call, after those of the first also the answer and the model's share of memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import pickle
import select
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import mvgauss
from benchmarks.rows import Row, rows

ROOT = Path(__file__).resolve().parents[1]

#: Imports mvgauss of one checkout, and the benchmark of this one.
START = (
    "import sys; checkout, root, *rest = sys.argv[1:]; sys.path.insert(0, checkout); import mvgauss; "
    "sys.path.insert(0, root); from benchmarks import process; process.serve(*rest)"
)

PAUSE = 0.2  #: seconds before a call: threads of OpenBLAS spin for a tenth of a second after the one before
INTERVAL = 0.002  #: seconds between two readings of the memory of a process


class FailedError(Exception):
    """A side did not answer."""


class Process:
    """One side, in a process of its own, with mvgauss of this checkout or another."""

    def __init__(self, row: Row, side: int, quick: bool, checkout: Path = ROOT) -> None:
        checkout = checkout.resolve()
        command = [sys.executable, "-c", START, str(checkout), str(ROOT), row.key, f"{side}", f"{quick:d}"]
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        self._process = subprocess.Popen(command, cwd=checkout, stdin=pipe, stdout=pipe, stderr=null)
        self._checkout, self._status = checkout, Path(f"/proc/{self._process.pid}/status")

    def ready(self) -> None:
        """Wait until it has its data; raise FailedError if its mvgauss is not that of another checkout."""
        file = self.said()
        if self._checkout not in (ROOT, *Path(file).parents):
            raise FailedError(f"mvgauss is imported from {file}")

    def call(self, watched: bool = False) -> tuple[float, float]:
        """Let it compute; return its seconds and, where `watched` on Linux, by how many bytes memory grew."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        time.sleep(PAUSE)
        memory = [self._anonymous()] if watched else [0]
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        while watched and not select.select([self._process.stdout], [], [], INTERVAL)[0]:
            memory.append(self._anonymous())
        return float(self.said()), float(max(memory) - memory[0])

    def said(self) -> Any:
        """Return what it says next; raise FailedError if it failed or ended."""
        assert self._process.stdout is not None
        try:
            failure, value = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError):
            raise FailedError("the process ended") from None
        if failure:
            raise FailedError(failure)
        return value

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def _anonymous(self) -> int:
        """Return its anonymous memory in bytes, on Linux."""
        words = self._status.read_text().partition("RssAnon:")[2].split()  # none if it has ended
        return int(words[0]) * 1024 if words else 0


def serve(key: str, index: str, quick: str) -> None:
    """Do what standard input asks for; failures are told, not raised."""
    channel = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)  # libraries may complain there
    warnings.simplefilter("ignore")

    def say(failure: str, value: Any = None) -> None:
        pickle.dump((failure, value), channel)
        channel.flush()

    try:
        for small in (True, bool(int(quick))):
            row = next(row for row in rows(small) if row.key == key)
            side = row.sides[int(index)]
            given = side.prepare(row.make())
            if small:
                side.run(given)
        gc.collect()
        with contextlib.suppress(AttributeError, OSError, TypeError):  # only some C libraries have it
            ctypes.CDLL(None).malloc_trim(0)
        say("", str(Path(mvgauss.__file__).resolve()))
        result, first = None, True
        for _ in sys.stdin:
            result = None
            gc.collect()
            start = time.perf_counter()
            result = side.run(given)
            say("", time.perf_counter() - start)
            if first:
                share = row.share(result) if row.share and index == "0" else None
                say("", (np.asarray(side.read(result), np.float64), share))
            first = False
    except Exception as error:  # a peer that breaks is a line of the table, not the end of it
        say(type(error).__name__)
