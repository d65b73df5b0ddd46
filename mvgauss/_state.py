"""A fitted model <-> plain values and arrays, as files keep them; earlier versions brought up to date."""

import math
from typing import Any

import numpy as np

from mvgauss import _arguments, _names, _triangular
from mvgauss._arguments import Array
from mvgauss._fitted import Fitted
from mvgauss._scatter import Scatter, in_rows
from mvgauss._shrinkage import Regularisation
from mvgauss._thin import of_arrays

_DOUBLE = np.dtype(np.float64)
_POSITIVE = {"rank", "shrinkage", "fourth", "scale", "ridge", "loo_distances", "loo_largest"}


def pack(fitted: Fitted) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return what makes a model again: plain values, and arrays."""
    numbers = ("grid", "n_samples", "sum_weights", "sum_squared_weights", "resolution")
    values = {name: getattr(fitted, name) for name in (*numbers, "limit", "default_limit")}
    values |= {"dtype": fitted.dtype.name, "resumable": fitted.scatter is not None}
    values["feature_names"] = None if fitted.feature_names is None else fitted.feature_names.tolist()
    values["regularisation"] = fitted.regularisation._asdict()
    return values, fitted.arrays


def unpack(version: int, values: dict[str, Any], arrays: dict[str, Array]) -> Fitted:
    """Return the model that `pack` described; refuse what does not fit together."""
    if version == 1:
        values, arrays = _from_version_1(values, arrays)
    how = Regularisation.checked(**values["regularisation"])
    if values["dtype"] not in ("float32", "float64"):
        _arguments.raise_error("dtype", "float32 or float64", _arguments.briefly(values["dtype"]))
    dtype = np.dtype(values["dtype"])
    mean = arrays["mean"]
    if mean.ndim != 2 or 0 in mean.shape:
        _arguments.raise_error("mean", "shape (P, C)", f"{mean.shape}")
    p, c = mean.shape
    n, w, v = _counts(values)
    resumable = _arguments.flag("resumable", values["resumable"])
    if resumable and not n:
        _arguments.raise_error("n_samples", "at least one", "0")
    form = ["rows"] if in_rows(n, c) else ["triangle"]
    if form == ["rows"] and "samples" in arrays and w == v == n:
        form = ["samples", "shift"]
    scatter = Scatter.of_arrays(arrays, c) if resumable and set(form) <= set(arrays) else None
    parts = scatter.of_factor() if scatter else {}
    factor = of_arrays(arrays, parts)
    names = {"mean", *({"loo_distances", "loo_largest"} & set(arrays)), *(factor.arrays() if factor else ())}
    names -= set(parts)
    if resumable:
        names |= {*form, *(("third", "fourth") if how.needs_fourth else ())}
    if set(arrays) != names or not (resumable or factor):
        _arguments.raise_error("file", f"arrays {sorted(names)}", f"{sorted(arrays)}")
    check_arrays(arrays, p, c, n if resumable else None, dtype)
    loo = arrays.get("loo_distances")
    if loo is not None and (loo.shape[1] != n or (np.diff(loo, axis=1) < 0).any()):
        got = f"shape {loo.shape}, or out of order"
        _arguments.raise_error("loo_distances", f"{n} of each patch in order", got)
    grid = values["grid"]
    if grid is not None:
        grid = tuple(_arguments.integer("grid", g, low=1) for g in grid)
        if math.prod(grid) != p:
            _arguments.raise_error("grid", f"{p} patches", f"{grid}")
    rest: dict[str, Any] = {
        name: arrays.get(name) for name in ("third", "fourth", "loo_distances", "loo_largest")
    }
    for name in ("limit", "default_limit"):
        if values.get(name) is not None:
            rest[name] = _arguments.number(name, values[name], low=0)
    return Fitted(
        grid=grid,
        dtype=dtype,
        mean=mean,
        regularisation=how,
        n_samples=n,
        sum_weights=w,
        sum_squared_weights=v,
        resolution=_arguments.number("resolution", values["resolution"], low=0),
        scatter=scatter,
        factor=factor,
        **rest,
        feature_names=_names.loaded(values.get("feature_names"), c),
    )


def _counts(values: dict[str, Any]) -> tuple[int, float, float]:
    """Return the number of samples, and the sums of their weights and of the squares of these."""
    n = _arguments.integer("n_samples", values["n_samples"], low=0)
    w = _arguments.number("sum_weights", values["sum_weights"], low=0)
    v = _arguments.number("sum_squared_weights", values["sum_squared_weights"], low=0)
    if v > w * w * (1 + 1e-9) or w * w > n * v * (1 + 1e-9):  # Cauchy & Schwarz
        _arguments.raise_error("sum_weights", f"sums of {n} weights and of their squares", f"{w:g} and {v:g}")
    return n, w, v


def check_arrays(arrays: dict[str, Array], p: int, c: int, n: int | None, dtype: np.dtype[Any]) -> None:
    """Refuse arrays of other shapes or kinds, and values that cannot be."""
    second = {name: a.shape[1] for name, a in arrays.items() if a.ndim > 1}
    rows, good, high = (second.get(name, 0) for name in ("small", "loo_distances", "root"))
    rows = rows if n is None else n - 1
    numbers = ("fourth", "scale", "ridge", "log_pdet", "shrinkage")
    expected = dict.fromkeys(numbers, ((p,), _DOUBLE)) | {
        "mean": ((p, c), _DOUBLE),
        "rows": ((p, rows, c), dtype if n is None else _DOUBLE),
        "samples": ((p, rows + 1, c), np.dtype(np.float32)),
        "shift": ((p, c), _DOUBLE),
        "triangle": ((p, c * (c + 1) // 2), _DOUBLE),
        "third": ((p, c), _DOUBLE),
        "root": ((p, min(high, c), c), dtype),
        "small": ((p, rows, rows), dtype),
        "rank": ((p,), np.dtype(np.int64)),
        "loo_distances": ((p, good), dtype),
        "loo_largest": ((good,), dtype),
    }
    for name in sorted(expected.keys() & arrays.keys()):
        a, (shape, kind) = arrays[name], expected[name]
        if a.shape != shape or a.dtype != kind:
            _arguments.raise_error(name, f"{kind} of shape {shape}", f"{a.dtype} of shape {a.shape}")
        _check_values(name, a, c)


def _check_values(name: str, a: Array, c: int) -> None:
    _arguments.finite(name, a)
    most = {"rank": c, "shrinkage": 1}.get(name, math.inf)
    if a.size and ((name in _POSITIVE and a.min() < 0) or a.max() > most):
        wanted = f"numbers from 0 to {'infinity' if most == math.inf else most}"
        _arguments.raise_error(name, wanted, f"{a.min()} to {a.max()}")


def _from_version_1(
    values: dict[str, Any], arrays: dict[str, Array]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Bring a file of version 1 up to date.

    There all scatters were triangles, moments might be single precision, factors of them made in
    single precision are made again, and weights were relative: scaled to the sum W^2 / V, with V the
    sum of their squares, they give the same covariances as counts.
    """
    known = {"mean", "scatter", "third", "fourth", "good", "factor", "rank", "log_pdet", "shrinkage"}
    if not set(arrays) <= known:
        _arguments.raise_error("file", f"arrays of {sorted(known)}", f"{sorted(arrays)}")
    for name, a in arrays.items():
        _check_values(name, a, arrays["mean"].shape[-1])
    new = values | {"resumable": "scatter" in arrays}
    new["regularisation"] = Regularisation.checked(*new.pop("how"))._asdict()
    new["resolution"] = float(np.finfo(np.float32).eps) if new["dtype"] == "float32" else 0.0
    n, w, v = _counts(new)
    scale = w / v if _arguments.flag("weighted", new.pop("weighted")) and v else 1.0
    new |= {"sum_weights": w * scale, "sum_squared_weights": v * scale**2}
    out = {name: a.astype(_DOUBLE) for name, a in arrays.items() if name in ("mean", "third", "fourth")}
    if "good" in arrays:
        out["loo_distances"] = arrays["good"]
    if "scatter" not in arrays:
        out |= {name: arrays[name] for name in ("rank", "log_pdet", "shrinkage")}
        return new, out | {"root": arrays["factor"]}
    triangle = arrays["scatter"].astype(_DOUBLE) * scale
    c = out["mean"].shape[-1]
    lower = _triangular.unpack(triangle, c)
    square = lower + np.tril(lower, -1).swapaxes(1, 2)
    values_, vectors = np.linalg.eigh(square)
    root = np.sqrt(np.maximum(values_, 0))[:, :, None] * vectors.swapaxes(1, 2)
    if in_rows(n, c):
        return new, out | {"rows": np.ascontiguousarray(root[:, c - max(n - 1, 0) :])}
    lower, rest = _triangular.root(square)
    lower[rest] = _triangular.root_of_rows(root[rest])
    _triangular.pack(lower, triangle)
    return new, out | {"triangle": triangle}
