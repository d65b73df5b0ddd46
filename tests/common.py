"""Inputs for the tests, answers of other packages, and what beside `mvgauss.testing` bounds errors."""

import contextlib
import math
import sys
import warnings

import numpy as np
import pytest
import scipy.linalg
from hypothesis import strategies as st

from mvgauss import MultiVariateGaussian
from mvgauss._runtime import blocks
from mvgauss.testing import cov_bound, svd_gaussian

EPS = float(np.finfo(np.float64).eps)
SINGLE = float(np.finfo(np.float32).eps)

STACKS = [(), (1,), (3,), (2, 1), (2, 3)]
SCALES = [1e-6, 1e-3, 1.0, 1e3, 1e6]
OFFSETS = [0.0, 1.0, -1000.0]
BLOCKS = [1, 1 << 10, 4 << 20]

#: Of tests that start threads themselves.
needs_threads = pytest.mark.skipif(sys.platform == "emscripten", reason="no thread can start in a browser")

seeds = st.integers(0, 2**32 - 1)
block_sizes = st.sampled_from(BLOCKS)


def frozen(value, dtype=None):
    """Return a read-only copy: whoever writes to an input raises."""
    result = np.array(value, dtype)
    result.setflags(write=False)
    return result


@contextlib.contextmanager
def blocks_of(size):
    """Work in blocks of `size` bytes, so that a small test walks through many."""
    before = blocks.BLOCK_BYTES
    blocks.BLOCK_BYTES = size
    try:
        yield
    finally:
        blocks.BLOCK_BYTES = before


class OnDisk:
    """An array that NumPy cannot view: it has a shape and a dtype, and notes what is read of it."""

    def __init__(self, array):
        self.array, self.reads = array, []
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, key):
        result = self.array[key].copy()
        self.reads.append((key, result.nbytes))
        return result

    def __array__(self, *_, **__):
        raise AssertionError("read as a whole")

    def __iter__(self):
        raise AssertionError("read sample by sample")

    def was_read_once(self):
        """Assert that the samples were read in order, each once, in slices of axis 0."""
        seen = []
        for key, _ in self.reads:
            key = key[0] if isinstance(key, tuple) else key
            assert isinstance(key, slice)
            assert key.step in (None, 1)
            seen += range(*key.indices(self.shape[0]))
        assert seen == list(range(self.shape[0]))


@st.composite
def samples(draw, stacks=STACKS, n=(1, 12), c=(1, 6), dtypes=(np.float64,), scales=SCALES):
    """Draw read-only observations ``(..., N, C)`` of some scale, offset and dtype."""
    shape = (*draw(st.sampled_from(stacks)), draw(st.integers(*n)), draw(st.integers(*c)))
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    rng = np.random.default_rng(draw(seeds))
    x = rng.standard_normal(shape) + draw(st.sampled_from(OFFSETS))
    if dtype.kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    if dtype.kind in "iu":
        return frozen(np.rint(10 * np.abs(x)) % 100, dtype)
    # half precision holds no millions
    return frozen(x * draw(st.sampled_from(scales if dtype.itemsize > 2 else [1.0])), dtype)


def weights_of(x, kind, seed, stacked=False):
    """Return weights for observations ``(..., N, C)``: "a", "f", "af" or "", some of them zero."""
    rng = np.random.default_rng(seed)
    shape = x.shape[:-1] if stacked else x.shape[-2:-1]
    out = {}
    if "f" in kind:
        out["fweights"] = frozen(rng.integers(0, 4, shape, np.intp) + (np.arange(shape[-1]) < 2))
    if "a" in kind:
        out["aweights"] = frozen(rng.uniform(0.1, 2, shape) * (rng.random(shape) < 0.8))
        if not (out["aweights"] * out.get("fweights", 1)).any(axis=-1).all():
            out["aweights"] = frozen(np.ones(shape))
    return out


#: Which weights there are: `aweights`, `fweights`, both.
KINDS = ["", "a", "f", "af"]


def product(x, w):
    """Return the weights f a of observations ``(..., N, C)``, and f a^2."""
    f, a = (w.get(kind, np.ones(x.shape[-2])) for kind in ("fweights", "aweights"))
    return f * a, f * a * a


def divisor(x, ddof, w):
    """Return W - ddof V / W, relative to W: how far from dividing by zero."""
    total, squared = (v.sum(axis=-1) for v in product(x, w))
    return 1 - ddof * squared / total**2


def scatter_bound(x, w, **options):
    """Bound the error of scatters as that of the covariance with the divisor W."""
    total = np.asarray(product(x, w)[0].sum(axis=-1))[..., None, None]
    return total * cov_bound(np.atleast_2d(x), ddof=0, **w, **options)


