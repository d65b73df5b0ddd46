"""Locks of single objects, which a forked child finds open and which refuse to wait for themselves."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Any, Self


class Lock:
    """A lock to copy, pickle and fork with: every copy and every child has its own, open one.

    A thread that holds it and asks again gets an error instead of a deadlock: a lazy array that calls
    back into the model that reads it.
    """

    def __init__(self) -> None:
        self._owner: int | None = None
        self._renew()

    def _renew(self) -> None:
        self._pid, self._owner, self._lock = os.getpid(), None, threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Lock, ()

    def __enter__(self) -> Self:
        if self._pid != os.getpid():  # a thread that held it was not copied by the fork
            self._renew()
        if self._owner == threading.get_ident():
            raise RuntimeError(
                "this model is being changed: expected that call to end before the next one, got one from "
                "within it; an embedding that is read part by part may not fit the same model"
            )
        self._lock.acquire()
        self._owner = threading.get_ident()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._owner = None
        self._lock.release()
