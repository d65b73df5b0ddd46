"""What is fitted: one immutable value, and its form in files as plain values and arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np

from mvgauss import _arguments
from mvgauss._arguments import Array
from mvgauss._linalg.precision import Dense, LowRank, Precision
from mvgauss._runtime import blocks
from mvgauss._stats.moments import Moments, fits_in_rows
from mvgauss._stats.shrinkage import Regularisation

#: Of each array of a model in a file: its axes, its dtype (None is that of the model), and the least of its
#: numbers. An axis is as long in all arrays: P patches, C features, R rows, T numbers of a triangle, D
#: directions of a dense factor, N images.
_ARRAYS: dict[str, tuple[str, type | None, float]] = {
    "mean": ("PC", np.float64, -math.inf),
    "rows": ("PRC", None, -math.inf),
    "triangle": ("PT", np.float64, -math.inf),
    "third": ("PC", np.float64, -math.inf),
    "fourth": ("P", np.float64, 0),
    "rank": ("P", np.int64, 0),
    "log_pdet": ("P", np.float64, -math.inf),
    "root": ("PDC", None, -math.inf),
    "small": ("PRR", np.float64, -math.inf),
    "scale": ("P", np.float64, 0),
    "floor": ("P", np.float64, 0),
    "shrinkage": ("P", np.float64, 0),
    "loo_distances": ("PN", None, 0),
    "loo_largest": ("N", None, 0),
}


class Calibration(NamedTuple):
    """Leave-one-out distances of the fitted images."""

    distances: Array  #: (P, n), sorted at each patch
    largest: Array | None  #: (n,), sorted, the largest of each image; None of a part of the grid


class Limit(NamedTuple):
    """A limit of the largest distance of an image, and how many samples were fitted when it was set."""

    value: float
    n_samples: int


@dataclass(frozen=True)
class State:
    """P Gaussians of C features each. Training makes a new one; nothing is written into it."""

    grid: tuple[int, ...] | None  #: the shape of the grid; None for any of P patches
    dtype: np.dtype[Any]  #: of results, of rows and of a dense factor
    mean: Array  #: (P, C), double
    regularisation: Regularisation = field(default_factory=Regularisation)
    resolution: float = float(np.finfo(np.float64).eps)  #: the machine epsilon of the samples, or of double
    n_samples: int = 0
    sum_weights: float = 0.0
    sum_squared_sample_weights: float = 0.0
    moments: Moments | None = None  #: None for parameters alone
    precision: Precision | None = None  #: None until it is needed, as in a stream
    intensity: Array | None = None  #: (P,), the intensities of shrinkage in the precision
    calibration: Calibration | None = None
    limit: Limit | None = None
    feature_names: tuple[str, ...] | None = None  #: C names, of the columns of data frames

    @classmethod
    def unfitted(
        cls, grid: tuple[int, ...], c: int, dtype: np.dtype[Any], regularisation: Regularisation
    ) -> Self:
        """Return a state of no samples, to which those of an embedding can be added."""
        return cls(grid, dtype, np.empty((0, c)), regularisation)

    def __post_init__(self) -> None:
        for array in self.arrays().values():
            array.setflags(write=False)

    def __setstate__(self, fields: dict[str, Any]) -> None:
        """Set the fields of a copy or of an unpickled state, whose arrays are read-only too."""
        vars(self).update(fields)
        self.__post_init__()

    @property
    def n_patches(self) -> int:
        """P."""
        return len(self.mean)

    @property
    def n_features(self) -> int:
        """C."""
        return int(self.mean.shape[1])

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the grid, or (P,) where that is unknown."""
        return (self.n_patches,) if self.grid is None else self.grid

    @property
    def weighted(self) -> bool:
        """Whether a sample has another weight than 1."""
        n = self.n_samples
        squares = self.sum_squared_sample_weights - 2 * self.sum_weights + n  # of the differences from 1
        return squares > 8 * float(np.finfo(np.float64).eps) * n

    def arrays(self) -> dict[str, Array]:
        """Return the arrays by name, all but the last of patches; moments and precision may share rows."""
        arrays: dict[str, Array] = {"mean": self.mean}
        if self.precision is not None:
            arrays |= self.precision.arrays()
        if self.intensity is not None:
            arrays["shrinkage"] = self.intensity
        if self.moments is not None:
            arrays |= self.moments.stored_arrays()
        if self.calibration is not None:
            arrays["loo_distances"] = self.calibration.distances
            if self.calibration.largest is not None:
                arrays["loo_largest"] = self.calibration.largest
        return arrays

    def with_arrays(
        self, arrays: Mapping[str, Array], grid: tuple[int, ...] | None, *, resumable: bool
    ) -> Self:
        """Return the same model of the patches of these arrays, with moments if it is `resumable`."""
        moments = calibration = None
        if resumable:
            moments = Moments.of_arrays(self.n_samples, self.sum_weights, arrays["mean"], arrays)
        if "loo_distances" in arrays:
            calibration = Calibration(arrays["loo_distances"], arrays.get("loo_largest"))
        return replace(
            self,
            grid=grid,
            mean=arrays["mean"],
            moments=moments,
            precision=precision_of_arrays(arrays),
            intensity=arrays.get("shrinkage"),
            calibration=calibration,
        )

    def select(self, index: Any) -> Self:
        """Return the same model of some of the patches, by an index of the grid."""
        flat = np.arange(self.n_patches).reshape(self.shape)[index]
        patches = flat.ravel()
        if not patches.size:
            _arguments.raise_error("patches", "an index of at least one patch", "one of none", IndexError)
        if np.array_equal(patches, np.arange(patches[0], patches[0] + patches.size)):
            patches = slice(patches[0], patches[0] + patches.size)  # of which there are views
        arrays = self.arrays()
        arrays.pop("loo_largest", None)  # of whole images
        arrays = {name: a[patches] for name, a in arrays.items()}
        return self.with_arrays(arrays, np.shape(flat), resumable=self.moments is not None)

    def variance(self) -> Array:
        """Return the variance of each feature, of divisor W: ``(P, C)``."""
        moments = self.required_moments()
        total = self.sum_weights or 1.0
        return np.asarray(
            blocks.walk(lambda b: moments[b].diagonal() / total, self.n_patches, self.n_features**2 * 8)
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for a in self.arrays().values())

    def required_moments(self) -> Moments:
        """Return the moments, which have to be there."""
        if self.moments is None:
            raise ValueError(
                "this model cannot be fitted further: expected its moments, got none; it was made from "
                "parameters, or saved with resumable=False"
            )
        return self.moments

    def required_precision(self) -> Precision:
        """Return the precision, which has been made."""
        assert self.precision is not None
        return self.precision

    def raise_if_too_few(self, name: str) -> None:
        """Refuse to make a covariance of too few samples, those of the embedding of this name."""
        w, ddof = self.sum_weights, self.regularisation.ddof
        if w and w > ddof:
            return
        got = f"{self.n_samples} sample{'s'[: self.n_samples != 1]}"
        if self.weighted:
            wanted = f"weights that add up to more than ddof = {ddof:g}"
            hint = (
                "a weight counts how often a sample is there; multiply them all by len(w) / w.sum() to weigh "
                "samples against each other"
            )
            _arguments.raise_error("sample_weight", wanted, f"{w:.3g} of {got}", hint=hint)
        _arguments.raise_error(name, f"more samples than ddof = {ddof:g} to estimate a covariance", got)

    def with_moments(self, moments: Moments, factored: tuple[Precision, Array] | None = None) -> Self:
        """Return a state of other moments, with the precision, but for its rows, and intensities of them."""
        precision, intensity = factored or (None, None)
        return replace(
            self,
            mean=moments.mean,
            moments=moments,
            precision=None if precision is None else moments.sharing_rows(precision),
            intensity=intensity,
            calibration=None,
        )

    def with_regularisation(self, regularisation: Regularisation) -> Self:
        """Return the same moments under another regularisation."""
        if regularisation == self.regularisation:
            return self
        moments = self.required_moments()
        if not regularisation.needs_fourth:
            moments = moments.without_fourth()
        elif moments.fourth is None:
            wanted = "one that can be estimated from the moments of this model"
            got = f"{regularisation.shrinkage!r}, for which it must be set before the first fit"
            _arguments.raise_error("shrinkage", wanted, got)
        return replace(self.with_moments(moments), regularisation=regularisation)

    def without_moments(self) -> Self:
        """Return the same Gaussians as parameters only."""
        self.required_precision()
        return replace(self, moments=None)

    def packed(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return plain values and arrays that make this state again, see `unpacked`."""
        values = {
            "grid": self.grid,
            "dtype": self.dtype.name,
            "regularisation": self.regularisation._asdict(),
            "resolution": self.resolution,
            "n_samples": self.n_samples,
            "sum_weights": self.sum_weights,
            "sum_squared_weights": self.sum_squared_sample_weights,
            "resumable": self.moments is not None,
            "limit": self.limit,
            "feature_names": self.feature_names,
        }
        return values, self.arrays()


def unpacked(values: Mapping[str, Any], arrays: Mapping[str, Array]) -> State:
    """Return the state that `State.packed` described; refuse parts that do not fit together."""
    regularisation = Regularisation.checked(**values["regularisation"])
    if values["dtype"] not in ("float32", "float64"):
        _arguments.raise_error("dtype", "float32 or float64", _arguments.briefly(values["dtype"]))
    dtype, mean = np.dtype(values["dtype"]), arrays["mean"]
    if mean.ndim != 2 or 0 in mean.shape:
        _arguments.raise_error("mean", "shape (P, C)", f"{mean.shape}")
    p, c = mean.shape
    resumable = _arguments.flag("resumable", values["resumable"])
    n, w, v = _checked_counts(values, low=1 if resumable else 0)
    names = {"mean", *({"loo_distances", "loo_largest"} & set(arrays))}
    if resumable:
        names.add("rows" if fits_in_rows(n, c) else "triangle")
        names |= {"third", "fourth"} if regularisation.needs_fourth else set()
    precision = precision_of_arrays(arrays)
    if precision is not None:
        names |= {*precision.arrays(), "shrinkage"}
    if set(arrays) != names or not (resumable or precision):
        _arguments.raise_error("file", f"arrays {sorted(names)}", f"{sorted(arrays)}")
    check_arrays(arrays, dtype, n)
    grid = _checked_grid(values["grid"], p)
    bare = State(
        grid,
        dtype,
        mean,
        regularisation,
        resolution=_arguments.number("resolution", values["resolution"], low=0),
        n_samples=n,
        sum_weights=w,
        sum_squared_sample_weights=v,
        limit=_checked_limit(values.get("limit")),
        feature_names=_checked_names(values.get("feature_names"), c),
    )
    return bare.with_arrays(arrays, grid, resumable=resumable)


def check_arrays(arrays: Mapping[str, Array], dtype: np.dtype[Any], n_samples: int | None) -> None:
    """Refuse arrays that are not as `_ARRAYS` says, and values that no model of these samples has."""
    p, c = arrays["mean"].shape
    lengths, longest = {"P": p, "C": c, "T": c * (c + 1) // 2}, {"D": c}
    if n_samples is not None:
        lengths["R"], longest["N"] = max(0, n_samples - 1), n_samples
    for name in sorted(arrays):
        a, (axes, kind, low) = arrays[name], _ARRAYS[name]
        for axis, length in zip(axes, a.shape, strict=False):
            lengths.setdefault(axis, min(length, longest.get(axis, length)))
        shape, wanted_dtype = tuple(lengths.get(axis, 0) for axis in axes), np.dtype(kind or dtype)
        if a.shape != shape or a.dtype != wanted_dtype:
            got = f"{a.dtype} of shape {a.shape}"
            _arguments.raise_error(name, f"{wanted_dtype} of shape {shape}", got)
        _arguments.finite(name, a)
        high = {"rank": c, "shrinkage": 1}.get(name, math.inf)
        if a.size and (a.min() < low or a.max() > high):
            _arguments.raise_error(name, f"numbers from {low} to {high}", f"{a.min()} to {a.max()}")
        if name.startswith("loo_") and (a[..., 1:] < a[..., :-1]).any():
            _arguments.raise_error(name, "distances in order", "others")


def precision_of_arrays(arrays: Mapping[str, Array]) -> Precision | None:
    """Return the precision of which these are the arrays, if they have one."""
    for kind in (Dense, LowRank):
        names = list(kind.__dataclass_fields__)
        if set(names) <= set(arrays):
            return kind(**{name: arrays[name] for name in names})
    return None


def _checked_counts(values: Mapping[str, Any], low: int) -> tuple[int, float, float]:
    """Return the number of samples, and the sums of their weights and of the squares of these."""
    n = _arguments.integer("n_samples", values["n_samples"], low=low)
    w = _arguments.number("sum_weights", values["sum_weights"], low=0)
    v = _arguments.number("sum_squared_weights", values["sum_squared_weights"], low=0)
    if v > w * w * (1 + 1e-9) or w * w > n * v * (1 + 1e-9):  # Cauchy & Schwarz
        _arguments.raise_error("sum_weights", f"sums of {n} weights and of their squares", f"{w:g} and {v:g}")
    return n, w, v


def _checked_grid(grid: Any, p: int) -> tuple[int, ...] | None:
    if grid is None:
        return None
    sides = tuple(_arguments.integer("grid", side, low=1) for side in grid)
    if len(sides) > 62 or math.prod(sides) != p:  # with samples and features, NumPy's 64 axes
        _arguments.raise_error("grid", f"{p} patches on at most 62 axes", _arguments.briefly(sides))
    return sides


def _checked_limit(limit: Any) -> Limit | None:
    if limit is None:
        return None
    value, n_samples = limit
    return Limit(_arguments.number("limit", value, low=0), _arguments.integer("limit", n_samples, low=0))


def _checked_names(names: Any, n_features: int) -> tuple[str, ...] | None:
    if names is None:
        return None
    if not isinstance(names, list) or len(names) != n_features or not all(isinstance(s, str) for s in names):
        _arguments.raise_error("feature_names", f"{n_features} strings", _arguments.briefly(names))
    return tuple(names)
