"""On Dask: the numbers of one machine, in one pass, lazily, and through the loss of a worker."""

import os
import re
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from uuid import uuid4

import numpy as np
import pytest

from mvgauss import MultiVariateGaussian

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
from dask.sizeof import sizeof  # noqa: E402

import mvgauss.dask as md  # noqa: E402

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
        pytest.skip(f"the shared data set {name!r} is not at {SHARED}")
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
    got, want = got.reshape(len(got), -1), want.reshape(len(want), -1)
    assert (np.abs(got - want) <= RELATIVE * np.abs(want).max(axis=1, keepdims=True)).all()


def assert_same_model(got, want):
    for name in ("grid", "dtype", "how", "n_samples", "weighted", "law"):
        assert getattr(got._fitted, name) == getattr(want._fitted, name), name
    for name in ("sum_weights", "sum_squared_weights"):
        assert np.isclose(getattr(got._fitted, name), getattr(want._fitted, name), rtol=RELATIVE)
    assert got.get_params() == want.get_params()
    assert_close(got.mean.T, want.mean.T)
    assert_close(got.covariance, want.covariance)
    np.testing.assert_array_equal(got.rank, want.rank)


def keys(lazy):
    """Return the tasks that are left after Dask's optimisation, without plain data and renaming."""
    graph = dict(dask.optimize(lazy)[0].__dask_graph__())
    return [key for key, task in graph.items() if type(task).__name__ not in ("DataNode", "Alias")]


# ---- the same numbers


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", ["docs", "small", "relu", "tokens", "medium"])
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
    for score in ("mahalanobis", "score_samples", "p_value"):
        assert_close(getattr(md, score)(want, y).compute(), getattr(want, score)(test))
    assert_close(md.mahalanobis(got, y).compute(), want.mahalanobis(test))


CHUNKS = {
    "one chunk": ((60,), ((14,), (14,))),
    "ragged samples": ((1, 20, 1, 38), ((14,), (14,))),
    "one-sample chunks": ((1,) * 60, ((14,), (14,))),
    "patch chunks": ((60,), ((3, 11), (1, 6, 7))),
    "both": ((13, 47), ((1, 13), (7, 7))),
    "empty chunks": ((0, 30, 0, 30), ((0, 7, 7), (14,))),
}


@pytest.mark.parametrize("shrinkage", [None, 0.3, "oas", "ledoit_wolf"])
@pytest.mark.parametrize("chunks", list(CHUNKS))
def test_any_chunks_and_shrinkage_give_the_model_of_one_machine(chunks, shrinkage):
    train, _, axis = data("docs")
    options = {"shrinkage": shrinkage, "ddof": 0.5, "reg_covar": 1e-3}
    want = MultiVariateGaussian(**options).fit(train)
    samples, grid = CHUNKS[chunks]
    x = cut(train, axis, samples, grid)
    got = md.fit(MultiVariateGaussian(**options), x, split_every=3).compute()
    assert_same_model(got, want)
    mean, factor = md.parameters(MultiVariateGaussian(**options), x)
    assert mean.chunks[:2] == factor.chunks[:2] == tuple(tuple(n for n in c if n) for c in grid)
    assert_close(mean.compute().reshape(196, 24), np.asarray(want._fitted.mean))
    w = factor.compute().reshape(196, 24, 24)
    assert_close(w.swapaxes(1, 2) @ w, want.inv_covariance)


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
    assert model._fitted is None


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int16])
def test_one_gaussian_of_other_dtypes(dtype, rng):
    a = (100 * rng.standard_normal((40, 5))).astype(dtype)
    model = MultiVariateGaussian()
    x = da.from_array(a, chunks=(11, -1))
    got, want = md.fit(model, x).compute(), MultiVariateGaussian().fit(a)
    assert_same_model(got, want)
    d = md.mahalanobis(want, x)
    for lazy in (d, *md.parameters(model, x)):
        assert lazy.dtype == lazy.compute().dtype
    np.testing.assert_array_equal(d.compute(), want.mahalanobis(a))


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
        MultiVariateGaussian(3, 8, dtype=float),
        MultiVariateGaussian(dtype=float).partial_fit(a),
    ):
        made = model._model().factors is not None
        lazy = md.p_value(model, cut(b, 1, (3, 4), [(2,), (1, 3)]))
        assert made == (model._model().factors is not None)  # nothing was computed
        assert_close(lazy.compute(), model.p_value(b))


def test_a_fitted_model_goes_on_in_memory(rng):
    a = rng.standard_normal((30, 3, 2, 4))
    got = md.fit(MultiVariateGaussian(), cut(a[:20], 1, (7, 13), [(1, 1)])).compute()
    assert_same_model(got.partial_fit(a[20:]), MultiVariateGaussian().fit(a))


