"""Arguments -> arrays, errors that say what was expected and what it got, and warnings.

A leaf of the import graph. Every public function passes its arguments through here once; after that
the algebra trusts what it gets.
"""

import difflib
import functools
import inspect
import math
import numbers
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, ParamSpec

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]

#: The largest of the weights is in this range: its square, and sums of squares, have all their digits.
_SMALLEST_WEIGHT, _LARGEST_WEIGHT = 1e-140, 1e140
_P = ParamSpec("_P")


def raise_error(
    name: str, expected: str, got: object, error: type[Exception] = ValueError, hint: str = ""
) -> NoReturn:
    """Raise `error`, saying which argument it is, what was expected and what it got."""
    raise error(f"{name}: expected {expected}, got {got}{'; ' + hint if hint else ''}")


def names_nearest_parameter(init: Callable[_P, None]) -> Callable[_P, None]:
    """Make a constructor name the parameter nearest to an unknown one, as Python 3.13 does by itself."""
    known = list(inspect.signature(init).parameters)[1:]

    @functools.wraps(init)
    def checked(*args: _P.args, **parameters: _P.kwargs) -> None:
        for name in parameters:
            if name not in known:
                nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
                wanted = f"one of the parameters {', '.join(known)}"
                owner = init.__qualname__.partition(".")[0]
                hint = f"did you mean {nearest[0]}?" if nearest else ""
                raise_error(owner, wanted, name, TypeError, hint)
        init(*args, **parameters)

    return checked


class NotFittedError(ValueError, AttributeError):
    """The model has no parameters yet."""


def not_fitted(message: str) -> NotFittedError:
    """Return that error; one that scikit-learn knows too, where it is in use."""
    sklearn_error = getattr(sys.modules.get("sklearn.exceptions"), "NotFittedError", None)
    if sklearn_error is None:
        return NotFittedError(message)
    error: NotFittedError = type("NotFittedError", (NotFittedError, sklearn_error), {})(message)
    return error


class DefaultThresholdWarning(UserWarning):
    """A decision by a limit that nobody set, or by one that was set for fewer samples."""


class FewSamplesWarning(UserWarning):
    """Covariances of no more samples than features, with neither ridge nor shrinkage."""


class PictureWarning(UserWarning):
    """An array that looks like pictures, where embeddings are expected."""


class ConstantPatchWarning(UserWarning):
    """Patches where shrinkage adds nothing, as nothing varies there: deviations count nothing."""


class RidgeWarning(UserWarning):
    """A ridge larger than the variances of the features: every distance is small, of defects too."""


class ComplexDataError(TypeError, ValueError):
    """Complex numbers where real ones are expected: a wrong kind for us, a wrong value for others."""


