"""Laws of embeddings on disk: what can only be indexed is read part by part, and gives the same model."""

import threading
import tracemalloc

import numpy as np
import pytest
from common import OnDisk, assert_within, frozen, needs_threads, seeds
from hypothesis import given
from hypothesis import strategies as st

from mvgauss import MultiVariateGaussian
from mvgauss._model import embedding


@pytest.fixture
def small_parts(monkeypatch):
    """Read at most 1000 bytes at once: two samples of the embedding below."""
    monkeypatch.setattr(MultiVariateGaussian, "read_bytes", 1000)
    monkeypatch.setattr(embedding, "MERGED_SAMPLES", 2)


@pytest.fixture
def x(rng):
    return frozen(rng.standard_normal((11, 4, 3, 5)) + 2)  # 480 bytes a sample


@pytest.fixture
def model(x):
    return MultiVariateGaussian().fit(x)


def never_more_than_a_part(disk):
    """Assert that no read was larger than a part."""
    assert disk.reads
    assert max(size for _, size in disk.reads) <= MultiVariateGaussian.read_bytes


def close(got, want, x):
    """Assert that two models are the same to rounding."""
    assert_within(got.mean, want.mean, 1e-13 * np.ones(want.mean.shape))
    assert_within(got.covariance, want.covariance, 1e-12 * np.ones(want.covariance.shape))
    assert_within(got.mahalanobis(x), want.mahalanobis(x), 1e-10 * np.ones(want.mahalanobis(x).shape))


