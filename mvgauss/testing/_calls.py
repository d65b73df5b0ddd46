"""What a law needs: to call an implementation, to compare its answer, to say what is wrong."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["assert_within"]

Array = NDArray[Any]


#: Length of the longest line of a report.
WIDTH = 120


class BrokenError(AssertionError):
    """A law does not hold: the call, what was expected, what came, and what may mend it."""

    def __init__(self, call: str, expected: object, got: object, hint: str = "") -> None:
        self.call, self.expected, self.got, self.hint = call, str(expected), str(got), hint
        lines = {"call": call, "expected": self.expected, "got": self.got, "hint": hint}
        super().__init__("\n".join(wrapped(name, text) for name, text in lines.items() if text))

    def hinted(self, hint: str) -> BrokenError:
        """Return the same with a hint."""
        return BrokenError(self.call, self.expected, self.got, hint)


def wrapped(name: str, value: str) -> str:
    """Write a value behind its name, on lines of a bounded length."""
    first = f"    {name + ':':<10}"
    return textwrap.fill(f"{first}{value}", WIDTH, subsequent_indent=" " * len(first), break_on_hyphens=False)


class Answer(NamedTuple):
    """What an implementation answered, and the call as text."""

    value: Array
    call: str
    warnings: tuple[type[Warning], ...] = ()


@dataclass(frozen=True)
class Subject:
    """An implementation under test, and how it is called."""

    function: Callable[..., Any]
    features: frozenset[str] = frozenset()  #: what it has; arguments that are no features are not passed
    asarray: Callable[[Array], Any] | None = None  #: makes its arrays of NumPy's
    name: str = "f"  #: as it is called in messages

    def given(self, value: Any) -> Any:
        """Return a copy of an array as the implementation takes it; what is read-only stays what it is."""
        if not isinstance(value, np.ndarray):
            return value
        if self.asarray is None:
            return value.copy() if value.flags.writeable else value
        return self.asarray(np.array(value, value.dtype.newbyteorder("="), order="C"))

    def attempt(self, *args: Any, **kwargs: Any) -> tuple[Any, Answer]:
        """Call; return what came, as it is, and an answer without a value. An exception breaks the law."""
        ours, named = [self.given(a) for a in args], {k: self.given(v) for k, v in kwargs.items()}
        return self._call(args, kwargs, ours, named)

    def _call(self, args: Any, kwargs: Any, ours: Any, named: Any) -> tuple[Any, Answer]:
        """Call with these very arguments, made of those of the law."""
        call = written(self.name, *args, **kwargs)
        with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
            warnings.simplefilter("always")
            try:
                raw = self.function(*ours, **named)
            except Exception as error:
                raise BrokenError(call, "an answer", f"{type(error).__name__}: {error}") from error
        return raw, Answer(np.empty(0), call, tuple(w.category for w in caught))

    def answer(self, *args: Any, **kwargs: Any) -> Answer:
        """Call, and take the answer as an array."""
        raw, told = self.attempt(*args, **kwargs)
        return array_of(raw, told)

    def refuses(self, *args: Any, **kwargs: Any) -> None:
        """Expect an exception of any kind."""
        try:
            raw, told = self.attempt(*args, **kwargs)
        except BrokenError:
            return
        raise BrokenError(told.call, "an exception", brief(raw))

    def keeps(self, *args: Array, **kwargs: Array) -> None:
        """Expect the arrays that are handed over to be as before."""
        ours, named = [self.given(a) for a in args], {k: self.given(a) for k, a in kwargs.items()}
        _, told = self._call(args, kwargs, ours, named)
        before = {**{f"argument {i}": a for i, a in enumerate(args)}, **kwargs}
        for (name, was), now in zip(before.items(), [*ours, *named.values()], strict=True):
            equal(told._replace(value=as_numpy(now)), was, f"{name} still")


def as_numpy(value: Any) -> Array:
    """Return any array as NumPy's: by NumPy's own protocols, else by that of the array API standard."""
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return np.from_dlpack(value)
    return np.asarray(value)


def array_of(raw: Any, told: Answer) -> Answer:
    """Return an answer with its value."""
    try:
        value = as_numpy(raw)
    except Exception as error:
        raise BrokenError(told.call, "an array", f"{type(raw).__name__}: {error}") from error
    holds(told, value.dtype.kind in "biufc", "an array of numbers", brief(raw))
    return told._replace(value=value)


def assert_within(actual: ArrayLike, desired: ArrayLike, bound: ArrayLike) -> None:
    """Assert that an answer is within a bound of the exact one.

    Parameters
    ----------
    actual, desired : array_like
        The answer, and what it should be: of the same shape, with the same NaN and infinities.
    bound : array_like
        How far off each other entry may be; it broadcasts.
    """
    within(Answer(np.asarray(actual), "assert_within"), desired, bound)


def within(got: Answer, want: Any, bound: Any) -> None:
    """Expect the shape, the NaN and infinities, and entries within the bound."""
    want = np.asarray(want)
    shaped(got, want.shape)
    finite = np.isfinite(want)
    with np.errstate(all="ignore"):
        off = np.abs(got.value - want)
        allowed = np.broadcast_to(np.asarray(bound), want.shape)
        same = (got.value == want) | np.isnan(want) & np.isnan(got.value)
        bad = np.where(finite, ~(off <= allowed), ~same)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        where = f" at {list(first)}" if first else ""
        most, by = (f", off{where} by at most {allowed[first]:.2g}", f", off{where} by {off[first]:.2g}")
        told = (
            (brief(want) + most, brief(got.value) + by) if finite[first] else (brief(want), brief(got.value))
        )
        raise BrokenError(got.call, *told)


def equal(got: Answer, want: Any, expected: str) -> None:
    """Expect the very same numbers."""
    same = np.array_equal(got.value, np.asarray(want), equal_nan=got.value.dtype.kind in "fc")
    holds(got, same, f"{expected}: {brief(want)}", brief(got.value))


def holds(got: Answer, condition: Any, expected: object, value: object, hint: str = "") -> None:
    """Expect a condition; a hint says what may mend it."""
    if not condition:
        raise BrokenError(got.call, expected, value, hint)


def shaped(got: Answer, shape: tuple[int, ...]) -> None:
    """Expect a shape."""
    holds(got, got.value.shape == shape, f"shape {shape}", f"shape {got.value.shape}: {brief(got.value)}")


def typed(got: Answer, dtype: DTypeLike) -> Any:
    """Expect a dtype."""
    holds(got, got.value.dtype == dtype, f"dtype {np.dtype(dtype)}", f"dtype {got.value.dtype}")


def silent(got: Answer) -> None:
    """Expect no warning."""
    holds(got, not got.warnings, "no warning", [w.__name__ for w in got.warnings])


def hermitian(got: Answer) -> None:
    """Expect matrices that equal their conjugate transposes to the last bit."""
    value = np.atleast_2d(got.value)
    transpose = value.swapaxes(-1, -2).conj()
    equal(got._replace(value=value), transpose, "symmetric to the last bit, as its transpose")


def written(function: str, *args: Any, **kwargs: Any) -> str:
    """Write a call of a function down."""
    parts = [brief(a) for a in args] + [f"{k}={brief(v)}" for k, v in kwargs.items()]
    return f"{function}({', '.join(parts)})"


def brief(value: Any) -> str:
    """Write a value down, in a line."""
    text = " ".join(repr(value).split())
    if isinstance(value, (np.ndarray, np.generic)):
        text = " ".join(
            np.array2string(np.asarray(value), separator=", ", threshold=60, precision=17).split()
        )
        text += "" if value.dtype in (np.float64, np.intp, np.complex128) else f" ({value.dtype})"
    return text if len(text) <= 600 else f"{text[:597]}..."
