"""What a law needs: to call an implementation, to compare its answer, to say what broke."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
Implementation = Callable[..., Any]
Law = Callable[..., None]  #: of the implementation, its dtype, and what else a suite of laws needs


class BrokenError(AssertionError):
    """A law does not hold: the call, what was expected and what came."""

    def __init__(self, call: str, expected: object, got: object) -> None:
        super().__init__(f"    call:     {call}\n    expected: {expected}\n    got:      {got}")


@dataclass(frozen=True)
class Check:
    """One law, to be held by an implementation: call it with the implementation.

    Parameters
    ----------
    law : callable
        Takes an implementation, `dtype` and `more`, and raises an AssertionError if it breaks the law.
    dtype : dtype
        In which the implementation computes.
    more : tuple, optional
        What else the law needs.
    """

    law: Law
    dtype: np.dtype[Any]
    more: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        """The law, as `skip` takes it and pytest shows it."""
        return self.law.__name__

    __name__ = name  # pytest's id of a parameter

    @property
    def statement(self) -> str:
        """The law, as a sentence."""
        return (self.law.__doc__ or "").strip()

    def __str__(self) -> str:
        return self.name

    def __call__(self, implementation: Any) -> None:
        """Hold the law against an implementation; an AssertionError says how it breaks."""
        try:
            self.law(implementation, self.dtype, *self.more)
        except BrokenError as broken:
            raise AssertionError(f"{self.name}: {self.statement}\n{broken}") from broken.__cause__
        except Exception as error:  # an answer so far from the law that it cannot be compared
            text = f"    got:      an answer that raises {type(error).__name__}: {error}"
            raise AssertionError(f"{self.name}: {self.statement}\n{text}") from error


def selected(laws: Sequence[Law], dtype: np.dtype[Any], skip: Collection[str], *more: Any) -> list[Check]:
    """Return the checks of laws that are not skipped; an unknown name to skip is an error."""
    known = {law.__name__ for law in laws}
    if isinstance(skip, str) or not known.issuperset(skip):
        raise ValueError(f"skip: expected names of laws, got {skip!r}; the laws are {sorted(known)}")
    return [Check(law, dtype, more) for law in laws if law.__name__ not in skip]


def hold(checks: Sequence[Check], implementation: Any) -> None:
    """Run all checks; an AssertionError lists every broken law."""
    broken = []
    for check in checks:
        try:
            check(implementation)
        except AssertionError as error:
            broken.append(str(error))
    if broken:
        raise AssertionError(f"{len(broken)} of {len(checks)} laws broken:\n\n" + "\n\n".join(broken))


class Answer(NamedTuple):
    """What an implementation answered, and the call as text."""

    value: Array
    call: str
    warnings: tuple[type[Warning], ...] = ()


def called(function: Implementation, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, Answer]:
    """Call with these very arguments; return what came, as it is, and an answer without a value."""
    call = written(*args, **kwargs)
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        try:
            raw = function(*args, **kwargs)
        except Exception as error:
            raise BrokenError(call, "an answer", f"{type(error).__name__}: {error}") from error
    return raw, Answer(np.empty(0), call, tuple(w.category for w in caught))


def attempt(function: Implementation, *args: Any, **kwargs: Any) -> tuple[Any, Answer]:
    """Call with copies of all arrays, so that none of ours is written to."""
    return called(function, [copied(a) for a in args], {k: copied(v) for k, v in kwargs.items()})


def answer(function: Implementation, *args: Any, **kwargs: Any) -> Answer:
    """Call, and take the answer as an array; an exception breaks the law."""
    raw, told = attempt(function, *args, **kwargs)
    return array_of(raw, told)


def array_of(raw: Any, told: Answer) -> Answer:
    """Return an answer with its value."""
    try:
        value = np.asarray(raw)
    except Exception as error:
        raise BrokenError(told.call, "an array", f"{type(raw).__name__}: {error}") from error
    if value.dtype.kind not in "biufc":
        raise BrokenError(told.call, "an array of numbers", brief(raw))
    return told._replace(value=value)


def refused(function: Implementation, *args: Any, **kwargs: Any) -> None:
    """Expect an exception of any kind."""
    try:
        raw, told = attempt(function, *args, **kwargs)
    except BrokenError:
        return
    raise BrokenError(told.call, "an exception", brief(raw))


def unchanged(function: Implementation, *args: Array, **kwargs: Array) -> None:
    """Hand over writeable arrays, and expect them to be as before."""
    ours, named = [a.copy() for a in args], {k: a.copy() for k, a in kwargs.items()}
    called(function, ours, named)
    for name, before, after in [
        *((f"argument {i}", *pair) for i, pair in enumerate(zip(args, ours, strict=True))),
        *((k, kwargs[k], named[k]) for k in kwargs),
    ]:
        if not np.array_equal(before, after):
            raise BrokenError(written(*args, **kwargs), f"{name} still {brief(before)}", brief(after))


def within(got: Answer, want: Any, bound: Any) -> None:
    """Expect the shape, the NaN and infinities, and entries within the bound."""
    want, bound = np.asarray(want), np.asarray(bound)
    shaped(got, want.shape)
    finite = np.isfinite(want)
    with np.errstate(all="ignore"):
        off = np.abs(got.value - want)
        allowed = np.broadcast_to(bound, want.shape)
        same = np.isnan(want) == np.isnan(got.value)
        same &= np.isnan(want) | finite | (got.value == want)
        bad = np.where(finite, ~(off <= allowed), ~same)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        where = f" at {list(first)}" if first else ""
        expected = brief(want)
        if finite[first]:
            expected += f", off{where} by at most {allowed[first]:.2g}"
        raise BrokenError(
            got.call,
            expected,
            brief(got.value) + (f", off{where} by {off[first]:.2g}" if finite[first] else ""),
        )


def equal(got: Answer, want: Any, expected: str) -> None:
    """Expect the very same numbers."""
    if not np.array_equal(got.value, np.asarray(want), equal_nan=got.value.dtype.kind in "fc"):
        raise BrokenError(got.call, f"{expected}: {brief(want)}", brief(got.value))


def shaped(got: Answer, shape: tuple[int, ...]) -> None:
    """Expect a shape."""
    if got.value.shape != shape:
        raise BrokenError(got.call, f"shape {shape}", f"shape {got.value.shape}: {brief(got.value)}")


def typed(got: Answer, dtype: DTypeLike) -> None:
    """Expect a dtype."""
    if got.value.dtype != np.dtype(dtype):
        raise BrokenError(got.call, f"dtype {np.dtype(dtype)}", f"dtype {got.value.dtype}")


def hermitian(got: Answer) -> None:
    """Expect matrices that equal their conjugate transposes to the last bit."""
    equal(got, got.value.swapaxes(-1, -2).conj(), "symmetric to the last bit, as its transpose")


def copied(value: Any) -> Any:
    """Return an array as a new one; anything else, and what is read-only, as it is."""
    return value.copy() if isinstance(value, np.ndarray) and value.flags.writeable else value


def written(*args: Any, **kwargs: Any) -> str:
    """Write a call down."""
    parts = [brief(a) for a in args] + [f"{k}={brief(v)}" for k, v in kwargs.items()]
    return f"f({', '.join(parts)})"


def brief(value: Any) -> str:
    """Write a value down, in a line."""
    if not isinstance(value, (np.ndarray, np.generic)):
        text = repr(value)
    else:
        text = np.array2string(np.asarray(value), separator=", ", threshold=60, precision=17)
        text = " ".join(text.split())
        if value.dtype not in (np.dtype(np.float64), np.dtype(np.intp), np.dtype(np.complex128)):
            text += f" ({value.dtype})"
    return text if len(text) <= 600 else f"{text[:597]}..."
