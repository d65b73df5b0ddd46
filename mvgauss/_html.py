"""How a model shows itself: a line that makes it again, and a card for notebooks.

Nothing here starts a computation on matrices: the card tells what the model has at hand, in one pass
over the diagonals and at most `ENTRIES` entries of the factors.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from html import escape
from numbers import Number
from typing import Any

import numpy as np

from mvgauss._checks import Array
from mvgauss._fitted import Fitted

#: How many entries of the factors a card may read; beyond, it looks at every k-th patch only.
ENTRIES = 1 << 24

#: At most so many pixels along the longer side of a map.
PIXELS = 170

#: A picture has at most so many cells along an axis (a cell is then a mean), and so many slices.
CELLS, SLICES = 64, 12

#: Viridis in steps: perceptually uniform, safe for the colour-blind, monotone in grey.
COLOURS = (
    *("#440154", "#482173", "#433e85", "#38588c", "#2d708e", "#25858e"),
    *("#1e9b8a", "#2ab07f", "#52c569", "#86d549", "#c2df23", "#fde725"),
)

#: Colours are those of the page, so that every light and dark theme fits without being known.
STYLE = """
.mvgauss{color:inherit;font-family:system-ui,sans-serif;font-size:13px;line-height:1.45;
border:1px solid rgba(128,128,128,.4);border-radius:6px;display:inline-block;max-width:100%;
box-sizing:border-box;padding:8px 12px;margin:2px 0;text-align:left}
.mvgauss .mvgauss-head{display:flex;flex-wrap:wrap;gap:4px 14px;align-items:baseline}
.mvgauss .mvgauss-head code{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:13px;font-weight:600;
color:inherit;background:none;border:0;padding:0;overflow-wrap:anywhere}
.mvgauss .mvgauss-body{display:flex;flex-wrap:wrap;gap:12px 28px;align-items:flex-start;
border-top:1px solid rgba(128,128,128,.4);margin-top:6px;padding-top:8px}
.mvgauss dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:1px 14px;margin:0;
flex:0 1 auto;max-width:35em}
.mvgauss dt,.mvgauss dd{margin:0;padding:0;font-size:13px;color:inherit;float:none;width:auto}
.mvgauss dt,.mvgauss .mvgauss-state{font-weight:400;opacity:.75}
.mvgauss dd{font-variant-numeric:tabular-nums}
.mvgauss .mvgauss-map{flex:none;font-size:12px;max-width:15em}
.mvgauss svg{display:block;max-width:100%}
.mvgauss .mvgauss-scale{margin-top:4px;display:flex;gap:6px;align-items:center;
font-variant-numeric:tabular-nums}
"""


def text(model: object) -> str:
    """Return the call that makes a model with these parameters; those with the defaults are left out."""
    given = []
    for name, parameter in inspect.signature(type(model)).parameters.items():
        value = getattr(model, name, parameter.default)
        if not _same(value, parameter.default):
            given.append(f"{name}={_written(name, value)}")
    return f"{type(model).__name__}({', '.join(given)})"


def card(model: object, fitted: Fitted | None) -> str:
    """Return the HTML of a model: its parameters, and what was fitted with a map of it."""
    if fitted is None:
        sizes = (getattr(model, "n_features", None), getattr(model, "n_patches", None))
        state = "not fitted" + ("" if None in sizes else ": zero means and identity covariances")
        body = ""
    else:
        state = "fitted"
        rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in _facts(model, fitted))
        body = f'<div class="mvgauss-body"><dl>{rows}</dl>{_figure(fitted)}</div>'
    return (
        f'<div class="mvgauss"><style>{STYLE}</style><div class="mvgauss-head">'
        f'<code>{escape(text(model))}</code><span class="mvgauss-state">{state}</span></div>{body}</div>'
    )


def _same(value: object, default: object) -> bool:
    """Return whether a parameter has its default; 1 and 1.0 are the same, arrays are not compared."""
    if isinstance(value, Number) and isinstance(default, Number):
        return bool(value == default)
    return value is default


def _written(name: str, value: Any) -> str:
    """Return how a parameter is written in Python."""
    if name == "dtype":
        try:
            return repr(np.dtype(value).name)
        except TypeError:
            return repr(value)
    return repr(value.item() if isinstance(value, np.generic) else value)


def _facts(model: object, fitted: Fitted) -> Iterator[tuple[str, str]]:
    """Yield names and values, of what is known without factoring anything."""
    n, c, p, how = fitted.n_samples, fitted.n_features, fitted.n_patches, fitted.how
    if not n:
        yield "samples", "unknown, the model was made from parameters"
    else:
        worth = fitted.sum_weights**2 / fitted.sum_squared_weights
        yield "samples", f"{n:,}" + (f", by their weights worth {_number(worth)}" if fitted.unequal else "")
    yield "features", f"{c:,}"
    if fitted.grid == ():
        yield "grid", "none, one Gaussian"
    else:
        grid = fitted.grid or (p,)
        sides = " \N{MULTIPLICATION SIGN} ".join(map(str, grid)) + " = " if len(grid) > 1 else ""
        yield "grid", f"{sides}{p:,} patch{'es'[: 2 * (p != 1)]}"
    size = fitted.nbytes / 1e6
    yield "memory", f"{_number(size) if size >= 0.01 else 'under 0.01'} MB, results in {fitted.dtype}"
    factors = fitted.factors
    if factors is None:
        yield "rank", "known after the first score"
    else:
        yield "rank", f"{_range(factors.rank)} of {c:,}"
    condition = _condition(fitted)
    if condition:
        yield "condition number", condition
    if factors is not None and isinstance(how.shrinkage, str):
        yield "shrinkage", _range(factors.shrinkage)
    good = fitted.good
    yield (
        "law of p-values",
        {
            "hotelling": "Hotelling, exact",
            "leave-one-out": f"leave-one-out, by {0 if good is None else good.shape[1]:,} fitted images",
            "chi2": "chi-squared, rough" + ("; see calibrate()" if fitted.scatter is not None else ""),
        }[fitted.law],
    )
    if fitted.limit is not None:
        yield "threshold", _number(fitted.limit)
    if fitted.scatter is None:
        yield "fitting", "cannot go on, the moments were not kept"
        return
    now = [getattr(model, name, None) for name in how._fields]
    if not all(a == b if isinstance(b, str) else _same(a, b) for a, b in zip(now, how, strict=True)):
        yield "fitted with", ", ".join(f"{k}={v!r}" for k, v in how._asdict().items())


def _traces(fitted: Fitted) -> Array | None:
    """Return the traces of the covariances before they were regularised, ``(P,)``, if there are any."""
    w = fitted.sum_weights
    divisor = w - fitted.how.ddof * fitted.sum_squared_weights / w if w else 0.0
    if fitted.scatter is None or divisor <= 0:
        return None
    i = np.arange(fitted.n_features)
    diagonals = fitted.scatter[:, i * (i + 3) // 2]  # of lower triangles, row after row
    return np.asarray(diagonals.sum(axis=1, dtype=np.float64) / divisor)


def _condition(fitted: Fitted) -> str:
    r"""Return a bound of the condition numbers, where one is cheap.

    The smallest eigenvalue is at least low, the larger of the ridge (with that of the shrinkage) and
    :math:`1 / \operatorname{tr} \hat\Sigma^{-1}`, and the largest at most
    :math:`\operatorname{tr} \hat\Sigma` less C - 1 times low.
    """
    trace, factors, c = _traces(fitted), fitted.factors, fitted.n_features
    if trace is None:
        return ""
    if factors is None:
        rho = fitted.how.shrinkage if isinstance(fitted.how.shrinkage, float) else 0.0
        full, every = np.ones(len(trace), bool), 1
        low = fitted.how.reg_covar + rho * trace / c
    else:
        full = factors.rank == c
        every = max(1, math.ceil(factors.factor.size / ENTRIES))
        trace, part = trace[::every], factors.factor[::every]
        with np.errstate(all="ignore"):
            inverse = np.einsum("pij,pij->p", part, part, dtype=np.float64)  # tr W'W
            low = fitted.how.reg_covar + factors.shrinkage[::every] * trace / c
            low = np.fmax(low, 1 / inverse)
    with np.errstate(all="ignore"):
        bound = ((trace + c * fitted.how.reg_covar - (c - 1) * low) / low)[full[::every]]
    words = []
    if bound.size and np.isfinite(bound).all():
        words.append(f"at most {_range(np.maximum(bound, 1))}")
        words[0] += "" if every == 1 else f" in {len(trace):,} of {len(full):,} patches"
    if not full.all():
        words.append(f"infinite in {np.count_nonzero(~full):,} of {len(full):,} patches")
    return ", ".join(words) + "; see diagnostics()" * bool(words)


def _deviations(fitted: Fitted) -> tuple[Array | None, str]:
    """Return a typical standard deviation of the features of each patch, and what it is."""
    trace, factors = _traces(fitted), fitted.factors
    if trace is not None:
        values = np.sqrt(np.maximum(trace, 0) / fitted.n_features)
        return values, "standard deviation, the root of the mean variance"
    if factors is None:
        return None, ""
    values = np.exp(factors.log_pdet / (2 * np.maximum(factors.rank, 1)))
    return values, "standard deviation, the geometric mean over all directions"


def _figure(fitted: Fitted) -> str:
    """Return the map of the standard deviations over the grid, with its scale and caption."""
    values, what = _deviations(fitted)
    if values is None or not np.isfinite(values).any():
        return ""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if fitted.grid == ():
        return f'<div class="mvgauss-map">{escape(what)}: {_number(low)}</div>'
    cells, note = _laid_out(values.reshape(fitted.grid or (len(values),)))
    span = high - low
    flat = span <= 1e-6 * abs(high)  # rounding is no pattern
    scaled = np.full(cells.shape, 0.5) if flat else (cells - low) / span
    scaled[np.isnan(cells)] = np.nan
    # a strip is as high as can be seen, and the cells of a picture are squares
    wide = max(1, PIXELS // cells.shape[1])
    size = (wide, 18) if len(cells) == 1 else (max(1, min(wide, PIXELS // cells.shape[0])),) * 2
    name = escape(f"{what} by patch, {_number(low)} to {_number(high)}", quote=True)
    scale = f"{_number(low)} everywhere"
    if not flat:
        bar = _svg(np.linspace(0, 1, len(COLOURS))[None], (7, 10), "colour scale")
        scale = f"<span>{_number(low)}</span>{bar}<span>{_number(high)}</span>"
    return (
        f'<div class="mvgauss-map">{_svg(scaled, size, name)}<div class="mvgauss-scale">{scale}</div>'
        f"{escape(what + note)}</div>"
    )


def _laid_out(values: Array) -> tuple[Array, str]:
    """Return a grid as one picture, NaN where there is nothing, and what was done to fit it in."""
    if values.ndim == 1:
        values = values[None]
    slices = values.reshape(-1, *values.shape[-2:])
    shown = slices[:SLICES]
    columns = math.ceil(math.sqrt(len(shown)))
    most = PIXELS if shown.shape[:2] == (1, 1) else max(1, CELLS // columns)
    step = max(math.ceil(n / most) for n in shown.shape[1:])
    tiles = [_averaged(s, step) for s in shown]
    height, width = tiles[0].shape
    rows = math.ceil(len(shown) / columns)
    picture = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for k, tile in enumerate(tiles):
        top, left = k // columns * (height + 1), k % columns * (width + 1)
        picture[top : top + height, left : left + width] = tile
    along = "" if shown.shape[1] == 1 else " along each axis"
    note = "" if step == 1 else f"; a cell is a mean over {step} patches{along}"
    if len(slices) > 1:
        count = "all" if len(shown) == len(slices) else f"the first {len(shown)} of"
        note += f"; {count} {len(slices):,} slices of the last two axes"
    return picture, note


def _averaged(picture: Array, step: int) -> Array:
    """Return the means of squares of `step` times `step`, smaller ones at the far edges."""
    sums, counts = picture, np.ones(picture.shape)
    for axis in (0, 1):
        starts = np.arange(0, picture.shape[axis], step)
        sums, counts = (np.add.reduceat(a, starts, axis=axis) for a in (sums, counts))
    return np.asarray(sums / counts)


def _svg(values: Array, size: tuple[int, int], name: str) -> str:
    """Draw numbers from 0 to 1 as coloured cells: one path for each colour, its runs as lines."""
    rows, columns = values.shape
    with np.errstate(invalid="ignore"):
        levels = np.where(
            np.isfinite(values), np.clip(values * len(COLOURS), 0, len(COLOURS) - 1).astype(int), -1
        )
    runs: list[list[str]] = [[] for _ in COLOURS]
    for y, row in enumerate(levels):
        starts = np.flatnonzero(np.diff(row, prepend=-2))
        for x, length in zip(starts, np.diff(starts, append=columns), strict=True):
            if row[x] >= 0:
                runs[row[x]].append(f"M{x} {y}h{length}")
    paths = "".join(
        f'<path stroke="{colour}" d="{"".join(d)}"/>' for colour, d in zip(COLOURS, runs, strict=True) if d
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{columns * size[0]}" height="{rows * size[1]}" '
        f'viewBox="0 -.5 {columns} {rows}" preserveAspectRatio="none" shape-rendering="crispEdges" '
        f'role="img" aria-label="{name}"><title>{name}</title>{paths}</svg>'
    )


def _range(values: Array | Sequence[float]) -> str:
    """Return the smallest and the largest number."""
    low, high = _number(float(np.min(values))), _number(float(np.max(values)))
    return low if low == high else f"{low} \N{EN DASH} {high}"


def _number(value: float) -> str:
    """Return three digits of a number, with an exponent only where it is shorter."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        digits = 2 - math.floor(math.log10(abs(value))) if value else 0
        short = f"{round(value, digits):,.{max(digits, 0)}f}"
        return short.rstrip("0").rstrip(".") if "." in short else short
    return f"{value:.2e}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")
