"""How the blocks of a long stack are processed: block size, threads, progress.

This module does not know what a task computes. It cuts ``range(length)`` into slices and calls a task
with each, on as many threads as asked for, while BLAS is held to one. A task writes its answer where it
belongs (slices never overlap), so the answer does not depend on the number of threads or on the order
in which blocks finish.
"""

import contextvars
import math
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar

import numpy as np

from mvgauss import _blas, _arguments
from mvgauss._arguments import Array

P = TypeVar("P")

BLOCK_BYTES = 4 << 20  #: memory that one block uses: some MB, so that it stays in the caches

#: Several blocks are shared evenly among so many threads or half as many. How many there are must not
#: move a block: the last bits depend on it.
SHARES = 4

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")  #: which of the control groups are this process's


def slices(length: int, item_bytes: int, *, least: int = 1, shares: int = 1) -> list[slice]:
    """Cut ``range(length)`` into slices of about `BLOCK_BYTES`, or about `least` items if that is more.

    Sizes differ by at most one item. The number of several slices is a multiple of `shares`, unless that
    made them less than half as large.
    """
    count = -(-length // max(least, BLOCK_BYTES // max(1, item_bytes)))
    if count > 1:
        count = min(-(-count // shares) * shares, 2 * count, length)
    ends = [length * i // count for i in range(1, count + 1)]
    return [slice(a, b) for a, b in pairwise([0, *ends])]


def cpu_count(n_jobs: int | None) -> int:
    """Return the number of threads that `n_jobs` stands for, as joblib counts them.

    None is all CPUs too, but no more threads than BLAS may run: where joblib, Dask, the user or another
    library limits these, each of several workers is meant to take its share.
    """
    if n_jobs is None:
        return min(_cpus(), _blas.threads() or sys.maxsize)
    n_jobs = _arguments.integer("n_jobs", n_jobs)
    if n_jobs == 0:
        _arguments.raise_error("n_jobs", "None, a positive count, or -1 for all CPUs", "0")
    return n_jobs if n_jobs > 0 else max(1, _cpus() + 1 + n_jobs)


def _cpus() -> int:
    """Return how many CPUs this process may use: joblib's count, which would take long to import."""
    counts = [os.cpu_count() or 1, _quota()]
    if hasattr(os, "sched_getaffinity"):
        counts.append(len(os.sched_getaffinity(0)))
    for name in ("PYTHON_CPU_COUNT", "LOKY_MAX_CPU_COUNT"):
        value = os.environ.get(name, "")
        counts += [int(value)] if value.isdecimal() else []
    return max(1, min(counts))


@cache
def _quota() -> int:
    """Return the CPUs whose time the control groups of this process leave it, a part of one being one."""
    least = sys.maxsize
    with suppress(OSError):
        for line in _MEMBERSHIP.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            version_1 = "cpu" if controllers else ""
            group = PurePosixPath(path)
            for ancestor in (group, *group.parents):  # of which a container sees the last only
                folder = _CGROUPS / version_1 / str(ancestor).lstrip("/")
                with suppress(OSError, ValueError):
                    names = ["cpu.cfs_quota_us", "cpu.cfs_period_us"] if version_1 else ["cpu.max"]
                    quota, period = map(int, " ".join((folder / n).read_text() for n in names).split())
                    least = min(least, -(-quota // period)) if quota > 0 else least
    return least


#: The most threads of a walk within this one: one, unless this one has a single part.
_most = contextvars.ContextVar("most threads of a walk", default=sys.maxsize)


def walk(
    task: Callable[[P], object],
    parts: Sequence[P],
    *,
    n_jobs: int | None = None,
    progress: str | None = None,
) -> None:
    """Call ``task(part)`` for each part; a task writes its results.

    Parts are begun in order, by the caller and by threads, whichever is free; where no thread can start,
    the caller does them all. A failure stops the walk and comes through: parts that have begun are waited
    for, parts that have not are dropped. Of several failures an interrupt comes through, else that of the
    earliest part. Each thread works in a copy of the caller's context (with its ``np.errstate``).

    Several parts hold BLAS to one thread; one part alone leaves BLAS, and walks within it, their threads.
    """
    most, several = _most.get(), len(parts) > 1
    if several or n_jobs is not None:
        most = min(most, cpu_count(n_jobs))
    hold = _blas.one_thread if several else _blas.short_turns
    context = contextvars.copy_context()
    context.run(_most.set, 1 if several else most)
    left = deque(enumerate(parts))
    failed: list[tuple[bool, int, BaseException]] = []
    threads: list[threading.Thread] = []
    lock = threading.Lock()
    if several:
        _keep_freed_memory()

    def work() -> None:
        number = -1
        try:
            with hold():
                while True:
                    with lock:
                        if not left:
                            return
                        number, part = left.popleft()
                    with _blas.block():
                        task(part)
                    with lock:
                        advance()
        except BaseException as error:  # raised below
            failed.append((isinstance(error, Exception), number, error))
            left.clear()

    def wait() -> None:
        for thread in threads:
            if thread.ident is not None:  # or it has not begun, and will find nothing left
                thread.join()

    try:
        with _bar(len(parts), progress) as advance, hold():
            try:
                # a thread that begins while the interpreter ends would be waited for without end
                for _ in range(1, 1 if sys.is_finalizing() else min(most, len(parts))):
                    threads.append(threading.Thread(target=context.copy().run, args=(work,), name="mvgauss"))
                    try:
                        threads[-1].start()
                    except RuntimeError:
                        break
                context.run(work)
                wait()
            finally:
                left.clear()
                wait()  # again, where an interrupt came while waiting
        if failed:
            raise min(failed, key=lambda entry: entry[:2])[2]
    finally:
        failed.clear()  # or an error, its frames and this would hold each other


@cache
def _keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next blocks instead of returning it each time.

    glibc takes the largest piece that a program ever freed, up to 32 MB, as what it will need again.
    Without one, some matrices that each block allocates and frees may cost more than their algebra. So
    a program that has walked once may keep some tens of MB for later.
    """
    with suppress(MemoryError):
        np.empty(31 << 20, np.uint8)  # freed at once, and never touched, so no memory is used


def walk_stack(
    task: Callable[[slice], object],
    stack: tuple[int, ...],
    *,
    item_bytes: int,
    least: int = 1,
    n_jobs: int | None = None,
    progress: str | None = None,
) -> None:
    """Call ``task(part)`` for flat slices of a stack, whose items work on `item_bytes` each.

    Of bad items the first one is refused, with its index in the stack, whatever the blocks.
    """

    def named(part: slice) -> None:
        try:
            task(part)
        except _arguments.BadItem as error:
            raise _first_bad(task, part, error).at(part.start, stack) from None

    parts = slices(math.prod(stack), item_bytes, least=least, shares=SHARES)
    walk(named, parts, n_jobs=n_jobs, progress=progress)


def _first_bad(task: Callable[[slice], object], part: slice, error: _arguments.BadItem) -> _arguments.BadItem:
    """Return the error of the first bad item of a part: one before it may be bad for another reason."""
    while error.item:
        try:
            task(slice(part.start, part.start + error.item))
        except _arguments.BadItem as earlier:
            error = earlier
        else:
            break
    return error


class Flat(Protocol):
    """What a slice of a flat stack is taken from."""

    def __getitem__(self, part: slice, /) -> Array: ...


class _Gathered:
    """An array whose leading axes cannot be viewed as one: its blocks are copies."""

    def __init__(self, full: Array, stack: tuple[int, ...]) -> None:
        self._full, self._stack = full, stack

    def __getitem__(self, part: slice, /) -> Array:
        return self._full[np.unravel_index(np.arange(part.start, part.stop), self._stack)]


def flat(a: Array, core: int, stack: tuple[int, ...]) -> Flat:
    """Return `a` broadcast over a stack, to be indexed by slices of the flat stack; `core` axes stay.

    Its blocks are read-only views where there are such, else copies.
    """
    full = np.broadcast_to(a, (*stack, *a.shape[a.ndim - core :]))
    view = _collapsed(full, len(stack), writeable=False)
    return _Gathered(full, stack) if view is None else view


def flat_output(out: Array, axes: int) -> Array:
    """View the leading axes of a result as one, to be written to."""
    view = _collapsed(out, axes, writeable=True)
    assert view is not None, "the stack axes of a result can be viewed as one"
    return view


def _collapsed(a: Array, axes: int, *, writeable: bool) -> Array | None:
    """View the leading `axes` of `a` as one axis, or return None where that would take a copy."""
    long = [(n, s) for n, s in zip(a.shape[:axes], a.strides[:axes], strict=True) if n != 1]
    if any(s != n_next * s_next for (_, s), (n_next, s_next) in pairwise(long)):
        return None
    shape = (math.prod(a.shape[:axes]), *a.shape[axes:])
    strides = (long[-1][1] if long else 0, *a.strides[axes:])
    return np.lib.stride_tricks.as_strided(a, shape, strides, writeable=writeable)


@contextmanager
def _bar(total: int, description: str | None) -> Iterator[Callable[[], object]]:
    """Give what moves a progress bar one block on; without a description there is no bar."""
    if description is None:
        yield lambda: None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError(
            "progress=True: expected the package tqdm, got none; pip install 'mvgauss[progress]'"
        ) from error
    with tqdm(total=total, desc=description, unit="block") as bar:
        yield bar.update
