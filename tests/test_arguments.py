"""Every bad argument raises an error with its name, what was expected and what it got."""

import re

import numpy as np
import pytest
from common import frozen

from mvgauss import Moments, MultiVariateGaussian, anomaly_map, cov, mahalanobis, pinv

X = frozen(np.arange(24.0).reshape(2, 4, 3) ** 1.5)
EYE = frozen(np.eye(3))
E = frozen(np.arange(48.0).reshape(4, 3, 2, 2) % 7)


def put(x, index, value):
    """Return a copy of an array with one other number."""
    x = np.array(x, np.result_type(np.asarray(x).dtype, np.float64))
    x[index] = value
    return frozen(x)


def fit(x=E, sample_weight=None, **options):
    return MultiVariateGaussian(**options).fit(x, sample_weight=sample_weight)


def twice(x, **options):
    return MultiVariateGaussian().partial_fit(x, **options).partial_fit(x, **options)


def score(x, **options):
    return fit().mahalanobis(x, **options)


given = MultiVariateGaussian.from_parameters


class Ragged:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("on another device")


MASKED = np.ma.masked_less(X, 2)
NOT_NUMBERS = {
    "None": None,
    "text": "abc",
    "strings": np.array(["1", "2"]),
    "objects": np.array([[1, {}]]),
    "ragged": [[1.0, 2], [3]],
    "dates": np.array(["2020-01-01"], "M8[D]"),
    "records": np.zeros(2, "f8,f8"),
    "dict": {"a": 1},
    "masked": MASKED,
    "unviewable": Ragged(),
}
TAKE_NUMBERS = {
    "observations": [lambda v: cov(v), lambda v: Moments(v)],
    "aweights": [lambda v: cov(X, aweights=[v] if v is None else v), lambda v: Moments(X, v or [v])],
    "fweights": [lambda v: cov(X, fweights=[v] if v is None else v)],
    "covariance": [lambda v: pinv(v)],
    "rtol": [lambda v: pinv(EYE, [v] if v is None else v)],
    "x": [lambda v: mahalanobis(v, EYE[0], EYE)],
    "mean": [lambda v: mahalanobis(X, v, EYE), lambda v: MultiVariateGaussian.from_parameters(v, EYE)],
    "inv_covariance": [
        lambda v: mahalanobis(X, EYE[0], v),
        lambda v: MultiVariateGaussian.from_parameters(EYE, v),
    ],
    "embedding": [
        lambda v: MultiVariateGaussian().fit(v),
        lambda v: MultiVariateGaussian().forward(v),
        lambda v: fit().mahalanobis(v),
    ],
    "sample_weight": [lambda v: MultiVariateGaussian().fit(E, sample_weight=[v] if v is None else v)],
    "distances": [lambda v: anomaly_map(v, 4)],
}
CALLS = [
    (name, i)
    for name, calls in TAKE_NUMBERS.items()
    for i in range(len(calls))
    if (name, i) != ("aweights", 1)
]


@pytest.mark.parametrize(("name", "i"), CALLS)
@pytest.mark.parametrize("kind", list(NOT_NUMBERS))
def test_what_is_not_an_array_of_numbers_is_a_type_error(name, i, kind):
    # None may pass for NaN, which is refused too
    error = (TypeError, ValueError) if kind == "None" else TypeError
    with pytest.raises(error, match=rf"^{name}: expected .*, got "):
        TAKE_NUMBERS[name][i](NOT_NUMBERS[kind])


@pytest.mark.parametrize(("name", "i"), [c for c in CALLS if c[0] != "observations"])
def test_complex_numbers_are_taken_by_cov_only(name, i):
    with pytest.raises(TypeError, match=rf"^{name}: expected .*real numbers, got dtype complex128"):
        TAKE_NUMBERS[name][i](EYE + 1j)


