"""Laws of `partial_fit`, `merge` and resuming: however the samples come, the model is that of the whole."""

import math
import tracemalloc
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from common import EPS, SINGLE, assert_within, block_sizes, blocks_of, frozen, seeds
from hypothesis import given
from hypothesis import strategies as st

from mvgauss import MultiVariateGaussian


def pieces(n, cuts):
    """Return the runs of ``range(n)`` between cuts."""
    edges = sorted({0, n, *(c % n for c in cuts)})
    return [slice(a, b) for a, b in pairwise(edges)]


@st.composite
def streams(draw):
    """Draw samples of some offset (N, C, 2), weights or None, runs of a random order, and that order."""
    n, rng = draw(st.integers(2, 24)), np.random.default_rng(draw(seeds))
    c = draw(st.integers(1, 5)) if draw(st.booleans()) else draw(st.integers(6, 40))  # triangles, and rows
    offset = draw(st.sampled_from([0.0, 1.0, -100.0, 1e4]))
    drift = draw(st.sampled_from([0.0, 30.0]))
    x = rng.standard_normal((n, c, 2)) + offset + drift * np.linspace(-1, 1, n)[:, None, None]
    x *= draw(st.sampled_from([1e-3, 1.0, 1e3]))
    runs = pieces(n, draw(st.lists(st.integers(0, 100), max_size=8)))
    order, w = rng.permutation(n), None
    if draw(st.booleans()):
        w = rng.uniform(0.6, 3, n) * draw(st.sampled_from([1.0, 1e3]))
        if draw(st.booleans()):
            w[rng.random(n) < 0.3] = 0
            w[order[:2]] = 1
    return frozen(x), None if w is None else frozen(w), runs, order


def part(w, i):
    """Return the weights of a run."""
    return None if w is None else w[i]


def assert_same(got, want, x, tolerance=1e-10):
    """Assert that two models are equal to a relative tolerance: each entry against its variances."""
    sd = np.sqrt(np.diagonal(want.covariance, axis1=1, axis2=2))
    size = np.abs(x).max()
    assert_within(got.mean, want.mean, np.broadcast_to(tolerance * size, want.mean.shape))
    assert_within(got.covariance, want.covariance, tolerance * sd[:, :, None] * sd[:, None, :])
    np.testing.assert_array_equal(got.rank, want.rank)
    d = want.mahalanobis(x)
    assert_within(got.mahalanobis(x), d, tolerance * (d + 1))


# ---- any split, any order


@given(streams(), block_sizes, st.sampled_from([0, 1, 0.5]))
def test_any_split_in_any_order_streamed_gives_the_fit_of_the_whole(stream, size, ddof):
    x, w, runs, order = stream
    options = {"reg_covar": 0.1 * float(x.var()), "ddof": ddof}
    with blocks_of(size):
        model = MultiVariateGaussian(**options)
        for run in runs:
            model.partial_fit(x[order[run]], sample_weight=part(w, order[run]))
        assert_same(model, MultiVariateGaussian(**options).fit(x, sample_weight=w), x)


@given(streams(), block_sizes, seeds)
def test_parts_fitted_apart_and_merged_in_any_order_give_the_fit_of_the_whole(stream, size, seed):
    x, w, runs, order = stream
    options, rng = {"reg_covar": 0.1 * float(x.var())}, np.random.default_rng(seed)
    with blocks_of(size):
        models = [
            MultiVariateGaussian(**options).partial_fit(x[order[r]], sample_weight=part(w, order[r]))
            for r in runs
        ]
        while len(models) > 1:  # a random tree
            rng.shuffle(models)
            models[0].merge(models.pop())
        assert_same(models[0], MultiVariateGaussian(**options).fit(x, sample_weight=w), x)


@pytest.mark.parametrize("shrinkage", [None, "ledoit_wolf"])
@pytest.mark.parametrize("c", [3, 200], ids=["a square", "rows"])
def test_long_parts_of_zero_weight_add_nothing_however_far_away(rng, c, shrinkage):
    """So long that they are taken in runs, none of which has any weight; two may come first."""
    w = np.repeat([1.0, 0.0, 1.0], [4, 80, 6])
    x = frozen(np.where(w[:, None, None] > 0, rng.standard_normal((90, c, 2)), 1e17))
    want = MultiVariateGaussian(shrinkage=shrinkage).fit(x[w > 0])
    with blocks_of(1):
        for parts in (
            [(0, 4), (4, 90)],
            [(4, 90), (0, 4)],
            [(0, 4), (4, 84), (84, 90)],
            [(4, 40), (40, 84), (0, 4), (84, 90)],
        ):
            model = MultiVariateGaussian(shrinkage=shrinkage)
            for start, stop in parts:
                model.partial_fit(x[start:stop], sample_weight=w[start:stop])
            assert_same(model, want, x[w > 0])


