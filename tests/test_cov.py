"""Laws of `cov`."""

import warnings

import numpy as np
import pytest
from common import (
    EPS,
    KINDS,
    LAYOUTS,
    assert_within,
    block_sizes,
    blocks_of,
    divisor,
    frozen,
    gap,
    layouts,
    numpy_cov,
    quietly,
    samples,
    scatter_bound,
    seeds,
    weights_of,
)
from hypothesis import assume, given
from hypothesis import strategies as st

from mvgauss import Moments, cov
from mvgauss.testing import cov_bound, exact_cov, exact_mean

REAL = [np.float64, np.float32, np.float16, np.int32, np.uint8, np.dtype(">f8"), np.longdouble]
COMPLEX = [np.complex128, np.complex64]
NUMPY_2_2 = np.lib.NumpyVersion(np.__version__) >= "2.2.0"


# ---- cov is a loop of numpy.cov


@pytest.mark.parametrize("kind", KINDS)
@given(
    x=samples(n=(2, 12), dtypes=REAL[:3] + COMPLEX),
    ddof=st.sampled_from([None, 0, 1, 2]),
    bias=st.booleans(),
    rowvar=st.booleans(),
    stacked=st.booleans(),
    seed=seeds,
    size=block_sizes,
)
def test_cov_is_a_loop_of_numpy_cov(x, kind, ddof, bias, rowvar, stacked, seed, size):
    w = weights_of(x, kind, seed, stacked)
    lost = (0 if bias else 1) if ddof is None else ddof
    assume((divisor(x, lost, w) > 1e-3).all())
    given_x = x.swapaxes(-1, -2) if rowvar else x
    with blocks_of(size):
        got = cov(given_x, rowvar=rowvar, bias=bias, ddof=ddof, **w)
    want = numpy_cov(x, bias=bias, ddof=ddof, **w)
    assert got.dtype == want.dtype
    assert_within(got.reshape(want.shape), want, gap(x, ddof=lost, **w))


@pytest.mark.parametrize("kind", KINDS)
@given(x=samples([()], n=(2, 6), c=(1, 3)), ddof=st.sampled_from([0, 0.5, 1, 1.25, -1, -2.5]), seed=seeds)
def test_cov_is_the_exact_covariance(x, kind, ddof, seed):
    w = weights_of(x, kind, seed)
    assume((divisor(x, ddof, w) > 1e-3).all())
    options = {"ddof": ddof, **w}
    assert_within(cov(x, **options), exact_cov(x, **options), cov_bound(x, **options))


@pytest.mark.parametrize("offset", [0, np.repeat([1e6, 0], [40, 160]), np.linspace(0, 1e6, 200), 1e9])
@pytest.mark.parametrize("dtype", [float, np.float32])
def test_a_long_sample_is_exact_wherever_its_beginning_lies(rng, offset, dtype, any_blocks):
    x = frozen(rng.standard_normal((200, 3)) + np.reshape(offset, (-1, 1)), dtype)
    assert_within(cov(x), exact_cov(x), cov_bound(x, streamed=True))
    m = Moments(x)
    assert_within(m.mean, exact_mean(x), 8 * EPS * np.abs(x).max())


@pytest.mark.parametrize("n", [3, 12])
@pytest.mark.parametrize("shape", [(40,), (2, 40)])
def test_few_samples_of_single_precision_far_from_zero_lose_no_digits(rng, n, shape):
    """The samples are single, the covariances are those of double: 1e6 standard deviations away too."""
    *stack, c = shape
    x = frozen(1e3 + 1e-3 * rng.standard_normal((*stack, n, c)), np.float32)
    want = numpy_cov(x.astype(float) - 1e3)
    np.testing.assert_allclose(cov(x), want, rtol=0, atol=1e-13 * np.abs(want).max())


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("offset", [0, 1e4, 6e4])
def test_single_precision_summed_in_double_is_exact_without_a_shift(rng, dtype, offset, any_blocks):
    x = frozen(offset + 64 * rng.standard_normal((2, 40, 3)), dtype)
    m = Moments(x)
    for item in range(2):
        assert_within(m.mean[item], exact_mean(x[item]), 2 * EPS * float(np.abs(x[item]).max()))
        assert_within(
            m.scatter[item], 40 * exact_cov(x[item], ddof=0), scatter_bound(x[item], {}, streamed=True)
        )


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("value", [0.1, 6e4, -3e-6])
def test_a_constant_of_single_precision_has_a_variance_of_exactly_zero(dtype, value, any_blocks):
    for n in (2, 3, 7, 1000):
        for x in (np.full((n, 2), value, dtype), np.full((n, 2), value)):
            assert (cov(x) == 0).all()
            assert (cov(x, dtype=np.float32) == 0).all()
            assert (cov(x, aweights=np.arange(n) + 0.3) == 0).all()