#: What a message says, and the call that it is the answer to.
REFUSED = {
    # weights
    "aweights: expected weights >= 0, got -2.5": lambda: cov(X, aweights=[1, -2.5, 1, 1]),
    "fweights: expected weights >= 0, got -2": lambda: cov(X, fweights=[1, -2, 1, 1]),
    r"aweights: .*finite.*, got nan at index \(2,\)": lambda: cov(X, aweights=[1, 1, np.nan, 1]),
    r"fweights: .*finite.*, got inf at index \(3,\)": lambda: cov(X, fweights=[1, 1, 1, np.inf]),
    r"aweights: .*, got nan at index \(1, 1\)": lambda: cov(X, aweights=[[1, 1, 1, 1], [1, np.nan, 1, 1]]),
    "aweights: expected .*weight > 0": lambda: cov(X, aweights=np.zeros(4)),
    "fweights: expected .*weight > 0": lambda: cov(X, fweights=np.zeros(4, int)),
    "aweights: .*> 0 for each item": lambda: cov(X, aweights=[[1, 1, 1, 1], [0, 0, 0, 0]]),
    "aweights \\* fweights: .*a weight > 0": lambda: cov(X, aweights=[1, 1, 0, 0], fweights=[0, 0, 1, 1]),
    "fweights: expected whole numbers.*, got 1.5": lambda: cov(X, fweights=[1, 2, 1.5, 1]),
    r"aweights: .*N = 4 samples, got shape \(3,\)": lambda: cov(X, aweights=[1, 2, 3]),
    r"aweights: .*N = 4 samples, got shape \(\)": lambda: cov(X, aweights=2.0),
    r"fweights: .*, got shape \(4, 1\)": lambda: cov(X[0], fweights=[[1], [2], [1], [1]]),
    r"aweights: .*to the stack \(2,\), got \(3,\)": lambda: cov(X, aweights=np.ones((3, 4))),
    r"aweights: .*to the stack \(2,\), got \(5, 2\)": lambda: cov(X, aweights=np.ones((5, 2, 4))),
    r"aweights: .*to the stack \(\), got \(2,\)": lambda: cov(X[0], aweights=np.ones((2, 4))),
    "aweights: expected weights whose largest is between .*, got 1e\\+200": lambda: cov(
        X, aweights=[1, 1, 1, 1e200]
    ),
    "aweights: .*between .*, got 1e-200": lambda: Moments(X, aweights=np.full(4, 1e-200)),
    # flags and numbers
    "rowvar: expected True or False, got 'no' of type str": lambda: cov(X, rowvar="no"),
    "rowvar: expected True or False, got 2 of type int": lambda: Moments(X, rowvar=2),
    "bias: expected True or False, got None of type NoneType": lambda: cov(X, bias=None),
    "bias: expected True or False, got 0.5": lambda: Moments(X).cov(bias=0.5),
    "ddof: expected a finite real number, got '1' of type str": lambda: cov(X, ddof="1"),
    "ddof: expected a finite real number, got nan": lambda: cov(X, ddof=np.nan),
    "ddof: expected a finite real number, got 1j of type complex": lambda: cov(X, ddof=1j),
    "ddof: expected a finite real number, got True of type bool": lambda: cov(X, ddof=True),
    "dtype: expected a floating dtype, got int64": lambda: cov(X, dtype="int64"),
    "dtype: expected a floating dtype, got 'fine'": lambda: cov(X, dtype="fine"),
    "dtype: expected a floating dtype, got 'f4,\\('": lambda: cov(X, dtype="f4,("),
    "dtype: expected a complex dtype for complex obs.*, got float64": lambda: cov(X + 1j, dtype=float),
    # merging
    "other: expected Moments, got ndarray": lambda: Moments(X).merge(X),
    r"other: expected a mean of shape \(2, 3\), got \(2, 2\)": lambda: Moments(X).merge(Moments(X[..., :2])),
    r"other: expected a mean of shape \(2, 3\), got \(3,\)": lambda: Moments(X).merge(Moments(X[0])),
    # pinv
    r"covariance: expected square matrices.*, got shape \(2, 4, 3\)": lambda: pinv(X),
    r"covariance: expected square matrices.*, got shape \(3,\)": lambda: pinv(X[0, 0]),
    r"covariance: expected square matrices.*, got shape \(\)": lambda: pinv(3.0),
    "rtol: expected numbers >= 0, got -1e-09": lambda: pinv(EYE, -1e-9),
    "rtol: expected finite numbers, got nan": lambda: pinv(EYE, np.nan),
    r"rtol: .*to the stack \(2,\), got \(3,\)": lambda: pinv(np.stack([EYE] * 2), [0, 0, 0]),
    "return_rank: expected True or False, got 'yes'": lambda: pinv(EYE, return_rank="yes"),
    # mahalanobis
    r"x: .*\(..., N, 3\).*, got \(2, 4, 2\)": lambda: mahalanobis(X[..., :2], EYE[0], EYE),
    r"x: expected shape \(..., N, 3\).*, got \(\)": lambda: mahalanobis(1.0, EYE[0], EYE),
    r"mean: expected shape \(..., 3\).*, got \(2,\)": lambda: mahalanobis(X, [0, 0], EYE),
    r"mean: expected shape \(..., 3\).*, got \(\)": lambda: mahalanobis(X, 0.0, EYE),
    "inv_covariance: expected square matrices": lambda: mahalanobis(X, EYE[0], EYE[:2]),
    r"x, mean, inv_covariance: expected stack axes .*, got stacks \(2,\), \(3,\) and \(\)": lambda: (
        mahalanobis(X, np.zeros((3, 3)), EYE)
    ),
    r"x: .*, got nan at index \(1, 2, 0\)": lambda: mahalanobis(put(X, (1, 2, 0), np.nan), EYE[0], EYE),
    r"mean: .*, got -inf at index \(1,\)": lambda: mahalanobis(X, [0, -np.inf, 0], EYE),
    "squared: expected True or False, got 3": lambda: mahalanobis(X, EYE[0], EYE, squared=3),
    # embeddings
    r"embedding: expected a non-empty array \(N, C, \*grid\).*, got shape \(3,\)": lambda: fit(X[0, 0]),
    r"embedding: expected a non-empty .*, got 0 sample.*\(0, 3, 2, 2\)": lambda: fit(E[:0]),
    r"embedding: expected a non-empty .*, got 0 feature.*\(4, 0, 2, 2\)": lambda: fit(E[:, :0]),
    r"embedding: expected a non-empty .*, got 0 patch.*\(4, 3, 2, 0\)": lambda: fit(E[..., :0]),
    "embedding: expected more samples than ddof = 1 .*, got 1 sample$": lambda: fit(E[:1]),
    "embedding: expected more samples than ddof = 4 .*, got 4 samples$": lambda: fit(ddof=4),
    "the fitted embedding: expected more samples than ddof = 1 .*, got 1 sample$": lambda: (
        MultiVariateGaussian().partial_fit(E[:1]).mahalanobis(E)
    ),
    r"embedding: expected 3 features, got 2 in .*; .* axis too: embedding\[None\]": lambda: score(E[0]),
    r"embedding: .*, got nan at index \(2, 1, 0, 1\)": lambda: fit(put(E, (2, 1, 0, 1), np.nan)),
    r"embedding: .*, got -inf at index \(3, 2, 1, 1\)": lambda: fit(put(E, (3, 2, 1, 1), -np.inf)),
    r"embedding: .*, got nan at index \(2, 1, 0, 0\)": lambda: fit(
        put(E, (2, 1, 0, 0), np.nan), feature_axis=-1
    ),
    r"embedding: .*, got nan at index \(0, 0, 0, 0\)": lambda: fit(
        put(E, (0, 0, 0, 0), np.nan), [0, 1, 1, 1]
    ),
    r"embedding: .*, got nan at index \(1, 2, 1, 0\)": lambda: score(put(E, (1, 2, 1, 0), np.nan)),
    r"embedding: .*3.*, got 2 in shape \(4, 2, 2, 2\)": lambda: score(E[:, :2]),
    r"embedding: expected a grid of \(2, 2\), got \(2, 1\) in shape": lambda: score(E[..., :1]),
    r"embedding: expected .*grid.* \(2, 2\), got \(4,\) in shape": lambda: score(E.reshape(4, 3, 4)),
    "embedding: expected a non-empty array": lambda: score(E[:0]),
    "squared: expected True or False, got 'yes'": lambda: score(E, squared="yes"),
    "embedding: expected numbers whose squares float64 can hold, got larger ones": lambda: fit(1e200 * E),
    "embedding: expected differences whose squares .* can hold, got smaller ones": lambda: fit(1e-170 * E),
    "embedding: expected differences whose .* hold, got smaller ones": lambda: MultiVariateGaussian(
        shrinkage="ledoit_wolf"
    ).partial_fit(1e-80 * E),
    "embedding: expected the 4 samples that were fitted": lambda: fit().leave_one_out(E + 1),
    # sample weights
    r"sample_weight: .* more than ddof = 1, got 1 of 4 samples; .* multiply them all by len\(w\) / w.sum": (
        lambda: fit(E, [0.5, 0.25, 0.25, 0])
    ),
    "sample_weight: .* more than ddof = 3, got 2.5 of 4 samples": lambda: fit(E, [0, 2, 0.5, 0], ddof=3),
    "sample_weight: .* more than ddof = -1, got 0 of 4 samples": lambda: (
        MultiVariateGaussian(ddof=-1).partial_fit(E, sample_weight=[0] * 4).mahalanobis(E)
    ),
    "sample_weight: .* more than ddof = 1, got 0.8 of 8 samples": lambda: twice(
        E, sample_weight=[0.1] * 4
    ).mahalanobis(E),
    "sample_weight: .* more than ddof = 1, got 4e-130 of 4 samples": lambda: fit(E, [1e-130] * 4),
    "sample_weight: .*between .*, got 1e\\+200": lambda: fit(E, [1, 1, 1e200, 1]),
    "sample_weight: expected weights >= 0, got -1": lambda: fit(E, [1, 1, 1, -1]),
    r"sample_weight: .*finite.*got nan at index \(1,\)": lambda: fit(E, [1, np.nan, 1, 1]),
    "sample_weight: expected .*weight > 0": lambda: fit(E, np.zeros(4)),
    r"sample_weight: .*N = 4 samples, got shape \(2,\)": lambda: fit(E, [1, 2]),
    r"sample_weight: .*got .*\(2,": lambda: fit(E, np.ones((2, 4))),
    # parameters
    "reg_covar: expected a finite real number >= 0, got -0.1": lambda: fit(reg_covar=-0.1),
    "reg_covar: .*real number >= 0, got 'auto' of type str": lambda: fit(reg_covar="auto"),
    "reg_covar: expected a finite real number >= 0, got inf": lambda: fit(reg_covar=np.inf),
    "ddof: expected a finite real number, got None of type NoneType": lambda: fit(ddof=None),
    r"shrinkage: expected None, a float in \[0, 1\], .*, got 'auto'": lambda: fit(shrinkage="auto"),
    r"shrinkage: expected None, a float in \[0, 1\], .*, got 1.5": lambda: fit(shrinkage=1.5),
    r"feature_axis: expected an axis of .*\(4, 3, 2, 2\) .*first, got 0": lambda: fit(feature_axis=0),
    "feature_axis: expected an axis .*, got -4": lambda: fit(feature_axis=-4),
    "feature_axis: expected an axis .*, got 4": lambda: fit(feature_axis=4),
    "feature_axis: expected an integer, got 1.0 of type float": lambda: fit(feature_axis=1.0),
    "embedding: expected .*2.*, got 3": lambda: fit(n_features=2),
    "embedding: expected .*5.*, got 4": lambda: fit(n_patches=5),
    "n_features: expected an integer >= 1, got 0": lambda: MultiVariateGaussian(0, 4).mean,
    "n_patches: expected an integer.*, got '4' of type str": lambda: MultiVariateGaussian(3, "4").mean,
    "n_features: expected an integer.*, got True of type bool": lambda: MultiVariateGaussian(True, 4).mean,
    "dtype: expected float32 or float64, got float16": lambda: fit(dtype=np.float16),
    "dtype: expected float32 or float64, got (longdouble|float)": lambda: fit(dtype=np.longdouble),
    "dtype: expected a floating dtype, got (int64)": lambda: fit(dtype="int64"),
    "dtype: expected a floating dtype, got complex128": lambda: fit(dtype=complex),
    "set_params: expected one of n_features, .*, got ridge": lambda: MultiVariateGaussian().set_params(
        ridge=1
    ),
    # from_parameters
    r"mean: expected shape \(C, P\), got shape \(2, 4, 3\)": lambda: given(X, X),
    r"mean: expected shape \(C, P\), got shape \(3, 0\)": lambda: given(
        np.zeros((3, 0)), np.zeros((0, 3, 3))
    ),
    r"inv_covariance: expected shape \(2, 3, 3\).*, got shape \(3, 2, 2\)": lambda: given(
        np.zeros((3, 2)), np.zeros((3, 2, 2))
    ),
    r"mean: expected finite numbers, got nan at index \(2, 1\)": lambda: given(
        put(np.zeros((3, 2)), (2, 1), np.nan), np.stack([EYE] * 2)
    ),
    # maps
    r"distances: expected shape \(..., H, W\).*, got shape \(1,\)": lambda: anomaly_map([1.0], 3),
    r"distances: .*, got shape \(2, 0, 3\)": lambda: anomaly_map(np.zeros((2, 0, 3)), 3),
    r"distances: .*finite.*, got nan at index \(1, 2\)": lambda: anomaly_map(put(EYE, (1, 2), np.nan), 3),
    "sigma: expected a finite real number >= 0, got -1": lambda: anomaly_map(EYE, 3, sigma=-1),
    r"sigma: .*real number >= 0, got 10+\.\.\.": lambda: anomaly_map(EYE, 3, sigma=10**400),
    r"sigma: .*real number >= 0, got \(1, 2\) of type tuple": lambda: anomaly_map(EYE, 3, sigma=(1, 2)),
    "image_size: expected an integer >= 1, got 0": lambda: anomaly_map(EYE, 0),
    "image_size: expected an integer >= 1, got 4.5 of type float": lambda: anomaly_map(EYE, (3, 4.5)),
    r"image_size: expected one integer or .*, got \(3, 4, 3\)": lambda: anomaly_map(EYE, (3, 4, 3)),
    "image_size: expected .*, got 'big'": lambda: anomaly_map(EYE, "big"),
    "image_size: expected .*, got None": lambda: anomaly_map(EYE, None),
    r"image_size: expected .*, got \[4, 5\] of type list": lambda: anomaly_map(EYE, [3, [4, 5]]),
    r"image_size: expected .*, got \{3: 4\}": lambda: anomaly_map(EYE, {3: 4}),
}


