"""BLAS limited to one thread while blocks are walked, on every platform and after a fork.

Threads over blocks and BLAS's own threads would compete for the same cores. So during a walk in any
thread, each BLAS of the process (NumPy's and SciPy's may be two) runs one thread, and the switch interval
of Python threads is short. Both settings are global to the process: all walks share one count of holders,
the first one lowers the settings and the last one restores them, whichever threads these are.
"""

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import get_ident
from typing import Any
from weakref import ref

from threadpoolctl import ThreadpoolController

#: Seconds after which a thread that runs Python code passes the interpreter lock to a waiting one. A block
#: releases the lock at each of its steps, and by default waits up to 5 ms each time to acquire it again.
TURN = 2e-5

#: Where a thread has waited for longer than so many seconds, others may be busy in the interpreter.
SHARED = 1e-4

#: Whether the system tells how long a thread has worked, in steps that are short enough.
_WORK_IS_KNOWN = hasattr(time, "thread_time") and time.get_clock_info("thread_time").resolution < SHARED

#: Seconds for which a fork waits for the blocks of other threads, which take some ms.
PATIENCE = 1.0


class _Holder:
    """Who holds a setting; one that an interrupt loses before it has released it does so as it goes."""


class _Setting:
    """A number of the process that is low as long as anybody holds it, and then what it was before."""

    def __init__(self, read: Callable[[], Any], write: Callable[[Any], Any], low: float) -> None:
        self._read, self._write, self._low = read, write, low
        self._before = 0.0  #: what it was, or 0 if it is not lowered
        self._holders: set[ref[_Holder]] = set()

    @property
    def outside(self) -> float:
        """Return what the number is where nobody holds it."""
        return self._before or float(self._read())

    @property
    def held_by_one(self) -> bool:
        """Whether the number is about to be given back."""
        return len(self._holders) == 1

    def hold(self, holder: _Holder) -> None:
        """Lower the number for the first holder; who raises it later means it."""
        first = not self._holders
        self._holders.add(ref(holder, self.release))
        value = self._read()
        if first and value > self._low:
            self._before = value
            self._write(self._low)

    def release(self, holder: ref[_Holder]) -> None:
        """Give the number back after the last holder, unless somebody else has raised it meanwhile."""
        with _lock:
            if self._holders <= {holder}:
                self._give_back()
            self._holders.discard(holder)

    def forget_holders(self) -> None:
        """Give the number back in a child process, where no holder is left."""
        self._holders.clear()
        self._give_back()

    def _give_back(self) -> None:
        if self._before and self._read() <= self._low:
            self._write(self._before)
        self._before = 0.0


class _ThreadSetting(_Setting, threading.local):
    """Such a number of which each thread has its own: that of a BLAS on OpenMP, and of MKL."""


def _write_interval(seconds: float) -> None:
    """Set the switch interval; what is cut off are parts of a microsecond, and of what was read."""
    sys.setswitchinterval(seconds + 5e-7)


def _libraries() -> list[_Setting]:
    """Return the numbers of threads of the BLAS libraries, which are loaded by now; to find them takes ms."""
    found: list[_Setting] = []
    for library in ThreadpoolController().select(user_api="blas").lib_controllers:
        layer = getattr(library, "threading_layer", None)
        if layer == "disabled":
            continue
        # such a call is too short to release the interpreter lock, so that no fork can happen during it
        library.dynlib = ctypes.PyDLL(library.filepath, handle=library.dynlib._handle)
        # since 3.8 the one that everybody may call has no effect if another thread has set a limit
        write = getattr(library, "_real_set_num_threads", library.set_num_threads)
        own = layer == "openmp" or library.internal_api == "mkl"
        found.append((_ThreadSetting if own else _Setting)(library.get_num_threads, write, 1))
    return found


