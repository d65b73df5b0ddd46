"""Inputs for the tests: read-only arrays, samples of all sizes, the layouts that arrays come in."""

import contextlib

import numpy as np
from hypothesis import strategies as st

import mvgauss._blocks as blocks

STACKS = [(), (1,), (3,), (2, 1), (2, 3)]
SCALES = [1e-6, 1e-3, 1.0, 1e3, 1e6]
OFFSETS = [0.0, 1.0, -1000.0]
BLOCKS = [1, 1 << 10, 4 << 20]

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
        out["fweights"] = frozen(rng.integers(0, 4, shape) + (np.arange(shape[-1]) < 2))
    if "a" in kind:
        out["aweights"] = frozen(rng.uniform(0.1, 2, shape) * (rng.random(shape) < 0.8))
        if not (out["aweights"] * out.get("fweights", 1)).any(axis=-1).all():
            out["aweights"] = frozen(np.ones(shape))
    return out


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