@pytest.mark.parametrize("message", list(REFUSED))
def test_a_bad_argument_is_refused_by_name(message, any_blocks):
    with pytest.raises((ValueError, TypeError)) as caught:
        REFUSED[message]()
    assert re.search(f"^{message}", str(caught.value), re.IGNORECASE), str(caught.value)


# ---- the first bad one of a stack


BAD_MATRICES = {
    "nan": (put(EYE, (1, 2), np.nan), "finite numbers, got NaN or inf"),
    "inf": (put(EYE, (0, 0), np.inf), "finite numbers, got NaN or inf"),
    "asymmetric": (put(EYE, (0, 1), 0.25), "symmetric matrices, got asymmetry 0.25"),
    "negative": (
        put(EYE, (1, 1), -2.0),
        "positive semi-definite matrices, got an eigenvalue of -2 times the largest",
    ),
}
TAKE_MATRICES = {
    "covariance": lambda s: pinv(s),
    "inv_covariance": lambda s: mahalanobis(np.zeros((1, 3)), np.zeros(3), s),
}


@pytest.mark.parametrize("bad", list(BAD_MATRICES))
@pytest.mark.parametrize("name", list(TAKE_MATRICES))
@pytest.mark.parametrize(("first", "also"), [(5, 11), (0, 3), (11, 11)])
def test_the_first_bad_matrix_is_named(name, bad, first, also, any_blocks):
    s = np.stack([EYE] * 12)
    s[first], expected = BAD_MATRICES[bad]
    s[also] = s[first]
    with pytest.raises(
        ValueError, match=re.escape(f"{name}: expected {expected} at index {first} of the stack")
    ):
        TAKE_MATRICES[name](s)
    index = tuple(int(i) for i in np.unravel_index(first, (3, 4)))
    with pytest.raises(
        ValueError, match=re.escape(f"{name}: expected {expected} at index {index} of the stack")
    ):
        TAKE_MATRICES[name](s.reshape(3, 4, 3, 3))


