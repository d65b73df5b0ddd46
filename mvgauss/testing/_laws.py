"""Laws in tables, and the checks that hold an implementation to those of its features."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from mvgauss.testing._calls import WIDTH, Array, BrokenError, Subject, wrapped

#: Features of NumPy's arrays, which no adapter passes on.
OF_NUMPY = frozenset({"layouts", "lists", "long_double"})
#: Features that an implementation in single precision cannot have.
OF_DOUBLE = frozenset({"widening", "long_double", "dtype", "dtypes"})
#: What is said of an implementation whose errors are those of single precision.
SINGLE = "the errors are those of single precision; if that is meant, check with dtype=np.float32"


class Law(NamedTuple):
    """One law."""

    name: str
    statement: str
    features: tuple[str, ...]  #: all that an implementation needs to have for the law to concern it
    hold: Callable[..., Any]  #: of a subject, its dtype, and what else a suite of laws needs


def law(text: str, features: str, hold: Callable[..., Any]) -> Law:
    """Return a law of some features, written as ``"name: A statement."``."""
    name, _, statement = text.partition(": ")
    return Law(name, statement, tuple(features.split()), hold)


def each(judge: Callable[..., Any], cases: Callable[[Any], Iterable[Any]]) -> Callable[..., None]:
    """Return what judges a subject by every case of a dtype: a tuple of arguments, or a single one."""

    def hold(subject: Subject, dtype: np.dtype[Any], *more: Any) -> None:
        for case in cases(dtype):
            judge(subject, dtype, *(case if isinstance(case, tuple) else (case,)), *more)

    return hold


class Suite(NamedTuple):
    """The laws of a function. The first says what the function computes, and needs no features."""

    name: str  #: of the function
    argument: str  #: how its implementation is called in messages: "func", or "factory"
    laws: tuple[Law, ...]
    features: dict[str, str]  #: what each feature means
    on_request: frozenset[str] = frozenset()  #: features that are left out by default
    more: tuple[tuple[str, float], ...] = ()  #: what else the laws need, by default

    def takes(self, implementation: Any) -> None:
        """Raise an error for an array, or for an estimator in place of what makes one."""
        made = hasattr(implementation, "fit") and not isinstance(implementation, type)
        if made or not callable(implementation):
            makes = " that makes an estimator, such as its class" if self.argument == "factory" else ""
            raise TypeError(f"{self.argument}: expected a callable{makes}, got {_kind(implementation)}")

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
        concerned = [a for a in self.laws if chosen.issuperset(a.features) and a.name not in skipped]
        needed = tuple({**dict(self.more), **more}.values())
        return [Check(law, kind, frozenset(chosen), self, asarray, needed) for law in concerned]


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
    suite: Suite
    asarray: Callable[[Array], Any] | None = None
    more: tuple[Any, ...] = ()

    name = property(lambda self: self.law.name)
    statement = property(lambda self: self.law.statement)
    __name__ = name  # pytest's id of a parameter

    def __call__(self, implementation: Any) -> None:
        """Hold the law against an implementation."""
        broken = self.broken(implementation)
        if broken is not None:
            hinted = broken.hinted(SINGLE) if self.only_single(implementation) else broken
            raise AssertionError(self.told(hinted)) from broken.__cause__

    def broken(self, implementation: Any) -> BrokenError | None:
        """Return how the law is broken, or None."""
        self.suite.takes(implementation)
        try:
            self.law.hold(Subject(implementation, self.features, self.asarray), self.dtype, *self.more)
        except BrokenError as error:
            return error
        except Exception as error:  # an answer so far from the law that it cannot be compared
            broken = BrokenError("", "", f"an answer that raises {type(error).__name__}: {error}")
            broken.__cause__ = error
            return broken
        return None

    def only_single(self, implementation: Any) -> bool:
        """Return whether the first law is broken in double, but not in single precision.

        Other mistakes may be as small: either the result says its dtype, or all laws without features hold.
        """
        plain = [replace(self, law=law) for law in self.suite.laws if not law.features]
        broken = None if self.dtype == np.float32 else plain[0].broken(implementation)
        if broken is None:
            return False
        single = [replace(check, dtype=np.dtype(np.float32)) for check in plain]
        concerned = single[:1] if "(float32)" in broken.got else single
        return all(check.broken(implementation) is None for check in concerned)

    def told(self, broken: BrokenError) -> str:
        """Return the law and how it is broken, as text."""
        features = f" [{', '.join(self.law.features)}]" if self.law.features else ""
        head = f"{self.name}{features}: {self.statement}"
        return f"{textwrap.fill(head, WIDTH, break_on_hyphens=False)}\n{broken}"


def hold(checks: Sequence[Check], implementation: Any) -> None:
    """Run all checks; an AssertionError lists every broken law."""
    found = [(check, check.broken(implementation)) for check in checks]
    broken = [(check, error) for check, error in found if error is not None]
    if not broken:
        return
    lines, (first, error) = [f"{len(broken)} of {len(checks)} laws broken:"], broken[0]
    if first.law is first.suite.laws[0] and error.hint:
        shown = broken[:1]  # the others follow from it
    else:
        lines += [wrapped("hint", SINGLE)] if first.only_single(implementation) else []
        lines += _without(checks, broken)
        shown = [(check, error) for check, error in broken if not _unknown(check, error)]
    raise AssertionError("\n".join(lines) + "".join(f"\n\n{text}" for text in _grouped(shown)))


def _unknown(check: Check, error: BrokenError) -> set[str]:
    """Return the features that are arguments which the implementation does not know, and a law needs."""
    return {f for f in check.suite.features if f"argument '{f}'" in error.got}


def _tried(law: Law) -> set[str]:
    """Return the features that an implementation has if a law holds."""
    return {"errors"} if "errors" in law.features else set(law.features)


def _without(checks: Sequence[Check], broken: Sequence[tuple[Check, BrokenError]]) -> list[str]:
    """Return which features are missing, and the call that leaves them out.

    They are arguments that are not known, and where the first law holds, features whose laws are all broken.
    """
    suite, chosen, names = checks[0].suite, checks[0].features, {check.name for check, _ in broken}
    concerned = {f for check in checks for f in check.law.features}
    # an argument that is not known raises, and so keeps the laws of what is refused
    holding = {f for check in checks if check.name not in names for f in _tried(check.law)}
    unknown = {f for check, error in broken for f in _unknown(check, error)}
    lacking = set() if suite.laws[0].name in names else concerned - holding
    missing = [f for f in suite.features if f in lacking | unknown]
    if not missing:
        return []
    present = ", ".join(f'"{f}"' for f in suite.features if f in chosen and f not in missing)
    call = f"check_{suite.name}({suite.argument}, features=[{present}])"
    return [wrapped("missing", ", ".join(missing)), wrapped("without", call)]


def _grouped(broken: Sequence[tuple[Check, BrokenError]]) -> Iterator[str]:
    """Yield the broken laws as texts: those that end in the same exception are listed with the first."""
    groups: dict[Any, list[tuple[Check, BrokenError]]] = {}
    for check, error in broken:
        groups.setdefault(error.got if error.__cause__ else check.name, []).append((check, error))
    for (check, error), *same in groups.values():
        names = ", ".join(other.name for other, _ in same)
        yield check.told(error) + (f"\n{wrapped('same for', names)}" if same else "")


def _kind(value: Any) -> str:
    """Say in few words of what kind a value is."""
    if hasattr(value, "shape"):
        return f"an array of shape {tuple(value.shape)}"
    if hasattr(value, "fit"):
        return f"an estimator of class {type(value).__name__}"
    return type(value).__name__