@pytest.mark.parametrize("light", [1e-8, 1e-20])
@pytest.mark.parametrize("row", [0, 3])
def test_a_light_outlier_costs_no_digits(rng, light, row):
    x, a = rng.standard_normal((6, 2)), np.ones(6)
    x[row], a[row] = [1.1 / np.sqrt(light), 0.7 / np.sqrt(light)], light
    got = Moments(frozen(x), frozen(a)).scatter
    want = a.sum() * exact_cov(x, ddof=0, aweights=a)
    assert_within(got, want, scatter_bound(x, {"aweights": a}))


@pytest.mark.parametrize("dtype", [*REAL, np.bool_, np.longdouble, *COMPLEX, np.clongdouble])
@pytest.mark.parametrize("shape", [(5,), (5, 1), (1, 5), (5, 3), (1, 1), (1,), ()])
@pytest.mark.parametrize("rowvar", [False, True])
def test_up_to_two_dimensions_cov_has_the_shape_dtype_and_numbers_of_numpy(rng, shape, dtype, rowvar):
    x = frozen(np.asarray(10 * rng.random(shape)).astype(dtype))
    if shape == (1, 5) and not rowvar and not NUMPY_2_2:
        want = quietly(np.cov, x.T)  # NumPy >= 2.2 reads one row as one sample
    else:
        want = quietly(np.cov, x, rowvar=rowvar)
    got = quietly(cov, x, rowvar=rowvar)
    assert got.dtype == want.dtype
    assert_within(got, want, 1e4 * EPS)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("rowvar", [False, True])
def test_empty_data_gives_what_numpy_gives(shape, rowvar):
    x = np.zeros(shape)
    want = quietly(np.cov, x.T if x.ndim == 2 and not rowvar else x)
    got = quietly(cov, x, rowvar=rowvar)
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


def test_empty_data_and_stacks_keep_their_shapes_and_refuse_weights_of_others():
    assert cov(np.zeros((0, 5, 3))).shape == (0, 3, 3)
    assert cov(np.zeros((2, 0, 5, 3))).shape == (2, 0, 3, 3)
    for kind in ("aweights", "fweights"):
        with pytest.raises(ValueError, match=f"{kind}: expected shape .* with N = 0 samples, got shape"):
            cov(np.empty((0, 3)), **{kind: np.ones(5)})


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, np.complex64])
@pytest.mark.parametrize("given_dtype", [np.float16, np.float32, np.int16])
def test_dtype_is_that_of_the_result(rng, dtype, given_dtype):
    x = frozen(rng.integers(-8, 9, (2, 7, 3)), given_dtype)
    got = cov(x, dtype=dtype)
    eps = float(np.finfo(dtype).eps)
    assert got.dtype == dtype
    assert_within(
        got,
        numpy_cov(x.astype(float)),
        gap(x.astype(float), dtype=dtype if eps > EPS else float),
    )


# ---- warnings, and what they warn of


