"""An embedding of pictures, seen as a stack of samples: the axes are moved once, on a view.

Axis 0 is samples, `feature_axis` is features, all other axes are the grid of patches. What NumPy can
view is one part; what can only be indexed (an HDF5 dataset, a Zarr array) is read in parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

from mvgauss import _checks
from mvgauss._checks import Array

#: How much of an array on disk is read at once. Every part is merged into the whole state, so that
#: parts much smaller than the state would cost more to merge than to read.
PART_BYTES = 32 << 20


class Embedding:
    """An embedding of N samples, C features and a grid of P patches."""

    def __init__(self, value: object, feature_axis: object, name: str = "embedding") -> None:
        self.name = name
        self.lazy = _indexable(value)
        self.value: Any = value
        if not self.lazy:
            self.value = _checks.array(name, value)
        self.shape = tuple(int(n) for n in self.value.shape)
        self.dtype = np.dtype(self.value.dtype)
        _checks.real(name, self.dtype)
        if self.dtype.kind not in "biuf":
            _checks.refuse(name, "an array of real numbers", f"dtype {self.dtype}", TypeError)
        ndim = len(self.shape)
        axis = _checks.integer("feature_axis", feature_axis)
        if ndim < 2 or 0 in self.shape:
            got, wanted = f"shape {self.shape}", f"a non-empty array (N, C, *grid), features C on axis {axis}"
            if 0 in self.shape:
                empty = "sample(s)" if self.shape[0] == 0 else "feature(s)"
                got = f"0 {empty} (shape={self.shape}) while a minimum of 1 is required."
            _checks.refuse(name, wanted, got, hint="" if ndim > 1 else "Reshape your data, see numpy.reshape")
        if not -ndim <= axis < ndim or axis % ndim == 0:
            _checks.refuse(
                "feature_axis", f"an axis of the {name} {self.shape} other than the first", f"{axis}"
            )
        self.axis = axis % ndim
        self.n_samples, self.n_features = self.shape[0], self.shape[self.axis]
        self.grid = tuple(n for i, n in enumerate(self.shape) if i not in (0, self.axis))
        self.n_patches = math.prod(self.grid)

    def refuse_other(
        self, n_features: int | None, n_patches: int | None, grid: tuple[int, ...] | None = None
    ) -> None:
        """Refuse an embedding of other sizes than the given ones."""
        for what, wanted, got in (
            ("features", n_features, self.n_features),
            ("grid", grid, self.grid),
            ("patches", n_patches, self.n_patches),
        ):
            if wanted is not None and wanted != got:
                place = f"in shape {self.shape} with features on axis {self.axis}"
                what = f"a {what} of {wanted}" if what == "grid" else f"{wanted} {what}"
                hint = ""
                if grid is not None and len(self.shape) == len(grid) + 1:
                    hint = "a single sample needs its axis too: embedding[None]"
                elif axis := self._axis_of(n_features, grid):
                    hint = f"are the features on axis {axis}? then set feature_axis={axis}"
                elif what.startswith("a grid"):
                    hint = "resize pictures as when fitting"
                elif what.endswith("features"):  # the words that scikit-learn's tools look for
                    hint = (
                        f"X has {got} features, but MultiVariateGaussian is expecting {wanted} "
                        "features as input"
                    )
                _checks.refuse(self.name, what, f"{got} {place}", hint=hint)

    def _axis_of(self, n_features: int | None, grid: tuple[int, ...] | None) -> int:
        """Return the other end of the shape, -1 or 1, if the features expected are there; else 0."""
        axis = 1 if self.axis == len(self.shape) - 1 else -1
        rest = self.shape[1:-1] if axis == -1 else self.shape[2:]
        fits = len(self.shape) > 2 and self.shape[axis] == n_features and self.n_features != n_features
        return axis if fits and grid in (None, rest) else 0

    @property
    def pictures(self) -> bool:
        """Whether this looks like pictures of three or four channels."""
        return self.dtype == np.uint8 and len(self.shape) > 2 and self.shape[-1] in (3, 4)

    def parts(self) -> Iterator[tuple[slice, Array]]:
        """Yield runs of samples, each with its stack ``(*grid, n, C)``."""
        if not self.lazy:
            yield slice(0, self.n_samples), self.stack(self.value)
            return
        step = max(1, PART_BYTES // (self.dtype.itemsize * math.prod(self.shape[1:])))
        for start in range(0, self.n_samples, step):
            part = slice(start, min(start + step, self.n_samples))
            array = np.asarray(self.value[part])
            if array.shape != (part.stop - part.start, *self.shape[1:]):
                _checks.refuse(
                    self.name,
                    f"{part.stop - part.start} samples of shape {self.shape[1:]} from [{start}:{part.stop}]",
                    f"shape {array.shape}",
                )
            yield part, self.stack(array)

    def refuse_not_finite(self, part: slice, dtype: object, small: bool = False) -> NoReturn:
        """Refuse the part that a walk found not finite, naming its first such number."""
        _checks.finite(self.name, np.asarray(self.value[part]), part.start)
        _checks.refuse(self.name, f"numbers whose squares {dtype} can hold", "larger ones")

    def refuse_if_not_finite(self, part: slice, stack: Array) -> None:
        """Refuse a part with a NaN or an infinity, naming the first."""
        samples = np.moveaxis(np.moveaxis(stack, -2, 0), -1, self.axis)
        _checks.finite(self.name, samples, part.start)

    def whole(self) -> Array:
        if not self.lazy:
            return self.stack(self.value)
        return self.stack(np.concatenate([np.asarray(self.value[p]) for p, _ in self.parts()]))

    def samples(self, patches: Array) -> Array:
        w = self.whole()
        return w.reshape(-1, *w.shape[-2:])[patches]

    def stack(self, array: Array) -> Array:
        """View samples in the layout of this embedding as a stack ``(*grid, n, C)``."""
        return np.moveaxis(np.moveaxis(array, self.axis, -1), 0, -2)


def _indexable(value: object) -> bool:
    """Return whether a value has a NumPy dtype and a shape, but is read only by indexing it."""
    return (
        isinstance(getattr(value, "dtype", None), np.dtype)
        and isinstance(getattr(value, "shape", None), tuple)
        and hasattr(value, "__getitem__")
        and not hasattr(value, "__array_interface__")
        and not _checks.sparse(value)
    )
