"""How much anonymous memory a call needs at its peak, beside what was there before it.

Each call is made in a new process, which has done the same on small data first, so that imports and
the buffers of libraries do not count. Run as ``python -m benchmarks.memory WORK SIDE [--quick]``,
that process says when it is ready, makes the call when told to, and says when it is done; in between
its memory is read from outside. Only Linux tells anonymous memory.
"""

from __future__ import annotations

import ctypes
import gc
import math
import subprocess
import sys
import threading
import time
from pathlib import Path
from subprocess import DEVNULL, PIPE

from benchmarks.rows import Side, Work, works

ROOT = Path(__file__).parents[1]


def peak(work: Work, side: Side, quick: bool) -> float | None:
    """Return the peak of one side of a work in bytes, None where it cannot be told, NaN if it failed."""
    if _anonymous("self") is None:
        return None
    command = [sys.executable, "-m", "benchmarks.memory", work.key, str(work.sides.index(side))]
    command += ["--quick"] * quick
    with subprocess.Popen(command, cwd=ROOT, text=True, stdin=PIPE, stdout=PIPE, stderr=DEVNULL) as process:
        growth = _growth(process)
        process.communicate()
    return math.nan if process.returncode else growth * side.every


def _growth(process: subprocess.Popen[str]) -> float:
    """Return by how much the memory of a process grows from "ready" to "done"."""
    told, number = process.stdout, str(process.pid)
    assert told is not None
    assert process.stdin is not None
    if told.readline() != "ready\n":  # it has ended; its return code says that there is no answer
        return 0.0
    before = highest = _anonymous(number) or 0
    waiting = threading.Thread(target=told.readline)
    waiting.start()
    process.stdin.write("go\n")
    process.stdin.flush()
    while waiting.is_alive():
        highest = max(highest, _anonymous(number) or 0)
        time.sleep(0.0005)
    return float(highest - before)


def _anonymous(process: str) -> int | None:
    """Return the anonymous memory of a process in bytes, where the system tells."""
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return None
    lines = [line for line in text.splitlines() if line.startswith("RssAnon:")]
    return int(lines[0].split()[1]) * 1024 if lines else None


def _child(key: str, index: int, quick: bool) -> None:
    """Make one call when told to."""
    for data_is_small in (True, quick):
        work = next(w for w in works(data_is_small) if w.key == key)
        side = work.sides[index]
        given = side.prepare(work.make())
        if data_is_small:
            side.run(given)
    _give_back()
    print("ready", flush=True)
    sys.stdin.readline()
    answer = side.run(given)
    print("done", flush=True)
    sys.stdin.readline()
    del answer


def _give_back() -> None:
    """Return freed memory to the system, where the C library knows how."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return


if __name__ == "__main__":
    _child(sys.argv[1], int(sys.argv[2]), "--quick" in sys.argv)
