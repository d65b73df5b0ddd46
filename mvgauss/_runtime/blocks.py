"""A long stack is walked in blocks that fit in the caches, on threads, with a progress bar.

A *kernel* takes a slice of the stack and returns what belongs to it; `walk` returns the same for the whole
stack. Where the blocks begin does not depend on the number of threads, so no bit of the result does.
"""

import contextvars
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from mvgauss._arguments import Array, BadItem
from mvgauss._runtime import threads
from mvgauss._stack import Stack

P = TypeVar("P")
R = TypeVar("R")

BLOCK_BYTES = 4 << 20  #: memory that one block works on: some MB, so that it stays in the caches

#: The number of blocks is a multiple of this, so that two or four threads share them evenly. It does not
#: depend on the number of threads, since the last bits depend on where blocks begin.
SHARES = 4

#: The most threads of a `run` within this one: one, unless this one has a single part.
_most = contextvars.ContextVar("most threads", default=sys.maxsize)


def slices(length: int, item_bytes: int, *, least: int = 1, shares: int = 1) -> list[slice]:
    """Cut ``range(length)`` into slices of about `BLOCK_BYTES`, or about `least` items if that is more.

    Sizes differ by at most one item; of an empty range there is one slice. The number of several slices is
    a multiple of `shares`, unless that made them less than half as large.
    """
    count = max(1, -(-length // max(least, BLOCK_BYTES // max(1, item_bytes))))
    if count > 1:
        count = min(-(-count // shares) * shares, 2 * count, length)
    return [slice(a, b) for a, b in pairwise(length * i // count for i in range(count + 1))]


def run(
    task: Callable[[P], R], parts: Sequence[P], *, n_jobs: int | None = None, progress: str | None = None
) -> list[R]:
    """Return ``task(part)`` of each part, computed on threads, of which the caller is one.

    Parts are begun in order; where no thread can start, the caller does them all. A failure stops the run
    and comes through: parts that have begun are waited for, parts that have not are dropped. Of several
    failures an interrupt comes through, else that of the earliest part. Each thread works in a copy of the
    caller's context. Several parts hold BLAS to one thread; one part alone leaves BLAS, and runs within it,
    their threads. `progress` describes a bar.
    """
    most, several = _most.get(), len(parts) > 1
    if several or n_jobs is not None:
        most = min(most, threads.cpu_count(n_jobs))
    context = contextvars.copy_context()
    context.run(_most.set, 1 if several else most)
    context.run(np.seterr, all="ignore")
    left = deque(enumerate(parts))
    results: list[Any] = [None] * len(parts)
    failures: list[tuple[bool, int, BaseException]] = []
    helpers: list[threading.Thread] = []
    lock = threading.Lock()

    def work() -> None:
        number = -1
        try:
            while True:
                with lock:
                    if not left:
                        return
                    number, part = left.popleft()
                results[number] = task(part)
                with lock:
                    advance()
        except BaseException as error:  # raised below
            left.clear()
            failures.append((isinstance(error, Exception), number, error))

    def help() -> None:
        with threads.held(blas=several):
            work()

    if several:
        _keep_freed_memory()
    try:
        with _bar(len(parts), progress) as advance, threads.held(blas=several):
            try:
                # a thread that begins while the interpreter ends would be waited for without end
                for _ in range(1, 1 if sys.is_finalizing() else min(most, len(parts))):
                    helpers.append(threading.Thread(target=context.copy().run, args=(help,), name="mvgauss"))
                    try:
                        helpers[-1].start()
                    except RuntimeError:
                        helpers.pop()
                        break
                context.run(work)
                _join(helpers)
            finally:
                left.clear()
                _join(helpers)  # again, where an interrupt came meanwhile
        if failures:
            raise min(failures, key=lambda failure: failure[:2])[2]
        return results
    finally:
        failures.clear()  # or an error, its frames and this would hold each other


def _join(helpers: list[threading.Thread]) -> None:
    """Wait for threads to end."""
    for helper in helpers:
        for _ in range(100):
            try:
                helper.join()
                break
            except RuntimeError:  # its start was interrupted: it is about to begin, or never will
                time.sleep(1e-3)


def walk(
    kernel: Callable[[slice], R],
    length: int,
    item_bytes: int,
    *,
    least: int = 1,
    stack: tuple[int, ...] | None = None,
    n_jobs: int | None = None,
    progress: str | None = None,
) -> R:
    """Return what a kernel returns of each block, put together: arrays, `Stack`s, None, or tuples of these.

    Arrays of the result own their memory. Of bad items the first is refused, with its index in `stack`,
    whatever the blocks.
    """
    parts = slices(length, item_bytes, least=least, shares=SHARES)
    whole: list[R] = []
    lock = threading.Lock()

    def task(b: slice) -> None:
        try:
            part = kernel(b)
        except BadItem as error:
            shape = (length,) if stack is None else stack
            raise _first_bad(kernel, b, error).at(b.start, shape) from None
        if len(parts) == 1:
            whole.append(_map_arrays(part, lambda a: np.require(a, requirements=["C", "O"])))
            return
        with lock:
            if not whole:
                whole.append(_map_arrays(part, lambda a: np.empty((length, *a.shape[1:]), a.dtype)))
        for out, a in zip(_arrays(whole[0]), _arrays(part), strict=True):
            out[b] = a

    run(task, parts, n_jobs=n_jobs, progress=progress)
    return whole[0]


def _first_bad(kernel: Callable[[slice], object], b: slice, error: BadItem) -> BadItem:
    """Return the error of the first bad item of a block: one before it may be bad for another reason."""
    while error.item:
        try:
            kernel(slice(b.start, b.start + error.item))
        except BadItem as earlier:
            error = earlier
        else:
            break
    return error


def _arrays(part: Any) -> list[Array]:
    """Return the arrays of what a kernel returns."""
    if isinstance(part, tuple):
        return [a for p in part for a in _arrays(p)]
    if isinstance(part, Stack):
        return list(part.arrays().values())
    return [] if part is None else [part]


def _map_arrays(part: Any, function: Callable[[Array], Array]) -> Any:
    """Return the same objects with other arrays, `function` of each."""
    if isinstance(part, tuple):
        return tuple(_map_arrays(p, function) for p in part)
    if isinstance(part, Stack):
        return part.with_arrays({name: function(a) for name, a in part.arrays().items()})
    return None if part is None else function(part)


class _Gathered:
    """An array whose leading axes cannot be viewed as one: its blocks are copies."""

    def __init__(self, full: Array, stack: tuple[int, ...]) -> None:
        self._full, self._stack = full, stack

    def __getitem__(self, b: slice, /) -> Array:
        return self._full[np.unravel_index(np.arange(b.start, b.stop), self._stack)]


def flat(a: Array, core: int, stack: tuple[int, ...]) -> Any:
    """Return `a` broadcast over a stack that is one axis, to be indexed by slices; `core` axes stay.

    Its blocks are read-only views where there are such, else copies.
    """
    full = np.broadcast_to(a, (*stack, *a.shape[a.ndim - core :]))
    axes = [(n, s) for n, s in zip(stack, full.strides, strict=False) if n != 1]
    if any(s != n_next * s_next for (_, s), (n_next, s_next) in pairwise(axes)):
        return _Gathered(full, stack)
    shape = (math.prod(stack), *full.shape[len(stack) :])
    strides = (axes[-1][1] if axes else 0, *full.strides[len(stack) :])
    return np.lib.stride_tricks.as_strided(full, shape, strides, writeable=False)


@cache
def _keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next blocks instead of returning it each time.

    glibc takes the largest piece that a program ever freed, up to 32 MB, as what it will need again.
    Without one, some matrices that each block allocates and frees may cost more than their algebra. So
    a program that has walked once may keep some tens of MB for later.
    """
    with suppress(MemoryError):
        np.empty(31 << 20, np.uint8)  # freed at once, and never touched, so no memory is used


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
