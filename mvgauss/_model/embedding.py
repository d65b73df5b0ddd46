"""An embedding of pictures, seen as a stack of samples: the axes are moved once, on a view.

Axis 0 is samples, `feature_axis` is features, all other axes are the grid of patches. An array that NumPy
can view is one part; one that can only be indexed (an HDF5 dataset, a Zarr array) is read in parts. The
columns of a data frame may have names.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from mvgauss import _arguments
from mvgauss._arguments import Array

#: About how many bytes of an array that can only be indexed are read at once, unless told otherwise.
READ_BYTES = 128 << 20

#: Of these an array has one at least, and a generator or a loader of batches none.
_ARRAYS_HAVE = ("__array__", "__getitem__", "shape")

#: Grids of patches are small: sides of this length or more, with three numbers each, are colour pictures.
_PICTURE_SIDE = 16

#: A run that is merged into the moments has half as many samples as features, or so many: it then
#: takes less memory than the moments, and a merge costs about as much as the products of the run.
MERGED_SAMPLES = 512

#: What is said of numbers too large to square, wherever they are found.
TOO_LARGE = "embedding: expected numbers whose squares float64 can hold, got larger ones"


class OutOfRangeError(ValueError):
    """A block has a NaN or an infinity, or numbers or differences whose squares leave the range."""


class Embedding:
    """An embedding of N samples, C features and a grid of P patches."""

    def __init__(self, value: Any, feature_axis: object, read_bytes: int = READ_BYTES) -> None:
        self.read_bytes = read_bytes
        self.lazy = _indexable(value)
        _raise_if_batches(value)
        self.value = value if self.lazy else _arguments.array("embedding", value)
        self.shape = tuple(int(n) for n in self.value.shape)
        self.dtype = np.dtype(self.value.dtype)
        _arguments.bfloat16("embedding", self.dtype)
        _arguments.real("embedding", self.dtype)
        if self.dtype.kind not in "biuf":
            _arguments.raise_error("embedding", "an array of real numbers", f"dtype {self.dtype}", TypeError)
        ndim, axis = len(self.shape), _arguments.integer("feature_axis", feature_axis)
        wanted = f"a non-empty array (N, C, *grid), features C on axis {axis}"
        if ndim < 2:
            hint = ". Reshape your data: x[None] is one sample, x[:, None] one feature" if ndim else ""
            _arguments.raise_error("embedding", wanted, f"shape {self.shape}{hint}")  # as scikit-learn begins
        if not -ndim <= axis < ndim or axis % ndim == 0:
            allowed = f"an axis of the embedding {self.shape} other than the first"
            _arguments.raise_error("feature_axis", allowed, axis)
        self.axis = axis % ndim
        if 0 in self.shape:
            empty = {0: "samples", self.axis: "features"}.get(self.shape.index(0), "patches")
            if ndim == 2 and empty == "features":  # in the words of scikit-learn's tools
                raise ValueError(
                    f"embedding: an array with 0 feature(s) (shape={self.shape}) while a minimum of 1 is "
                    "required."
                )
            _arguments.raise_error("embedding", wanted, f"0 {empty} in shape {self.shape}")
        self.n_samples, self.n_features = self.shape[0], self.shape[self.axis]
        self.grid_axes = tuple(i for i in range(1, ndim) if i != self.axis)
        self.grid = tuple(self.shape[i] for i in self.grid_axes)
        self.n_patches = math.prod(self.grid)

    def raise_if_other(
        self, n_features: int | None, n_patches: int | None, grid: tuple[int, ...] | None = None
    ) -> None:
        """Refuse an embedding of other sizes than the given ones."""
        c, last = self.n_features, len(self.shape) - 1
        other_axis = 1 if self.axis == last else -1  # where the features may be instead
        other_grid = self.shape[2:] if other_axis == 1 else self.shape[1:-1]
        moved = (
            n_features in (None, self.shape[other_axis])
            and n_patches in (None, math.prod(other_grid))
            and (grid is None or other_grid in (grid, (n_patches,)))
        )
        grid_hint = "resize pictures as when fitting"
        if self.grid == (n_patches,):
            grid_hint = "reshape the patches to the grid"
        if last == 1 and n_features not in (None, c):  # a table: in the words of scikit-learn's tools
            raise ValueError(
                f"embedding: X has {c} features, but MultiVariateGaussian is expecting {n_features} features "
                "as input"
            )
        for expected, wanted, got, hint in (
            (f"{n_features} features", n_features, c, ""),
            (f"a grid of {grid}", grid, self.grid, grid_hint),
            (f"{n_patches} patches", n_patches, self.n_patches, ""),
        ):
            if wanted is not None and wanted != got:
                if grid is not None and math.prod(self.shape) == (n_features or 0) * math.prod(grid):
                    hint = "a single sample needs its axis too: embedding[None]"
                elif moved:
                    hint = f"are the features on axis {other_axis}? then set feature_axis={other_axis}"
                place = f"in shape {self.shape} with features on axis {self.axis}"
                _arguments.raise_error("embedding", expected, f"{got} {place}", hint=hint)

    @property
    def picture_layout(self) -> str | None:
        """The layout of pictures that this looks like, such as ``"(N, H, W, 3)"``; None if it does not."""
        shape, dtype, channels = self.shape, self.dtype, (1, 3, 4)
        if dtype in (np.uint8, np.uint16) and len(shape) > 2:
            if len(shape) == 3:
                return "(N, H, W)"
            if shape[1] in channels:
                return f"(N, {shape[1]}, H, W)"
            if shape[-1] in channels:
                return f"(N, H, W, {shape[-1]})"
        large = len(shape) > 3 and min(shape[-3:-1]) >= _PICTURE_SIDE
        return "(N, H, W, 3)" if dtype.kind == "f" and shape[-1] == 3 and large else None

    def parts(self, *, merged: bool = False) -> Iterator[tuple[slice, Array]]:
        """Yield runs of samples, each with its stack ``(*grid, n, C)``; longer ones to be `merged`."""
        if not self.lazy:
            yield slice(0, self.n_samples), self.stack(self.value)
            return
        for part in self._runs(merged):
            n, value = part.stop - part.start, self.value[part]
            if isinstance(value, np.ndarray) and value.dtype.kind == "O":
                _arguments.raise_error("embedding", "an array of real numbers", "dtype object", TypeError)
            array = _arguments.array("embedding", value)
            if array.shape != (n, *self.shape[1:]):
                wanted = f"{n} samples of shape {self.shape[1:]} from [{part.start}:{part.stop}]"
                _arguments.raise_error("embedding", wanted, f"shape {array.shape}")
            yield part, self.stack(array)

    def whole(self) -> Array:
        """Return the stack ``(*grid, N, C)`` of all samples, in one array."""
        if not self.lazy:
            return self.stack(self.value)
        return self.samples(np.arange(self.n_patches)).reshape(*self.grid, self.n_samples, self.n_features)

    def samples(self, patches: Array) -> Array:
        """Return all samples ``(k, N, C)`` of the patches of these flat indices ``(k,)``."""
        index = np.unravel_index(patches, self.grid or (1,))
        result = None
        for part, stack in self.parts():
            if result is None:
                shape = (len(patches), self.n_samples, self.n_features)
                result = np.empty(shape, np.result_type(self.dtype, stack.dtype))
            result[:, part] = (stack if self.grid else stack[None])[index]
        assert result is not None
        return result

    def pictures(self, scores: Array) -> Array:
        """Return scores ``(P, M)`` with the shape of the grid, ``(M, *grid)``."""
        return np.ascontiguousarray(scores.T).reshape(scores.shape[1], *self.grid)

    def raise_if_not_finite(self, part: slice, stack: Array) -> None:
        """Refuse a part with a NaN or an infinity, naming the first."""
        _arguments.finite("embedding", self.unstacked(stack), part.start)

    def stack(self, array: Array) -> Array:
        """View samples in the layout of this embedding as a stack ``(*grid, n, C)``."""
        return np.moveaxis(np.moveaxis(array, self.axis, -1), 0, -2)

    def unstacked(self, stack: Array) -> Array:
        """View a stack ``(*grid, n, C)`` in the layout of this embedding."""
        return np.moveaxis(np.moveaxis(stack, -2, 0), -1, self.axis)

    def _runs(self, merged: bool) -> Iterator[slice]:
        """Yield what is read at once: whole chunks, or shares of a long one."""
        most_rows = self.n_features // 2 + 1  # of so many samples the scatter is stored as rows
        size = int(self.dtype.itemsize) * math.prod(self.shape[1:])
        step = max(1, self.read_bytes // size, min(most_rows, MERGED_SAMPLES) if merged else 1)
        chunks = getattr(self.value, "chunks", None)
        if not (isinstance(chunks, tuple) and chunks and isinstance(chunks[0], int)):
            chunks = (1,)  # contiguous, or of many lengths, as those of Dask
        chunk = max(1, min(chunks[0], self.n_samples))
        whole = chunk * max(1, step // chunk)
        for first in range(0, self.n_samples, whole):
            end = min(first + whole, self.n_samples)
            for start in range(first, end, step):
                yield slice(start, min(start + step, end))


def _indexable(value: object) -> bool:
    """Return whether a value has a NumPy dtype and a shape, but is read only by indexing it."""
    return (
        isinstance(getattr(value, "dtype", None), np.dtype)
        and isinstance(getattr(value, "shape", None), tuple)
        and hasattr(value, "__getitem__")
        and not hasattr(value, "__array_interface__")
        and not _arguments.sparse(value)
    )


def _raise_if_batches(value: object) -> None:
    """Refuse batches in a list, which would pass as samples, and batches that come one at a time."""
    if isinstance(value, (list, tuple)):
        shape = getattr(value[0], "shape", None) if value else None
        if isinstance(shape, tuple) and len(shape) > 2:
            got = f"a {type(value).__name__} of {len(value)} arrays, the first of shape {tuple(shape)}"
            hint = "join batches with np.concatenate, or embeddings of single images with np.stack"
            _arguments.raise_error("embedding", "one array", got, TypeError, hint)
    elif isinstance(value, Iterable) and not any(hasattr(value, name) for name in _ARRAYS_HAVE):
        got = f"an iterable of type {type(value).__name__}"
        hint = "fit its batches one at a time with partial_fit, and score them one at a time"
        _arguments.raise_error("embedding", "one array", got, TypeError, hint)


def names_of_columns(value: object) -> tuple[str, ...] | None:
    """Return the names of the columns of a data frame, if all are strings."""
    columns = getattr(value, "columns", None)
    names = () if columns is None else tuple(columns)
    strings = [isinstance(name, str) for name in names]
    if any(strings) and not all(strings):
        kinds = sorted({type(name).__qualname__ for name in names})
        raise TypeError(
            "Feature names are only supported if all input features have string names, but your input "
            f"has {kinds} as feature name / column name types"
        )
    return names if any(strings) else None


def check_names(fitted: tuple[str, ...] | None, given: tuple[str, ...] | None, estimator: str) -> None:
    """Refuse other names than the fitted ones, in scikit-learn's words; warn where one side has none."""
    if fitted == given:
        return
    if fitted is None or given is None:
        have, was = ("has", "without") if fitted is None else ("does not have valid", "with")
        message = f"X {have} feature names, but {estimator} was fitted {was} feature names"
        _arguments.warn(message, UserWarning)
        return
    message = "The feature names should match those that were passed during fit.\n"
    unseen, missing = set(given) - set(fitted), set(fitted) - set(given)
    for when, names in (("unseen at fit time", unseen), ("seen at fit time, yet now missing", missing)):
        if names:
            listed = "".join(f"- {name}\n" for name in sorted(names)[:5])
            message += f"Feature names {when}:\n{listed}" + "- ...\n" * (len(names) > 5)
    if not unseen and not missing:
        message += "Feature names must be in the same order as they were in fit.\n"
    raise ValueError(message)
