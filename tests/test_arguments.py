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


def fitted(**options):
    return MultiVariateGaussian(**options).fit(E)


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
        lambda v: fitted().mahalanobis(v),
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


def test_a_masked_array_without_masked_entries_is_an_array():
    np.testing.assert_array_equal(cov(np.ma.masked_less(X, -1)), cov(X))


# a call, and what its message must say
REFUSED = {
    # weights
    "negative aweights": (
        lambda: cov(X, aweights=[1, -2.5, 1, 1]),
        "aweights: expected weights >= 0, got -2.5",
    ),
    "negative fweights": (lambda: cov(X, fweights=[1, -2, 1, 1]), "fweights: expected weights >= 0, got -2"),
    "nan aweights": (
        lambda: cov(X, aweights=[1, 1, np.nan, 1]),
        r"aweights: .*finite.*, got nan at index \(2,\)",
    ),
    "inf fweights": (
        lambda: cov(X, fweights=[1, 1, 1, np.inf]),
        r"fweights: .*finite.*, got inf at index \(3,\)",
    ),
    "nan aweights of an item": (
        lambda: cov(X, aweights=[[1, 1, 1, 1], [1, np.nan, 1, 1]]),
        r"aweights: .*finite.*, got nan at index \(1, 1\)",
    ),
    "zero aweights": (lambda: cov(X, aweights=np.zeros(4)), "aweights: expected .*weight > 0"),
    "zero fweights": (
        lambda: cov(X, fweights=np.zeros(4, int)),
        "fweights: expected .*weight > 0",
    ),
    "zero aweights of one item": (
        lambda: cov(X, aweights=[[1, 1, 1, 1], [0, 0, 0, 0]]),
        "aweights: expected .*weight > 0 for each item",
    ),
    "weights that exclude each other": (
        lambda: cov(X, aweights=[1, 1, 0, 0], fweights=[0, 0, 1, 1]),
        "aweights: expected a sample with both weights > 0",
    ),
    "fractional fweights": (
        lambda: cov(X, fweights=[1, 2, 1.5, 1]),
        "fweights: expected whole numbers.*, got 1.5",
    ),
    "few aweights": (lambda: cov(X, aweights=[1, 2, 3]), r"aweights: .*N = 4 samples, got shape \(3,\)"),
    "one aweight": (lambda: cov(X, aweights=2.0), r"aweights: .*N = 4 samples, got shape \(\)"),
    "column of fweights": (
        lambda: cov(X[0], fweights=[[1], [2], [1], [1]]),
        r"fweights: .*, got shape \(4, 1\)",
    ),
    "aweights of another stack": (
        lambda: cov(X, aweights=np.ones((3, 4))),
        r"aweights: .*broadcast to the stack \(2,\), got \(3,\)",
    ),
    "aweights of a larger stack": (
        lambda: cov(X, aweights=np.ones((5, 2, 4))),
        r"aweights: .*broadcast to the stack \(2,\), got \(5, 2\)",
    ),
    "aweights of a stack for no stack": (
        lambda: cov(X[0], aweights=np.ones((2, 4))),
        r"aweights: .*broadcast to the stack \(\), got \(2,\)",
    ),
    # flags and numbers
    "rowvar": (lambda: cov(X, rowvar="no"), "rowvar: expected True or False, got 'no' of type str"),
    "rowvar of Moments": (lambda: Moments(X, rowvar=2), "rowvar: expected True or False, got 2 of type int"),
    "bias": (lambda: cov(X, bias=None), "bias: expected True or False, got None of type NoneType"),
    "bias of Moments": (lambda: Moments(X).cov(bias=0.5), "bias: expected True or False, got 0.5"),
    "ddof text": (lambda: cov(X, ddof="1"), "ddof: expected a finite real number, got '1' of type str"),
    "ddof nan": (lambda: cov(X, ddof=np.nan), "ddof: expected a finite real number, got nan"),
    "ddof complex": (lambda: cov(X, ddof=1j), "ddof: expected a finite real number, got 1j of type complex"),
    "ddof bool": (lambda: cov(X, ddof=True), "ddof: expected a finite real number, got True of type bool"),
    "dtype integer": (lambda: cov(X, dtype="int64"), "dtype: expected a floating dtype, got int64"),
    "dtype unknown": (lambda: cov(X, dtype="fine"), "dtype: expected a floating dtype, got 'fine'"),
    "dtype of open brackets": (lambda: cov(X, dtype="f4,("), "dtype: expected a floating dtype, got "),
    "dtype real": (
        lambda: cov(X + 1j, dtype=float),
        "dtype: expected a complex dtype for complex observations, got float64",
    ),
    # Moments
    "merge with an array": (lambda: Moments(X).merge(X), "other: expected Moments, got ndarray"),
    "merge with other features": (
        lambda: Moments(X).merge(Moments(X[..., :2])),
        r"other: expected a mean of shape \(2, 3\), got \(2, 2\)",
    ),
    "merge with another stack": (
        lambda: Moments(X).merge(Moments(X[0])),
        r"other: expected a mean of shape \(2, 3\), got \(3,\)",
    ),
    # pinv
    "not square": (lambda: pinv(X), r"covariance: expected square matrices.*, got shape \(2, 4, 3\)"),
    "vector": (lambda: pinv(X[0, 0]), r"covariance: expected square matrices.*, got shape \(3,\)"),
    "number": (lambda: pinv(3.0), r"covariance: expected square matrices.*, got shape \(\)"),
    "rtol negative": (lambda: pinv(EYE, -1e-9), "rtol: expected numbers >= 0, got -1e-09"),
    "rtol nan": (lambda: pinv(EYE, np.nan), "rtol: expected finite numbers, got nan"),
    "rtol of another stack": (
        lambda: pinv(np.stack([EYE] * 2), [0, 0, 0]),
        r"rtol: .*broadcast to the stack \(2,\), got \(3,\)",
    ),
    "return_rank": (lambda: pinv(EYE, return_rank="yes"), "return_rank: expected True or False, got 'yes'"),
    # mahalanobis
    "few features": (
        lambda: mahalanobis(X[..., :2], EYE[0], EYE),
        r"x: expected shape \(..., N, 3\).*, got \(2, 4, 2\)",
    ),
    "x number": (lambda: mahalanobis(1.0, EYE[0], EYE), r"x: expected shape \(..., N, 3\).*, got \(\)"),
    "mean of few": (lambda: mahalanobis(X, [0, 0], EYE), r"mean: expected shape \(..., 3\).*, got \(2,\)"),
    "mean number": (lambda: mahalanobis(X, 0.0, EYE), r"mean: expected shape \(..., 3\).*, got \(\)"),
    "inverse not square": (
        lambda: mahalanobis(X, EYE[0], EYE[:2]),
        "inv_covariance: expected square matrices",
    ),
    "stacks do not broadcast": (
        lambda: mahalanobis(X, np.zeros((3, 3)), EYE),
        r"x, mean, inv_covariance: expected stack axes that broadcast.*, got stacks \(2,\), \(3,\) and \(\)",
    ),
    "x nan": (
        lambda: mahalanobis(put(X, (1, 2, 0), np.nan), EYE[0], EYE),
        r"x: .*finite.*, got nan at index \(1, 2, 0\)",
    ),
    "mean inf": (lambda: mahalanobis(X, [0, -np.inf, 0], EYE), r"mean: .*finite.*, got -inf at index \(1,\)"),
    "squared": (lambda: mahalanobis(X, EYE[0], EYE, squared=3), "squared: expected True or False, got 3"),
    # the estimator
    "vector embedding": (
        lambda: MultiVariateGaussian().fit(X[0, 0]),
        r"embedding: expected a non-empty array \(N, C, \*grid\).*, got shape \(3,\)",
    ),
    "no images": (
        lambda: MultiVariateGaussian().fit(E[:0]),
        r"embedding: expected a non-empty .*, got .*\(0, 3, 2, 2\)",
    ),
    "no features": (
        lambda: MultiVariateGaussian().fit(E[:, :0]),
        r"embedding: expected a non-empty .*, got .*\(4, 0, 2, 2\)",
    ),
    "no patches": (
        lambda: MultiVariateGaussian().fit(E[..., :0]),
        r"embedding: expected a non-empty .*, got .*\(4, 3, 2, 0\)",
    ),
    "one image": (
        lambda: MultiVariateGaussian().fit(E[:1]),
        "embedding: expected more samples than ddof = 1 .*, got 1 sample$",
    ),
    "ddof images": (
        lambda: MultiVariateGaussian(ddof=4).fit(E),
        "embedding: expected more samples than ddof = 4 .*, got 4 samples$",
    ),
    "fewer than ddof": (
        lambda: MultiVariateGaussian(ddof=4.5).fit(E),
        "embedding: expected more samples than ddof = 4.5 .*, got 4 samples$",
    ),
    "weights worth one image": (
        lambda: MultiVariateGaussian().fit(E, sample_weight=[0.5, 0.25, 0.25, 0]),
        r"sample_weight: expected weights that add up to more than ddof = 1, got 1 of 4 samples; "
        r"a weight counts how often a sample is there; multiply them all by len\(w\) / w.sum\(\) ",
    ),
    "weights worth less than ddof": (
        lambda: MultiVariateGaussian(ddof=3).fit(E, sample_weight=[0, 2, 0.5, 0]),
        "sample_weight: expected weights that add up to more than ddof = 3, got 2.5 of 4 samples",
    ),
    "weights of nothing": (
        lambda: MultiVariateGaussian(ddof=-1).partial_fit(E, sample_weight=[0] * 4).mahalanobis(E),
        "sample_weight: expected weights that add up to more than ddof = -1, got 0 of 4 samples",
    ),
    "weights that stream up to one image": (
        lambda: (
            MultiVariateGaussian()
            .partial_fit(E, sample_weight=[0.1] * 4)
            .partial_fit(E, sample_weight=[0.1] * 4)
            .mahalanobis(E)
        ),
        "sample_weight: expected weights that add up to more than ddof = 1, got 0.8 of 8 samples",
    ),
    "weights next to nothing": (
        lambda: MultiVariateGaussian().fit(E, sample_weight=[1e-160] * 4),
        "sample_weight: expected weights that add up to more than ddof = 1, got 4e-160 of 4 samples",
    ),
    "weights without a square": (
        lambda: MultiVariateGaussian().fit(E, sample_weight=[1, 1, 1e200, 1]),
        "sample_weight: expected numbers of samples whose squares add up, got 1e\\+200",
    ),
    "aweights without a square": (
        lambda: Moments(X, aweights=[1, 1, 1, 1e200]),
        "aweights: expected weights whose squares do not leave the range, got 1e\\+200",
    ),
    "aweights whose squares are nothing": (
        lambda: Moments(X, aweights=np.full(4, 1e-200)),
        "aweights: expected weights whose squares do not leave the range, got 1e-200",
    ),
    "a single image without its axis": (
        lambda: fitted().mahalanobis(E[0]),
        r"embedding: expected 3 features, got 2 in shape \(3, 2, 2\) .*; "
        r"a single sample needs its axis too: embedding\[None\]",
    ),
    "embedding nan": (
        lambda: MultiVariateGaussian().fit(put(E, (2, 1, 0, 1), np.nan)),
        r"embedding: expected finite numbers, got nan at index \(2, 1, 0, 1\)",
    ),
    "embedding inf": (
        lambda: MultiVariateGaussian().fit(put(E, (3, 2, 1, 1), -np.inf)),
        r"embedding: expected finite numbers, got -inf at index \(3, 2, 1, 1\)",
    ),
    "nan in tokens": (
        lambda: MultiVariateGaussian(feature_axis=-1).fit(put(E, (2, 1, 0, 1), np.nan)),
        r"embedding: expected finite numbers, got nan at index \(2, 1, 0, 1\)",
    ),
    "nan of weight zero": (
        lambda: MultiVariateGaussian().fit(put(E, (0, 0, 0, 0), np.nan), sample_weight=[0, 1, 1, 1]),
        r"embedding: expected finite numbers, got nan at index \(0, 0, 0, 0\)",
    ),
    "score nan": (
        lambda: fitted().mahalanobis(put(E, (1, 2, 1, 0), np.nan)),
        r"embedding: expected finite numbers, got nan at index \(1, 2, 1, 0\)",
    ),
    "score features": (
        lambda: fitted().mahalanobis(E[:, :2]),
        r"embedding: expected .*3.*, got 2 in shape \(4, 2, 2, 2\)",
    ),
    "score patches": (
        lambda: fitted().mahalanobis(E[..., :1]),
        r"embedding: expected a grid of \(2, 2\), got \(2, 1\) in shape \(4, 3, 2, 1\)",
    ),
    "score grid": (
        lambda: fitted().mahalanobis(E.reshape(4, 3, 4)),
        r"embedding: expected .*grid.* \(2, 2\), got \(4,\) in shape",
    ),
    "score empty": (lambda: fitted().mahalanobis(E[:0]), "embedding: expected a non-empty array"),
    "score squared": (
        lambda: fitted().mahalanobis(E, squared="yes"),
        "squared: expected True or False, got 'yes'",
    ),
    "too large": (
        lambda: MultiVariateGaussian().fit(1e200 * E),
        "embedding: expected numbers whose squares float64 can hold, got larger ones",
    ),
    "too small": (
        lambda: MultiVariateGaussian(reg_covar=0).fit(1e-170 * E),
        "embedding: expected differences whose squares float64 can hold, got smaller ones",
    ),
    "too small for fourth moments": (
        lambda: MultiVariateGaussian(shrinkage="ledoit_wolf").partial_fit(1e-80 * E),
        "embedding: expected differences whose squares float64 can hold, got smaller ones",
    ),
    "too large to leave out": (
        lambda: fitted().leave_one_out(put(E, (1, 0, 0, 0), 1e200)),
        "embedding: expected numbers whose squares float64 can hold, got larger ones",
    ),
    "sample_weight negative": (
        lambda: MultiVariateGaussian().fit(E, sample_weight=[1, 1, 1, -1]),
        "sample_weight: expected weights >= 0, got -1",
    ),
    "sample_weight nan": (
        lambda: MultiVariateGaussian().fit(E, sample_weight=[1, np.nan, 1, 1]),
        r"sample_weight: .*finite.*got nan at index \(1,\)",
    ),
    "sample_weight zero": (
        lambda: MultiVariateGaussian().fit(E, sample_weight=np.zeros(4)),
        "sample_weight: expected .*weight > 0",
    ),
    "sample_weight short": (
        lambda: MultiVariateGaussian().fit(E, sample_weight=[1, 2]),
        r"sample_weight: .*N = 4 samples, got shape \(2,\)",
    ),
    "sample_weight of a stack": (
        lambda: MultiVariateGaussian().fit(E, sample_weight=np.ones((2, 4))),
        r"sample_weight: .*got .*\(2,",
    ),
    "reg_covar negative": (
        lambda: fitted(reg_covar=-0.1),
        "reg_covar: expected a finite real number >= 0, got -0.1",
    ),
    "reg_covar text": (
        lambda: fitted(reg_covar="auto"),
        "reg_covar: expected a finite real number >= 0, got 'auto' of type str",
    ),
    "reg_covar inf": (
        lambda: fitted(reg_covar=np.inf),
        "reg_covar: expected a finite real number >= 0, got inf",
    ),
    "ddof of the model": (
        lambda: fitted(ddof=None),
        "ddof: expected a finite real number, got None of type NoneType",
    ),
    "feature_axis zero": (
        lambda: fitted(feature_axis=0),
        r"feature_axis: expected an axis of the embedding \(4, 3, 2, 2\) .*first, got 0",
    ),
    "feature_axis first": (lambda: fitted(feature_axis=-4), "feature_axis: expected an axis .*, got -4"),
    "feature_axis beyond": (lambda: fitted(feature_axis=4), "feature_axis: expected an axis .*, got 4"),
    "feature_axis before": (lambda: fitted(feature_axis=-5), "feature_axis: expected an axis .*, got -5"),
    "feature_axis fraction": (
        lambda: fitted(feature_axis=1.0),
        "feature_axis: expected an integer, got 1.0 of type float",
    ),
    "n_features": (lambda: fitted(n_features=2), "embedding: expected .*2.*, got 3"),
    "n_patches": (lambda: fitted(n_patches=5), "embedding: expected .*5.*, got 4"),
    "n_features zero": (
        lambda: MultiVariateGaussian(0, 4).mean,
        "n_features: expected an integer >= 1, got 0",
    ),
    "n_patches text": (
        lambda: MultiVariateGaussian(3, "4").mean,
        "n_patches: expected an integer.*, got '4' of type str",
    ),
    "n_features bool": (
        lambda: MultiVariateGaussian(True, 4).mean,
        "n_features: expected an integer.*, got True of type bool",
    ),
    "model dtype half": (lambda: fitted(dtype=np.float16), "dtype: expected float32 or float64, got float16"),
    "model dtype long": (lambda: fitted(dtype=np.longdouble), "dtype: expected float32 or float64, got "),
    "model dtype integer": (lambda: fitted(dtype="int64"), "dtype: expected a floating dtype, got int64"),
    "model dtype complex": (
        lambda: fitted(dtype=complex),
        "dtype: expected a floating dtype, got complex128",
    ),
    # from_parameters
    "mean of three axes": (
        lambda: MultiVariateGaussian.from_parameters(X, X),
        r"mean: expected shape \(C, P\), got shape \(2, 4, 3\)",
    ),
    "mean of nothing": (
        lambda: MultiVariateGaussian.from_parameters(np.zeros((3, 0)), np.zeros((0, 3, 3))),
        r"mean: expected shape \(C, P\), got shape \(3, 0\)",
    ),
    "inverse of another shape": (
        lambda: MultiVariateGaussian.from_parameters(np.zeros((3, 2)), np.zeros((3, 2, 2))),
        r"inv_covariance: expected shape \(2, 3, 3\).*, got shape \(3, 2, 2\)",
    ),
    "mean with nan": (
        lambda: MultiVariateGaussian.from_parameters(
            put(np.zeros((3, 2)), (2, 1), np.nan), np.stack([EYE] * 2)
        ),
        r"mean: expected finite numbers, got nan at index \(2, 1\)",
    ),
    # maps
    "distances vector": (
        lambda: anomaly_map([1.0], 3),
        r"distances: expected shape \(..., H, W\).*, got shape \(1,\)",
    ),
    "distances empty": (
        lambda: anomaly_map(np.zeros((2, 0, 3)), 3),
        r"distances: expected shape \(..., H, W\).*, got shape \(2, 0, 3\)",
    ),
    "distances nan": (
        lambda: anomaly_map(put(EYE, (1, 2), np.nan), 3),
        r"distances: .*finite.*, got nan at index \(1, 2\)",
    ),
    "sigma negative": (
        lambda: anomaly_map(EYE, 3, sigma=-1),
        "sigma: expected a finite real number >= 0, got -1",
    ),
    "sigma beyond double precision": (
        lambda: anomaly_map(EYE, 3, sigma=10**400),
        r"sigma: expected a finite real number >= 0, got 10+\.\.\.",
    ),
    "sigma pair": (
        lambda: anomaly_map(EYE, 3, sigma=(1, 2)),
        r"sigma: expected a finite real number >= 0, got \(1, 2\) of type tuple",
    ),
    "sigma nan": (
        lambda: anomaly_map(EYE, 3, sigma=np.nan),
        "sigma: expected a finite real number >= 0, got nan",
    ),
    "image_size zero": (lambda: anomaly_map(EYE, 0), "image_size: expected an integer >= 1, got 0"),
    "image_size fraction": (
        lambda: anomaly_map(EYE, (3, 4.5)),
        "image_size: expected an integer >= 1, got 4.5 of type float",
    ),
    "image_size three": (
        lambda: anomaly_map(EYE, (3, 4, 3)),
        r"image_size: expected one integer or \(height, width\), got \(3, 4, 3\)",
    ),
    "image_size text": (lambda: anomaly_map(EYE, "big"), "image_size: expected .*, got 'big'"),
    "image_size None": (lambda: anomaly_map(EYE, None), "image_size: expected .*, got None"),
    "image_size ragged": (lambda: anomaly_map(EYE, [3, [4, 5]]), "image_size: expected "),
    "image_size nested": (lambda: anomaly_map(EYE, [[3, 4]]), "image_size: expected "),
    "image_size set": (lambda: anomaly_map(EYE, {3: 4}), r"image_size: expected .*, got \{3: 4\}"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_a_bad_argument_is_refused_by_name(case, any_blocks):
    call, message = REFUSED[case]
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert re.search(f"^{message}", str(caught.value), re.IGNORECASE), str(caught.value)


# ---------------------------------------------------------------------------------------------------------
# the first bad one of a stack


BAD_MATRICES = {
    "nan": (put(EYE, (1, 2), np.nan), "finite numbers, got NaN or inf"),
    "inf": (put(EYE, (0, 0), np.inf), "finite numbers, got NaN or inf"),
    "asymmetric": (put(EYE, (0, 1), 0.25), "symmetric matrices, got asymmetry 0.25"),
    "negative": (put(EYE, (1, 1), -2.0), "positive semi-definite matrices, got the eigenvalue -2"),
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


def test_the_first_of_different_faults_is_named(any_blocks):
    s = np.stack([EYE] * 6)
    s[2, 1, 1], s[4, 0, 1] = -2, np.nan
    with pytest.raises(ValueError, match="at index 2 of the stack"):
        pinv(s)


def test_the_first_negative_matrix_is_named_not_the_worst(any_blocks):
    s = np.stack([EYE, np.diag([1, 1, -0.1]), EYE, -EYE])
    with pytest.raises(ValueError, match=r"eigenvalue -0\.1 at index 1 of the stack"):
        pinv(s)


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


def test_matrices_that_are_negative_throughout_are_refused():
    with pytest.raises(ValueError, match="eigenvalue -1 at index 1"):
        pinv(np.stack([EYE, -EYE]))


def test_the_first_nan_is_named_wherever_it_is(any_blocks):
    x = np.ones((40, 3, 5, 5))
    x += np.arange(40)[:, None, None, None]
    x[17, 2, 4, 4] = x[30, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"embedding: .*(?i:nan) at index \(17, 2, 4, 4\)"):
        MultiVariateGaussian().fit(x)
    x[17, 2, 4, 4] = 0
    with pytest.raises(ValueError, match=r"embedding: .*(?i:nan) at index \(30, 0, 0, 0\)"):
        MultiVariateGaussian().fit(x)


def test_nan_in_single_and_half_precision_is_found():
    for dtype in (np.float16, np.float32):
        with pytest.raises(ValueError, match=r"embedding: .*(?i:nan) at index \(2, 1, 0, 1\)"):
            MultiVariateGaussian().fit(put(E, (2, 1, 0, 1), np.nan).astype(dtype))


# ---------------------------------------------------------------------------------------------------------
# a model that is not fitted, options that are not there


@pytest.mark.parametrize("name", ["mean", "covariance", "inv_covariance", "rank"])
@pytest.mark.parametrize("error", [ValueError, AttributeError])
def test_an_unfitted_model_says_so(name, error):
    with pytest.raises(error, match="not fitted yet"):
        getattr(MultiVariateGaussian(), name)


def test_an_unfitted_model_does_not_score_or_unpack():
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
    np.testing.assert_array_equal(fitted(ddof=ddof).covariance, fitted(ddof=2).covariance)


def test_long_values_are_cut_in_messages():
    with pytest.raises(TypeError, match=r"^rowvar: expected True or False, got '.{50,60}\.\.\. of type str$"):
        cov(X, rowvar="n" * 1000)
