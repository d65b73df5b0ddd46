"""Golden vectors: how they are read from JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from mvgauss.testing._calls import Answer, Array, within

__all__ = ["Vector", "load_vectors"]

FORMAT, VERSION = "mvgauss golden vectors", 1
FILE = files("mvgauss.testing").joinpath("vectors.json")
PARTS = ("arguments", "answers", "bounds")


@dataclass(frozen=True)
class Vector:
    """One call, and its exactly rounded answers.

    Parameters
    ----------
    name, function : str
        What it is about, unique; and ``"cov"``, ``"pinv"``, ``"mahalanobis"`` or ``"fit"``.
    arguments : dict
        Arrays, floats and bools, by the names of `mvgauss`.
    answers, bounds : dict of ndarray
        By name, and how far a correct implementation in double precision may be from each answer. Empty
        where the call has to raise an error.
    """

    name: str
    function: str
    arguments: dict[str, Any]
    answers: dict[str, Array]
    bounds: dict[str, Array]

    @property
    def refused(self) -> bool:
        """Whether the call is an error."""
        return not self.answers

    def check(self, **answers: Any) -> None:
        """Assert that answers are within their bounds of the exact ones.

        Parameters
        ----------
        **answers : array_like
            By their names in `answers`: one, some or all of them.
        """
        if not self.answers.keys() >= answers.keys():
            raise ValueError(f"answers: expected some of {sorted(self.answers)}, got {sorted(answers)}")
        for name, value in answers.items():
            within(Answer(np.asarray(value), f"{self.name!r}, {name}"), self.answers[name], self.bounds[name])


def load_vectors(function: str | None = None) -> list[Vector]:
    """Read the golden vectors that come with the package.

    Parameters
    ----------
    function : str, optional
        Only those of this function.

    Returns
    -------
    list of Vector
        In the order of the file.
    """
    document = json.loads(FILE.read_text(encoding="utf-8"))
    if document["format"] != FORMAT or document["version"] != VERSION:
        raise ValueError(f"vectors: expected {FORMAT!r}, version {VERSION}, got another file")
    entries = [v for v in document["vectors"] if function in (None, v["function"])]
    return [
        Vector(
            v["name"], v["function"], *({k: decoded(w) for k, w in v.get(part, {}).items()} for part in PARTS)
        )
        for v in entries
    ]


def decoded(value: Any) -> Any:
    """Return a bool, a number or an array of the file."""
    if isinstance(value, str):
        return float.fromhex(value)
    if not isinstance(value, dict):
        return value
    dtype = np.dtype(value["dtype"])
    numbers = [v if isinstance(v, int) else float.fromhex(v) for v in value["data"]]
    flat = np.array(numbers, np.empty(0, dtype).real.dtype)
    return (flat.view(dtype) if dtype.kind == "c" else flat).reshape(value["shape"])
