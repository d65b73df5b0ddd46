"""On Dask: the numbers of one machine, in one pass, lazily, and through the loss of a worker."""

import itertools
import os
import re
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from runpy import run_path
from uuid import uuid4

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from mvgauss import MultiVariateGaussian
from mvgauss._linalg.precision import Dense, LowRank
from mvgauss._stats.moments import Moments

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
from dask.sizeof import sizeof  # noqa: E402

import mvgauss.dask as md  # noqa: E402
from mvgauss.dask import _tasks  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared" / "data"
RELATIVE = 1e-12  # of the numbers on one machine


@pytest.fixture(autouse=True)
def one_thread():
    """Compute in this thread, unless a test has a cluster."""
    with dask.config.set(scheduler="synchronous"):
        yield


def data(name):
    """Return training and test embeddings of a set in double precision, and its feature axis."""
    path = SHARED / name / f"{name}.npz"
    if name == "docs":
        path = REPOSITORY / "docs" / "data" / "small.npz"
    if not path.is_file():
        pytest.skip(f"the set {name!r} of larger embeddings is not in the repository")
    with np.load(path) as file:
        train, test = (file[key].astype(np.float64) for key in ("train", "test"))
    for a in (train, test):
        a.setflags(write=False)
    return train, test, -1 if name == "tokens" else 1


def cut(a, axis, samples=None, grid=()):
    """Return a Dask array with these chunks of samples and of the axes of the grid."""
    chunks = [samples or (len(a),), *grid]
    chunks += [-1] * (a.ndim - 1 - len(chunks))
    chunks.insert(axis % a.ndim, -1)
    return da.from_array(a, chunks=tuple(chunks))