class BadItem(ValueError):
    """One item of a stack is refused; whoever knows the stack says which, with `at`."""

    def __init__(self, item: int, name: str, expected: str, got: object) -> None:
        super().__init__(f"{name}: expected {expected}, got {got}")
        self.item = item

    def at(self, start: int, stack: tuple[int, ...]) -> ValueError:
        """Return the error with the item's index, its block beginning at `start` of the stack."""
        if not stack:
            return ValueError(str(self))
        index = tuple(int(i) for i in np.unravel_index(start + self.item, stack))
        return ValueError(f"{self} at index {index if len(index) > 1 else index[0]} of the stack")


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line of the code that called the package."""
    warnings.warn(message, category, stacklevel=outside())


def outside() -> int:
    """Return the stack level, for the caller of `warnings.warn`, of the code that called the package."""
    package, level = __name__.partition(".")[0], 1
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    return level


def briefly(value: object) -> str:
    """Describe a value in an error message: its representation, cut to a line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def array(name: str, value: object, *, complex_ok: bool = False) -> Array:
    """View `value` as an array of numbers, without copying where NumPy can."""
    wanted = f"an array of {'real or complex' if complex_ok else 'real'} numbers"
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise_error(name, "an array without masked entries", "a masked array", TypeError)
    if sparse(value):
        got = "a sparse one, which is not supported"
        raise_error(name, "a dense array", got, TypeError, "see .toarray()")
    if value is None:
        raise_error(name, wanted, "None", TypeError)
    bfloat16(name, getattr(value, "dtype", None))
    try:
        result = np.asarray(value)
        text = None
        if result.dtype == object and not isinstance(value, Mapping):
            text = next((i for i, v in enumerate(result.flat) if v is None or isinstance(v, str)), None)
            if text is None:
                result = result.astype(np.float64)
    except MemoryError:
        raise
    except Exception as error:
        raise TypeError(
            f"{name}: expected {wanted}, got {type(value).__name__} that NumPy cannot view as one: {error}"
        ) from error
    if result.dtype.kind not in ("biufc" if complex_ok else "biuf"):
        real(name, result.dtype)
        columns = getattr(value, "columns", None)
        if text is not None and columns is not None:
            column = list(columns)[text % result.shape[-1]]
            got = f"{briefly(result.flat[text])} in column {column!r}"
            raise_error(name, wanted, got, TypeError, "leave out what is no number")
        hint = "load it first" if isinstance(value, (str, os.PathLike)) else ""
        hint = "take one array of it" if isinstance(value, Mapping) else hint
        raise_error(name, wanted, f"dtype {result.dtype}", TypeError, hint)
    return result


def sparse(value: object) -> bool:
    """Return whether a value is a sparse array of SciPy, which need not be imported to tell."""
    return type(value).__module__.startswith("scipy.sparse")


def bfloat16(name: str, dtype: object) -> None:
    """Refuse the 16-bit dtype that NumPy lacks, of whatever package."""
    if str(dtype).endswith("bfloat16"):
        hint = "convert it, with .float() from PyTorch, with .astype('float32') from others"
        raise_error(name, "an array of real numbers that NumPy has", "dtype bfloat16", TypeError, hint)


def real(name: str, dtype: np.dtype[Any]) -> None:
    """Refuse a complex dtype; the last sentence begins in the words of scikit-learn's tools."""
    if dtype.kind == "c":
        got = f"dtype {dtype}. Complex data not supported except by cov and Moments"
        raise_error(name, "real numbers", got, ComplexDataError)


def finite(name: str, value: Array, *start: int) -> None:
    """Refuse an array with a NaN or an infinity, naming the first; `start` is where its axes begin."""
    value = np.atleast_1d(value)
    step = max(1, (1 << 20) // max(1, math.prod(value.shape[1:])))  # a large array needs no mask of its size
    for first in range(0, len(value), step):
        bad = np.argwhere(~np.isfinite(value[first : first + step]))
        if len(bad):
            index = bad[0]
            index[0] += first
            got = "NaN" if np.isnan(value[tuple(index)]) else value[tuple(index)]
            index[: len(start)] += np.array(start, int)
            raise_error(name, "finite numbers", f"{got} at index {tuple(index.tolist())}")


def number(name: str, value: object, *, low: float = -math.inf, above: bool = False) -> float:
    """Return a finite real number that is at least (`above`: more than) `low`."""
    wanted = "a finite real number"
    if math.isfinite(low):
        wanted += f" {'>' if above else '>='} {low:g}"
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise_error(name, wanted, f"{briefly(value)} of type {type(value).__name__}", TypeError)
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result) or result < low or (above and result <= low):
        raise_error(name, wanted, briefly(value))
    return result


def integer(name: str, value: object, *, low: int | None = None) -> int:
    """Return a whole number that is at least `low`."""
    wanted = "an integer" if low is None else f"an integer >= {low}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise_error(name, wanted, f"{briefly(value)} of type {type(value).__name__}", TypeError)
    if low is not None and int(value) < low:
        raise_error(name, wanted, briefly(value))
    return int(value)


def flag(name: str, value: object) -> bool:
    """Return a truth value; 0 and 1 are taken too, as people write ``rowvar=0``."""
    if isinstance(value, (np.bool_, numbers.Integral)) and value in (0, 1):
        return bool(value)
    raise_error(name, "True or False", f"{briefly(value)} of type {type(value).__name__}", TypeError)


