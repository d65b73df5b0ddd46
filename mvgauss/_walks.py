"""How the patches of a model are walked, and what stops a walk."""

from typing import NamedTuple

from mvgauss import _blocks


class OutOfRangeError(ArithmeticError):
    """A block has a NaN or an infinity, or numbers too large to square."""


class TooSmallError(OutOfRangeError):
    """A block has numbers that differ by too little to square the differences."""


class Walk(NamedTuple):
    """How blocks are walked: `n_jobs` and the text of a progress bar, see `_blocks`."""

    n_jobs: int | None = None
    progress: str | None = None


FREELY = Walk()


def least_patches(n: int, c: int) -> int:
    """Return the fewest patches in a block: neighbours share cache lines of a channel-first embedding.

    But matrices ``(n, C)`` too large for some dozens of them cost so much more that this does not matter.
    """
    return max(1, min(32, 2 * _blocks.BLOCK_BYTES // max(1, 8 * n * c)))
