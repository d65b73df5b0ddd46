"""temporary"""

import math, threading, contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any
import numpy as np
from mvgauss import _arguments
from mvgauss._arguments import Array, BadItem
from mvgauss._runtime import threads
from mvgauss._stack import Stack

BLOCK_BYTES = 4 << 20
SHARES = 4
_inside = threading.local()


def slices(length, item_bytes, *, least=1, shares=1):
    count = -(-length // max(least, BLOCK_BYTES // max(1, item_bytes)))
    if count > 1:
        count = min(-(-count // shares) * shares, 2 * count, length)
    return [slice(a, b) for a, b in pairwise(length * i // count for i in range(count + 1))] if count else []


def run(task, parts, *, n_jobs=None, progress=None):
    def quiet(part):
        before = getattr(_inside, "on", False)
        _inside.on = before or len(parts) > 1
        try:
            with np.errstate(all="ignore"):
                return task(part)
        finally:
            _inside.on = before

    if len(parts) <= 1 or getattr(_inside, "on", False):
        return [quiet(p) for p in parts]
    count = min(threads.cpu_count(n_jobs), len(parts))
    with threads.held():
        if count == 1:
            return [quiet(p) for p in parts]
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(quiet, parts))


def walk(kernel, length, item_bytes, *, least=1, n_jobs=None, progress=None, stack=None):
    parts = slices(length, item_bytes, least=least, shares=SHARES) or [slice(0, 0)]

    def named(b):
        try:
            return kernel(b)
        except BadItem as error:
            raise error.at(b.start, stack) from None

    if len(parts) == 1:
        return run(named, parts, n_jobs=n_jobs)[0]
    whole = []
    lock = threading.Lock()

    def task(b):
        part = named(b)
        with lock:
            if not whole:
                whole.append(_room(part, length, {}))
        _write(whole[0], b, part, set())

    run(task, parts, n_jobs=n_jobs)
    return whole[0]


def flat(a, core, stack):
    full = np.broadcast_to(a, (*stack, *a.shape[a.ndim - core :]))
    try:
        return full.reshape((math.prod(stack), *full.shape[len(stack) :]), copy=False)
    except ValueError:
        return _Gathered(full, stack)


class _Gathered:
    def __init__(self, full, stack):
        self._full, self._stack = full, stack

    def __getitem__(self, b):
        return self._full[np.unravel_index(np.arange(b.start, b.stop), self._stack)]


def _room(part, length, made):
    if isinstance(part, tuple):
        return tuple(_room(p, length, made) for p in part)
    if isinstance(part, Stack):
        return part.with_arrays({n: _room(a, length, made) for n, a in part.arrays().items()})
    if part is not None and id(part) not in made:
        made[id(part)] = np.empty((length, *part.shape[1:]), part.dtype)
    return made.get(id(part))


def _write(room, b, part, done):
    if isinstance(part, tuple):
        for r, p in zip(room, part, strict=True):
            _write(r, b, p, done)
    elif isinstance(part, Stack):
        for name, a in part.arrays().items():
            _write(getattr(room, name), b, a, done)
    elif part is not None and id(room) not in done:
        room[b] = part
        done.add(id(room))
