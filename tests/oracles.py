"""Slow and obvious answers, sharing no code with the package, and bounds on how far off it may be.

The bounds are theory: what floating-point arithmetic of the textbook formula guarantees, with a small
constant for the handful of roundings of each term. Nothing in here is a tolerance that happened to pass.
"""

import math
import warnings
from fractions import Fraction

import numpy as np
import scipy.linalg

EPS = np.finfo(np.float64).eps

# ---------------------------------------------------------------------------------------------------------
# covariance


def numpy_cov(x, *, rowvar=False, aweights=None, fweights=None, **options):
    """Loop `numpy.cov` over a stack; never lose an axis. Weights broadcast to the stack."""
    x = np.asarray(x) if rowvar else np.swapaxes(x, -1, -2)
    stack, (c, n) = x.shape[:-2], x.shape[-2:]
    kinds = {"aweights": aweights, "fweights": fweights}
    given = {k: np.broadcast_to(w, (*stack, n)) for k, w in kinds.items() if w is not None}
    out = [
        np.atleast_2d(np.cov(x[i], **{k: w[i] for k, w in given.items()}, **options))
        for i in np.ndindex(stack)
    ]
    return np.array(out).reshape(*stack, c, c)


def exact_moments(x, f=None, a=None):
    """Return W = sum w, V = sum w a, the mean and the scatter of real ``(N, C)`` data, as fractions."""
    n, c = np.shape(x)
    x = [[Fraction(float(v)) for v in row] for row in x]
    a = [Fraction(1)] * n if a is None else [Fraction(float(v)) for v in a]
    w = a if f is None else [Fraction(int(v)) * u for v, u in zip(f, a, strict=True)]
    total = sum(w)
    mean = [sum(w[i] * x[i][j] for i in range(n)) / total for j in range(c)]
    scatter = [
        [sum(w[i] * (x[i][j] - mean[j]) * (x[i][k] - mean[k]) for i in range(n)) for k in range(c)]
        for j in range(c)
    ]
    return total, sum(u * v for u, v in zip(w, a, strict=True)), mean, scatter


def exact_cov(x, ddof=1.0, f=None, a=None):
    """Return the covariance of real ``(N, C)`` data, exact but for one last rounding."""
    total, squared, _, scatter = exact_moments(x, f, a)
    divisor = total - Fraction(ddof) * squared / total
    return np.array([[float(s / divisor) for s in row] for row in scatter])


# ---------------------------------------------------------------------------------------------------------
# inverses and distances


def pinvh(s, rtol=None):
    """Loop `scipy.linalg.pinvh` over a stack; return inverses and ranks."""
    s = np.asarray(s, np.float64)
    stack, c = s.shape[:-2], s.shape[-1]
    cut = np.broadcast_to(c * EPS if rtol is None else rtol, stack)
    out = [scipy.linalg.pinvh(s[i], rtol=cut[i], atol=0.0, return_rank=True) for i in np.ndindex(stack)]
    inverse = np.array([p for p, _ in out]).reshape(s.shape)
    return inverse, np.array([r for _, r in out], int).reshape(stack)


def distance(x, mean, inverse):
    """Return sqrt((x - mean)^T P (x - mean)) for each vector of ``(M, C)`` data."""
    return np.array([math.sqrt(max(0.0, (v - mean) @ inverse @ (v - mean))) for v in np.asarray(x, float)])


# ---------------------------------------------------------------------------------------------------------
# the estimator, patch by patch


def fit(x, reg_covar=0.01, ddof=1, aweights=None):
    """Fit ``(N, C, P)`` data patch by patch; return means (C, P) and covariances (P, C, C)."""
    x = np.asarray(x, np.float64)
    _, c, patches = x.shape
    mean = np.array([np.average(x[:, :, p], axis=0, weights=aweights) for p in range(patches)]).T
    covariance = np.array(
        [
            np.atleast_2d(np.cov(x[:, :, p].T, ddof=ddof, aweights=aweights)) + reg_covar * np.eye(c)
            for p in range(patches)
        ]
    )
    return mean, covariance


def score(x, mean, inverse):
    """Score ``(M, C, P)`` data patch by patch; return distances (M, P)."""
    patches = mean.shape[1]
    return np.array([distance(np.asarray(x)[:, :, p], mean[:, p], inverse[p]) for p in range(patches)]).T


def anomalib(x, ridges=(0.01,)):
    """Fit ``(N, C, H, W)`` data with the formulas of anomalib's class, in float64."""
    n, c, h, w = np.shape(x)
    x = np.asarray(x, np.float64).reshape(n, c, h * w)
    mean = x.sum(axis=0) / n
    inverse = np.empty((h * w, c, c))
    for p in range(h * w):
        centred = x[:, :, p] - mean[:, p]
        covariance = centred.T @ centred / (n - 1)
        for ridge in ridges:
            covariance = covariance + ridge * np.eye(c)
        inverse[p] = np.linalg.inv(covariance)
    return mean, inverse


