"""BLAS held to one thread while blocks are walked, on every platform and after a fork.

Threads over blocks and BLAS's own threads would fight for the same cores. So as long as a walk is under
way in any thread, each BLAS of the process (NumPy's and SciPy's may be two) runs one thread, and a
Python thread that waits for the interpreter gets its turn soon. Both are numbers of the process: all
walks share one count of holders, the first lowers them and the last gives them back, whichever threads
these are.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import ThreadpoolController

#: Seconds after which a thread that is busy in Python hands the interpreter to one that waits. A block
#: lets go of it at each of its steps, and by default waits 5 ms each time until it has it back.
TURN = 1e-4


class _Setting:
    """A number of the process that is low as long as anybody holds it, and then what it was before."""

    def __init__(self, read: Callable[[], Any], write: Callable[[Any], Any], low: float) -> None:
        self._read, self._write, self._low = read, write, low
        self._before = self._lowered = 0.0  #: what is read outside, and while it is held; 0 if it is not
        self._holders: set[int] = set()

    @property
    def outside(self) -> float:
        """Return what the number is where nobody holds it."""
        return self._before or float(self._read())

    def hold(self, holder: int) -> None:
        """Lower the number; where somebody has raised it since the first holder came, that counts."""
        self._holders.add(holder)
        value = self._read()
        if value > self._low:
            self._before = value
            self._write(self._low)
            self._lowered = self._read()

    def release(self, holder: int) -> None:
        """Give the number back after the last holder, unless somebody else has set it meanwhile."""
        self._holders.discard(holder)
        if not self._holders:
            self._give_back()

    def forget_holders(self) -> None:
        """Give the number back in a child process, where no holder is left."""
        self._holders.clear()
        self._give_back()

    def _give_back(self) -> None:
        if self._before and self._read() == self._lowered:
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
        # such a call is too short to let go of the interpreter, and has no fork in its midst
        library.dynlib = ctypes.PyDLL(library.filepath, handle=library.dynlib._handle)
        # since 3.8 the one that everybody may call has no effect if another thread has set a limit
        write = getattr(library, "_real_set_num_threads", library.set_num_threads)
        own = layer == "openmp" or library.internal_api == "mkl"
        found.append((_ThreadSetting if own else _Setting)(library.get_num_threads, write, 1))
    return found


_interval = _Setting(sys.getswitchinterval, _write_interval, TURN)
_blas: list[_Setting] | None = None
_lock = threading.RLock()  # of all settings; an RLock, as a lost `_Hold` may be collected anywhere


def _blas_settings() -> list[_Setting]:
    """Return the settings of the BLAS libraries, found once."""
    global _blas
    with _lock:
        if _blas is None:
            _blas = _libraries()
        return _blas


class _Hold:
    """A holder of settings; one that an interrupt loses before it has released them does so as it goes."""

    def __init__(self, settings: list[_Setting]) -> None:
        self._settings = settings
        with _lock:
            for setting in settings:
                setting.hold(id(self))

    def release(self) -> None:
        """Let go of the settings."""
        with _lock:
            for setting in self._settings:
                setting.release(id(self))

    __del__ = release


@contextmanager
def short_turns() -> Iterator[None]:
    """Hold the interpreter's switch interval to at most `TURN`, whichever other threads do the same."""
    hold = _Hold([_interval])
    try:
        yield
    finally:
        hold.release()


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold BLAS to one thread, and the switch interval as `short_turns`, for this thread and all others.

    Each thread that works enters it, as with some libraries a limit is that of a thread.
    """
    hold = _Hold([_interval, *_blas_settings()])
    try:
        yield
    finally:
        hold.release()


def threads() -> int | None:
    """Return how many threads BLAS may run outside of walks, or None if no BLAS is known to have any."""
    with _lock:
        return max((int(setting.outside) for setting in _blas_settings()), default=None)


def _in_child() -> None:
    """Give BLAS and the interpreter back what they had, as the threads that held them are not here."""
    global _lock
    _lock = threading.RLock()
    for setting in [_interval, *(_blas or [])]:
        setting.forget_holders()


if hasattr(os, "register_at_fork"):
    # no fork while a setting is half made
    os.register_at_fork(
        before=lambda: _lock.acquire(), after_in_parent=lambda: _lock.release(), after_in_child=_in_child
    )