class _UnderWay:
    """The blocks that threads are working on: a fork waits for them, and new ones wait for a fork.

    A child process has a copy of every lock but only the thread that forked. OpenBLAS takes a lock of its
    own for a moment in most calls, and a child that got it taken would wait for it without end.
    """

    def __init__(self) -> None:
        self._begun: dict[ref[_Holder], int] = {}  #: the thread of each
        self._forking: set[int] = set()  #: threads

    def hold(self, holder: _Holder) -> None:
        """Begin a block; one within another, which a fork may be waiting for, does not wait itself."""
        thread = get_ident()
        _changed.wait_for(lambda: not self._forking or thread in self._begun.values())
        self._begun[ref(holder, self.release)] = thread

    def release(self, holder: ref[_Holder]) -> None:
        """End a block."""
        with _lock:
            if self._begun.pop(holder, None) and self._forking:
                _changed.notify_all()

    def before_fork(self) -> None:
        """Wait for the blocks of threads that do not fork, though not without end: one may wait for us."""
        self._forking.add(get_ident())
        _changed.wait_for(lambda: self._forking.issuperset(self._begun.values()), timeout=PATIENCE)

    def after_fork(self) -> None:
        """Let blocks begin again."""
        self._forking.discard(get_ident())
        _changed.notify_all()


#: Held while any of what follows changes, and during a fork. The thread that has it may take it again, as a
#: lost `_Holder` may be collected anywhere. (No interrupt comes between a block and the end of its lock,
#: as it might with a `Condition`, which is written in Python.)
_lock = threading.RLock()
_changed = threading.Condition(_lock)
_interval = _Setting(sys.getswitchinterval, _write_interval, TURN)
_under_way = _UnderWay()
_found: list[_Setting] | None = None


def _blas_settings() -> list[_Setting]:
    """Return the settings of the BLAS libraries, found once."""
    global _found
    with _lock:
        if _found is None:
            _found = _libraries()
        return _found


@contextmanager
def _held(settings: Iterable[_Setting | _UnderWay]) -> Iterator[None]:
    """Hold settings."""
    holder = _Holder()
    try:
        with _lock:
            for setting in settings:
                setting.hold(holder)
        yield
    finally:
        for setting in settings:
            setting.release(ref(holder))


def _waited() -> float:
    """Return for how many seconds this thread has not worked, since some time."""
    return time.perf_counter() - time.thread_time() if _WORK_IS_KNOWN else 0.0


@contextmanager
def _turns(settings: list[_Setting]) -> Iterator[None]:
    """Hold settings, of which one is the switch interval."""
    begun = _waited()
    with _held(settings):
        yield
        if _interval.held_by_one and _waited() - begun > SHARED:
            # Who began to wait for the interpreter's lock while turns were short asks for it after a short
            # turn, and the caller, once it has its answer and turns are long again, would get it back
            # after a long one. As the lock changes hands, all begin to wait anew.
            time.sleep(TURN)


def short_turns() -> AbstractContextManager[None]:
    """Hold the interpreter's switch interval to at most `TURN`, whichever other threads do the same."""
    return _turns([_interval])


def one_thread() -> AbstractContextManager[None]:
    """Hold BLAS to one thread, and the switch interval as `short_turns`, for this thread and all others.

    Each thread that works enters it, as with some libraries a limit is that of a thread.
    """
    return _turns([_interval, *_blas_settings()])


def block() -> AbstractContextManager[None]:
    """Work on a block: a fork by another thread waits until it ends."""
    return _held([_under_way])


def threads() -> int | None:
    """Return how many threads BLAS may run outside of walks, or None if no BLAS is known to have any."""
    with _lock:
        return max((int(setting.outside) for setting in _blas_settings()), default=None)


def _before_fork() -> None:
    _lock.acquire()
    _under_way.before_fork()


def _in_parent() -> None:
    _under_way.after_fork()
    _lock.release()


def _in_child() -> None:
    """Give BLAS and the interpreter back what they had: the threads that held them are not here."""
    global _lock, _changed, _under_way
    _lock = threading.RLock()
    _changed, _under_way = threading.Condition(_lock), _UnderWay()
    for setting in [_interval, *(_found or [])]:
        setting.forget_holders()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