# ---------------------------------------------------------------------------------------------------------
# bounds


def scatter_bound(x, w=None, eps=EPS, offset=0.0):
    """Bound the error of a scatter matrix of ``(..., N, C)`` data with weights ``(..., N)``.

    Each of the N terms w z z^H suffers a few roundings: by Cauchy and Schwarz their sum is at most
    N eps |z_j| |z_k| with |z_j|^2 = sum w |z_ij|^2. Where two means of size `offset` are subtracted (a
    merge, or numpy.cov's own mean) each mean is off by eps times that.
    """
    x = np.asarray(x)
    x = x.astype(np.result_type(x.dtype, np.float64))
    w = np.ones(x.shape[:-1]) if w is None else np.broadcast_to(w, x.shape[:-1])
    n, total = x.shape[-2], w.sum(axis=-1)[..., None]
    z = x - (w[..., None] * x).sum(axis=-2, keepdims=True) / total[..., None]
    length = np.sqrt((w[..., None] * np.abs(z) ** 2).sum(axis=-2))
    error = eps * (4 * (n + 8) * length + 4 * np.sqrt(total) * offset)
    return (
        error[..., None] * length[..., None, :]
        + length[..., None] * error[..., None, :]
        + error[..., None] * error[..., None, :]
    )


def cov_bound(x, ddof=1.0, f=None, a=None, eps=EPS, offset=None):
    """Bound the difference of two computations of the covariance of ``(..., N, C)`` data.

    By default `offset` is the largest value: `numpy.cov` forms its mean from the values as they are.
    """
    x = np.asarray(x)
    f = np.ones(x.shape[-2]) if f is None else np.asarray(f, np.float64)
    a = np.ones(x.shape[-2]) if a is None else np.asarray(a, np.float64)
    total, squared = (f * a).sum(axis=-1), (f * a * a).sum(axis=-1)
    divisor = np.asarray(total - ddof * squared / total)
    if offset is None:
        offset = x.shape[-2] * np.abs(x).max(initial=0)
    # the divisor is a difference too: its error is relative to what is subtracted
    lost = 1 + x.shape[-2] * np.abs(total / divisor)[..., None, None] / 4
    return lost * scatter_bound(x, f * a, eps, offset) / np.abs(divisor)[..., None, None]


def spectrum(s):
    """Return largest and smallest non-zero eigenvalues of each of a stack."""
    values = np.linalg.eigvalsh(np.asarray(s, np.float64))
    top = values[..., -1]
    kept = np.where(values > 1e3 * s.shape[-1] * EPS * top[..., None], values, np.inf)
    low = kept.min(axis=-1)
    return top, np.where(np.isfinite(low), low, 1.0)


def inverse_bound(s, eps=EPS, stored=0.0):
    """Bound the error of the pseudo-inverse of each of a stack: C eps cond |P|, for every entry.

    `stored` is the precision in which a factor was rounded; its self-product is off by that much of |P|.
    """
    top, low = spectrum(s)
    c = s.shape[-1]
    return (16 * c * (eps * np.where(low > 0, top / low, 1) + stored) / low)[..., None, None]


def distance_bound(s, d, offset, eps=EPS, stored=0.0):
    """Bound the error of distances `d` (..., N) from Gaussians of covariances `s`.

    A perturbation of s by C eps |s| moves the square by C eps cond of itself. Rounding the factor moves the
    distance by C eps sqrt(cond) of itself, rounding the mean (of size `offset`) by that times |W|.
    """
    top, low = spectrum(s)
    c, cond = s.shape[-1], np.where(low > 0, top / low, 1)
    relative = 16 * c * (eps * cond + stored * np.sqrt(cond))
    moved = 4 * math.sqrt(c) * max(eps, stored) * offset / np.sqrt(low)
    return relative[..., None] * d + moved[..., None]


def assert_within(got, want, bound):
    """Assert equal shapes, the same NaN and inf, and errors within the bound."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape
    finite = np.isfinite(want)
    np.testing.assert_array_equal(np.where(finite, 0, got), np.where(finite, 0, want))
    with np.errstate(invalid="ignore"):
        error = np.abs(got - want)
    bound = np.asarray(bound)
    # of one variable covariances are 0-d, bounds are not
    bound = bound.reshape(want.shape) if bound.size == want.size else np.broadcast_to(bound, want.shape)
    worst = np.max(error[finite] / np.maximum(bound[finite], np.finfo(np.float64).tiny), initial=0)
    assert worst <= 1, f"error is {worst:.3g} times the bound: {error[finite].max()}"


def quietly(function, *args, **kwargs):
    """Call without warnings; what they say is the business of other tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)
