"""Golden vectors: how they are written to JSON and read back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np

from mvgauss.testing._laws import Answer, Array, array_of, within

__all__ = ["Vector", "load_vectors"]

FORMAT = "mvgauss golden vectors"
VERSION = 1
FILE = files("mvgauss.testing").joinpath("vectors.json")


@dataclass(frozen=True)
class Vector:
    """One call, and its exactly rounded answers.

    Parameters
    ----------
    name : str
        What it is about; unique.
    function : str
        ``"cov"``, ``"pinv"``, ``"mahalanobis"`` or ``"fit"``.
    arguments : dict
        Arrays, floats and bools, by the names of `mvgauss`.
    answers : dict of ndarray
        By name. Empty where the call has to be refused.
    bounds : dict of ndarray
        How far a correct implementation in double precision may be from each answer.
    """

    name: str
    function: str
    arguments: dict[str, Any]
    answers: dict[str, Array] = field(default_factory=dict)
    bounds: dict[str, Array] = field(default_factory=dict)

    @property
    def refused(self) -> bool:
        """Whether the call is an error."""
        return not self.answers

    def check(self, **answers: Any) -> None:
        """Hold answers to the exact ones, each within its bound.

        Parameters
        ----------
        **answers : array_like
            By their names in `answers`: one, some or all of them.

        Raises
        ------
        AssertionError
            If a shape, a NaN or an infinity is another, or a number is off by more than the bound.
        ValueError
            If an answer has another name.

        Examples
        --------
        >>> import mvgauss
        >>> from mvgauss.testing import load_vectors
        >>> for vector in load_vectors("mahalanobis"):
        ...     vector.check(distances=mvgauss.mahalanobis(**vector.arguments))
        """
        if not self.answers.keys() >= answers.keys():
            raise ValueError(f"answers: expected some of {sorted(self.answers)}, got {sorted(answers)}")
        for name, value in answers.items():
            told = Answer(np.empty(0), f"{self.name!r}, {name}")
            within(array_of(value, told), self.answers[name], self.bounds[name])


def load_vectors(function: str | None = None) -> list[Vector]:
    """Read the golden vectors that come with the package.

    Parameters
    ----------
    function : str, optional
        Only those of ``"cov"``, ``"pinv"``, ``"mahalanobis"`` or ``"fit"``.

    Returns
    -------
    list of Vector
        In the order of the file.

    Examples
    --------
    >>> from mvgauss.testing import load_vectors
    >>> vector = load_vectors("cov")[0]
    >>> vector.arguments["observations"], vector.answers["covariance"]
    (array([[0., 0.],
           [2., 4.],
           [4., 2.]]), array([[4., 2.],
           [2., 4.]]))
    """
    document = json.loads(FILE.read_text(encoding="utf-8"))
    if document["format"] != FORMAT or document["version"] != VERSION:
        raise ValueError(f"vectors: expected {FORMAT!r}, version {VERSION}, got another file")
    vectors = [
        Vector(
            entry["name"],
            entry["function"],
            *({k: decoded(v) for k, v in entry.get(part, {}).items()} for part in PARTS),
        )
        for entry in document["vectors"]
    ]
    return [v for v in vectors if function in (None, v.function)]


PARTS = ("arguments", "answers", "bounds")


def dumped(vectors: list[Vector]) -> str:
    """Return the text of the file: one line for each array, so that a change is readable."""
    entries = []
    for v in vectors:
        lines = [f'    "name": {json.dumps(v.name)}', f'    "function": {json.dumps(v.function)}']
        for part in PARTS:
            values = [f"      {json.dumps(k)}: {encoded(w)}" for k, w in getattr(v, part).items()]
            if values:
                lines.append(f'    "{part}": {{\n' + ",\n".join(values) + "\n    }")
        entries.append("  {\n" + ",\n".join(lines) + "\n  }")
    head = f'{{"format": {json.dumps(FORMAT)}, "version": {VERSION}, "vectors": ['
    return head + "\n" + ",\n".join(entries) + "\n]}\n"


def encoded(value: Any) -> str:
    """Return the JSON of a bool, a number (as hex float) or an array."""
    if isinstance(value, (bool, np.bool_)):
        return json.dumps(bool(value))
    if not isinstance(value, np.ndarray):
        return json.dumps(float(value).hex())
    flat = value.ravel()
    if flat.dtype.kind == "c":
        flat = flat.view(flat.real.dtype)
    data = [v if isinstance(v, int) else v.hex() for v in flat.tolist()]
    return json.dumps({"shape": list(value.shape), "dtype": str(value.dtype), "data": data})


def decoded(value: Any) -> Any:
    """Return what `encoded` wrote."""
    if isinstance(value, str):
        return float.fromhex(value)
    if not isinstance(value, dict):
        return value
    dtype = np.dtype(value["dtype"])
    numbers = [v if isinstance(v, int) else float.fromhex(v) for v in value["data"]]
    flat = np.array(numbers, np.empty(0, dtype).real.dtype)
    return (flat.view(dtype) if dtype.kind == "c" else flat).reshape(value["shape"])