@pytest.mark.parametrize("bad", list(BAD_MATRICES))
def test_a_bad_matrix_alone_has_no_index(bad):
    s, expected = BAD_MATRICES[bad]
    with pytest.raises(ValueError, match=f"^covariance: expected {expected}$"):
        pinv(s)


@pytest.mark.parametrize("bad", list(BAD_MATRICES))
def test_the_first_bad_parameter_is_named(bad, any_blocks):
    s = np.stack([EYE] * 6)
    s[4], expected = BAD_MATRICES[bad]
    with pytest.raises(ValueError, match=f"inv_covariance: expected {expected} at index 4 of the stack"):
        MultiVariateGaussian.from_parameters(np.zeros((3, 6)), s)


def test_the_first_bad_matrix_is_named_not_the_worst(any_blocks):
    for first, worst in (
        (np.diag([1, 1, -0.1]), -EYE),
        (-EYE, np.full((3, 3), np.nan)),
        (put(EYE, (0, 0), np.inf), -EYE),
    ):
        with pytest.raises(ValueError, match="at index 1 of the stack"):
            pinv(np.stack([EYE, first, EYE, worst]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_half_of_the_digits_is_the_rounding_that_is_allowed(dtype):
    half = float(np.sqrt(np.finfo(dtype).eps))
    for good in ([[1, 0.9 * half], [0, 1]], [[1, 0], [0, -0.9 * half]]):
        pinv(np.array(good, dtype))
    for bad in ([[1, 1.1 * half], [0, 1]], [[1, 0], [0, -1.1 * half]]):
        with pytest.raises(ValueError, match="covariance: expected"):
            pinv(np.array(bad, dtype))


@pytest.mark.parametrize("scale", [1e-200, 1e-6, 1e6, 1e200])
def test_what_is_rounding_does_not_depend_on_the_scale(scale):
    pinv(scale * np.array([[1.0, 1e-9], [0, 1]]))
    with pytest.raises(ValueError, match="symmetric"):
        pinv(scale * np.array([[1.0, 1e-7], [0, 1]]))
    with pytest.raises(ValueError, match="semi-definite"):
        pinv(scale * np.array([[1.0, 0], [0, -1e-7]]))


def test_the_first_nan_is_named_wherever_it_is(any_blocks):
    x = np.ones((40, 3, 5, 5))
    x += np.arange(40)[:, None, None, None]
    x[17, 2, 4, 4] = x[30, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"embedding: .*(?i:nan) at index \(17, 2, 4, 4\)"):
        MultiVariateGaussian().fit(x)
    x[17, 2, 4, 4] = 0
    with pytest.raises(ValueError, match=r"embedding: .*(?i:nan) at index \(30, 0, 0, 0\)"):
        MultiVariateGaussian().fit(x)


# ---- a model that is not fitted, options that are not there


@pytest.mark.parametrize("name", ["mean", "covariance", "inv_covariance", "rank"])
@pytest.mark.parametrize("error", [ValueError, AttributeError])
def test_an_unfitted_model_says_so(name, error):
    with pytest.raises(error, match="not fitted yet"):
        getattr(MultiVariateGaussian(), name)
    with pytest.raises(ValueError, match="not fitted yet"):
        MultiVariateGaussian().mahalanobis(E)
    with pytest.raises(ValueError, match="not fitted yet"):
        list(MultiVariateGaussian())


@pytest.mark.parametrize("value", [1, 0, np.True_, np.False_, np.int64(1)])
def test_flags_may_be_numbers(value):
    np.testing.assert_array_equal(cov(X[0], bias=value), cov(X[0], bias=bool(value)))


@pytest.mark.parametrize("ddof", [np.int64(2), np.float32(2), np.array(2), 2.0])
def test_numbers_may_be_numpys(ddof):
    np.testing.assert_array_equal(cov(X, ddof=ddof), cov(X, ddof=2))
    np.testing.assert_array_equal(fit(ddof=ddof).covariance, fit(ddof=2).covariance)
    np.testing.assert_array_equal(cov(np.ma.masked_less(X, -1)), cov(X))  # of which nothing is masked


def test_long_values_are_cut_in_messages():
    with pytest.raises(TypeError, match=r"^rowvar: expected True or False, got '.{50,60}\.\.\. of type str$"):
        cov(X, rowvar="n" * 1000)