@pytest.mark.parametrize("shrinkage", [None, 0.2, "oas", "ledoit_wolf"])
@pytest.mark.parametrize("whole", [2, 9, 10, 11, 12, 40])
def test_streams_and_merges_across_the_boundary_of_the_forms_are_the_fit_of_the_whole(rng, shrinkage, whole):
    """Up to ten samples of seventeen features are rows; from then on there is a triangle."""
    x = frozen(rng.standard_normal((whole, 17, 2)) + 3)
    options = {"shrinkage": shrinkage}
    want = MultiVariateGaussian(**options).fit(x)
    streamed, merged = MultiVariateGaussian(**options), MultiVariateGaussian(**options)
    for i in range(whole):
        streamed.partial_fit(x[i : i + 1])
    for run in (slice(0, 1), slice(1, 7), slice(7, 11), slice(11, 40)):
        if run.start < whole:
            merged.merge(MultiVariateGaussian(**options).partial_fit(x[run]))
    for model in (streamed, merged):
        assert_same(model, want, x)
        assert model.nbytes == want.nbytes
        assert_within(model.leave_one_out(x), want.leave_one_out(x), 1e-8) if whole > 2 else None


def test_the_first_part_may_be_a_single_sample(rng):
    x = frozen(rng.standard_normal((6, 3, 2)))
    model = MultiVariateGaussian().partial_fit(x[:1])
    np.testing.assert_array_equal(model.mean, x[0])
    for call in (model.mahalanobis, model.p_value, model.predict, lambda x: model.covariance):
        with pytest.raises(
            ValueError, match=r"^the fitted embedding: expected more .*ddof = 1.*, got 1 sample$"
        ):
            call(x)
    assert_same(model.partial_fit(x[1:]), MultiVariateGaussian().fit(x), x)


# ---- what goes on, and what starts afresh


def bits(model, folder):
    """Return everything a model keeps, as a resumable file has it."""
    model.save(folder / "bits")
    with np.load(folder / "bits") as file:
        return {name: file[name].tobytes() for name in file.files}


def test_the_samples_of_all_calls_are_counted(rng):
    x = frozen(rng.standard_normal((9, 3, 4)))
    model = MultiVariateGaussian().fit(x).partial_fit(x[:4]).merge(MultiVariateGaussian().fit(x[:2]))
    assert model.n_samples_seen_ == 15
    assert model.fit(x).n_samples_seen_ == 9
    assert MultiVariateGaussian.from_parameters(model.mean, model.inv_covariance).n_samples_seen_ == 0


def test_fit_starts_afresh(rng, tmp_path):
    x, y = frozen(rng.standard_normal((2, 9, 3, 4)))
    again = MultiVariateGaussian().fit(y).fit(x)
    assert bits(again, tmp_path) == bits(MultiVariateGaussian().fit(x), tmp_path)
    streamed = MultiVariateGaussian().partial_fit(y).partial_fit(y).fit(x)
    assert bits(streamed, tmp_path) == bits(MultiVariateGaussian().fit(x), tmp_path)


def test_fit_may_change_the_sizes_and_partial_fit_may_not(rng):
    x, y = rng.standard_normal((9, 3, 4)), rng.standard_normal((9, 2, 5))
    model = MultiVariateGaussian().fit(x).fit(y)
    assert model.mean.shape == (2, 5)
    for other in (x, y[:, :1], y[:, :, :4], y[:, :, None]):
        with pytest.raises(ValueError, match="embedding: expected"):
            model.partial_fit(other)


@pytest.mark.parametrize(("first", "then"), [(None, 0.2), ("ledoit_wolf",) * 2, ("ledoit_wolf", "oas")])
def test_parameters_set_in_mid_stream_hold_from_the_next_part_on(rng, first, then):
    x = frozen(rng.standard_normal((9, 3, 4)))
    model = MultiVariateGaussian(reg_covar=3.0, shrinkage=first).partial_fit(x[:5])
    before = model.covariance
    model.set_params(reg_covar=0.5, ddof=0, shrinkage=then)
    np.testing.assert_array_equal(model.covariance, before)
    want = MultiVariateGaussian(reg_covar=0.5, ddof=0, shrinkage=then).fit(x)
    assert_same(model.partial_fit(x[5:]), want, x)