@pytest.mark.parametrize("method", ["fit", "partial_fit", "forward"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_fit_reads_every_sample_once_part_by_part(x, small_parts, method, weighted):
    disk = OnDisk(x)
    w = frozen(np.linspace(1, 2, 11)) if weighted else None
    options = {} if w is None or method == "forward" else {"sample_weight": w}
    model = MultiVariateGaussian()
    getattr(model, method)(disk, **options)
    disk.was_read_once()
    never_more_than_a_part(disk)
    assert len(disk.reads) == 6
    close(model, MultiVariateGaussian().fit(x, **options), x)


def test_the_parts_need_not_have_enough_samples_for_a_covariance(x, monkeypatch):
    monkeypatch.setattr(MultiVariateGaussian, "read_bytes", 1)
    monkeypatch.setattr(embedding, "MERGED_SAMPLES", 1)
    disk = OnDisk(x)
    close(MultiVariateGaussian().fit(disk), MultiVariateGaussian().fit(x), x)
    assert len(disk.reads) == len(x)


@pytest.mark.parametrize("shrinkage", ["oas", "ledoit_wolf", 0.3])
def test_shrinkage_is_the_same_from_disk(x, small_parts, shrinkage):
    got, want = (MultiVariateGaussian(shrinkage=shrinkage).fit(a) for a in (OnDisk(x), x))
    close(got, want, x)


@given(seeds, st.integers(1, 12), st.integers(1, 4000), st.sampled_from([np.float64, np.float32, np.int16]))
def test_the_size_of_the_parts_changes_nothing_but_rounding(seed, n, size, dtype):
    x = frozen(np.rint(50 * np.random.default_rng(seed).standard_normal((n, 3, 2, 2))), dtype)
    disk, model = OnDisk(x), MultiVariateGaussian(ddof=0)
    model.read_bytes = size
    got = model.fit(disk)
    want = MultiVariateGaussian(ddof=0).fit(x)
    assert got.mean.dtype == want.mean.dtype
    disk.was_read_once()
    eps = 1e-13 if dtype is not np.float32 else 1e-6
    assert_within(got.mean, want.mean, 300 * eps * np.ones(want.mean.shape))
    assert_within(got.covariance, want.covariance, 300**2 * eps * np.ones(want.covariance.shape))


SCORES = {
    "mahalanobis": lambda m, x: m.mahalanobis(x),
    "squared": lambda m, x: m.mahalanobis(x, squared=True),
    "score_samples": lambda m, x: m.score_samples(x),
    "p_value": lambda m, x: m.p_value(x),
    "contributions": lambda m, x: m.contributions(x),
    "decision_function": lambda m, x: m.decision_function(x),
    "predict": lambda m, x: m.predict(x),
    "leave_one_out": lambda m, x: m.leave_one_out(x),
    "threshold of the training set": lambda m, x: m.threshold(x, 0.2, source="training"),
}


@pytest.mark.parametrize("score", list(SCORES))
def test_scores_from_disk_are_those_from_memory_and_never_read_more_than_a_part(x, model, small_parts, score):
    disk = OnDisk(x)
    got, want = SCORES[score](model, disk), SCORES[score](model, x)
    # BLAS rounds parts of another size in another order
    np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-13)
    never_more_than_a_part(disk)


def test_a_limit_from_disk_is_that_from_memory(x, model, small_parts):
    held = frozen(x + 0.5)
    disk = OnDisk(held)
    assert model.threshold(disk, 0.2) == pytest.approx(model.threshold(held, 0.2), rel=1e-13)
    never_more_than_a_part(disk)
    with pytest.raises(ValueError, match="source='training'"):
        model.threshold(OnDisk(x), 0.2)


def test_a_model_is_calibrated_from_disk(x, model, small_parts):
    disk = OnDisk(x)
    got = model.calibrate(disk).p_value(x + 0.5)
    np.testing.assert_array_equal(got, model.calibrate(x).p_value(x + 0.5))
    never_more_than_a_part(disk)


def test_tokens_are_read_from_disk_too(x, small_parts):
    tokens = frozen(np.moveaxis(x, 1, -1))
    disk = OnDisk(tokens)
    got = MultiVariateGaussian(feature_axis=-1).fit(disk)
    close(got, MultiVariateGaussian(feature_axis=-1).fit(tokens), tokens)
    disk.was_read_once()
    np.testing.assert_allclose(got.contributions(OnDisk(tokens)), got.contributions(tokens), atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
def test_a_number_that_is_not_finite_is_named_by_its_place_in_the_whole(rng, small_parts, x, model, bad):
    broken = x.copy()
    broken[7, 2, 1, 3] = bad
    before = model.mahalanobis(x)
    message = r"got (NaN|-?inf) at index \(7, 2, 1, 3\)" if not np.isfinite(bad) else "float64 can hold"
    for call in (model.fit, model.partial_fit, model.mahalanobis, model.leave_one_out):
        if np.isfinite(bad) and call in (model.mahalanobis, model.leave_one_out):
            continue
        with pytest.raises(ValueError, match=f"embedding: expected .*{message}"):
            call(OnDisk(broken))
    np.testing.assert_array_equal(model.mahalanobis(x), before)


@pytest.mark.parametrize("error", [OSError("bad sector"), KeyboardInterrupt()])
def test_a_failing_disk_leaves_the_model_as_it_was(x, small_parts, tmp_path, error):
    class Broken(OnDisk):
        fails = 0

        def __getitem__(self, key):
            if len(self.reads) == self.fails:
                raise error
            return super().__getitem__(key)

    model = MultiVariateGaussian().fit(x)
    model.save(tmp_path / "before")
    for Broken.fails in range(6):
        for method in (model.fit, model.partial_fit, model.calibrate, model.threshold):
            with pytest.raises(type(error)):
                method(Broken(x + 1))
        model.save(tmp_path / "after")
        assert (tmp_path / "after").read_bytes() == (tmp_path / "before").read_bytes()


def test_a_disk_that_gives_other_shapes_is_refused(x, model):
    class Short(OnDisk):
        def __getitem__(self, key):
            return super().__getitem__(key)[:-1]

    for method in (model.fit, model.partial_fit, model.mahalanobis):
        with pytest.raises(ValueError, match=r"embedding: expected 11 samples of shape .*, got shape"):
            method(Short(x))


@pytest.mark.parametrize("dtype", [np.complex128, object, "U3"])
def test_what_is_no_array_of_real_numbers_is_refused_before_it_is_read(dtype):
    disk = OnDisk(np.zeros((5, 2, 3), dtype))
    with pytest.raises(TypeError, match="embedding: expected"):
        MultiVariateGaussian().fit(disk)
    assert not disk.reads


class Delivers(OnDisk):
    """An array on disk that delivers parts of another kind than it says, from some sample on."""

    def __init__(self, array, change, start=4):
        super().__init__(array)
        self.change, self.start = change, start

    def __getitem__(self, key):
        part = super().__getitem__(key)
        return self.change(part) if key.start >= self.start else part


WRONG = {
    "masked": (lambda a: np.ma.masked_less(a, 2), "an array without masked entries, got a masked array"),
    "complex": (lambda a: a + 1j, "real numbers, got dtype complex128"),
    "objects": (lambda a: a.astype(object), "an array of real numbers, got dtype object"),
    "text": (lambda a: a.astype("U9"), "an array of real numbers, got dtype <U"),
    "bytes": (lambda a: a.astype("S9"), "an array of real numbers, got dtype .S"),
    "dates": (lambda a: a.astype("M8[s]"), "an array of real numbers, got dtype datetime64"),
    "spans": (lambda a: a.astype("m8[s]"), "an array of real numbers, got dtype timedelta64"),
    "records": (lambda a: np.zeros(a.shape, "f8,f8"), "an array of real numbers, got dtype "),
    "nothing": (lambda a: None, "an array of real numbers, got None"),
    "a list of text": (lambda a: a.astype("U9").tolist(), "an array of real numbers, got dtype <U"),
}
READERS = {
    "fit": lambda m, x: m.fit(x),
    "partial_fit": lambda m, x: m.partial_fit(x),
    "leave_one_out": lambda m, x: m.leave_one_out(x),
    "calibrate": lambda m, x: m.calibrate(x),
    **SCORES,
}


@pytest.mark.parametrize("kind", list(WRONG))
@pytest.mark.parametrize("reader", list(READERS))
def test_a_part_is_checked_as_an_array_is(x, model, small_parts, kind, reader):
    change, message = WRONG[kind]
    before = model.mean
    with pytest.raises(TypeError, match=f"^embedding: expected {message}"):
        READERS[reader](model, Delivers(x, change))
    np.testing.assert_array_equal(model.mean, before)


def test_a_masked_part_without_masked_entries_is_an_array(x, small_parts):
    got = MultiVariateGaussian().fit(Delivers(x, lambda a: np.ma.masked_less(a, -100)))
    close(got, MultiVariateGaussian().fit(x), x)


@needs_threads
@pytest.mark.parametrize("method", ["fit", "partial_fit", "merge"])
def test_an_array_that_trains_the_model_it_is_read_for_makes_nobody_wait(x, small_parts, method):
    class CallsBack(OnDisk):
        def __getitem__(self, key):
            getattr(model, method)(other if method == "merge" else x)
            return super().__getitem__(key)

    model, other = MultiVariateGaussian().fit(x), MultiVariateGaussian().fit(x + 1)
    # in a thread of its own, so that a deadlock is a failure
    thread = threading.Thread(target=lambda: model.fit(CallsBack(x + 2)), daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    close(model, MultiVariateGaussian().fit(x + 2), x)


def test_an_array_may_score_with_the_model_it_is_read_for(x, model, small_parts):
    class Scores(OnDisk):
        def __getitem__(self, key):
            model.mahalanobis(x)
            return super().__getitem__(key)

    close(model.fit(Scores(x)), MultiVariateGaussian().fit(x), x)


# ---- runs


class Chunked(OnDisk):
    """An array in chunks, as HDF5 and Zarr have them."""

    def __init__(self, array, chunks):
        super().__init__(array)
        self.chunks = chunks


@given(st.integers(1, 60), st.integers(1, 70), st.integers(1, 4000), st.booleans())
def test_what_is_scored_is_read_in_whole_chunks_where_those_are_not_too_long(n, chunk, size, contiguous):
    disk, model = (
        Chunked(np.zeros((n, 3, 2)), None if contiguous else (chunk, 3, 2)),
        MultiVariateGaussian(3, 2),
    )
    model.read_bytes = size
    model.mahalanobis(disk)
    disk.was_read_once()
    lengths, starts = [read // 48 for _, read in disk.reads], [key.start for key, _ in disk.reads]
    longest, chunk = max(1, size // 48), 1 if contiguous else min(chunk, n)
    assert max(lengths) <= longest
    if chunk <= longest:
        assert all(start % chunk == 0 for start in starts)
        assert lengths[0] == min(longest - longest % chunk, n)
    else:  # no chunk is read more often than it has to be
        assert len([start for start in starts if start < chunk]) == -(-chunk // longest)


@pytest.mark.parametrize(("c", "wanted"), [(7, 4), (511, 256), (1200, 512)])
def test_what_is_fitted_is_read_by_half_as_many_samples_as_features_or_some_hundreds(rng, c, wanted):
    """A sample alone would cost as much as a merge of the moments."""
    disk, model = OnDisk(rng.standard_normal((520, c))), MultiVariateGaussian()
    model.read_bytes = 1
    model.partial_fit(disk)
    disk.was_read_once()
    assert {read // (8 * c) for _, read in disk.reads[:-1]} == {wanted}
    model.mahalanobis(disk)
    assert [read // (8 * c) for _, read in disk.reads[-520:]] == [1] * 520


def test_the_length_of_a_run_is_that_of_the_class_or_of_the_model(x, monkeypatch):
    model = MultiVariateGaussian().fit(x)
    for owner, size, wanted in ((MultiVariateGaussian, 480, 1), (model, 4 * 480, 4)):
        monkeypatch.setattr(owner, "read_bytes", size)
        disk = OnDisk(x)
        model.mahalanobis(disk)
        assert {read for _, read in disk.reads[:-1]} == {wanted * 480}


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-1, ValueError), (1e6, TypeError)])
def test_a_length_of_runs_that_is_none_is_refused(x, model, size, error):
    model.read_bytes = size
    with pytest.raises(error, match=r"^read_bytes: expected an integer >= 1, got"):
        model.mahalanobis(OnDisk(x))


@pytest.mark.parametrize("chunks", ["auto", ((4, 4, 3), (4,)), 5, (), (0, 0)])
def test_chunks_of_another_kind_are_no_hindrance(x, small_parts, chunks):
    close(MultiVariateGaussian().fit(Chunked(x, chunks)), MultiVariateGaussian().fit(x), x)


def test_numbers_that_are_delivered_with_more_digits_than_declared_keep_them(x, small_parts):
    """As data sets of netCDF do, which are declared as whole numbers and scaled when they are read."""
    whole = np.rint(x)
    disk = Delivers(whole.astype("i2"), lambda a: a / 8, start=0)
    model, want = MultiVariateGaussian().fit(disk), MultiVariateGaussian().fit(whole / 8)
    close(model, want, x)
    np.testing.assert_allclose(model.leave_one_out(disk), want.leave_one_out(whole / 8), rtol=1e-10)


def test_another_shape_or_number_of_weights_is_refused_before_anything_is_read(x, model):
    disk, other = OnDisk(x), OnDisk(x[:, :3])
    for method in (model.partial_fit, model.mahalanobis, model.leave_one_out):
        with pytest.raises(ValueError, match="embedding: expected 4 features, got 3"):
            method(other)
    with pytest.raises(ValueError, match="sample_weight: expected shape"):
        MultiVariateGaussian().fit(disk, sample_weight=np.ones(10))
    assert not disk.reads + other.reads


# ---- memory maps, HDF5 and Zarr


@pytest.mark.parametrize("kind", ["npy", "raw"])
def test_a_memory_map_gives_the_bits_of_the_array(x, tmp_path, kind):
    np.save(tmp_path / "x.npy", x)
    x.tofile(tmp_path / "x.raw")
    if kind == "npy":
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    else:
        mapped = np.memmap(tmp_path / "x.raw", x.dtype, "r", shape=x.shape)
    got, want = MultiVariateGaussian().fit(mapped), MultiVariateGaussian().fit(x)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(got.mahalanobis(mapped), want.mahalanobis(x))
    np.testing.assert_array_equal(
        MultiVariateGaussian().partial_fit(mapped[:4]).partial_fit(mapped[4:]).covariance,
        MultiVariateGaussian().partial_fit(x[:4]).partial_fit(x[4:]).covariance,
    )


def test_a_fit_holds_no_copy_of_a_memory_map(tmp_path):
    """A long embedding of a small model: what is allocated is some blocks, not the file."""
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (10_000, 8, 20, 20))
    x[:] = np.random.default_rng(0).standard_normal((1, 8, 20, 20))
    x[::2] += 1
    model = MultiVariateGaussian(n_jobs=1).fit(x[:9])
    tracemalloc.start()
    try:
        model.fit(x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < x.nbytes / 2


def test_a_lazy_fit_holds_one_part(tmp_path, rng, monkeypatch):
    class Endless(OnDisk):
        def __getitem__(self, key):
            return (
                np.ones((len(range(*key.indices(self.shape[0]))), *self.shape[1:])) + np.eye(8)[:, :8, None]
            )

    monkeypatch.setattr(MultiVariateGaussian, "read_bytes", 1 << 20)
    disk = Endless(np.broadcast_to(0.0, (20_000, 8, 8, 4)))
    model = MultiVariateGaussian(n_jobs=1)
    model.fit(rng.standard_normal((9, 8, 8, 4)))
    tracemalloc.start()
    try:
        model.fit(disk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 << 20  # of 41 MB


def hdf5(x, folder):
    file = pytest.importorskip("h5py").File(folder / "x.h5", "w")
    return file.create_dataset("x", data=x)


def zarr(x, folder):
    chunks = (2, *x.shape[1:])
    disk = pytest.importorskip("zarr").open(
        str(folder / "x.zarr"), mode="w", shape=x.shape, chunks=chunks, dtype="f8"
    )
    disk[:] = x
    return disk


@pytest.mark.parametrize("kind", [hdf5, zarr])
def test_arrays_of_hdf5_and_zarr_are_read_in_parts(x, small_parts, tmp_path, kind):
    disk = kind(x, tmp_path)
    got = MultiVariateGaussian().fit(disk)
    close(got, MultiVariateGaussian().fit(x), x)
    np.testing.assert_allclose(got.mahalanobis(disk), got.mahalanobis(x), rtol=1e-13)


def test_an_embedding_that_trains_the_model_that_reads_it_is_refused(rng):
    x = frozen(rng.standard_normal((30, 3, 4)))
    model = MultiVariateGaussian()

    class Training:
        dtype, shape = x.dtype, x.shape

        def __getitem__(self, part):
            model.partial_fit(x[:5])
            return x[part]

    with pytest.raises(RuntimeError, match="changed by a call from within"):
        model.partial_fit(Training())
    assert model.n_samples_seen_ == 5