def test_parameters_score_in_place_of_a_model(rng):
    train, test, axis = data("docs")
    want = MultiVariateGaussian().fit(train)
    pair = md.parameters(MultiVariateGaussian(), cut(train, axis, halves(60), [(7, 7)]))
    y = cut(test, axis, (5, 7), [(14,), (1, 13)])
    assert_close(md.mahalanobis(pair, y).compute(), want.mahalanobis(test))


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
        pair = md.parameters(MultiVariateGaussian(), x, w)
        assert not reads
        lazy.compute()
        assert len(reads) == 8
        pair = dask.persist(*pair)
        assert len(reads) == 16
        scores = md.mahalanobis(pair, x)
        assert len(reads) == 16
        scores.compute()
        assert len(reads) == 24


def test_the_graph_has_one_task_for_each_chunk_and_the_tree(rng):
    with counted() as (_, source):
        x = source((48, 3, 4), ((3,) * 16, (3,), (2, 1, 1)), rng)
        tree = 3 * (4 + 1)
        assert len(keys(md.fit(MultiVariateGaussian(), x))) == 48 + tree + 1
        assert len(keys(md.fit(MultiVariateGaussian(), x, split_every=2))) == 48 + 3 * (8 + 4 + 2 + 1) + 1
        model = MultiVariateGaussian(3, 4)
        assert len(keys(md.mahalanobis(model, x))) == 48
        assert len(keys(md.mahalanobis(model, x).max(axis=1))) == 48 + 16


def test_factors_are_made_once_for_each_chunk_of_patches(rng, monkeypatch):
    calls, made = [], md._made
    monkeypatch.setattr(md, "_made", lambda state: calls.append(0) or made(state))
    a = rng.standard_normal((48, 3, 4))
    x = cut(a, 1, (3,) * 16, [(2, 1, 1)])
    want = MultiVariateGaussian().fit(a).mahalanobis(a)
    for model in (MultiVariateGaussian().partial_fit(a), md.parameters(MultiVariateGaussian(), x)):
        calls.clear()
        assert_close(md.mahalanobis(model, x).compute(), want)
        assert len(calls) == 3


def test_dask_knows_how_large_moments_and_models_are(rng):
    a = rng.standard_normal((30, 20, 4))
    model = MultiVariateGaussian().fit(a)
    assert sizeof(model) == sizeof(model._fitted) == model.nbytes
    assert sizeof(MultiVariateGaussian()) == 0


def test_tasks_start_no_threads_of_their_own(rng, monkeypatch):
    a = rng.standard_normal((20, 3, 50))
    monkeypatch.setattr("mvgauss._blocks.BLOCK_BYTES", 1)
    monkeypatch.setattr("mvgauss._blocks.threading", SimpleNamespace(**(vars(threading) | {"Thread": None})))
    x, model = cut(a, 1, halves(20)), MultiVariateGaussian(n_jobs=4)
    with pytest.raises(TypeError):
        MultiVariateGaussian(n_jobs=4).fit(a)
    fitted = md.fit(model, x).compute()
    md.p_value(fitted, x).compute()
    md.mahalanobis(md.parameters(model, x), x).compute()


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
    zero = (MultiVariateGaussian(), x, np.zeros(20))
    for lazy in (md.fit(*zero), *md.parameters(*zero)):
        with pytest.raises(ValueError, match="sample_weight: expected a weight > 0"):
            lazy.compute()
    with pytest.raises(ValueError, match="sample_weight: expected shape"):
        md.fit(MultiVariateGaussian(), x, np.ones(19))
    with pytest.raises(ValueError, match="sample_weight: expected None"):
        md.fit(MultiVariateGaussian(shrinkage=0.1), x, np.ones(20))


def test_what_does_not_fit_is_refused_before_anything_is_computed(rng):
    a = rng.standard_normal((20, 3, 4))
    x, g = cut(a, 1), MultiVariateGaussian
    fitted = g().fit(a)
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
        (lambda: md.mahalanobis((x, x), x), ValueError, "model: expected a mean and a factor of shapes"),
        (lambda: md.p_value((x, x), x), TypeError, "model: expected a MultiVariateGaussian, got tuple"),
    ):
        with pytest.raises(error, match=text):
            call()


def test_too_few_samples_are_refused_when_they_are_counted(rng):
    x = cut(rng.standard_normal((1, 3, 4)), 1, None, [(2, 2)])
    for lazy in (md.fit(MultiVariateGaussian(), x), *md.parameters(MultiVariateGaussian(), x)):
        with pytest.raises(ValueError, match="more samples than ddof = 1"):
            lazy.compute()


# ---- on a cluster


