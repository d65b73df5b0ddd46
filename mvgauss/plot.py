"""Pictures of models and scores, with matplotlib (the extra ``plot``).

The functions draw into the axes or the figure they are given, or else where `matplotlib.pyplot` draws
next, and return them. None of them shows or saves anything, and none changes a setting.

Colour maps are perceptually uniform, so they are safe for the colour-blind and read in grey.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mvgauss import _checks, _scores
from mvgauss._checks import Array
from mvgauss._fitted import Fitted
from mvgauss._gaussian import MultiVariateGaussian

try:
    import matplotlib as mpl
except ImportError as error:  # pragma: no cover
    raise ImportError(
        "mvgauss.plot: expected the package matplotlib, got none; pip install 'mvgauss[plot]'"
    ) from error
from matplotlib import colors, patheffects, ticker
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Ellipse

__all__ = ["anomaly_maps", "diagnostics", "ellipse", "qq"]

#: The x axis of `qq` for each law: an approximation does not go by the name of an exact law.
_LAWS = {
    "hotelling": "quantiles of Hotelling's law, exact",
    "leave-one-out": "quantiles of the leave-one-out distances",
    "chi2": "quantiles of chi-squared, an approximation",
}

#: What `diagnostics` draws: the title of each map.
_TITLES = {
    "rank": "rank",
    "condition": "condition number",
    "effective_samples": "effective samples",
    "shrinkage": "shrinkage intensity",
    "kurtosis": "kurtosis / that of a Gaussian",
}

#: A plot of quantiles has about so many points, half of them in the upper tail.
_POINTS = 1000


def anomaly_maps(
    images: ArrayLike,
    maps: ArrayLike,
    masks: ArrayLike | None = None,
    *,
    titles: Sequence[str] | None = None,
    vmax: float | None = None,
    cmap: str | colors.Colormap = "inferno",
    columns: int | None = None,
    fig: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw images, and below each its anomaly map, all on one colour scale.

    Parameters
    ----------
    images : array_like, shape (M, height, width) or (M, height, width, 3 or 4)
        The images, in grey or colour: whole numbers from 0 to 255, or floats from 0 to 1.
    maps : array_like, shape (M, H, W)
        Their distances in standard deviations, at any resolution: as `anomaly_map` gives them, or as
        `MultiVariateGaussian.mahalanobis` does.
    masks : array_like, shape (M, height, width), optional
        True defects, not zero inside, at any resolution; outlined on the maps.
    titles : sequence of str, optional
        One for each image.
    vmax : float, optional
        Distance at the upper end of the colour scale, the largest of all maps by default. The lower
        end is 0.
    cmap : str or Colormap, default "inferno"
        Colour map.
    columns : int, optional
        How many images side by side; by default all up to 12, else rows of equal length.
    fig : Figure or SubFigure, optional
        Where to draw; by default a new figure of `matplotlib.pyplot`, in constrained layout.

    Returns
    -------
    Figure or SubFigure
        The figure: for each row of images its axes, then those of the maps below; last the colour bar.

    Raises
    ------
    ValueError
        If the shapes do not go together, or there is a number that cannot be drawn.
    TypeError
        If an argument is of the wrong kind.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from mvgauss import plot
    >>> figure = plot.anomaly_maps(np.zeros((2, 8, 8)), np.ones((2, 4, 4)), fig=Figure())
    >>> len(figure.axes), figure.axes[-1].get_ylabel()
    (5, 'standard deviations')
    """
    x, d = _checks.array("images", images), _checks.array("maps", maps)
    colour = x.ndim == 4 and x.shape[3] in (3, 4)
    if not (x.ndim == 3 or colour) or 0 in x.shape:
        hint = "the colours go last: images.transpose(0, 2, 3, 1)" if x.ndim == 4 else ""
        wanted = "shape (M, height, width), or (M, height, width, 3 or 4) for colours"
        _checks.refuse("images", wanted, f"shape {x.shape}", hint=hint)
    if x.dtype.kind == "f":
        x = x.astype(np.float64)
    high = 1 if x.dtype.kind in "fb" else 255
    _checks.finite("images", x)
    if x.min() < 0 or x.max() > high:
        _checks.refuse(
            "images",
            f"{'whole numbers' if high > 1 else 'floats'} from 0 to {high}",
            f"{x.min():.4g} to {x.max():.4g}",
            hint="undo the normalisation that was made for the network" if high == 1 else "",
        )
    n = len(x)
    _pictures("maps", d, n)
    if titles is not None and (isinstance(titles, str) or len(titles) != n):
        _checks.refuse("titles", f"{n} titles, one for each image", _checks.briefly(titles))
    m = None if masks is None else _checks.array("masks", masks) != 0
    if m is not None:
        _pictures("masks", m, n)
    top = float(d.max())
    limit = top if vmax is None else _checks.number("vmax", vmax, low=0, above=True)
    columns = math.ceil(n / math.ceil(n / 12)) if columns is None else columns
    columns = min(_checks.integer("columns", columns, low=1), n)
    rows = math.ceil(n / columns)
    if isinstance(cmap, str) and cmap not in mpl.colormaps:
        _checks.refuse("cmap", "the name of a colour map of matplotlib", _checks.briefly(cmap))
    if fig is not None and not isinstance(fig, (Figure, SubFigure)):
        _checks.refuse("fig", "a Figure of matplotlib", type(fig).__name__, TypeError)

    scale = colors.Normalize(0, limit or 1.0)
    if fig is None:
        side = min(2.0, max(1.0, 12 / columns))
        size = (columns * side + 0.9, rows * (2 * side * x.shape[1] / x.shape[2] + 0.4))
        fig = plt.figure(figsize=size, layout="constrained")
        engine = fig.get_layout_engine()
        assert engine is not None
        engine.set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)  # type: ignore[call-arg]
    axes = fig.subplots(2 * rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.set_visible(False)
    for i in range(n):
        above, below = axes[2 * (i // columns) : 2 * (i // columns) + 2, i % columns]
        above.set_visible(True)
        below.set_visible(True)
        if titles is not None:
            above.set_title(titles[i], fontsize="medium")
        above.imshow(x[i], cmap="gray", vmin=0, vmax=high)
        heat = below.imshow(d[i], cmap=cmap, norm=scale)
        if m is not None and m[i].any():
            _outline(below, m[i], heat.get_extent())
    extend = "max" if top > limit else "neither"
    bar = fig.colorbar(heat, ax=axes, aspect=20 * rows, pad=0.01, extend=extend)
    bar.set_label("standard deviations")
    return fig


def diagnostics(
    model: MultiVariateGaussian, embedding: ArrayLike | None = None, *, axes: Any = None
) -> Array:
    r"""Draw the diagnostics of a model over its grid of patches.

    A grid of two axes is drawn as pictures, one of fewer axes as points, and one of more axes as
    pictures one below another. Singular covariances, whose condition is infinite, are left hatched. Where
    all patches agree, the number stands below.

    Parameters
    ----------
    model : MultiVariateGaussian
        A fitted model.
    embedding : array_like, shape (N, C, *grid), optional
        The embeddings that the model was fitted on; adds a map of the kurtosis, in units of that of a
        Gaussian.
    axes : sequence of Axes, optional
        Where to draw: four, or five with `embedding`; by default a new figure of
        `matplotlib.pyplot`.

    Returns
    -------
    ndarray of Axes, shape (4,) or (5,)
        The axes: rank, condition number, effective samples, shrinkage intensity, and kurtosis.

    Raises
    ------
    ValueError
        As `MultiVariateGaussian.diagnostics`, or if there is another number of axes.
    TypeError
        If `model` is no `MultiVariateGaussian`.

    See Also
    --------
    MultiVariateGaussian.diagnostics : The numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from mvgauss import MultiVariateGaussian, plot
    >>> model = MultiVariateGaussian().fit(np.arange(24.0).reshape(3, 2, 2, 2))
    >>> axes = plot.diagnostics(model, axes=Figure().subplots(1, 4))
    >>> for ax in axes:
    ...     print(f"{ax.get_title()}: {ax.get_xlabel()}")
    rank: 2 everywhere
    condition number: 1.28e+04 everywhere
    effective samples: 3 everywhere
    shrinkage intensity: 0 everywhere
    """
    _model(model)
    maps = model.diagnostics(embedding)
    if embedding is not None:
        expected = maps.pop("kurtosis_expected")
        kurtosis = maps["kurtosis"] / np.where(expected > 0, expected, np.nan)
        maps["kurtosis"] = np.asarray(kurtosis)
    if axes is None:
        shape = maps["rank"].shape
        flat = len(shape) < 2
        high = 2.4 if flat else min(12.0, max(1.6, 2.6 * math.prod(shape[:-1]) / shape[-1]))
        figure = plt.figure(figsize=((3.2 if flat else 3.4) * len(maps), high + 0.4), layout="constrained")
        axes = figure.subplots(1, len(maps))
    drawn = np.asarray(axes, dtype=object).ravel()
    if len(drawn) != len(maps) or not all(isinstance(ax, Axes) for ax in drawn):
        _checks.refuse("axes", f"{len(maps)} Axes, one for each map", _checks.briefly(axes))
    for ax, (name, values) in zip(drawn, maps.items(), strict=True):
        ax.set_title(_TITLES[name])
        if values.ndim < 2:
            _points(ax, np.atleast_1d(values), name)
        else:
            _picture(ax, values, name)
    return drawn


def ellipse(
    mean: ArrayLike,
    covariance: ArrayLike,
    *,
    level: float | Sequence[float] = 0.95,
    ax: Axes | None = None,
    **style: Any,
) -> list[Ellipse]:
    r"""Draw the ellipses that hold given probabilities of a Gaussian of two features.

    Parameters
    ----------
    mean : array_like, shape (2,)
        Mean.
    covariance : array_like, shape (2, 2)
        Covariance: positive semi-definite. Of a model, that of features i and j of patch p is
        ``model.covariance[p][np.ix_([i, j], [i, j])]``.
    level : float or sequence of float, default 0.95
        Probabilities inside, between 0 and 1.
    ax : Axes, optional
        Where to draw; by default the current axes of `matplotlib.pyplot`.
    **style : object
        Properties of the patches, as of `matplotlib.patches.Ellipse`. By default they are not filled,
        and the lines solid, dashed, dash-dotted and dotted in the order of the levels.

    Returns
    -------
    list of Ellipse
        The patches, one for each level, with labels for a legend.

    Raises
    ------
    ValueError
        If an argument has the wrong shape or value, as a covariance that is not positive
        semi-definite.
    TypeError
        If an argument is of the wrong kind.

    Notes
    -----
    The squared distance of two features follows :math:`\chi^2_2`, so that the points of probability
    :math:`\alpha` lie within the distance :math:`\sqrt{-2 \log(1 - \alpha)}`. This is the law of a mean
    and covariance that are known; where they are estimated from few samples, fewer new samples lie
    inside.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from mvgauss import plot
    >>> (patch,) = plot.ellipse([1, 2], np.diag([9, 4]), level=1 - np.exp(-0.5), ax=Figure().subplots())
    >>> float(round(patch.width, 9)), float(round(patch.height, 9))
    (6.0, 4.0)
    """
    mu, sigma = _checks.array("mean", mean), _checks.array("covariance", covariance)
    if mu.shape != (2,):
        _checks.refuse("mean", "shape (2,)", f"shape {mu.shape}", hint="choose two features")
    if sigma.shape != (2, 2):
        _checks.refuse("covariance", "shape (2, 2)", f"shape {sigma.shape}", hint="choose two features")
    _checks.finite("mean", mu)
    _checks.finite("covariance", sigma)
    sigma = sigma.astype(np.float64)
    size = np.abs(sigma).max()
    if abs(sigma[0, 1] - sigma[1, 0]) > 1e-5 * size:
        _checks.refuse("covariance", "a symmetric matrix", _checks.briefly(sigma.tolist()))
    values, vectors = np.linalg.eigh(sigma)
    if values[0] < -1e-5 * size:
        _checks.refuse("covariance", "a positive semi-definite matrix", f"eigenvalue {values[0]:.3g}")
    several = isinstance(level, (Sequence, np.ndarray)) and np.ndim(level) > 0
    levels = [_checks.number("level", v, low=0, above=True) for v in (level if several else [level])]  # type: ignore[union-attr]
    for v in levels:
        if v >= 1:
            _checks.refuse("level", "probabilities between 0 and 1", f"{v:g}")
    ax = _axes(ax)
    # the axis nearest to the first feature is the width, so that a diagonal is not turned
    first = int(abs(vectors[0, 1]) >= abs(vectors[0, 0]))
    along = vectors[:, first] * (1 if vectors[0, first] >= 0 else -1)
    sides = 2 * np.sqrt(np.maximum(values[[first, 1 - first]], 0))
    patches = []
    for i, v in enumerate(levels):
        width, height = sides * math.sqrt(-2 * math.log1p(-v))
        look = {
            "fill": False,
            "edgecolor": mpl.rcParams["axes.edgecolor"],
            "linestyle": ("-", "--", "-.", ":")[i % 4],
            "linewidth": mpl.rcParams["lines.linewidth"],
            "label": f"{100 * v:.4g} %",
        }
        turn = math.degrees(math.atan2(along[1], along[0]))
        patch = Ellipse((float(mu[0]), float(mu[1])), width, height, angle=turn)
        patch.set(**look)
        patch.set(**style)
        ax.add_patch(patch)
        patches.append(patch)
    ax.autoscale_view()
    return patches


def qq(distances: ArrayLike, model: MultiVariateGaussian, *, ax: Axes | None = None) -> Axes:
    r"""Draw the distances of new good images against the law that the model has for them.

    Where the model is right the points follow the line. Above it, real distances are larger than the
    law has them, and p-values too small.

    Parameters
    ----------
    distances : array_like, shape (M, *grid)
        Distances of M good images that were not fitted, as `MultiVariateGaussian.mahalanobis` gives
        them, in standard deviations.
    model : MultiVariateGaussian
        The model that gave them.
    ax : Axes, optional
        Where to draw; by default the current axes of `matplotlib.pyplot`.

    Returns
    -------
    Axes
        The axes; the first line has the points, the second is the diagonal.

    Raises
    ------
    ValueError
        If the model is not fitted, or the distances are not finite, negative or of another grid.
    TypeError
        If an argument is of the wrong kind.

    See Also
    --------
    MultiVariateGaussian.p_value : The three laws.
    MultiVariateGaussian.calibrate : For a model without an exact law.

    Notes
    -----
    All patches are pooled: the law is the mixture of those of the patches, of equal shares. The i-th
    smallest of n distances stands at the probability :math:`(i - \tfrac12) / n`; of many distances
    about a thousand are drawn, more of them in the upper tail. Patches of one image are not
    independent, nor are images scored by one model, so that points scatter more than as many
    independent ones would.

    The axis names the law of `MultiVariateGaussian.p_value_law`: ``"hotelling"`` is exact,
    ``"leave-one-out"`` are the distances that the model was calibrated with, and ``"chi2"`` is an
    approximation, which points may leave though the model is right.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from mvgauss import MultiVariateGaussian, plot
    >>> x = np.random.default_rng(0).normal(size=(80, 3, 4))
    >>> model = MultiVariateGaussian(reg_covar=0).fit(x[:40])
    >>> ax = plot.qq(model.mahalanobis(x[40:]), model, ax=Figure().subplots())
    >>> print(ax.get_xlabel())
    quantiles of Hotelling's law, exact
    (standard deviations)
    """
    fitted = _model(model)
    d = _checks.array("distances", distances)
    grid = (fitted.n_patches,) if fitted.grid is None else fitted.grid
    fits = d.shape[1:] == grid if fitted.grid is not None else math.prod(d.shape[1:]) == fitted.n_patches
    if d.ndim < 1 or not fits or 0 in d.shape:
        _checks.refuse("distances", f"shape (M, {', '.join(map(str, grid))})".replace(", )", ",)"), d.shape)
    _checks.finite("distances", d)
    if d.min() < 0:
        _checks.refuse("distances", "numbers >= 0", f"{d.min():g}")
    law = fitted.law
    n = d.size
    if n <= _POINTS:
        i = np.arange(n)
    else:
        half = _POINTS // 2
        i = np.unique(np.concatenate([np.linspace(0, n - 1, half), n - np.geomspace(1, n, half)]).astype(int))
    y = np.sort(d, axis=None)[i]
    x = _quantiles(fitted, model.rank, (n - i - 0.5) / n)
    ax = _axes(ax)
    ax.plot(x, y, "o", markersize=3, color="C0", label=f"{n:,} distances")
    ax.axline((0, 0), slope=1, color=mpl.rcParams["axes.edgecolor"], linewidth=0.8, zorder=1)
    ax.set(
        xlabel=f"{_LAWS[law]}\n(standard deviations)",
        ylabel="distances of good images\n(standard deviations)",
        xlim=(0, 1.05 * x.max() or 1),
        ylim=(0, 1.05 * y.max() or 1),
    )
    return ax


def _quantiles(fitted: Fitted, rank: Array, above: Array) -> Array:
    """Return the distances that the model's law exceeds with the given probabilities, patches pooled."""
    if fitted.law == "leave-one-out":
        assert fitted.good is not None
        return np.asarray(np.quantile(fitted.good, 1 - above, method="hazen"))

    def law(p: Array | int, squared: Array) -> Array:
        if fitted.law == "hotelling":
            return _scores.hotelling_sf(squared * fitted.to_unbiased, fitted.n_samples, np.asarray(p))
        return _scores.chi2_sf(squared, np.asarray(p))

    def inverse(p: int, above: Array) -> Array:
        ranks: Any = np.asarray(p)
        probability: Any = above
        if fitted.law == "hotelling":
            return _scores.hotelling_isf(probability, fitted.n_samples, ranks) / fitted.to_unbiased
        return _scores.chi2_isf(probability, ranks)

    ranks, counts = np.unique(rank, return_counts=True)
    each = np.stack([inverse(int(p), above) for p in ranks])
    low, high = each.min(axis=0), each.max(axis=0)
    # the quantile of a mixture lies between those of its parts
    for _ in range(60 if len(ranks) > 1 else 0):
        middle = (low + high) / 2
        tail = sum(k * law(int(p), middle) for p, k in zip(ranks, counts, strict=True)) / len(rank)
        low, high = np.where(tail > above, middle, low), np.where(tail > above, high, middle)
    return np.asarray(np.sqrt(high))


def _model(model: MultiVariateGaussian) -> Fitted:
    """Return what a model fitted; refuse another thing."""
    if not isinstance(model, MultiVariateGaussian):
        _checks.refuse("model", "a MultiVariateGaussian", type(model).__name__, TypeError)
    return model._model()


def _axes(ax: Axes | None) -> Axes:
    """Return the axes to draw into."""
    if ax is None:
        return plt.gca()
    if not isinstance(ax, Axes):
        _checks.refuse("ax", "Axes of matplotlib", type(ax).__name__, TypeError)
    return ax


def _pictures(name: str, value: Array, n: int) -> None:
    """Refuse what is not one picture of finite numbers for each of n images."""
    if value.ndim != 3 or len(value) != n or 0 in value.shape:
        _checks.refuse(name, f"shape ({n}, height, width), as there are {n} images", f"shape {value.shape}")
    _checks.finite(name, value)


def _outline(ax: Axes, mask: Array, extent: tuple[float, float, float, float]) -> None:
    """Outline a mask over a picture of that extent: white, between thin dark lines."""
    left, right, bottom, top = extent
    dx, dy = (right - left) / mask.shape[1], (top - bottom) / mask.shape[0]
    # a margin of zeros closes the outlines of defects that reach the edge
    lines = ax.contour(
        np.pad(mask.astype(float), 1),
        levels=[0.5],
        colors="white",
        linewidths=1.2,
        origin="upper",
        extent=(left - dx, right + dx, bottom - dy, top + dy),
    )
    lines.set_path_effects([patheffects.withStroke(linewidth=2.2, foreground="black")])
    ax.set(xlim=(left, right), ylim=(bottom, top))


def _points(ax: Axes, values: Array, name: str) -> None:
    """Draw a diagnostic of a grid with one axis, or none."""
    values = np.where(np.isfinite(values), values, np.nan)
    ax.plot(np.arange(len(values)), values, "o", markersize=3)
    if not np.isnan(values).all():
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        if name == "condition" and high > 10 * low:
            ax.set_yscale("log")
        else:
            ax.set_ylim(0, 1.1 * high or 1)
    ax.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    ax.set_xlabel(_missing(int(np.isnan(values).sum()), values.size, name) or "patch")


def _picture(ax: Axes, values: Array, name: str) -> None:
    """Draw a diagnostic of a grid with two axes or more, with a colour bar where it varies."""
    height = values.shape[-2]
    picture = np.ma.masked_invalid(values.reshape(-1, values.shape[-1]))
    low, high = (float(picture.min()), float(picture.max())) if picture.count() else (1.0, 1.0)
    constant = high - low <= 1e-6 * abs(high)  # rounding is no pattern
    norm = colors.Normalize(low - constant, high + constant)
    if name == "condition" and high > 10 * low:
        norm = colors.LogNorm(low, high)
    ax.patch.set(facecolor="white", hatch="////", edgecolor="0.5")
    image = ax.imshow(picture, cmap="viridis", norm=norm, interpolation="nearest")
    for edge in range(height, len(picture), height):
        ax.axhline(edge - 0.5, color="white", linewidth=2)
    ax.set(xticks=[], yticks=[])
    if not constant:
        assert ax.figure is not None
        ticks = ticker.MaxNLocator(integer=True) if name == "rank" else None
        ax.figure.colorbar(image, ax=ax, ticks=ticks)
    missing = picture.size - picture.count()
    ax.set_xlabel(
        _missing(missing, picture.size, name)
        or (f"{low:.4g} everywhere" if constant and picture.count() else "")
    )


def _missing(missing: int, total: int, name: str) -> str:
    """Return in words how many values are missing, and why."""
    why = "singular" if name == "condition" else "undefined"
    return f"{why} in {missing:,} of {total:,} patches" if missing else ""