def inexact(name: str, value: DTypeLike, *, kinds: str) -> np.dtype[Any]:
    """Return a floating (or, if `kinds` has ``c``, complex) dtype in native byte order."""
    try:
        dtype = np.dtype(value)
    except (TypeError, ValueError, SyntaxError) as error:  # NumPy parses text
        raise TypeError(
            f"{name}: expected a floating dtype, got {briefly(value)} that NumPy does not know"
        ) from error
    if dtype.kind not in kinds:
        raise_error(name, "a floating dtype", str(dtype), TypeError)
    return dtype.newbyteorder("=")


def stored(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in which results of such data are kept: single for half and single."""
    return np.dtype(np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64)


def epsilon(dtype: np.dtype[Any]) -> float:
    """Return the machine epsilon of the rounding errors that such data may carry, in double or not."""
    return float(np.finfo(dtype if dtype.kind == "f" and dtype.itemsize <= 8 else np.float64).eps)


def representable(size: Array, dtype: np.dtype[Any]) -> None:
    """Refuse sizes, of whatever is to be kept, that leave the range in which a dtype has all its digits."""
    bad = (size > np.finfo(dtype).max) | ((size > 0) & (size < np.finfo(dtype).tiny))
    if bad.any():
        raise_error("dtype", "float64 for numbers of such a size", f"{dtype} for {size[bad][0]:.3g}")


def weights(
    name: str, value: object, stack: tuple[int, ...], n: int, *, whole: bool = False, all_zero: bool = False
) -> Array:
    """Return weights as float64 of shape ``(n,)`` or ``(..., n)``, its other axes fit for `stack`."""
    w = array(name, value)
    shape = "(N,)" if not stack else "(N,) or (..., N)"
    if w.ndim == 0 or w.shape[-1] != n:
        raise_error(name, f"shape {shape} with N = {n} samples", f"shape {w.shape}")
    fits_stack(name, w.shape[:-1], stack)
    finite(name, w)
    if (w < 0).any():
        raise_error(name, "weights >= 0", f"{w.min()}")
    if whole and w.dtype.kind == "f" and (w != np.rint(w)).any():
        raise_error(name, "whole numbers (how often each row counts)", f"{w[w != np.rint(w)][0]}")
    w = w.astype(np.result_type(w.dtype, np.float64), copy=False)
    largest = w.max(axis=-1, initial=0)
    if n and not all_zero and not largest.all():
        raise_error(name, "a weight > 0 for each item of the stack", "weights that are all zero")
    bad = (largest > _LARGEST_WEIGHT) | ((largest > 0) & (largest < _SMALLEST_WEIGHT))
    if bad.any():
        wanted = f"weights whose largest is between {_SMALLEST_WEIGHT:g} and {_LARGEST_WEIGHT:g}"
        raise_error(name, wanted, f"{largest[bad].flat[0]:.3g}")
    return w


def ranks(name: str, value: object, n_patches: int, n_features: int) -> Array:
    """Return one rank for each patch, given as one number for all or as ``(P,)``."""
    r = array(name, value)
    if r.shape not in ((), (n_patches,)) or r.dtype.kind not in "iu":
        raise_error(name, f"an integer, or P = {n_patches} of them", f"dtype {r.dtype} of shape {r.shape}")
    if (r < 0).any() or (r > n_features).any():
        raise_error(name, f"ranks from 0 to C = {n_features}", f"{r.min()} to {r.max()}")
    return np.broadcast_to(r, n_patches)


def fits_stack(name: str, shape: tuple[int, ...], stack: tuple[int, ...]) -> None:
    """Refuse leading axes that do not broadcast to the stack."""
    try:
        fits = np.broadcast_shapes(shape, stack) == stack
    except ValueError:
        fits = False
    if not fits:
        raise_error(name, f"leading axes that broadcast to the stack {stack}", f"{shape}")