# ---- merge


def test_merging_leaves_the_other_model_as_it_was(rng, tmp_path):
    x, y = frozen(rng.standard_normal((2, 9, 3, 4)))
    other = MultiVariateGaussian().fit(y)
    before = bits(other, tmp_path)
    MultiVariateGaussian().fit(x).merge(other)
    assert bits(other, tmp_path) == before
    empty = MultiVariateGaussian().merge(other)
    empty.partial_fit(x)
    assert bits(other, tmp_path) == before


def test_merging_into_an_unfitted_model_takes_the_other_over(rng, tmp_path):
    x = frozen(rng.standard_normal((9, 3, 4)))
    other = MultiVariateGaussian().partial_fit(x)
    taken = MultiVariateGaussian().merge(other)
    np.testing.assert_array_equal(taken.mahalanobis(x), other.mahalanobis(x))
    assert bits(taken, tmp_path) == bits(other, tmp_path)
    want = MultiVariateGaussian(reg_covar=2.0).fit(x)
    assert_same(MultiVariateGaussian(reg_covar=2.0).merge(other), want, x)


def test_merging_a_model_with_itself_counts_its_samples_twice(rng):
    x = frozen(rng.standard_normal((9, 3, 4)))
    model = MultiVariateGaussian().fit(x)
    assert model.merge(model) is model
    assert_same(model, MultiVariateGaussian().fit(np.concatenate([x, x])), x)


def test_the_parameters_of_the_model_that_takes_in_hold(rng):
    x = frozen(rng.standard_normal((9, 3, 4)))
    mine = MultiVariateGaussian(reg_covar=2.0, ddof=0).fit(x[:4])
    mine.merge(MultiVariateGaussian(reg_covar=5.0, shrinkage=0.5).fit(x[4:]))
    assert_same(mine, MultiVariateGaussian(reg_covar=2.0, ddof=0).fit(x), x)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda x: MultiVariateGaussian().fit(x[:, :2]), "other: expected n_features = 3, got 2"),
        (lambda x: MultiVariateGaussian().fit(x[:, :, :, :1]), r"other: expected grid = \(2, 2\), got"),
        (lambda x: MultiVariateGaussian().fit(x.reshape(9, 3, 4)), r"other: expected grid = \(2, 2\), got"),
        (lambda x: MultiVariateGaussian(), "other: expected a fitted model"),
        (lambda x: MultiVariateGaussian.from_parameters(*MultiVariateGaussian().fit(x)), "its moments"),
    ],
    ids=["features", "grid", "flat grid", "unfitted", "parameters"],
)
def test_models_of_different_sizes_are_not_merged(rng, tmp_path, other, message):
    x = frozen(rng.standard_normal((9, 3, 2, 2)))
    model = MultiVariateGaussian().fit(x)
    before = bits(model, tmp_path)
    with pytest.raises(ValueError, match=message):
        model.merge(other(x))
    assert bits(model, tmp_path) == before


@pytest.mark.parametrize("other", [None, 3, np.ones((2, 3, 4))], ids=["None", "number", "array"])
def test_what_is_no_model_is_not_merged(rng, other):
    with pytest.raises(TypeError, match="other: expected a MultiVariateGaussian"):
        MultiVariateGaussian().fit(rng.standard_normal((9, 3, 4))).merge(other)


@pytest.mark.parametrize("options", [{"n_features": 2}, {"n_patches": 5}], ids=str)
def test_an_unfitted_model_takes_in_only_what_it_could_have_been_fitted_on(rng, options):
    other = MultiVariateGaussian().fit(rng.standard_normal((9, 3, 4)))
    model = MultiVariateGaussian(**options)
    with pytest.raises(ValueError, match="other: expected"):
        model.merge(other)
    assert not model.__sklearn_is_fitted__()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_model_keeps_its_dtype_whatever_it_takes_in(rng, dtype):
    x = frozen(rng.standard_normal((9, 3, 4)))
    other = MultiVariateGaussian(dtype=np.float32 if dtype == np.float64 else np.float64).fit(x[4:])
    want = MultiVariateGaussian(dtype=dtype).fit(x)
    for model in (
        MultiVariateGaussian(dtype=dtype).fit(x[:4]).merge(other),
        MultiVariateGaussian(dtype=dtype).merge(other).partial_fit(x[:4]),
    ):
        assert model.mahalanobis(x).dtype == dtype
        assert_same(model, want, x, 4 * np.finfo(dtype).eps + 1e-10)


# ---- interrupted and gone on with

