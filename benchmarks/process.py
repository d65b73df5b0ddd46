"""A process for each side of a row, which answers when told to and says how long it took.

In one process the sides would leave each other memory in pieces, and threads that still spin. Each process
makes the data itself, after the same on small data, so that imports and the buffers of libraries do not
count. It reads what to do, a line for each, and writes what came of it, as JSON.
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
import warnings
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import numpy as np

import mvgauss
from benchmarks.agreement import Array
from benchmarks.rows import Row, rows

ROOT = Path(__file__).resolve().parents[1]

#: Imports mvgauss of one checkout, and the benchmark of this one.
START = (
    "import sys; checkout, root, *rest = sys.argv[1:]; sys.path.insert(0, checkout); import mvgauss; "
    "sys.path.insert(0, root); from benchmarks import process; process.serve(*rest)"
)

#: Seconds before a call: the threads of OpenBLAS spin for a tenth of a second after the one before.
PAUSE = 0.2

#: Seconds after which a process that says nothing is given up.
PATIENCE = 240.0

#: Seconds between two readings of the memory of a process.
INTERVAL = 0.002


class FailedError(Exception):
    """A side did not answer."""


class Process:
    """One side, in a process of its own, with mvgauss of this checkout or another."""

    def __init__(self, row: Row, side: int, quick: bool, checkout: Path = ROOT) -> None:
        command = [sys.executable, "-c", START, checkout, ROOT, row.key, str(side), str(int(quick))]
        self._checkout = checkout
        self._process = subprocess.Popen(
            command, cwd=checkout, text=True, stdin=PIPE, stdout=PIPE, stderr=DEVNULL
        )

    def ready(self) -> None:
        """Wait until it has its data; raise FailedError if its mvgauss is not that of the checkout."""
        file = self.wait()["mvgauss"]
        if self._checkout not in Path(file).parents:
            raise FailedError(f"mvgauss is imported from {file}")

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
        """Let it compute, and return how long that took."""
        time.sleep(PAUSE)
        return float(self._ask("call")["seconds"])

    def watched_call(self) -> tuple[float, float | None]:
        """Do the same, and return by how many bytes its anonymous memory grew at its peak, on Linux."""
        before = highest = _anonymous(self._process.pid)
        over = threading.Event()

        def watch() -> None:
            nonlocal highest
            while highest is not None and not over.wait(INTERVAL):
                highest = max(highest, _anonymous(self._process.pid) or 0)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            seconds = self.call()
        finally:
            over.set()
            watcher.join()
        return seconds, None if before is None or highest is None else float(highest - before)

    def answer(self, file: Path) -> tuple[Array, int | None]:
        """Return the last answer, which is put into a file, and the bytes of the model."""
        kept = self._ask(str(file))["kept"]
        return np.asarray(np.load(file, mmap_mode="r")), kept

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, task: str) -> dict[str, Any]:
        """Tell it what to do, and return what it says."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{task}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise FailedError("the process ended") from None
        return self.wait()


def _anonymous(number: int) -> int | None:
    """Return the anonymous memory of a process in bytes, where the system tells."""
    try:
        text = Path(f"/proc/{number}/status").read_text()
    except OSError:
        return None
    lines = [line for line in text.splitlines() if line.startswith("RssAnon:")]
    return int(lines[0].split()[1]) * 1024 if lines else None


def serve(key: str, index: str, quick: str) -> None:
    """Do what standard input asks for; failures are told, not raised."""
    channel = os.fdopen(os.dup(1), "w")
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)  # libraries may complain there
    warnings.simplefilter("ignore")

    def say(**values: object) -> None:
        print(json.dumps(values), file=channel, flush=True)

    try:
        for small in (True, bool(int(quick))):
            row = next(row for row in rows(small) if row.key == key)
            side = row.sides[int(index)]
            given = side.prepare(row.make())
            if small:
                side.run(given)
        _give_back()
        say(mvgauss=str(Path(mvgauss.__file__).resolve()))
        result = None
        for line in sys.stdin:
            if line.strip() == "call":
                result = None
                gc.collect()
                start = time.perf_counter()
                result = side.run(given)
                say(seconds=time.perf_counter() - start)
            else:
                kept = row.kept(result) if row.kept and index == "0" else None
                np.save(line.strip(), np.asarray(side.read(result), np.float64))
                say(kept=kept)
    except Exception as error:  # a peer that breaks is a line of the table, not the end of it
        say(failed=type(error).__name__)


def _give_back() -> None:
    """Return freed memory to the system, where the C library knows how."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return
