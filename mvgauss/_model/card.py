"""The representations of a model: the call that makes it, and a card for notebooks that makes no factors."""

import inspect
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from html import escape
from numbers import Number
from typing import Any

import numpy as np

from mvgauss._arguments import Array
from mvgauss._model import decisions
from mvgauss._model.state import State
from mvgauss._runtime import threads

#: So many multiplications for condition numbers are not noticed; with more, a card looks at some patches.
WORK = 10**8

#: At most so many pixels along the longer side of a map.
PIXELS = 170

#: A picture has at most so many cells along an axis (a cell is then a mean), and so many slices.
CELLS, SLICES = 64, 12

#: Viridis in steps: perceptually uniform, safe for the colour-blind, monotone in grey.
COLOURS = (
    *("#440154", "#482173", "#433e85", "#38588c", "#2d708e", "#25858e"),
    *("#1e9b8a", "#2ab07f", "#52c569", "#86d549", "#c2df23", "#fde725"),
)

#: Colours are those of the page, so that every light and dark theme fits without being known. Notebooks
#: style the tables in them, by rules that only `!important` overrides.
STYLE = """
.mvgauss{color:inherit;font-family:system-ui,sans-serif;font-size:13px;line-height:1.45;
border:1px solid rgba(128,128,128,.4);border-radius:6px;display:inline-block;max-width:100%;
box-sizing:border-box;padding:8px 12px;margin:2px 0;text-align:left;overflow-x:auto}
.mvgauss .mvgauss-head{display:flex;flex-wrap:wrap;gap:4px 14px;align-items:baseline}
.mvgauss .mvgauss-head code{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:13px;font-weight:600;
color:inherit;background:none;border:0;padding:0;overflow-wrap:anywhere}
.mvgauss .mvgauss-state{opacity:.75}
.mvgauss .mvgauss-body{display:flex;flex-wrap:wrap;gap:12px 28px;align-items:flex-start;
border-top:1px solid rgba(128,128,128,.4);margin-top:6px;padding-top:8px}
.mvgauss table{display:table!important;table-layout:auto!important;border-collapse:collapse!important;
flex:0 1 auto;width:auto!important;max-width:35em;margin:0!important;border:0!important}
.mvgauss tr{background:none!important;border:0!important}
.mvgauss th,.mvgauss td{font-size:13px!important;line-height:1.45!important;text-align:left!important;
vertical-align:top!important;color:inherit!important;background:none!important;border:0!important;
padding:1px 0!important;white-space:normal!important;font-variant-numeric:tabular-nums}
.mvgauss th{font-weight:400!important;opacity:.75;padding-right:14px!important;white-space:nowrap!important}
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


def html(model: object, state: State | None) -> str:
    """Return the HTML of a model: its parameters, and what was fitted with a map of it."""
    status, body = "fitted", ""
    if state is not None:
        rows = "".join(
            f'<tr><th scope="row">{escape(k)}</th><td>{escape(v)}</td></tr>' for k, v in _facts(model, state)
        )
        body = f'<div class="mvgauss-body"><table><tbody>{rows}</tbody></table>{_figure(state)}</div>'
    elif any(getattr(model, name, None) is None for name in ("n_features", "n_patches")):
        status = "not fitted"
    else:
        status = "not fitted: zero means and identity covariances"
    return (
        f'<div class="mvgauss"><style>{STYLE}</style><div class="mvgauss-head">'
        f'<code>{escape(text(model))}</code><span class="mvgauss-state">{status}</span></div>{body}</div>'
    )


def _same(value: object, default: object) -> bool:
    """Return whether a parameter has its default; 1 and 1.0 are the same, arrays are not compared."""
    return value is default or (isinstance(value, (Number, str)) and bool(value == default))


def _written(name: str, value: Any) -> str:
    """Return how a parameter is written in Python; one that cannot be written, by its type."""
    if name == "dtype":
        with suppress(Exception):  # `fit` says what is wrong with it
            value = np.dtype(value).name
    try:
        return repr(value.item() if isinstance(value, np.generic) else value)
    except Exception:  # of a class of the user, or of a number of more digits than Python writes
        return f"<{type(value).__name__}>"


def _facts(model: object, state: State) -> Iterator[tuple[str, str]]:
    """Yield the rows of the table: a name and a value."""
    n, c, p, regularisation = state.n_samples, state.n_features, state.n_patches, state.regularisation
    if n:
        yield "samples", f"{n:,}" + (f", of total weight {_number(state.sum_weights)}" * state.weighted)
    else:
        yield "samples", "unknown, the model was made from parameters"
    yield "features", f"{c:,}"
    if n:
        few = ", too few with neither ridge nor shrinkage"
        yield "samples per feature", _number(n / c) + few * (n <= c and not regularisation.regularises)
    if state.grid == ():
        yield "grid", "none, one Gaussian"
    else:
        grid = state.shape
        sides = " \N{MULTIPLICATION SIGN} ".join(map(str, grid)) + " = " if len(grid) > 1 else ""
        yield "grid", f"{sides}{p:,} patch{'es'[: 2 * (p != 1)]}"
    size = state.nbytes / 1e6
    yield "memory", f"{_number(size) if size >= 0.01 else 'under 0.01'} MB, results in {state.dtype}"
    if state.precision is None:
        yield "rank", "known after the first score"
    else:
        yield "rank", f"{_range(state.precision.rank)} of {c:,}"
        yield "condition number", _condition(state)
        if isinstance(regularisation.shrinkage, str) and state.intensity is not None:
            yield "shrinkage", _range(state.intensity)
    values, description = _deviations(state)
    if values is not None:
        where = " everywhere" * (p > 1 and is_constant(values))
        yield "standard deviation", f"{_range(values)}{where}, {description}"
    laws = {
        "hotelling": "by Hotelling's distribution, exact",
        "hotelling-bound": "by Hotelling's distribution, at least the exact ones",
        "leave-one-out": f"by leave-one-out distances of {n:,} images",
        "chi2": "by chi-squared, of a known Gaussian",
        None: "none before calibrate()",
    }
    yield "p-values", laws[decisions.law_of(state)]
    if state.limit is not None:
        yield "threshold", _number(state.limit.value)
    parameters = regularisation._asdict()
    if state.moments is None:
        yield "fitting", "not possible, the moments were not saved"
    elif not all(_same(getattr(model, name, None), value) for name, value in parameters.items()):
        yield "fitted with", ", ".join(f"{name}={value!r}" for name, value in parameters.items())


def _condition(state: State) -> str:
    """Return the condition numbers that `diagnostics` gives: of all patches, or of a part of many."""
    precision, c = state.required_precision(), state.n_features
    # a factor of n < C samples works on matrices of that size
    side = min(c, 2 * state.n_samples or math.inf)
    total, count = state.n_patches, int(WORK / side**3)
    if not count:
        return "see diagnostics()"
    every = math.ceil(total / count)
    with threads.held():
        values = precision[::every].condition()
    finite = values[np.isfinite(values)]
    infinite = np.count_nonzero(precision.rank < c)
    words = []
    if finite.size:
        part = f" in {len(values):,} of {total:,} patches, see diagnostics()"
        words.append(_range(finite) + part * (every > 1))
    if infinite:
        words.append(f"infinite in {infinite:,} of {total:,} patches")
    return "; ".join(words)


def _deviations(state: State) -> tuple[Array | None, str]:
    """Return a typical standard deviation of the features of each patch, if known, and what it is."""
    divisor = state.sum_weights - state.regularisation.ddof
    if state.moments is not None and divisor > 0:
        variance = state.variance().mean(axis=1) * (state.sum_weights / divisor)
        values, description = np.sqrt(variance), "the root of the mean variance"
    elif state.precision is not None:
        values = np.exp(state.precision.log_pdet / (2 * np.maximum(state.precision.rank, 1)))
        description = "the geometric mean over all directions"
    else:
        return None, ""
    return values if np.isfinite(values).all() else None, description


def is_constant(values: Array) -> bool:
    """Return whether all patches agree, up to rounding, which is no pattern."""
    return bool(np.isclose(values, values.flat[0], rtol=1e-6, atol=0).all())


def _figure(state: State) -> str:
    """Return the map of the standard deviations over the grid, with its scale and caption."""
    values, _ = _deviations(state)
    if values is None or is_constant(values):
        return ""
    low, high = float(values.min()), float(values.max())
    cells, note = _laid_out(values.reshape(state.shape))
    # a strip is as high as can be seen, and the cells of a picture are squares
    side = PIXELS // max(cells.shape)
    size = (side, 18 if len(cells) == 1 else side)
    name = f"standard deviation by patch, {_number(low)} to {_number(high)}"
    bar = _svg(np.linspace(0, 1, len(COLOURS))[None], (7, 10), "colour scale")
    return (
        f'<div class="mvgauss-map">{_svg((cells - low) / (high - low), size, name)}'
        f'<div class="mvgauss-scale"><span>{_number(low)}</span> {bar} <span>{_number(high)}</span></div>'
        f"standard deviation by patch{escape(note)}</div>"
    )


def _laid_out(values: Array) -> tuple[Array, str]:
    """Return a grid as one picture, NaN where there is nothing, and what was done to fit it in."""
    slices = np.atleast_2d(values)
    slices = slices.reshape(-1, *slices.shape[-2:])
    shown = slices[:SLICES]
    columns = math.ceil(math.sqrt(len(shown)))
    most = PIXELS if shown.shape[:2] == (1, 1) else CELLS // columns
    step = math.ceil(max(shown.shape[1:]) / most)
    note = f"; a cell is a mean over {step} patches" if step > 1 else ""
    if step > 1 and shown.shape[1] > 1:
        note += " along each axis"
    if len(slices) > 1:
        count = "all" if len(shown) == len(slices) else f"the first {len(shown)} of"
        note += f"; {count} {len(slices):,} slices of the last two axes"
    n, height, width = shown.shape
    down, across = min(step, height), min(step, width)
    # means over squares of patches, smaller ones at the far edges
    padded = np.pad(shown, ((0, 0), (0, -height % down), (0, -width % across)), constant_values=np.nan)
    cells = np.nanmean(padded.reshape(n, math.ceil(height / down), down, -1, across), axis=(2, 4))
    # a gap below and beside each slice, and empty places after the last one
    tiles = np.pad(cells, ((0, -n % columns), (0, 1), (0, 1)), constant_values=np.nan)
    rows = tiles.reshape(-1, columns, *tiles.shape[1:]).swapaxes(1, 2)
    return rows.reshape(-1, columns * tiles.shape[2])[:-1, :-1], note


def _svg(values: Array, size: tuple[int, int], name: str) -> str:
    """Draw numbers from 0 to 1 as coloured cells: one path for each colour, its runs as lines."""
    rows, columns = values.shape
    levels = np.nan_to_num(np.minimum(values * len(COLOURS), len(COLOURS) - 1), nan=-1).astype(int)
    runs = [""] * len(COLOURS)
    for y, row in enumerate(levels):
        starts = np.flatnonzero(np.diff(row, prepend=-2))
        for x, length in zip(starts, np.diff(starts, append=columns), strict=True):
            if row[x] >= 0:
                runs[row[x]] += f"M{x} {y}h{length}"
    paths = "".join(f'<path stroke="{c}" d="{d}"/>' for c, d in zip(COLOURS, runs, strict=True) if d)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{columns * size[0]}" height="{rows * size[1]}" '
        f'viewBox="0 -.5 {columns} {rows}" preserveAspectRatio="none" shape-rendering="crispEdges" '
        f'role="img" aria-label="{name}">{paths}</svg>'
    )


def _range(values: Array | Sequence[float]) -> str:
    low, high = _number(float(np.min(values))), _number(float(np.max(values)))
    return low if low == high else f"{low} \N{EN DASH} {high}"


def _number(value: float) -> str:
    """Return three digits of a number, with an exponent only where it is shorter."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{float(f'{value:.3g}'):,.9g}"
    return f"{value:.2e}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")