def warned(function, *args, **kwargs):
    """Return the result and the messages of the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = function(*args, **kwargs)
    assert all(issubclass(w.category, RuntimeWarning) for w in caught)
    return result, [str(w.message) for w in caught]


@pytest.mark.parametrize("ddof", [4, 5, 7])
@pytest.mark.parametrize("n", [1, 4, 5])
def test_no_degrees_of_freedom_give_what_numpy_gives_and_warn(n, ddof):
    x = frozen(np.array([[1.0, 2, 5], [3, 1, 5], [0, 0, 5], [4, 9, 5], [2, 1, 5]])[:n])
    got, said = warned(cov, x, ddof=ddof)
    want, numpy_said = warned(numpy_cov, x, ddof=ddof)
    np.testing.assert_array_equal(got, want)
    first = "Degrees of freedom <= 0 for slice"
    assert (first in said) == (first in numpy_said) == (n <= ddof)


@pytest.mark.parametrize("function", [lambda x: cov(x), lambda x: Moments(x).cov()], ids=["cov", "Moments"])
def test_the_warning_points_at_the_caller(function):
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning, match="Degrees of freedom") as caught:
        function([[1.0, 2.0]])
    assert [w.filename for w in caught] == [__file__]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_inf_spread_to_their_row_and_column_only(rng, bad):
    x = rng.standard_normal((2, 5, 4))
    x[1, 2, 3] = bad
    for w in ({}, {"aweights": np.arange(1.0, 6)}):
        got, want = quietly(cov, frozen(x), **w), quietly(numpy_cov, x, **w)
        assert_within(got, want, np.where(np.isfinite(want), gap(np.nan_to_num(x, posinf=0), **w), 0))
        assert np.isnan(got).sum() == 7


# ---- stacks, layouts, blocks


def test_a_single_variable_is_zero_dimensional_but_a_stack_keeps_its_axes(rng):
    x = frozen(rng.standard_normal((2, 5, 1)))
    assert cov(x[0, :, 0]).shape == cov(x[0]).shape == ()
    assert cov(x).shape == (2, 1, 1)
    assert cov(x[:1]).shape == (1, 1, 1)
    assert cov(rng.standard_normal((1, 5, 3))).shape == (1, 3, 3)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.complex128])
@pytest.mark.parametrize("kind", ["", "af"])
def test_the_layout_changes_nothing(rng, tmp_path, layout, dtype, kind, any_blocks):
    x = rng.standard_normal((2, 3, 9, 4)).astype(dtype)
    w = weights_of(x, kind, 1)
    same = layouts(x, tmp_path)[layout]
    assert_within(cov(same, **w), cov(np.array(x), **w), gap(x, **w))
    spread = np.broadcast_to(same, (5, *x.shape))
    assert_within(cov(spread, **w), np.broadcast_to(cov(np.array(x), **w), (5, 2, 3, 4, 4)), gap(x, **w))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(7, 40, 5), (300, 4), (2, 3, 33, 2)])
def test_the_size_of_blocks_changes_nothing(rng, shape, kind, any_blocks):
    x = frozen(rng.standard_normal(shape) + 10)
    w = weights_of(x, kind, 2, stacked=True)
    assert_within(cov(x, **w), numpy_cov(x, **w), gap(x, **w))


# ---- laws of weights


@given(x=samples(n=(3, 12)), seed=seeds, factor=st.sampled_from([1e-130, 1e-46, 0.3, 7.0, 1e130]))
def test_scaling_aweights_changes_nothing(x, seed, factor):
    a = frozen(np.random.default_rng(seed).uniform(0.5, 2, x.shape[-2]))
    assert_within(cov(x, aweights=factor * a), cov(x, aweights=a), gap(x, aweights=a))


def test_weights_may_differ_along_any_axis_of_the_stack(rng, any_blocks):
    x = frozen(rng.standard_normal((2, 3, 6, 2)))
    for shape in [(6,), (3, 6), (2, 1, 6), (1, 1, 6), (2, 3, 6)]:
        f = frozen(rng.integers(1, 4, shape[-2:]))  # the two kinds may differ in shape
        w = {"aweights": frozen(rng.uniform(0.5, 2, shape)), "fweights": f}
        assert_within(cov(x, **w), numpy_cov(x, **w), gap(x, **w))


# ---- laws of the data


@given(x=samples(n=(2, 12), dtypes=[np.float64, np.complex128]), shift=st.sampled_from([1.0, -1000.0]))
def test_shifting_the_data_changes_nothing(x, shift):
    moved = x + shift * np.abs(x).max()
    assert_within(cov(moved), cov(x), gap(moved))


@given(x=samples(n=(2, 12)), exponent=st.integers(-20, 20))
def test_a_unit_that_is_a_power_of_two_changes_no_bit(x, exponent):
    np.testing.assert_array_equal(cov(x * 2.0**exponent), cov(x) * 4.0**exponent)


@pytest.mark.parametrize("c", [1, 5, 16, 33, 100])
@pytest.mark.parametrize("kind", ["", "af"])
@pytest.mark.parametrize("factor", [1, 1 + 2j])
def test_covariances_are_symmetric_to_the_last_bit(rng, c, kind, factor, any_blocks):
    x = frozen(rng.standard_normal((2, 40, c)) + factor * rng.standard_normal((2, 40, c)) + 3)
    s = cov(x, **weights_of(x, kind, 3))
    assert (s == s.conj().swapaxes(-1, -2)).all()


@pytest.mark.parametrize("value", [0.1, 1e9 + 0.1, -1e-30])
@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_feature_has_a_variance_of_exactly_zero(rng, value, kind, any_blocks):
    x = rng.standard_normal((2, 50, 3))
    x[..., 1] = value
    s = cov(frozen(x), **weights_of(x, kind, 4))
    assert (s[:, 1, :] == 0).all()
    assert (s[:, [0, 2], [0, 2]] > 0).all()
