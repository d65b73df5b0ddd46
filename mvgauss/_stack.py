"""What moments and precisions have in common: they are stacks, and blocks of them are taken by an index."""

import copy
from typing import Any, Self

import numpy as np

from mvgauss._arguments import Array


class Stack:
    """An object whose arrays all have the stack as their first axis; an index takes a block of each."""

    def arrays(self) -> dict[str, Array]:
        """Return the arrays by name."""
        return {name: a for name, a in vars(self).items() if isinstance(a, np.ndarray)}

    def with_arrays(self, arrays: dict[str, Array]) -> Self:
        """Return the same object with other arrays."""
        new = copy.copy(self)
        vars(new).update(arrays)
        return new

    def __getitem__(self, block: Any) -> Self:
        return self.with_arrays({name: a[block] for name, a in self.arrays().items()})
