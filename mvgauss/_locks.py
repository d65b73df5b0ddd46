"""Locks of single objects, which a forked child finds open and which refuse to wait for themselves."""

import os
import threading
from contextlib import AbstractContextManager
from typing import Any


class Lock:
    """A lock to copy, pickle and fork with: every copy and every child has its own, open one.

    A thread that holds it and asks again gets an error instead of a deadlock: a lazy array that calls
    back into the model that reads it.
    """

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        self._pid = os.getpid()
        self._lock: Any = threading.RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Lock, ()

    def free(self) -> AbstractContextManager[Any]:
        """Return what to enter. No line of Python runs while it is taken, where an interrupt might come."""
        if self._pid != os.getpid():  # a thread that held it was not copied by the fork
            self._renew()
        if self._lock._is_owned():
            raise RuntimeError(
                "this model is being changed: expected that call to end before the next one, got one from "
                "within it; an embedding that is read part by part may not fit the same model"
            )
        lock: AbstractContextManager[Any] = self._lock
        return lock
