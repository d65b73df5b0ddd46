"""Laws in tables, and the checks that hold an implementation to those of its features."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from mvgauss.testing._calls import Array, BrokenError, Subject

#: Features of NumPy's arrays, which no adapter passes on.
OF_NUMPY = frozenset({"layouts", "lists", "long_double"})
#: Features that an implementation in single precision cannot have.
OF_DOUBLE = frozenset({"widening", "long_double", "dtype", "dtypes"})


class Law(NamedTuple):
    """One law."""

    name: str
    statement: str
    features: frozenset[str]  #: all that an implementation needs to have for the law to concern it
    hold: Callable[..., Any]  #: of a subject, its dtype, and what else a suite of laws needs


def law(text: str, features: str, hold: Callable[..., Any]) -> Law:
    """Return a law of some features, written as its name, or as ``"name: A statement."``."""
    name, _, statement = text.partition(": ")
    statement = statement or f"{name.replace('_', ' ').capitalize()}."
    return Law(name, statement, frozenset(features.split()), hold)


def each(judge: Callable[..., Any], cases: Callable[[Any], Iterable[Any]]) -> Callable[..., None]:
    """Return what judges a subject by every case of a dtype: a tuple of arguments, or a single one."""

    def hold(subject: Subject, dtype: np.dtype[Any], *more: Any) -> None:
        for case in cases(dtype):
            judge(subject, dtype, *(case if isinstance(case, tuple) else (case,)), *more)

    return hold


class Suite(NamedTuple):
    """The laws of a function."""

    laws: tuple[Law, ...]
    features: dict[str, str]  #: what each feature means
    on_request: frozenset[str] = frozenset()  #: features that are left out by default
    more: tuple[tuple[str, float], ...] = ()  #: what else the laws need, by default

    def checks(
        self,
        features: Collection[str] | None = None,
        skip: Collection[str] = (),
        dtype: DTypeLike = np.float64,
        asarray: Callable[[Array], Any] | None = None,
        beyond_numpy: bool = False,
        **more: float,
    ) -> list[Check]:
        """Return the checks of an implementation one by one; the options are those of `check_cov`."""
        kind = np.dtype(dtype)
        if kind not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise ValueError(f"dtype: expected float32 or float64, got {kind}")
        chosen = _names("features", self.features if features is None else features, self.features)
        if features is None:
            chosen -= (OF_NUMPY if asarray else set()) | (set() if beyond_numpy else self.on_request)
        chosen -= OF_DOUBLE if kind == np.float32 else set()
        skipped = _names("skip", skip, [law.name for law in self.laws])
        concerned = [a for a in self.laws if a.features <= chosen and a.name not in skipped]
        needed = tuple({**dict(self.more), **more}.values())
        return [Check(law, kind, frozenset(chosen), asarray, needed) for law in concerned]


def _names(argument: str, given: Collection[str], known: Iterable[str]) -> set[str]:
    """Return names that are given; an unknown one is an error."""
    if isinstance(given, str) or not set(known).issuperset(given):
        raise ValueError(f"{argument}: expected a collection of some of {sorted(known)}, got {given!r}")
    return set(given)


@dataclass(frozen=True)
class Check:
    """One law, to be called with an implementation. It has a `name`, as in `skip`, and a `statement`."""

    law: Law
    dtype: np.dtype[Any]
    features: frozenset[str]
    asarray: Callable[[Array], Any] | None = None
    more: tuple[Any, ...] = ()

    name = property(lambda self: self.law.name)
    statement = property(lambda self: self.law.statement)
    __name__ = name  # pytest's id of a parameter

    def __call__(self, implementation: Any) -> None:
        """Hold the law against an implementation."""
        subject = Subject(implementation, self.features, self.asarray)
        try:
            self.law.hold(subject, self.dtype, *self.more)
        except BrokenError as broken:
            raise AssertionError(f"{self.name}: {self.statement}\n{broken}") from broken.__cause__
        except Exception as error:  # an answer so far from the law that it cannot be compared
            text = f"    got:      an answer that raises {type(error).__name__}: {error}"
            raise AssertionError(f"{self.name}: {self.statement}\n{text}") from error

    def told(self, implementation: Any) -> str:
        """Return what is wrong with an implementation, nothing if the law holds."""
        try:
            self(implementation)
        except AssertionError as error:
            return f"\n\n{error}"
        return ""


def hold(checks: Sequence[Check], implementation: Any) -> None:
    """Run all checks; an AssertionError lists every broken law."""
    broken = [text for text in (check.told(implementation) for check in checks) if text]
    if broken:
        raise AssertionError(f"{len(broken)} of {len(checks)} laws broken:{''.join(broken)}")