def halves(n):
    return (n // 2, n - n // 2)


def ragged(n):
    return (1, n // 3, 1, 2, n - n // 3 - 4)


def assert_close(got, want):
    """Compare the numbers of each patch or image with the largest of them."""
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    off = np.isneginf(want)  # log densities off the support
    np.testing.assert_array_equal(np.isneginf(got), off)
    got, want = (np.where(off, 0, a).reshape(len(a), -1) for a in (got, want))
    assert (np.abs(got - want) <= RELATIVE * np.abs(want).max(axis=1, keepdims=True)).all()


def assert_same_model(got, want):
    for name in ("grid", "dtype", "regularisation", "n_samples", "weighted", "resolution"):
        assert getattr(got._state, name) == getattr(want._state, name), name
    for name in ("sum_weights", "sum_squared_sample_weights"):
        assert np.isclose(getattr(got._state, name), getattr(want._state, name), rtol=RELATIVE)
    assert got.get_params() == want.get_params()
    assert_close(got.mean.T, want.mean.T)
    assert_close(got.covariance, want.covariance)
    np.testing.assert_array_equal(got.rank, want.rank)


def keys(lazy, *plain):
    """Return the tasks that are left after Dask's optimisation, without plain data (and what is named)."""
    graph = dict(dask.optimize(lazy)[0].__dask_graph__())
    return [key for key, task in graph.items() if type(task).__name__ not in ("DataNode", *plain)]


# ---- the same numbers


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(
    "name",
    ["docs", *(pytest.param(n, marks=pytest.mark.slow) for n in ("small", "relu", "tokens", "medium"))],
)
def test_a_model_of_shared_data_is_that_of_one_machine(name, weighted, rng):
    train, test, axis = data(name)
    w = rng.uniform(0, 2, len(train)) if weighted else None
    model = MultiVariateGaussian(feature_axis=axis)
    want = MultiVariateGaussian(feature_axis=axis).fit(train, sample_weight=w)
    grid = [halves(n) for n in train.shape[1:]][1 if axis == 1 else 0 : None if axis == 1 else -1]
    x = cut(train, axis, halves(len(train)) if name == "medium" else ragged(len(train)), grid)
    got = md.fit(model, x, None if w is None else da.from_array(w, chunks=7)).compute()
    assert_same_model(got, want)
    y = cut(test, axis, ragged(len(test)), grid[:1])
    for score in (
        "mahalanobis",
        "score_samples",
        *(() if weighted or len(train) <= x.shape[axis] else ("p_value",)),
    ):
        assert_close(getattr(md, score)(want, y).compute(), getattr(want, score)(test))
    assert_close(md.mahalanobis(got, y).compute(), want.mahalanobis(test))


CHUNKS = {  # of 30 samples on a grid of 4 x 3
    "one chunk": ((30,), ((4,), (3,))),
    "ragged samples": ((1, 10, 1, 18), ((4,), (3,))),
    "one-sample chunks": ((1,) * 30, ((4,), (3,))),
    "patch chunks": ((30,), ((3, 1), (1, 2))),
    "both": ((13, 17), ((1, 3), (2, 1))),
    "empty chunks": ((0, 15, 0, 15), ((0, 2, 2), (3,))),
}

FORMS = {"triangles and roots": 12, "rows and roots": 60, "rows and thin factors": 60}


#: In which form all chunks are tried before every commit, and with which shrinkage. Chunks of both samples
#: and patches are tried in all forms, with this one and none.
QUICK = ("triangles and roots", "ledoit_wolf")


def is_quick(chunks, form, shrinkage):
    return (form, shrinkage) == QUICK or (chunks == "both" and shrinkage in (None, QUICK[1]))


def features(a, c):
    """Return c features of images with 24: some, or with products of them, as ReLU gains would be."""
    return np.concatenate([a, *(a * np.roll(a, k, axis=1) for k in range(1, c // 24 + 1))], axis=1)[:, :c]


@pytest.mark.parametrize(
    ("chunks", "form", "shrinkage"),
    [
        pytest.param(*case, marks=[] if is_quick(*case) else pytest.mark.slow)
        for case in itertools.product(CHUNKS, FORMS, [None, 0.3, "oas", "ledoit_wolf"])
    ],
)
def test_any_chunks_forms_and_shrinkage_give_the_model_of_one_machine(chunks, form, shrinkage, rng):
    train, test, axis = data("docs")
    train, test = (features(a[:30, :, :4, :3], FORMS[form]) for a in (train, test))
    ridge = 0.0 if form == "rows and roots" and not shrinkage else 1e-3
    options = {"shrinkage": shrinkage, "ddof": 0.5, "reg_covar": ridge}
    w = rng.integers(1, 4, 30).astype(float)
    want = MultiVariateGaussian(**options).fit(train, sample_weight=w)
    samples, grid = CHUNKS[chunks]
    x = cut(train, axis, samples, grid)
    got = md.fit(MultiVariateGaussian(**options), x, w, split_every=3).compute()
    assert_same_model(got, want)
    arrays = md.parameters(MultiVariateGaussian(**options), x, w)
    (values,) = dask.compute(arrays)
    stored = want._state.without_moments().arrays()
    assert set(arrays) == set(stored)
    for name, lazy in arrays.items():
        assert lazy.chunks[:2] == tuple(tuple(n for n in c if n) for c in grid)
        value = values[name]
        assert value.shape == lazy.shape == (4, 3, *stored[name].shape[1:])
        assert value.dtype == lazy.dtype == stored[name].dtype
    for name in ("mean", "log_pdet", "shrinkage", "rank"):
        assert_close(values[name].reshape(12, -1), stored[name].reshape(12, -1))
    y = cut(test, axis, (5, 7), [(4,), (1, 2)])
    for score in ("mahalanobis", "score_samples"):
        for model in (arrays, got, want, MultiVariateGaussian(**options).partial_fit(train, None, w)):
            assert_close(getattr(md, score)(model, y).compute(), getattr(want, score)(test))


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_any_layout_gives_the_model_of_one_machine(axis):
    train, test, _ = data("docs")
    train, test = (np.moveaxis(a, 1, axis) for a in (train, test))
    model = MultiVariateGaussian(feature_axis=axis)
    x = cut(train, axis, halves(60), [(2, 12), (5, 9)])
    got, want = md.fit(model, x).compute(), MultiVariateGaussian(feature_axis=axis).fit(train)
    assert_same_model(got, want)
    scores = md.mahalanobis(got, cut(test, axis, (5, 7), [(14,), (1, 13)]), squared=True)
    assert scores.chunks == ((5, 7), (14,), (1, 13))
    assert_close(scores.compute(), want.mahalanobis(test, squared=True))
    assert model._state is None


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int16])
def test_one_gaussian_of_other_dtypes(dtype, rng):
    a = (100 * rng.standard_normal((40, 5))).astype(dtype)
    model = MultiVariateGaussian()
    x = da.from_array(a, chunks=(11, -1))
    got, want = md.fit(model, x).compute(), MultiVariateGaussian().fit(a)
    assert_same_model(got, want)
    d = md.mahalanobis(want, x)
    arrays = md.parameters(model, x)
    for lazy in (d, *arrays.values(), md.mahalanobis(arrays, x)):
        assert lazy.dtype == lazy.compute().dtype
    assert_close(d.compute(), want.mahalanobis(a))


def test_a_chunk_may_have_no_weight_at_all(rng):
    a, w = rng.standard_normal((30, 3, 4)), np.r_[np.zeros(10), rng.uniform(1, 2, 20)]
    got = md.fit(MultiVariateGaussian(), cut(a, 1, (5,) * 6), w).compute()
    want = MultiVariateGaussian().fit(a, sample_weight=w)
    assert_same_model(got, want)


def test_calibrated_and_exact_p_values_are_those_of_the_model(rng):
    a, b = rng.standard_normal((30, 3, 2, 4)), rng.standard_normal((7, 3, 2, 4))
    for model in (
        MultiVariateGaussian(reg_covar=0).fit(a),
        MultiVariateGaussian().fit(a).calibrate(a),
        MultiVariateGaussian().fit(a[:5]).calibrate(a[:5]),  # fewer images than patches
        MultiVariateGaussian(3, 8, dtype=float),
        MultiVariateGaussian(dtype=float).partial_fit(a),
    ):
        made = model._fitted().precision is not None
        lazy = md.p_value(model, cut(b, 1, (3, 4), [(2,), (1, 3)]))
        assert made == (model._fitted().precision is not None)  # nothing was computed
        assert_close(lazy.compute(), model.p_value(b))


@pytest.mark.parametrize("shrinkage", [None, "ledoit_wolf"])
def test_a_fitted_model_goes_on_in_memory(shrinkage, rng):
    a = rng.standard_normal((30, 3, 2, 4))
    model = MultiVariateGaussian(shrinkage=shrinkage)
    got = md.fit(model, cut(a[:20], 1, (7, 13), [(1, 1)])).compute()
    assert_same_model(got.partial_fit(a[20:]), model.fit(a))


# ---- the graph


@contextmanager
def counted():
    """Count the blocks that are read."""
    reads = []

    def source(shape, chunks, rng):
        a = rng.standard_normal(shape)

        def read(block_info):
            where = block_info[None]["array-location"]
            reads.append(where)
            return a[tuple(slice(*edges) for edges in where)]

        return da.map_blocks(read, chunks=chunks, dtype=float, meta=np.empty((0,) * len(shape)))

    yield reads, source


def test_nothing_is_computed_before_it_is_asked_for_and_each_chunk_once(rng):
    with counted() as (reads, source):
        x = source((20, 3, 4, 4), ((5,) * 4, (3,), (2, 2), (4,)), rng)
        w = da.ones(20, chunks=20)
        lazy = md.fit(MultiVariateGaussian(), x, w)
        arrays = md.parameters(MultiVariateGaussian(), x, w)
        assert not reads
        lazy.compute()
        assert len(reads) == 8
        (arrays,) = dask.persist(arrays)
        assert len(reads) == 16
        scores = md.mahalanobis(arrays, x)
        assert len(reads) == 16
        scores.compute()
        assert len(reads) == 24


def test_the_graph_has_one_task_for_each_chunk_and_the_tree(rng):
    with counted() as (_, source):
        x = source((48, 3, 4), ((3,) * 16, (3,), (2, 1, 1)), rng)
        tree = 3 * (4 + 1)
        assert len(keys(md.fit(MultiVariateGaussian(), x), "Alias")) == 48 + tree + 1
        weights = da.ones(48, chunks=3)
        assert len(keys(md.fit(MultiVariateGaussian(), x, weights), "Alias")) == 48 + tree + 1
        binary = md.fit(MultiVariateGaussian(), x, split_every=2)
        assert len(keys(binary, "Alias")) == 48 + 3 * (8 + 4 + 2 + 1) + 1


@pytest.mark.parametrize("axis", [1, -1])
def test_scoring_is_one_task_for_each_chunk(axis, rng, tmp_path):
    """Not one more for another name, which Dask's scheduler would hand out like any other."""
    zarr = pytest.importorskip("zarr")
    a = rng.standard_normal((48, 3, 4, 3))
    a = np.moveaxis(a, 1, axis)
    da.from_array(a).to_zarr(tmp_path / "a.zarr")
    chunks = [(3,) * 16, (2, 1, 1), (3,)]
    chunks.insert(axis % 4, (3,))
    stored = da.from_zarr(zarr.open_array(tmp_path / "a.zarr"), chunks=tuple(chunks))
    model = MultiVariateGaussian(3, 12, feature_axis=axis)
    for x in (da.from_array(a, chunks=tuple(chunks)), stored, 2 * stored, stored.astype("f4")):
        for score in (md.mahalanobis, md.score_samples, md.p_value):
            assert len(keys(score(model, x))) == 48


def test_factors_are_made_once_for_each_chunk_of_patches(rng, monkeypatch):
    calls, made = [], _tasks.with_precision
    monkeypatch.setattr(_tasks, "with_precision", lambda state: calls.append(0) or made(state))
    a = rng.standard_normal((48, 3, 4))
    x = cut(a, 1, (3,) * 16, [(2, 1, 1)])
    want = MultiVariateGaussian().fit(a).mahalanobis(a)
    for model in (MultiVariateGaussian().partial_fit(a), md.parameters(MultiVariateGaussian(), x)):
        calls.clear()
        assert_close(md.mahalanobis(model, x).compute(), want)
        assert len(calls) == 3


def test_stored_parameters_are_read_once_for_each_chunk_of_patches(rng, monkeypatch):
    calls, of_arrays = [], _tasks.of_arrays
    monkeypatch.setattr(_tasks, "of_arrays", lambda *args: calls.append(0) or of_arrays(*args))
    a = rng.standard_normal((48, 3, 4))
    (values,) = dask.compute(md.parameters(MultiVariateGaussian(), cut(a, 1)))
    reads = []

    def read(block, block_id):
        reads.append(block_id)
        return block

    stored = {
        name: da.from_array(v, chunks=(2, *v.shape[1:])).map_blocks(read, dtype=v.dtype, meta=v[:0])
        for name, v in values.items()
    }
    want = MultiVariateGaussian().fit(a).mahalanobis(a)
    for grid in ((2, 2), (4,), (1, 3)):
        reads.clear()
        calls.clear()
        assert_close(md.mahalanobis(stored, cut(a, 1, (3,) * 16, [grid])).compute(), want)
        assert len(reads) == 2 * len(stored)
        assert len(calls) == len(grid)


def test_dask_knows_how_large_moments_and_models_are(rng):
    a = rng.standard_normal((30, 20, 4))
    model = MultiVariateGaussian().fit(a)
    assert sizeof(model) == sizeof(model._state) == model.nbytes
    assert sizeof(MultiVariateGaussian()) == 0


def test_tasks_start_no_threads_and_hold_blas_to_one(rng, monkeypatch):
    blas, seen = ThreadpoolController().select(user_api="blas"), []

    def start(self):
        raise AssertionError("a task starts a thread")

    def watched(method):
        def watch(*args):
            seen.append({pool["num_threads"] for pool in blas.info()})
            return method(*args)

        return watch

    monkeypatch.setattr(threading.Thread, "start", start)
    for kind, name in (
        *((Moments, "merge"), (Moments, "precision")),
        *((Dense, "squared_norms"), (LowRank, "squared_norms")),
    ):
        monkeypatch.setattr(kind, name, watched(getattr(kind, name)))
    for size in (1, 4 << 20):  # many blocks, and one alone
        monkeypatch.setattr("mvgauss._runtime.blocks.BLOCK_BYTES", size)
        a = rng.standard_normal((20, 3, 50))
        x, model = cut(a, 1, halves(20)), MultiVariateGaussian(n_jobs=4)
        before, fitted, arrays = blas.info(), md.fit(model, x), md.parameters(model, x)
        seen.clear()  # of what is no task
        md.p_value(fitted.compute(), x).compute()
        md.mahalanobis(arrays, x).compute()
        assert blas.info() == before
        assert len(seen) >= 4
        assert set().union(*seen) == {1}


# ---- what is refused


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_number_is_named_by_its_place_in_the_whole_array(axis, bad, rng):
    a = rng.standard_normal((20, 3, 4, 5))
    a[13, 2, 3, 1] = bad
    a, index = np.moveaxis(a, 1, axis), (13, 2, 3, 1) if axis == 1 else (13, 3, 1, 2)
    x = cut(a, axis, (6, 6, 8), [(2, 2), (1, 4)])
    text = re.escape(f"embedding: expected finite numbers, got {'NaN' if np.isnan(bad) else bad} at index ")
    text += re.escape(str(index))
    with pytest.raises(ValueError, match=text):
        md.fit(MultiVariateGaussian(feature_axis=axis), x).compute()
    model = MultiVariateGaussian(3, 20, feature_axis=axis)
    with pytest.raises(ValueError, match=text):
        md.score_samples(model, x).compute()


@pytest.mark.parametrize("samples", [(4,), (2, 2), (1,) * 4])
def test_numbers_too_large_to_square_are_refused_by_a_chunk_or_a_merge(samples):
    a = np.repeat([[-1e200], [1e200]], 2, axis=0)
    with pytest.raises(ValueError, match="embedding: expected numbers whose squares float64 can hold"):
        md.fit(MultiVariateGaussian(), cut(a, 1, samples)).compute()


def test_bad_weights_are_refused_and_named(rng):
    x, w = cut(rng.standard_normal((20, 3)), 1, (6, 6, 8)), np.ones(20)
    for value, text in ((np.nan, r"NaN at index \(13,\)"), (-1, "weights >= 0")):
        w[13] = value
        with pytest.raises(ValueError, match=f"sample_weight: .*{text}"):
            md.fit(MultiVariateGaussian(), x, w).compute()
    for total in (0, 1):
        few = (MultiVariateGaussian(), x, np.full(20, total / 20))
        for lazy in (md.fit(*few), *md.parameters(*few).values()):
            with pytest.raises(
                ValueError, match="sample_weight: expected weights that add up to more than ddof"
            ):
                lazy.compute()
    with pytest.raises(ValueError, match="sample_weight: expected shape"):
        md.fit(MultiVariateGaussian(), x, np.ones(19))


def masked(block):
    return np.ma.masked_greater(block, 1)


#: What a chunk may be that a Dask array declares as float64.
CHUNK_FAULTS = {
    "fewer samples": (
        lambda b: b[1:],
        ValueError,
        r"shape \(6, 3, 2\) and dtype float64 .*got shape \(5, 3, 2\)",
    ),
    "one sample for all": (lambda b: b[:1], ValueError, r"got shape \(1, 3, 2\)"),
    "other features": (lambda b: b[:, :2], ValueError, r"got shape \(6, 2, 2\)"),
    "other patches": (lambda b: b[:, :, 1:], ValueError, r"got shape \(6, 3, 1\)"),
    "single precision": (lambda b: b.astype("f4"), ValueError, "got shape .* and dtype float32"),
    "complex": (lambda b: b.astype(complex), ValueError, "dtype complex128"),
    "a list": (lambda b: b.tolist(), ValueError, "dtype list"),
    "masked": (masked, TypeError, "embedding: expected an array without masked entries"),
}


@pytest.mark.parametrize("fault", list(CHUNK_FAULTS))
def test_a_chunk_that_is_not_what_was_declared_is_refused(fault, rng):
    change, error, text = CHUNK_FAULTS[fault]
    a = rng.standard_normal((20, 3, 4))
    a[15, 1, 1] = 5

    def last(block, block_id):
        return change(block) if block_id[0] == 2 else block

    chunks = ((6, 8, 6), (3,), (2, 2))
    x = da.from_array(a, chunks=chunks).map_blocks(last, dtype=float, chunks=chunks, meta=np.empty((0, 0, 0)))
    model = MultiVariateGaussian()
    for lazy in (
        md.fit(model, x),
        md.fit(model, x, np.ones(20)),
        md.parameters(model, x)["mean"],
        md.mahalanobis(MultiVariateGaussian(3, 4), x),
    ):
        with pytest.raises(error, match=text):
            lazy.compute()


def test_weights_that_are_not_what_was_declared_are_refused(rng):
    x = cut(rng.standard_normal((20, 3)), 1, (6, 6, 8))
    for change, error, text in (
        (lambda w: w[1:], ValueError, "sample_weight: expected shape"),
        (
            lambda w: w.astype(complex),
            TypeError,
            "sample_weight: expected .*real numbers, got dtype complex128",
        ),
        (lambda w: np.ma.masked_equal(w, 1), TypeError, "sample_weight: .* without masked entries"),
    ):
        w = da.ones(20, chunks=((6, 6, 8),)).map_blocks(change, dtype=float, meta=np.empty(0))
        with pytest.raises(error, match=text):
            md.fit(MultiVariateGaussian(), x, w).compute()


def test_what_does_not_fit_is_refused_before_anything_is_computed(rng):
    a = rng.standard_normal((20, 3, 4))
    x, g = cut(a, 1), MultiVariateGaussian
    fitted, arrays = g().fit(a), md.parameters(g(), x)
    for call, error, text in (
        (lambda: md.fit(g(), a), TypeError, "embedding: expected a dask.array.Array, got ndarray"),
        (lambda: md.fit(x, x), TypeError, "model: expected a MultiVariateGaussian, got Array"),
        (lambda: md.fit(g(4), x), ValueError, "embedding: expected 4 features"),
        (lambda: md.fit(g(feature_axis=3), x), ValueError, "feature_axis"),
        (lambda: md.fit(g(reg_covar=-1), x), ValueError, "reg_covar"),
        (lambda: md.fit(g(), x, split_every=1), ValueError, "split_every: expected an integer >= 2"),
        (lambda: md.fit(g(), x.rechunk({1: 1})), ValueError, r"in one chunk, .*rechunk\(\{1: -1\}\)"),
        (lambda: md.fit(g(), x[x[:, 0, 0] > 0]), ValueError, "known sizes, .*compute_chunk_sizes"),
        (lambda: md.mahalanobis(g(), x), ValueError, "not fitted"),
        (lambda: md.mahalanobis(fitted, x[:, :, 1:]), ValueError, "embedding: expected (4 patches|a grid)"),
        (lambda: md.mahalanobis(fitted, x, squared="no"), TypeError, "squared"),
        (lambda: md.mahalanobis((x, x), x), TypeError, "model: expected a MultiVariateGaussian, got tuple"),
        (lambda: md.mahalanobis({"mean": x}, x), ValueError, "model: expected the arrays of `parameters`"),
        (lambda: md.mahalanobis(arrays, x[:, :, 1:]), ValueError, r"for the grid \(3,\), with a mean of"),
        (lambda: md.mahalanobis(arrays, x[:, 1:]), ValueError, r"with a mean of shape \(4, 2\)"),
        (lambda: md.mahalanobis({**arrays, "rank": x}, x), ValueError, "for the grid"),
        (lambda: md.p_value(arrays, x), TypeError, "model: expected a MultiVariateGaussian, got dict"),
    ):
        with pytest.raises(error, match=text):
            call()


@pytest.mark.parametrize("name", ["mean", "rank", "log_pdet", "root"])
def test_parameters_that_cannot_be_are_refused_when_they_are_read(name, rng):
    a = rng.standard_normal((20, 3, 4))
    arrays = md.parameters(MultiVariateGaussian(), cut(a, 1))
    for value, text in ((np.nan, "finite|intp|int64"), (1e3, "numbers from 0 to 3")):
        changed = {**arrays, name: da.full_like(arrays[name], value, dtype=float)}
        if name == "rank" and value == 1e3:
            changed[name] = changed[name].astype(np.intp)
        elif value == 1e3:
            continue
        with pytest.raises(ValueError, match=f"{name}: expected .*({text})"):
            md.mahalanobis(changed, cut(a, 1)).compute()


def test_too_few_samples_are_refused_when_they_are_counted(rng):
    x = cut(rng.standard_normal((1, 3, 4)), 1, None, [(2, 2)])
    for lazy in (md.fit(MultiVariateGaussian(), x), *md.parameters(MultiVariateGaussian(), x).values()):
        with pytest.raises(ValueError, match="more samples than ddof = 1"):
            lazy.compute()


# ---- on a cluster


@contextmanager
def cluster(memory_limit="1GiB", **config):
    """Give a client of two worker processes, on this machine's own network only, and see them end."""
    distributed = pytest.importorskip("distributed")
    settings = {f"distributed.{name.replace('__', '.')}": value for name, value in config.items()}
    # a local cluster gives up for good a worker that is not replaced within 15 s, as on a busy machine
    settings["distributed.deploy.lost-worker-timeout"] = "300s"
    with dask.config.set({"distributed.comm.timeouts.connect": "20s", **settings}):
        with (
            distributed.LocalCluster(
                n_workers=2,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                worker_dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},
                memory_limit=memory_limit,
            ) as workers,
            # the clients of the pages find no other as the default
            distributed.Client(workers, timeout=30, set_as_default=False) as client,
        ):
            yield client
            pids = list(client.run(os.getpid).values())
        deadline = time.monotonic() + 10
        while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
            assert time.monotonic() < deadline, f"processes {left} are left running"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def client():
    """A client of a cluster that many tests share."""
    with cluster() as client:
        yield client


@pytest.fixture
def on_cluster(client, one_thread):
    """Let `compute` use the cluster."""
    with dask.config.set(scheduler=client):
        yield client


def slowed(a, folder, seconds=0.15):
    """Return an array of 32 chunks that takes its time, and the processes that made chunks, in order."""

    def slow(block):
        (folder / f"{time.time_ns()} {os.getpid()} {uuid4().hex}").touch()
        time.sleep(seconds)
        return block

    def busy():
        return [int(path.name.split()[1]) for path in sorted(folder.iterdir())]

    x = cut(a, 1, (3,) * 16, [(2, 2)]).map_blocks(slow, dtype=float, meta=np.empty((0,) * 4))
    assert x.npartitions == 32
    return x, busy


def kill_in_the_middle(future, busy, victims=1):
    """Kill the workers that have made most chunks, after some chunks."""
    deadline = time.monotonic() + 60
    while len(busy()) < 10 or len(set(busy())) < victims:
        assert time.monotonic() < deadline, "nothing begins"
        time.sleep(0.01)
    killed = sorted(set(busy()), key=busy().count)[-victims:]
    assert os.getpid() not in killed
    assert not future.done()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    return killed


@pytest.mark.slow
def test_workers_killed_in_a_fit_and_while_scoring_to_zarr_change_nothing(tmp_path, rng):
    zarr = pytest.importorskip("zarr")
    a = rng.standard_normal((48, 6, 4, 4))
    for name in ("fit", "scores"):
        (tmp_path / name).mkdir()
    with cluster() as client:
        x, busy = slowed(a, tmp_path / "fit")
        future = client.compute(md.fit(MultiVariateGaussian(), x))
        kill_in_the_middle(future, busy, victims=2)
        model = future.result(timeout=120)
        x, busy = slowed(a, tmp_path / "scores")
        future = client.compute(md.mahalanobis(model, x).to_zarr(tmp_path / "scores.zarr", compute=False))
        kill_in_the_middle(future, busy)
        future.result(timeout=120)
    want = MultiVariateGaussian().fit(a)
    assert_same_model(model, want)
    assert_close(zarr.open_array(tmp_path / "scores.zarr")[:], want.mahalanobis(a))


LIMIT = 600 << 20  #: of the memory of a worker, which takes about 200 MB for itself


def written_to_disk(dask_worker):
    """Return how many bytes a worker has spilled so far."""
    return dask_worker.data.cumulative_metrics["disk-write", "bytes"]


@pytest.mark.slow
def test_parameters_may_be_larger_than_the_memory_of_a_worker():
    n, c, p, width = 40, 500, 4000, 50

    def images(n, block_id):
        rng = np.random.default_rng(block_id[-1])
        return rng.standard_normal((n, c, width))

    def lazy(n):
        chunks = ((n,), (c,), (width,) * (p // width))
        return da.map_blocks(images, n, chunks=chunks, dtype=float, meta=np.empty((0,) * 3))

    with cluster(LIMIT) as client:
        (arrays,) = dask.persist(md.parameters(MultiVariateGaussian(), lazy(n)), scheduler=client)
        assert sum(a.nbytes for a in arrays.values()) > LIMIT
        future = client.compute(md.mahalanobis(arrays, lazy(3)))
        got = future.result(timeout=300)
        assert sum(client.run(written_to_disk).values()) > 0
    for j in (0, 37, 79):
        where = slice(j * width, (j + 1) * width)
        want = MultiVariateGaussian().fit(images(n, (0, 0, j))).mahalanobis(images(3, (0, 0, j)))
        assert_close(got[:, where], want)


@pytest.mark.slow
def test_errors_and_scores_come_back_from_a_cluster(on_cluster, rng):
    a = rng.standard_normal((20, 3, 4))
    model = MultiVariateGaussian().fit(a)
    x = cut(a, 1, (5, 15), [(1, 3)])
    assert_close(md.score_samples(model, x).compute(), model.score_samples(a))
    (arrays,) = dask.persist(md.parameters(MultiVariateGaussian(), x))
    assert_close(md.mahalanobis(arrays, x).compute(), model.mahalanobis(a))
    a[13, 2, 3] = np.nan
    with pytest.raises(ValueError, match=re.escape("NaN at index (13, 2, 3)")):
        md.fit(MultiVariateGaussian(), cut(a, 1, (5, 15), [(1, 3)])).compute()


# ---- the pages


@pytest.mark.slow
def test_the_page_on_scale_counts_bytes_and_tasks_as_they_are(rng):
    pytest.importorskip("distributed")
    pytest.importorskip("zarr")
    scale = run_path(str(REPOSITORY / "docs" / "scale.py"))
    work = scale["Work"](40, 5, 6, 3, 2)
    with counted() as (_, source):
        chunks = ((3,) * 13 + (1,), (5,), (2, 2, 2))
        x = source((40, 5, 6), chunks, rng)
        for k in (2, 3, 4, 8):
            tasks, states = work.tree(k)
            assert len(keys(md.fit(MultiVariateGaussian(), x, split_every=k))) == 42 + 3 * tasks + 1
            assert states == tasks - 1 + 14  # all but the last go into one merge
        assert md.fit(MultiVariateGaussian(), x[:, :, :2]).compute().nbytes == work.state
    text = (REPOSITORY / "docs" / "explanation" / "scale.md").read_text(encoding="utf-8")
    for n, p in ((550, 112), (2048, 28), (8192, 7)):
        work = scale["Work"](1_000_000, 550, 3136, n, p)
        tasks, states = work.tree(4)
        total, moved = (
            f"{work.columns * (work.runs + tasks):,}",
            scale["size"](states * work.columns * work.state),
        )
        assert re.search(rf"\\| {n} x {p} \\| {total} \\| [^|]+ \\| {moved} \\|", text)