HOW = [
    {},
    {"reg_covar": 0, "ddof": 0},
    {"shrinkage": 0.3},
    {"shrinkage": "oas"},
    {"shrinkage": "ledoit_wolf"},
]


@pytest.mark.parametrize("options", HOW, ids=str)
@pytest.mark.parametrize("dtype", [None, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("scored", [False, True], ids=["", "scored"])
def test_a_stream_saved_and_loaded_goes_on_bit_for_bit(rng, tmp_path, options, dtype, scored):
    x = frozen(rng.standard_normal((12, 4, 2, 3)) + 2)
    w = frozen(rng.uniform(0.5, 2, 12))
    whole = MultiVariateGaussian(**options, dtype=dtype)
    saved = MultiVariateGaussian(**options, dtype=dtype)
    for run in (slice(0, 5), slice(5, 6), slice(6, 12)):
        whole.partial_fit(x[run], sample_weight=part(w, run))
        saved.partial_fit(x[run], sample_weight=part(w, run))
        if scored and run.stop > 1:
            whole.mahalanobis(x), saved.mahalanobis(x)
        saved.save(tmp_path / "m.npz")
        saved = MultiVariateGaussian.load(tmp_path / "m.npz")
    np.testing.assert_array_equal(saved.mahalanobis(x), whole.mahalanobis(x))
    np.testing.assert_array_equal(saved.inv_covariance, whole.inv_covariance)
    got, want = bits(saved, tmp_path), bits(whole, tmp_path)
    got.pop("header"), want.pop("header")  # it names the dtype, not its class
    assert got == want


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("n", "c"), [(9, 5), (5, 9), (9, 15), (9, 16), (2, 1), (1, 5)])
def test_nbytes_are_those_of_what_is_stored(rng, n, c, dtype):
    x, p, size = frozen(rng.standard_normal((n, c, 6)), dtype), 6, np.dtype(dtype).itemsize
    rows = n <= c and 2 * (n - 1) <= c + 1
    moments = p * (8 * c + (size * (n - 1) * c if rows else 4 * c * (c + 1)))
    model = MultiVariateGaussian(ddof=0).partial_fit(x)
    assert model.nbytes == moments
    # a small factor beside the rows, or a dense one, and some numbers
    factors = p * (8 * ((n - 1) ** 2 + 2) if rows else size * c * c) + 24 * p
    model.mahalanobis(x)
    assert model.nbytes == MultiVariateGaussian(ddof=0).fit(x).nbytes == moments + factors
    bare = MultiVariateGaussian(reg_covar=0, ddof=0).fit(x)
    assert bare.nbytes == moments + p * (size * (n - 1 if rows else c) * c + 24)
    if n > 1:
        model.calibrate(x)
        assert model.nbytes == moments + factors + size * n * (p + 1)
    streamed = MultiVariateGaussian(shrinkage="ledoit_wolf").partial_fit(x)
    assert streamed.nbytes == moments + 8 * p * (c + 1)


@pytest.mark.parametrize("n", [7, 60])
def test_weights_of_one_change_not_a_bit(rng, tmp_path, n):
    x = frozen(rng.standard_normal((n, 20, 3)), np.float32)
    assert bits(MultiVariateGaussian().fit(x, sample_weight=np.ones(n)), tmp_path) == bits(
        MultiVariateGaussian().fit(x), tmp_path
    )


@pytest.mark.parametrize("n", [60, 15], ids=["a square", "rows"])
def test_a_file_without_moments_is_smaller_and_scores_alike(rng, tmp_path, n):
    x = frozen(rng.standard_normal((n, 40, 9)), np.float32)
    model = MultiVariateGaussian().fit(x)
    model.save(tmp_path / "whole")
    model.save(tmp_path / "half", resumable=False)
    whole, half = ((tmp_path / name).stat().st_size for name in ("whole", "half"))
    loaded = MultiVariateGaussian.load(tmp_path / "half")
    factor = 4 * 40 * 40 if n == 60 else 4 * 14 * 40 + 8 * 14 * 14 + 16
    assert loaded.nbytes == 9 * (8 * 40 + factor + 24)
    assert half < loaded.nbytes + 4096
    # few samples have no moments besides the rows, which their factor needs
    assert (whole > 1.5 * half and model.nbytes > 1.5 * loaded.nbytes) if n == 60 else whole < 1.1 * half
    for score in ("mahalanobis", "score_samples"):
        got, want = (getattr(m, score)(x) for m in (loaded, model))
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(loaded.inv_covariance, model.inv_covariance)
    np.testing.assert_array_equal(loaded.mean, model.mean)
    assert_within(
        loaded.covariance,
        model.covariance,
        1e3 * SINGLE * np.abs(model.covariance).max(axis=(1, 2))[:, None, None],
    )
    # dropping the moments in the file leaves those of the model
    assert_same(model.partial_fit(x), MultiVariateGaussian().fit(np.concatenate([x, x])), x, 1e-5)


def test_a_model_without_moments_refuses_to_go_on_and_says_why(rng, tmp_path):
    x = frozen(rng.standard_normal((9, 3, 4)))
    MultiVariateGaussian().partial_fit(x).save(tmp_path / "half", resumable=False)
    model, before = MultiVariateGaussian.load(tmp_path / "half"), (tmp_path / "half").read_bytes()
    for call in (
        lambda: model.partial_fit(x),
        lambda: model.merge(MultiVariateGaussian().fit(x)),
        lambda: MultiVariateGaussian().fit(x).merge(model),
        lambda: MultiVariateGaussian().merge(model),
        lambda: model.leave_one_out(x),
        lambda: model.calibrate(x),
    ):
        with pytest.raises(ValueError, match=r"be fitted further: expected its moments.*resumable=False"):
            call()
    model.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == before
    assert_same(model.fit(x), MultiVariateGaussian().fit(x), x)


# ---- numerical honesty


def exact_two(k, unit):
    """Return mean and scatter of whole numbers ``(N, C)`` times a power of two, rounded once."""
    n, c = k.shape
    shift = k.sum(axis=0) // n
    y = k - shift
    sums = y.sum(axis=0)
    mean = [Fraction(int(shift[j])) + Fraction(int(sums[j]), n) for j in range(c)]
    scatter = [
        [
            Fraction(int((y[:, i] * y[:, j]).sum())) - Fraction(int(sums[i]) * int(sums[j]), n)
            for j in range(c)
        ]
        for i in range(c)
    ]
    return np.array([float(m) for m in mean]) * unit, np.array(
        [[float(s) for s in row] for row in scatter]
    ) * unit**2


def stated_bound(scatter, n):
    """Return n eps sum |z_i| |z_j|, by Cauchy and Schwarz at most that of the lengths."""
    length = np.sqrt(np.diag(scatter))
    return n * EPS * length[:, None] * length


@pytest.mark.parametrize(
    "size", [37_777, *(pytest.param(n, marks=pytest.mark.slow) for n in (1000, 1_000_000))]
)
def test_a_million_samples_a_million_deviations_from_zero_keep_their_digits(rng, size):
    n, unit = 1_000_000, 2.0**-16
    k = np.rint(rng.standard_normal((n, 2)) / unit).astype(np.int64)
    k[:, 1] += k[:, 0] // 2
    k += round(1e6 / unit)
    x = frozen(k * unit)
    mean, scatter = exact_two(k, unit)
    model = MultiVariateGaussian(reg_covar=0, ddof=0)
    for i in range(0, n, size):
        model.partial_fit(x[i : i + size])
    assert_within(model.covariance[0] * n, scatter, stated_bound(scatter, n))
    assert_within(model.mean[:, 0], mean, 4 * EPS * np.abs(mean))


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_one_sample_at_a_time_keeps_the_stated_bound(rng, offset):
    n, unit = 1000, 2.0**-16
    k = np.rint(rng.standard_normal((n, 2)) / unit).astype(np.int64) + round(offset / unit)
    x = frozen(k * unit)
    model = MultiVariateGaussian(reg_covar=0, ddof=0, n_jobs=1)
    for i in range(n):
        model.partial_fit(x[i : i + 1])
    mean, scatter = exact_two(k, unit)
    # each step rounds a mean of that offset: eps * offset against a deviation
    moved = 4 * EPS * offset * np.sqrt(n * np.diag(scatter))
    assert_within(
        model.covariance[0] * n, scatter, stated_bound(scatter, n) + moved[:, None] + moved[None, :]
    )
    assert_within(model.mean[:, 0], mean, (8 + math.sqrt(n)) * EPS * (np.abs(mean) + 1))


def test_the_first_score_of_a_stream_copies_no_rows(rng):
    """The factors of few samples share the rows of the moments from the start."""
    x = frozen(rng.standard_normal((40, 200, 200)))
    model = MultiVariateGaussian(n_jobs=1).partial_fit(x)
    moments = model.nbytes
    tracemalloc.start()
    try:
        model.mahalanobis(x[:1])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < moments / 2