@pytest.fixture(scope="module")
def client():
    """A client of two worker processes, on this machine's own network only."""
    distributed = pytest.importorskip("distributed")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "20s"}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            memory_limit="1GiB",
        ) as cluster,
        # the clients of the pages find no other as the default
        distributed.Client(cluster, timeout=30, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def on_cluster(client, one_thread):
    """Let `compute` use the cluster."""
    with dask.config.set(scheduler=client):
        yield client


def test_a_cluster_listens_on_this_machine_only(client):
    psutil = pytest.importorskip("psutil")
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip == "127.0.0.1"


def test_a_worker_killed_in_the_middle_of_a_fit_changes_nothing(client, tmp_path, rng):
    a = rng.standard_normal((48, 6, 4, 4))

    def slow(block):
        (tmp_path / f"{os.getpid()} {uuid4().hex}").touch()
        time.sleep(0.15)
        return block

    chunks = 32
    x = cut(a, 1, (3,) * 16, [(2, 2)]).map_blocks(slow, dtype=float, meta=np.empty((0,) * 4))
    future = client.compute(md.fit(MultiVariateGaussian(), x))
    deadline = time.monotonic() + 30
    while len(list(tmp_path.iterdir())) < 10:
        assert time.monotonic() < deadline, "the fit does not begin"
        time.sleep(0.01)
    busy = [int(path.name.split()[0]) for path in tmp_path.iterdir()]
    victim = max(set(busy), key=busy.count)
    assert victim != os.getpid()
    assert not future.done()
    os.kill(victim, signal.SIGKILL)
    got = future.result(timeout=30)
    assert_same_model(got, MultiVariateGaussian().fit(a))
    assert len(list(tmp_path.iterdir())) > chunks  # what the dead one had was computed again
    assert victim not in client.run(os.getpid).values()


def test_errors_and_scores_come_back_from_a_cluster(on_cluster, rng):
    a = rng.standard_normal((20, 3, 4))
    model = MultiVariateGaussian().fit(a)
    x = cut(a, 1, (5, 15), [(1, 3)])
    np.testing.assert_array_equal(md.score_samples(model, x).compute(), model.score_samples(a))
    pair = dask.persist(*md.parameters(MultiVariateGaussian(), x))
    assert_close(md.mahalanobis(pair, x).compute(), model.mahalanobis(a))
    a[13, 2, 3] = np.nan
    with pytest.raises(ValueError, match=re.escape("NaN at index (13, 2, 3)")):
        md.fit(MultiVariateGaussian(), cut(a, 1, (5, 15), [(1, 3)])).compute()


# ---- the pages


def cells(page):
    """Return the code cells of a page, each with its tags."""
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    return re.findall(
        r"^```\{code-cell\} python\n(?::tags: \[(.*?)\]\n)?(.*?)^```$", text, re.DOTALL | re.MULTILINE
    )


def test_the_howto_runs_as_it_stands(monkeypatch, capsys):
    pytest.importorskip("distributed")
    pytest.importorskip("zarr")
    monkeypatch.chdir(REPOSITORY / "docs" / "howto")
    names = {}
    found = cells("howto/dask.md")
    assert len(found) == 13
    with dask.config.set(scheduler=None):
        for tags, code in found:
            if "raises-exception" in tags:
                with pytest.raises(ValueError, match=re.escape("NaN at index (47, 3, 9, 2)")):
                    exec(code, names)
            else:
                exec(code, names)
    printed = capsys.readouterr().out
    assert "14 chunks; Delayed" in printed
    assert "[False False False False False False  True  True  True  True False  True]" in printed
    assert printed.count("True\n") >= 2


def test_the_page_on_scale_counts_bytes_and_tasks_as_they_are(rng):
    pytest.importorskip("distributed")
    pytest.importorskip("zarr")
    scale = run_path(str(REPOSITORY / "benchmarks" / "scale.py"))
    work = scale["Work"](40, 5, 6, 3, 2)
    with counted() as (_, source):
        chunks = ((3,) * 13 + (1,), (5,), (2, 2, 2))
        x = source((40, 5, 6), chunks, rng)
        for k in (2, 3, 4, 8):
            tasks, states = work.tree(k)
            assert len(keys(md.fit(MultiVariateGaussian(), x, split_every=k))) == 42 + 3 * tasks + 1
            assert states == tasks - 1 + 14  # all but the last go into one merge
        assert md.fit(MultiVariateGaussian(), x[:3, :, :2]).compute().nbytes == work.state
    text = (REPOSITORY / "docs" / "explanation" / "scale.md").read_text(encoding="utf-8")
    for n, p in ((550, 112), (2048, 28), (8192, 7)):
        work = scale["Work"](1_000_000, 550, 3136, n, p)
        tasks, states = work.tree(4)
        total, moved = (
            f"{work.columns * (work.runs + tasks):,}",
            scale["size"](states * work.columns * work.state),
        )
        assert re.search(rf"\\| {n} x {p} \\| {total} \\| [^|]+ \\| {moved} \\|", text)
