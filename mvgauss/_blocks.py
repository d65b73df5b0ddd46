"""How a long stack is walked: block size, threads, progress.

The engine knows nothing of what a task computes. It cuts ``range(length)`` into slices, runs a task
on each, on as many threads as asked for, and holds BLAS to one thread meanwhile, since threads over
blocks and BLAS's own threads would otherwise fight for the same cores.

A task writes its answer where it belongs (slices never overlap), so the answer does not depend on
the number of threads or on the order in which blocks finish.
"""

from __future__ import annotations

import contextvars
import math
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from mvgauss import _checks
from mvgauss._checks import Array

P = TypeVar("P")
T = TypeVar("T")

BLOCK_BYTES = 4 << 20  #: what one block works on: some MB, to stay in the caches beside others
PIECE_BYTES = 3 << 20  #: what one step of a block works on, where that pays: near a core's own cache

_PATIENCE = 5.0  #: seconds that a thread waits for an answer before its own


def slices(length: int, item_bytes: int, *, least: int = 1, size: int | None = None) -> list[slice]:
    """Cut ``range(length)`` into slices of about `size` bytes, or about `least` items if that is more.

    All are equal but the last: temporary arrays of one size are given the same memory again.
    """
    step = max(least, (BLOCK_BYTES if size is None else size) // max(1, item_bytes))
    count = max(1, -(-length // step))
    step = max(1, -(-length // count))
    return [slice(a, min(a + step, length)) for a in range(0, length, step)]


def pieces(length: int, item_bytes: int, *, least: int = 1) -> list[slice]:
    """Cut a block in the same way into pieces of about `PIECE_BYTES`."""
    return slices(length, item_bytes, least=least, size=PIECE_BYTES)


def cpu_count(n_jobs: int | None) -> int:
    """Return the number of threads that `n_jobs` stands for, as joblib counts them."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # not every system tells the affinity
        cpus = os.cpu_count() or 1
    if n_jobs is None:
        return cpus
    n_jobs = _checks.integer("n_jobs", n_jobs)
    if n_jobs == 0:
        _checks.refuse("n_jobs", "None, a positive count, or -1 for all CPUs", "0")
    return n_jobs if n_jobs > 0 else max(1, cpus + 1 + n_jobs)


#: Whether this context, whose threads are its caller and its workers, holds BLAS to one thread already.
_held = contextvars.ContextVar("holds BLAS to one thread", default=False)


class _OneBlasThread:
    """Holds BLAS to one thread while any walk is under way, and gives it back after the last.

    The limit is global to the process, so walks in several threads share one count of holders. It
    belongs to the thread that set it, so a thread of its own sets and restores it: the first
    holder and the last may be different ones.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._release = threading.Event()
        self._keeper: threading.Thread | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        if _held.get():
            yield
            return
        held = False
        try:
            with self._lock:
                if self._holders == 0:
                    self._start()
                self._holders += 1
                held = True
            # where this thread owns a limit already, only its own word counts
            with _controller().limit(limits=1, user_api="blas"):
                token = _held.set(True)
                try:
                    yield
                finally:
                    _held.reset(token)
        finally:
            if held:
                with self._lock:
                    self._holders -= 1
                    if self._holders == 0 and self._keeper is not None:
                        self._release.set()
                        self._keeper.join()

    def _start(self) -> None:
        """Start the thread that keeps the limit, and wait until it does."""
        kept, self._release = threading.Event(), threading.Event()

        def keep(release: threading.Event) -> None:
            try:
                with _controller().limit(limits=1, user_api="blas"):
                    kept.set()
                    release.wait()
            finally:
                kept.set()

        self._keeper = threading.Thread(target=keep, args=(self._release,), name="mvgauss-blas", daemon=True)
        try:
            self._keeper.start()
            kept.wait()
        except BaseException:  # an interrupt: nobody else would end the keeper
            self._release.set()
            raise


@cache
def _keep_freed_memory() -> None:
    """Have the C library keep what blocks free for the next ones, instead of giving it back each time.

    glibc takes the largest piece that a program ever freed, up to 32 MB, as what it will need again.
    Without one, some matrices that each block allocates and frees may cost more than their algebra. So
    a program that has walked once may keep some tens of MB for later.
    """
    with suppress(MemoryError):
        np.empty(31 << 20, np.uint8)  # freed at once, and never touched, so no memory is used


@cache
def _controller() -> ThreadpoolController:
    """Return what limits the BLAS libraries, which are loaded by now; to find them takes long."""
    return ThreadpoolController()


one_blas_thread = _OneBlasThread()


class _Buffers(dict[tuple[str, Any], Array]):
    """Scratch memory by name and dtype; whoever walks holds it, and with the walk it goes."""


class _Scratch(threading.local):
    """One set of buffers for each thread, only while it walks: new memory is dearer than old."""

    own: _Buffers | None = None  #: of a worker, until it ends
    current: Callable[[], _Buffers | None] = staticmethod(lambda: None)


_scratch = _Scratch()


def scratch(name: str, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return uninitialised memory for the running block, which may not outlive it.

    The blocks that a thread works on share it, by name; outside of a walk it is simply new.
    """
    buffers = _scratch.current()
    if buffers is None:
        return np.empty(shape, dtype)
    size = math.prod(shape)
    buffer = buffers.get((name, dtype))
    if buffer is None or buffer.size < size:
        buffer = buffers[name, dtype] = np.empty(size, dtype)
    return buffer[:size].reshape(shape)


def _scratch_memory() -> _Buffers:
    """Let this thread keep scratch memory from block to block, as long as the result is held."""
    buffers = _Buffers()
    _scratch.current = weakref.ref(buffers)
    return buffers


def _start_worker() -> None:
    """Let a new worker keep its scratch memory, and its BLAS to one thread, until it ends."""
    _scratch.own = _scratch_memory()
    _controller().limit(limits=1, user_api="blas")  # for a BLAS on OpenMP, whose limits are per thread


_inside = contextvars.ContextVar("inside a walk on threads", default=False)


def inside_walk() -> bool:
    """Return whether this is a block of a walk, so that a walk within starts no threads."""
    return _inside.get()


def _task_context() -> contextvars.Context:
    """Return the caller's context (with its np.errstate), in which a walk starts no threads."""
    context = contextvars.copy_context()
    context.run(_inside.set, True)
    return context


def _threads(parts: Sequence[object], n_jobs: int | None) -> int:
    """Return how many threads a walk takes; within another it takes none of its own."""
    return 1 if inside_walk() else max(1, min(cpu_count(n_jobs), len(parts)))


def run(
    task: Callable[[P], object],
    parts: Sequence[P],
    *,
    n_jobs: int | None = None,
    progress: str | None = None,
) -> None:
    """Call ``task(part)`` for each part, for what it writes.

    Parts are begun in order, whichever thread is free. A failure stops the walk and comes through: parts
    that have begun are waited for, parts that have not are dropped. Of several failures an interrupt
    comes through, else that of the first part.
    """
    threads = _threads(parts, n_jobs)
    # one part alone leaves BLAS its threads: they are what it has, and small ones start at once
    hold = one_blas_thread() if len(parts) > 1 else nullcontext()
    if len(parts) > 1:
        _keep_freed_memory()
    if threads == 1:
        with hold, _bar(len(parts), progress) as advance:
            context = contextvars.copy_context() if len(parts) == 1 != n_jobs else _task_context()
            for part in parts:
                context.run(task, part)
                advance()
        return
    left = deque(enumerate(parts))
    failed: list[tuple[bool, int, BaseException]] = []
    lock, all_there = threading.Lock(), threading.Event()

    def work() -> None:
        all_there.wait()  # one that begins earlier may keep the others from starting for long
        while True:
            try:
                number, part = left.popleft()
            except IndexError:
                return
            try:
                task(part)
                with lock:
                    advance()
            except BaseException as error:  # raised below
                failed.append((isinstance(error, Exception), number, error))
                left.clear()
                return

    others: list[Future[None]] = []
    try:
        with (
            hold,
            _bar(len(parts), progress) as advance,
            ThreadPoolExecutor(threads - 1, "mvgauss", _start_worker) as pool,
        ):
            try:
                others += [pool.submit(_task_context().run, work) for _ in range(threads - 1)]
                all_there.set()
                _task_context().run(work)  # who asks works too: one that waits has no CPU of its own
                while others:
                    others.pop().result()
            finally:
                left.clear()
                all_there.set()
        if failed:
            raise min(failed, key=lambda entry: entry[:2])[2]
    finally:
        # or an error, its frames and these would hold each other
        failed.clear()
        others.clear()


def in_order(
    task: Callable[[P], T],
    take: Callable[[T], object],
    parts: Sequence[P],
    *,
    n_jobs: int | None = None,
    progress: str | None = None,
) -> None:
    """Call ``take(task(part))`` for each part: answers are taken in order, one at a time.

    So what is made of them does not depend on the number of threads. An early answer is kept until
    those before it have come; a thread that is far ahead waits for them, though not for ever, as an
    interrupt may keep a thread from saying that it failed.
    """
    few = 2 * _threads(parts, n_jobs)
    turn = threading.Condition()
    early: dict[int, T] = {}
    taken, failed = 0, False

    def step(numbered: tuple[int, P]) -> None:
        nonlocal taken, failed
        number, part = numbered
        try:
            answer = task(part)
            with turn:
                turn.wait_for(lambda: failed or number <= taken + few, timeout=_PATIENCE)
                early[number] = answer
                while taken in early:
                    take(early.pop(taken))
                    taken += 1
                turn.notify_all()
        except BaseException:
            with turn:
                failed = True
                turn.notify_all()
            raise

    run(step, list(enumerate(parts)), n_jobs=n_jobs, progress=progress)


def over_stack(
    kernel: Callable[..., tuple[Array, ...]],
    stack: tuple[int, ...],
    operands: Iterable[tuple[Array, int]],
    outputs: Iterable[Array],
    *,
    into: Iterable[Array] = (),
    item_bytes: int,
    least: int = 1,
    n_jobs: int | None = None,
    progress: str | None = None,
) -> None:
    """Apply a kernel to a whole stack, block by block, and write its answers into `outputs`.

    Parameters
    ----------
    kernel : callable
        Takes one block of each operand, shape ``(block, *core)``, and of each array of `into`, which
        it writes; gives one of each output.
    stack : tuple of int
        The shape of the stack, to which the operands' leading axes broadcast.
    operands : iterable of (array, int)
        The operands, each with the number of its core axes.
    outputs, into : iterable of array
        Arrays of shape ``(*stack, *core)`` whose stack axes can be viewed as one.
    item_bytes : int
        What the kernel works on for one item of the stack.
    least : int, default 1
        The fewest items in a block, however large they are.
    n_jobs, progress
        As in `run`.
    """
    length = math.prod(stack)
    read = [_reader(a, core, stack) for a, core in operands]
    write = [_writer(out, len(stack)) for out in outputs]
    filled = [_writer(out, len(stack)) for out in into]

    def answers_of(part: slice) -> tuple[Array, ...]:
        return kernel(*(take(part) for take in read), *(out[part] for out in filled))

    def first_bad(error: _checks.BadItem, part: slice) -> _checks.BadItem:
        while error.item:  # an item before it may be refused for another reason
            try:
                answers_of(slice(part.start, part.start + error.item))
            except _checks.BadItem as earlier:
                error = earlier
            else:
                break
        return error

    def task(part: slice) -> None:
        try:
            answers = answers_of(part)
        except _checks.BadItem as error:
            raise first_bad(error, part).at(part.start, stack) from None
        for out, answer in zip(write, answers, strict=True):
            out[part] = answer

    memory = _scratch_memory()  # for a walk in this thread
    run(task, slices(length, item_bytes, least=least), n_jobs=n_jobs, progress=progress)
    del memory


def over_rows(kernel: Callable[[slice], tuple[Array, ...]], length: int, row_bytes: int) -> tuple[Array, ...]:
    """Return what a kernel makes of runs of rows, ``(block, rows, ...)``, put together again."""
    runs = slices(length, row_bytes)
    if len(runs) <= 1:
        return kernel(slice(0, length))
    parts: list[tuple[Array, ...]] = []
    in_order(kernel, parts.append, runs)
    return tuple(np.concatenate(answers, axis=1) for answers in zip(*parts, strict=True))


def _reader(a: Array, core: int, stack: tuple[int, ...]) -> Callable[[slice], Array]:
    """Return what takes a flat range of a broadcast stack from `a`: a view where there is one."""
    full = np.broadcast_to(a, (*stack, *a.shape[a.ndim - core :]))
    if len(stack) == 1:
        return lambda part: full[part]
    flat = collapsed(full, len(stack))
    if flat is not None:
        return lambda part: flat[part]
    return lambda part: full[np.unravel_index(np.arange(part.start, part.stop), stack)]


def _writer(out: Array, axes: int) -> Array:
    """View the leading axes of a result as one."""
    flat = collapsed(out, axes, writeable=True)
    assert flat is not None
    return flat


def collapsed(a: Array, axes: int, *, writeable: bool = False) -> Array | None:
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