def gap(x, **options):
    """Bound the difference of two computations of a covariance, of which one may merge runs of rows."""
    return 2 * cov_bound(x, **options, streamed=True)


def covariances(rng, stack, c, rank=None, cond=1e3):
    """Return covariances ``(*stack, c, c)`` of some rank, their non-zero eigenvalues in [1/cond, 1]."""
    rank = c if rank is None else rank
    q = np.linalg.qr(rng.standard_normal((*stack, c, c)))[0]
    values = np.zeros((*stack, c))
    values[..., :rank] = np.geomspace(1, 1 / cond, rank) if rank > 1 else 1.0
    w = q * np.sqrt(values)[..., None, :]
    return frozen(w @ w.swapaxes(-1, -2) / 2 + (w @ w.swapaxes(-1, -2)).swapaxes(-1, -2) / 2)


def layouts(x, folder=None):
    """Return the same read-only numbers in every layout that arrays come in."""
    spread = np.zeros([2 * s for s in x.shape], x.dtype)
    where = tuple(slice(1, None, 2) for _ in x.shape)
    spread[where] = x
    shifted = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    shifted[...] = x
    out = {
        "C": np.ascontiguousarray(x),
        "Fortran": np.asfortranarray(x),
        "strided": spread[where],
        "reversed": np.ascontiguousarray(x[::-1])[::-1],
        "backwards": np.ascontiguousarray(x[..., ::-1])[..., ::-1],
        "transposed": np.ascontiguousarray(x.T).T,
        "big-endian": x.astype(x.dtype.newbyteorder(">")),
        "unaligned": shifted,
    }
    if folder is not None:
        np.save(folder / "x.npy", x)
        out["memory map"] = np.load(folder / "x.npy", mmap_mode="r")
    for a in out.values():
        a.setflags(write=False)
    return out


LAYOUTS = [
    "C",
    "Fortran",
    "strided",
    "reversed",
    "backwards",
    "transposed",
    "big-endian",
    "unaligned",
    "memory map",
]


# ---- answers of other packages


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


def pinvh(s, rtol=None):
    """Loop `scipy.linalg.pinvh` over a stack; return inverses and ranks."""
    s = np.asarray(s, np.float64)
    stack, c = s.shape[:-2], s.shape[-1]
    cut = np.broadcast_to(c * EPS if rtol is None else rtol, stack)
    out = [scipy.linalg.pinvh(s[i], rtol=cut[i], atol=0.0, return_rank=True) for i in np.ndindex(stack)]
    inverse = np.array([p for p, _ in out]).reshape(s.shape)
    return inverse, np.array([r for _, r in out], int).reshape(stack)


def anomalib(x, ridges=(0.01,)):
    """Fit ``(N, C, P)`` data with the formulas of anomalib's class, in float64."""
    x = np.asarray(x, np.float64)
    n, c, patches = x.shape
    mean = x.sum(axis=0) / n
    inverse = np.empty((patches, c, c))
    for p in range(patches):
        centred = x[:, :, p] - mean[:, p]
        covariance = centred.T @ centred / (n - 1)
        for ridge in ridges:
            covariance = covariance + ridge * np.eye(c)
        inverse[p] = np.linalg.inv(covariance)
    return mean, inverse


def gaussians(x, weights=None, **options):
    """Return `svd_gaussian` of each patch of ``(N, C, *grid)`` samples."""
    flat = np.reshape(x, (*np.shape(x)[:2], -1))
    return [svd_gaussian(flat[:, :, p], weights, **options) for p in range(flat.shape[2])]


# ---- experiments

#: Half the width of a band that a fair binomial leaves once in a million.
SIGMAS = 5.0


def fires(p_values, level):
    """Assert that p-values are at most `level` as often as they should be, up to binomial noise."""
    rate = float((p_values <= level).mean())
    noise = SIGMAS * math.sqrt(level * (1 - level) / p_values.size)
    assert abs(rate - level) < noise, f"fires {rate:.4f} of the time at {level}"


def simulated(rng, *, n=20, c=4, patches=4000, **options):
    """Fit n samples of c features on many patches, each an experiment; return the model and new samples."""
    mix = rng.standard_normal((c, c))
    train, test = (np.einsum("ij,njp->nip", mix, rng.standard_normal((k, c, patches))) for k in (n, 1))
    return MultiVariateGaussian(**options).fit(train), train, test


# ---- bounds on what is kept in single precision, which the kit does not know


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


def run_onnx(path, names=None, **fed):
    """Return the outputs of an ONNX file by name."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # that a limit can be changed is warned of
    session = onnxruntime.InferenceSession(path, options)
    names = [output.name for output in session.get_outputs()] if names is None else names
    return dict(zip(names, session.run(names, fed), strict=True))


def quietly(function, *args, **kwargs):
    """Call without warnings; what they say is the business of other tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)
