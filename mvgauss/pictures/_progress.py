"""A bar in the terminal, for what takes long."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
_WIDTH = 30


def shown(items: Iterable[T], label: str, total: int, show: bool) -> Iterator[T]:
    """Yield items, and show on the standard error how many there were."""
    done, drawn = 0, -1
    try:
        for item in items:
            yield item
            done += 1
            full = _WIDTH * done // total
            if show and (full > drawn or done == total):
                bar = "#" * full + "." * (_WIDTH - full)
                print(f"\r{label} [{bar}] {done}/{total}", end="", file=sys.stderr, flush=True)
                drawn = full
    finally:
        if show and done:
            print(file=sys.stderr)
