"""Laws of `MultiVariateGaussian`."""

import copy
import pickle

import numpy as np
import pytest
from common import (
    EPS,
    LAYOUTS,
    SINGLE,
    anomalib,
    assert_within,
    blocks_of,
    distance_bound,
    frozen,
    gaussians,
    inverse_bound,
    layouts,
    quietly,
    seeds,
    spectrum,
)
from hypothesis import given
from hypothesis import strategies as st

from mvgauss import MultiVariateGaussian, cov, mahalanobis, pinv
from mvgauss.testing import cov_bound, mean_bound


@st.composite
def embeddings(draw, n=(2, 9), c=(1, 6), dtypes=(np.float64, np.float32)):
    """Draw a training set (N, C, H, W) and a test set (M, C, H, W), read-only."""
    shape = draw(st.integers(*n)), draw(st.integers(*c)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    rng, dtype = np.random.default_rng(draw(seeds)), draw(st.sampled_from(dtypes))
    scale, offset = draw(st.sampled_from([1e-6, 1e-3, 1, 1e3, 1e6])), draw(st.sampled_from([0, 5]))
    train, test = (scale * (rng.standard_normal((k, *shape[1:])) + offset) for k in (shape[0], 3))
    return frozen(train, dtype), frozen(test, dtype)


@pytest.fixture
def train(rng):
    return frozen(rng.standard_normal((12, 5, 3, 4)) + 2)


@pytest.fixture
def test(rng):
    return frozen(rng.standard_normal((6, 5, 3, 4)) + 2)


def stack(x):
    """Return ``(N, C, *grid)`` samples as ``(P, N, C)``."""
    return np.moveaxis(np.reshape(x, (*np.shape(x)[:2], -1)), -1, 0)


def check(model, train, test, *, reg_covar=0.01, ddof=1, w=None):
    """Assert that a model is what the oracle gives patch by patch; data are (N, C, P) and (M, C, P)."""
    want = gaussians(train, w, ddof=ddof, reg_covar=reg_covar)
    covariance = np.array([g.covariance for g in want])
    stored = SINGLE if model.mean.dtype == np.float32 else 0.0
    size, x = np.abs(train).max(), stack(train).astype(float)
    error = 2 * np.reshape(cov_bound(x, ddof=ddof, fweights=w), covariance.shape) + 4 * EPS * reg_covar
    if stored and 2 * (len(train) - 1) <= len(train[0]) + 1:  # the rows of few samples are rounded
        sd = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
        error += 2 * stored * sd[:, :, None] * sd[:, None, :]
    # an error of the covariance moves the inverse by that times |P|^2, the distance by half of it times |P|
    _, low = spectrum(covariance)
    moved = len(train[0]) * error.max(axis=(1, 2)) / low
    assert_within(model.mean, np.array([g.mean for g in want]).T, mean_bound(x, fweights=w).T + stored * size)
    assert_within(model.covariance, covariance, error + (stored + 2 * EPS) * np.abs(covariance))
    assert model.rank.tolist() == [g.rank for g in want]
    assert_within(
        model.inv_covariance,
        np.array([g.inv_covariance for g in want]),
        inverse_bound(covariance, EPS, stored) + (moved / low)[:, None, None],
    )
    d = np.array([g.mahalanobis(test[:, :, p]) for p, g in enumerate(want)])
    bound = distance_bound(covariance, d, max(size, np.abs(test).max()) * len(train), EPS, stored)
    got = model.mahalanobis(test)
    assert got.dtype == model.mean.dtype
    assert_within(got, d.T, (bound + 4 * moved[:, None] * d).T)


# ---- the estimator is the loop over patches, and the hand composition


@pytest.mark.parametrize(
    "dtype", [np.float64, np.float32, np.float16, np.int16, np.dtype(">f8"), np.longdouble]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_fit_is_a_loop_over_patches_in_every_dtype(rng, dtype, weighted, any_blocks):
    for n in (11, 3):  # a triangle, and rows
        train, test = (frozen(np.rint(9 * rng.standard_normal((k, 4, 6))), dtype) for k in (n, 5))
        w = frozen(rng.uniform(0.5, 2, n)) if weighted else None
        model = MultiVariateGaussian().fit(train, sample_weight=w)
        assert model.mean.dtype == (np.float32 if np.dtype(dtype) in (np.float32, np.float16) else np.float64)
        check(model, train, test, w=w)


@given(
    embeddings(),
    st.booleans(),
    st.sampled_from([0.0, 0.01, 1.0]),
    st.sampled_from([None, 0.0, 0.3, 1.0]),
    st.sampled_from([0, 1, 0.5]),
)
def test_the_estimator_is_the_hand_composition(sets, weighted, relative, shrinkage, ddof):
    train, test = (x.astype(float).reshape(*x.shape[:2], -1) for x in sets)
    w, reg_covar = np.arange(len(train)) % 3 + 1 if weighted else None, relative * float(train.var())
    x = stack(train)
    c, rho = x.shape[-1], shrinkage or 0.0
    s = cov(x, fweights=w, ddof=ddof)
    target = rho * np.trace(s, axis1=1, axis2=2) / c + reg_covar
    error = 2 * cov_bound(x, fweights=w, ddof=ddof) + 8 * EPS * (np.abs(s) + target[:, None, None])
    s = (1 - rho) * s + target[:, None, None] * np.eye(c)
    options = {"reg_covar": reg_covar, "shrinkage": shrinkage, "ddof": ddof}
    model = MultiVariateGaussian(**options).fit(train, sample_weight=w)
    assert_within(model.covariance, s, error)
    inverse, rank = pinv(s, return_rank=True)
    np.testing.assert_array_equal(model.rank, rank)
    # an error of the covariance moves the inverse by that times |P|^2, the distance by half of it times |P|
    _, low = spectrum(s)
    moved = c * error.max(axis=(1, 2)) / low
    assert_within(model.inv_covariance, inverse, inverse_bound(s) + (moved / low)[:, None, None])
    want = mahalanobis(np.moveaxis(test, -1, 0), model.mean.T, inverse)
    # what is outside of the range of a singular covariance is noise to both
    z = np.moveaxis(test - model.mean, -1, 0)
    noise = np.sqrt((z**2).sum(axis=2)) * np.sqrt(c * EPS / low)[:, None]
    bound = distance_bound(s, want, np.abs(train).max()) + moved[:, None] * want
    assert_within(model.mahalanobis(test), want.T, (bound + 8 * np.where(rank < c, noise.T, 0).T).T)


@pytest.mark.parametrize("shrinkage", ["oas", "ledoit_wolf"])
@pytest.mark.parametrize("n", [4, 30])
def test_with_its_own_intensity_a_shrunk_model_is_the_hand_composition_too(rng, shrinkage, n):
    train, test = (frozen(rng.standard_normal((k, 9, 6))) for k in (n, 5))
    model = MultiVariateGaussian(shrinkage=shrinkage).fit(train)
    rho, s = model.diagnostics()["shrinkage"][:, None, None], cov(stack(train))
    s = (1 - rho) * s + (rho * np.trace(s, axis1=1, axis2=2)[:, None, None] / 9 + 0.01) * np.eye(9)
    want = mahalanobis(stack(test), model.mean.T, pinv(s))
    np.testing.assert_allclose(model.mahalanobis(test), want.T, rtol=1e-12)


@pytest.mark.parametrize("versions", [(0.01,), (0.01, 1e-5)], ids=["anomalib 1", "anomalib 2"])
def test_the_parameters_are_those_of_anomalib(train, versions):
    mean, inverse = MultiVariateGaussian(reg_covar=sum(versions)).fit(train)
    want_mean, want_inverse = anomalib(train.reshape(12, 5, 12), versions)
    assert_within(mean, want_mean, 16 * 12 * EPS * np.abs(train).max())
    assert_within(inverse, want_inverse, 4 * inverse_bound(np.linalg.inv(want_inverse)))


def test_without_a_ridge_the_pseudo_inverse_takes_over(rng):
    train = rng.standard_normal((4, 6, 5))
    train[:, 2, 1] = 7  # a dead feature in one patch
    train[:, :, 3] = -1  # and a dead patch
    model = MultiVariateGaussian(reg_covar=0).fit(frozen(train))
    assert model.rank.tolist() == [3, 3, 3, 0, 3]
    assert (model.inv_covariance[3] == 0).all()
    assert_within(model.inv_covariance[1, 2], np.zeros(6), inverse_bound(model.covariance[1])[0])
    assert (model.mahalanobis(train + 5)[:, 3] == 0).all()
    check(model, train, train, reg_covar=0)


def test_one_sample_with_ddof_zero_leaves_only_the_ridge(rng):
    x = frozen(rng.standard_normal((1, 3, 4)))
    model = MultiVariateGaussian(ddof=0, reg_covar=0.25).fit(x)
    np.testing.assert_array_equal(model.mean, x[0])
    np.testing.assert_array_equal(model.covariance, np.broadcast_to(0.25 * np.eye(3), (4, 3, 3)))
    assert_within(model.mahalanobis(x + 1), np.full((1, 4), 2 * np.sqrt(3)), 64 * EPS)


def test_distances_are_roots_of_squares_and_never_negative(train, test, any_blocks):
    model = MultiVariateGaussian().fit(train)
    squared = model.mahalanobis(test, squared=True)
    assert squared.shape == (6, 3, 4)
    assert (squared >= 0).all()
    np.testing.assert_array_equal(np.sqrt(squared), model.mahalanobis(test))


# ---- layouts


def arrangements(x):
    """Return an embedding (N, C, H, W) in every arrangement of axes, with its feature axis."""
    n, c = x.shape[:2]
    return {
        "(N, C, H, W)": (x, 1),
        "(N, C, P)": (x.reshape(n, c, -1), 1),
        "(N, C, P), axis -2": (x.reshape(n, c, -1), -2),
        "(N, P, C)": (np.ascontiguousarray(x.reshape(n, c, -1).swapaxes(1, 2)), -1),
        "(N, P, C), axis 2": (np.ascontiguousarray(x.reshape(n, c, -1).swapaxes(1, 2)), 2),
        "(N, H, W, C)": (np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1),
        "(N, H, W, C) view": (np.moveaxis(x, 1, -1), -1),
        "(N, H, C, W)": (np.ascontiguousarray(np.moveaxis(x, 1, 2)), 2),
        "(N, C, 1, H, W)": (x[:, :, None], 1),
        "(N, C, H, 1, W)": (x[:, :, :, None], 1),
        "(N, H, W, 1, C)": (np.moveaxis(x, 1, -1)[:, :, :, None], 4),
    }


@pytest.mark.parametrize("arrangement", list(arrangements(np.zeros((1, 1, 1, 1)))))
def test_every_arrangement_of_axes_is_the_same_model(train, test, arrangement, any_blocks):
    want = MultiVariateGaussian().fit(train)
    (x, axis), (y, _) = arrangements(train)[arrangement], arrangements(test)[arrangement]
    model = MultiVariateGaussian(feature_axis=axis).fit(frozen(x))
    assert_within(model.mean, want.mean, 64 * EPS)
    assert_within(model.covariance, want.covariance, 256 * EPS)
    d = want.mahalanobis(test)
    grid = np.delete(y.shape, [0, axis % y.ndim])
    assert_within(
        model.mahalanobis(frozen(y)),
        d.reshape(6, *grid),
        distance_bound(want.covariance, d.reshape(6, 12).T, 10).T.reshape(6, *grid),
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_layout_in_memory_changes_nothing(train, test, tmp_path, layout, dtype, any_blocks):
    x, y = train.astype(dtype), test.astype(dtype)
    want = MultiVariateGaussian().fit(x)
    model = MultiVariateGaussian().fit(layouts(x, tmp_path)[layout])
    eps = SINGLE if dtype == np.float32 else EPS
    assert_within(model.mean, want.mean, 64 * eps)
    assert_within(model.covariance, want.covariance, 256 * eps)
    bound = distance_bound(want.covariance, want.mahalanobis(y).reshape(6, 12).T.astype(float), 10, EPS, eps)
    assert_within(
        model.mahalanobis(layouts(y, tmp_path)[layout]), want.mahalanobis(y), bound.T.reshape(6, 3, 4)
    )


def test_anything_that_numpy_can_view_is_taken(train):
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            return np.array(train, dtype)

    np.testing.assert_array_equal(
        MultiVariateGaussian().fit(Tensor()).mean, MultiVariateGaussian().fit(train).mean
    )
    np.testing.assert_array_equal(
        MultiVariateGaussian().fit(train.tolist()).mean, MultiVariateGaussian().fit(train).mean
    )


@pytest.mark.parametrize("shape", [(300, 10, 50), (20, 60, 30)])
def test_not_a_bit_depends_on_the_number_of_threads(rng, shape):
    x, new = frozen(rng.standard_normal(shape) + 1), frozen(rng.standard_normal((90, *shape[1:])))
    results = []
    for n_jobs in (1, 2, 3, 4, 7):
        with blocks_of(1 << 15):
            model = MultiVariateGaussian(n_jobs=n_jobs).fit(x)
            results.append([model.mean, model.covariance, model.mahalanobis(new), model.leave_one_out(x)])
    for other in results[1:]:
        for got, want in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(got, want)


# ---- weights, dtypes


def test_weights_of_one_change_nothing_and_their_unit_does(train):
    want = MultiVariateGaussian(reg_covar=0).fit(train).covariance
    for unit in (0.5, 1.0, 7):
        got = MultiVariateGaussian(reg_covar=0).fit(train, sample_weight=np.full(12, unit)).covariance
        # 12 samples each counted `unit` times
        assert_within(got, want * 11 * unit / (12 * unit - 1), 64 * 12 * EPS * np.abs(want).max())


def test_weights_are_counts_that_need_not_be_whole(train):
    w = np.linspace(0, 3, 12)
    got = MultiVariateGaussian(reg_covar=0).fit(train, sample_weight=w)
    x = stack(train)
    want = cov(x, aweights=w, ddof=0) * w.sum() / (w.sum() - 1)
    assert_within(got.covariance, want, 2 * cov_bound(x, fweights=w))
    assert_within(got.mean, np.average(x, axis=1, weights=w).T, 64 * EPS * np.abs(x).max())


@pytest.mark.parametrize("dtype", [np.float32, "float64", np.dtype(">f8")])
@pytest.mark.parametrize("given_dtype", [np.float16, np.float32, np.float64, np.int8])
def test_the_dtype_asked_for_wins(rng, dtype, given_dtype):
    x = frozen(9 * rng.standard_normal((12, 3, 4)), given_dtype)
    model = MultiVariateGaussian(dtype=dtype).fit(x)
    native = np.dtype(dtype).newbyteorder("=")
    for got in (model.mean, model.covariance, model.inv_covariance, model.mahalanobis(x)):
        assert got.dtype == native
    assert_within(
        model.covariance,
        np.array([g.covariance for g in gaussians(x)]),
        2 * cov_bound(stack(x).astype(float)) + np.finfo(native).eps * np.abs(model.covariance),
    )


# ---- the class as anomalib's users and scikit-learn's know it


def test_fit_returns_the_model_which_unpacks_into_its_parameters(train):
    model = MultiVariateGaussian()
    assert model.fit(train) is model
    mean, inverse = model.fit(train)
    np.testing.assert_array_equal(mean, model.mean)
    np.testing.assert_array_equal(inverse, model.inv_covariance)


@pytest.mark.parametrize("call", [lambda m, x: m.forward(x), lambda m, x: m(x)], ids=["forward", "call"])
def test_forward_fits_and_returns_a_plain_list(train, call):
    model = MultiVariateGaussian()
    result = call(model, train)
    assert type(result) is list
    np.testing.assert_array_equal(result[0], model.mean)
    np.testing.assert_array_equal(result[1], model.inv_covariance)


def test_a_model_of_given_size_begins_with_zero_means_and_identities(rng):
    model = MultiVariateGaussian(3, 4)
    np.testing.assert_array_equal(model.mean, np.zeros((3, 4)))
    for s in (model.inv_covariance, model.covariance):
        np.testing.assert_array_equal(s, np.broadcast_to(np.eye(3), (4, 3, 3)))
    assert model.rank.tolist() == [3] * 4
    x = frozen(rng.standard_normal((5, 3, 2, 2)))
    want = np.linalg.norm(x, axis=1)
    assert_within(model.mahalanobis(x), want, 8 * SINGLE * want)
    mean, inverse = model
    assert mean.shape == (3, 4)
    assert inverse.shape == (4, 3, 3)
    assert (inverse.dtype, MultiVariateGaussian(3, 4, dtype=float).mean.dtype) == (np.float32, np.float64)


def test_a_model_of_given_size_fits_that_size_only(rng):
    model = MultiVariateGaussian(3, 4)
    x = frozen(rng.standard_normal((5, 3, 2, 2)))
    np.testing.assert_array_equal(model.fit(x).mean, MultiVariateGaussian().fit(x).mean)
    with pytest.raises(ValueError, match=r"embedding: expected .*3.*, got 2"):
        model.fit(x[:, :2])
    with pytest.raises(ValueError, match=r"embedding: expected .*4.*, got 2"):
        model.fit(x[..., :1])


def test_one_size_may_be_given_without_the_other(rng):
    x = frozen(rng.standard_normal((5, 3, 2, 2)))
    MultiVariateGaussian(n_features=3).fit(x)
    MultiVariateGaussian(n_patches=4).fit(x)
    with pytest.raises(ValueError, match="not fitted"):
        MultiVariateGaussian(n_features=3).mean  # noqa: B018


@pytest.mark.parametrize("n", [3, 12])
def test_results_belong_to_the_caller(train, test, n):
    """Also those of a part of the grid, which shares its numbers with the whole."""
    model = MultiVariateGaussian().fit(train[:n]).calibrate(train[:n])
    answers = {
        "mean": lambda m, x: m.mean,
        "covariance": lambda m, x: m.covariance,
        "inv_covariance": lambda m, x: m.inv_covariance,
        "rank": lambda m, x: m.rank,
        "condition": lambda m, x: m.diagnostics()["condition"],
        "mahalanobis": lambda m, x: m.mahalanobis(x),
        "p_value": lambda m, x: m.p_value(x),
        "contributions": lambda m, x: m.contributions(x),
    }
    for m, x in ((model, test), (model.select((slice(None), 1)), test[..., 1])):
        want = {name: answer(m, x).copy() for name, answer in answers.items()}
        for answer in answers.values():
            answer(m, x)[...] = 77
        for name, answer in answers.items():
            np.testing.assert_array_equal(answer(m, x), want[name])


def test_a_model_does_not_keep_the_embedding(train, test):
    x = np.array(train)
    model = MultiVariateGaussian().fit(x)
    x[...] = np.nan
    want = MultiVariateGaussian().fit(train)
    np.testing.assert_array_equal(model.covariance, want.covariance)
    np.testing.assert_array_equal(model.mahalanobis(test), want.mahalanobis(test))


def test_parameters_are_got_and_set(train):
    model = MultiVariateGaussian(reg_covar=0.5, ddof=0)
    assert model.get_params() == {
        **MultiVariateGaussian().get_params(),
        "reg_covar": 0.5,
        "ddof": 0,
    }
    assert model.set_params(reg_covar=2.0, feature_axis=2) is model
    assert model.get_params(deep=False)["reg_covar"] == 2.0
    assert model.feature_axis == 2


def test_an_unknown_parameter_sets_nothing():
    model = MultiVariateGaussian()
    with pytest.raises(ValueError, match=r"set_params: expected one of n_features, .*, got ridge"):
        model.set_params(reg_covar=3, ridge=1)
    assert model.reg_covar == 0.01


def test_set_parameters_take_effect_at_the_next_fit(train, test):
    model = MultiVariateGaussian().fit(train)
    want = model.mahalanobis(test)
    model.set_params(reg_covar=5.0, ddof=0)
    np.testing.assert_array_equal(model.mahalanobis(test), want)
    np.testing.assert_array_equal(
        model.fit(train).covariance, MultiVariateGaussian(reg_covar=5.0, ddof=0).fit(train).covariance
    )


@pytest.mark.parametrize("n", [3, 12])
def test_a_part_of_the_grid_is_a_model_of_its_own(train, test, n):
    model = MultiVariateGaussian(shrinkage="ledoit_wolf").fit(train[:n])
    distances, parts, covariance = model.mahalanobis(test), model.contributions(test), model.covariance
    for index in ((1, 2), 1, (slice(None), [0, 2]), train[0, 0] > 2, np.s_[::-1, 1:]):
        part, key = model.select(index), np.index_exp[index]
        images, embedding = (slice(None), *key), (slice(None), slice(None), *key)
        np.testing.assert_allclose(part.mahalanobis(test[embedding]), distances[images], rtol=1e-12)
        np.testing.assert_allclose(part.contributions(test[embedding]), parts[embedding], atol=1e-12)
        numbers = np.arange(12).reshape(3, 4)[index].ravel()
        np.testing.assert_array_equal(part.covariance, covariance[numbers])
        part.partial_fit(test[embedding])
        want = MultiVariateGaussian(shrinkage="ledoit_wolf").fit(np.concatenate([train[:n], test])[embedding])
        np.testing.assert_allclose(part.covariance, want.covariance, atol=1e-12)
    np.testing.assert_array_equal(model.mahalanobis(test), distances)
    with pytest.raises(IndexError):
        model.select((3, 0))
    for nothing in (slice(0, 0), np.zeros((3, 4), bool)):
        with pytest.raises(IndexError, match="patches: expected an index of at least one patch"):
            model.select(nothing)
    model.read_bytes = 480
    assert model.select(0).read_bytes == 480


@pytest.mark.parametrize("dtypes", [("float64", None), (None, "float64"), ("float32", "float64")])
@pytest.mark.parametrize("n", [4, 30])
def test_what_is_merged_from_another_dtype_is_saved_and_loaded(rng, tmp_path, dtypes, n):
    x = frozen(rng.standard_normal((n, 20, 4)), np.float32)
    other = MultiVariateGaussian(dtype=dtypes[1]).fit(x).calibrate(x)
    fresh, fitted = (MultiVariateGaussian(dtype=dtypes[0]) for _ in range(2))
    for model in (fresh.merge(other), fitted.fit(x[::-1]).calibrate(x[::-1]).merge(other)):
        for scored in (False, True):
            if scored:
                model.mahalanobis(x)
            model.save(tmp_path / "m")
            loaded = MultiVariateGaussian.load(tmp_path / "m")
            assert loaded.mean.dtype == model.mean.dtype == np.dtype(dtypes[0] or model.mean.dtype)
            np.testing.assert_array_equal(loaded.mahalanobis(x), model.mahalanobis(x))
        with pytest.raises(ValueError, match="calibrate"):
            loaded.image_p_value(x)


# ---- from_parameters


def test_a_model_from_parameters_has_their_covariance_and_rank(rng):
    inverse = np.array([np.diag([4.0, 1.0, 0.25]), np.diag([1.0, 0.0, 2.0])])
    model = MultiVariateGaussian.from_parameters(np.zeros((3, 2)), frozen(inverse))
    assert model.rank.tolist() == [3, 2]
    assert_within(model.covariance, [np.diag([0.25, 1, 4]), np.diag([1, 0, 0.5])], 16 * EPS)
    np.testing.assert_allclose(model.inv_covariance, inverse, rtol=0, atol=16 * EPS)


def test_a_model_from_parameters_takes_a_grid_of_any_shape(rng):
    model = MultiVariateGaussian.from_parameters(np.zeros((3, 6)), np.broadcast_to(np.eye(3), (6, 3, 3)))
    assert model.mahalanobis(np.zeros((2, 3, 6))).shape == (2, 6)
    assert model.mahalanobis(np.zeros((2, 3, 2, 3))).shape == (2, 2, 3)
    with pytest.raises(ValueError, match=r"expected .*6.*, got 5"):
        model.mahalanobis(np.zeros((2, 3, 5)))


def test_a_model_from_parameters_may_have_another_feature_axis_and_dtype():
    model = MultiVariateGaussian.from_parameters(
        np.zeros((3, 6)), np.broadcast_to(np.eye(3), (6, 3, 3)), feature_axis=-1, dtype=np.float32
    )
    assert model.mahalanobis(np.ones((2, 6, 3))).dtype == np.float32
    assert_within(model.mahalanobis(np.ones((2, 6, 3))), np.full((2, 6), np.sqrt(3)), 8 * SINGLE)


# ---- all or nothing


BAD_FITS = {
    "nan": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 77, np.nan, x),
    "inf": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 77, np.inf, x),
    "one sample": lambda x: x[:1],
    "empty": lambda x: x[:0],
    "complex": lambda x: x + 1j,
    "strings": lambda x: x.astype(str),
    "objects": lambda x: np.where(x > 3, {}, x.astype(object)),
    "vector": lambda x: x[:, 0, 0, 0],
    "too large to square": lambda x: x * 1e300,
}


@pytest.mark.parametrize("bad", list(BAD_FITS))
def test_a_failed_fit_leaves_the_model_as_it_was(train, test, bad, any_blocks):
    model = MultiVariateGaussian().fit(train)
    want = model.mahalanobis(test), model.mean, model.inv_covariance, model.covariance
    with pytest.raises((ValueError, TypeError), match="embedding: expected "):
        model.fit(BAD_FITS[bad](train))
    for got, old in zip(
        (model.mahalanobis(test), model.mean, model.inv_covariance, model.covariance), want, strict=True
    ):
        np.testing.assert_array_equal(got, old)


def test_scoring_refuses_what_overflows_and_says_so(train):
    model = MultiVariateGaussian().fit(train)
    with pytest.raises(ValueError, match=r"embedding: expected .*float64"):
        quietly(model.mahalanobis, np.full((1, 5, 3, 4), 1e308))


# ---- copies

COPIES = {
    "itself": lambda model, path: model,
    "copy": lambda model, path: copy.copy(model),
    "deep copy": lambda model, path: copy.deepcopy(model),
    "unpickled": lambda model, path: pickle.loads(pickle.dumps(model)),
    "loaded": lambda model, path: model.save(path) or MultiVariateGaussian.load(path),
}


@pytest.mark.parametrize("kind", list(COPIES))
@pytest.mark.parametrize("c", [3, 30], ids=["square", "rows"])
def test_nothing_can_be_written_into_what_is_fitted_nor_into_a_copy_of_it(rng, tmp_path, kind, c):
    x = frozen(rng.standard_normal((9, c, 4)))
    state = COPIES[kind](MultiVariateGaussian().fit(x).calibrate(x), tmp_path / "m")._state
    for array in (*state.arrays().values(), *state.calibration):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
