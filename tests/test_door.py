"""Wrong input that once passed in silence is refused, or warned of, with its remedy."""

import re
import warnings

import numpy as np
import pytest
import scipy.linalg
from common import frozen

from mvgauss import DefaultThresholdWarning, MultiVariateGaussian, RidgeWarning


@pytest.fixture
def x(rng):
    return frozen(rng.standard_normal((40, 6, 3, 4)))


def refused(call, *parts, error=(TypeError, ValueError)):
    """Return the message of a call that is refused, which has all of these parts."""
    with pytest.raises(error) as caught:
        call()
    for part in parts:
        assert part in str(caught.value)
    return str(caught.value)


class Loader:
    """Yields batches, as a DataLoader does."""

    def __init__(self, x):
        self.x, self.reads = x, 0

    def __len__(self):
        return len(self.x) // 8

    def __iter__(self):
        for i in range(len(self)):
            self.reads += 1
            yield self.x[8 * i : 8 * i + 8]


READERS = {
    "fit": lambda model, x: model.fit(x),
    "mahalanobis": lambda model, x: model.mahalanobis(x),
    "threshold": lambda model, x: model.threshold(x, 0.5),
}


@pytest.mark.parametrize("reader", list(READERS))
def test_a_list_of_batches_or_of_images_is_refused_and_told_how_to_be_joined(x, reader):
    model = MultiVariateGaussian().fit(x)
    for parts in ([x[:8], x[8:16]], (x[:8], x[8:11]), [x[0], x[1]]):
        shape = f"{len(parts)} arrays, the first of shape {parts[0].shape}"
        refused(lambda parts=parts: READERS[reader](model, parts), shape, "np.concatenate", "np.stack")


@pytest.mark.parametrize("reader", list(READERS))
def test_what_yields_batches_is_refused_unread_and_told_of_partial_fit(x, reader):
    model, loader = MultiVariateGaussian().fit(x), Loader(x)
    for name, batches in (("Loader", loader), ("generator", iter(loader)), ("map", map(abs, loader))):
        refused(lambda batches=batches: READERS[reader](model, batches), name, "partial_fit", error=TypeError)
    assert not loader.reads


class Half:
    """A tensor of a dtype that NumPy lacks."""

    dtype, shape = "torch.bfloat16", (40, 6, 3, 4)

    def __getitem__(self, key):
        raise AssertionError("read before it is refused")

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Got unsupported ScalarType BFloat16")


def test_bfloat16_is_told_to_be_converted(x):
    half = pytest.importorskip("ml_dtypes").bfloat16
    on_disk = Half()
    on_disk.dtype = np.dtype(half)
    for given in (Half(), x.astype(half), on_disk):
        refused(lambda given=given: MultiVariateGaussian().fit(given), ".float()", "astype('float32')")


def test_none_is_called_none():
    message = refused(lambda: MultiVariateGaussian().fit(None), error=TypeError)
    assert message == "embedding: expected an array of real numbers, got None"


def test_a_column_of_text_is_named(x):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(x[:, :, 0, 0], columns=list("abcdef"))
    frame["label"] = ["good"] * len(frame)
    refused(lambda: MultiVariateGaussian().fit(frame), "'good' in column 'label'", error=TypeError)
    refused(lambda: MultiVariateGaussian().fit(frame[["label"]]), "'good' in column 'label'", error=TypeError)
    assert MultiVariateGaussian().fit(frame.drop(columns="label")).n_features_in_ == 6


NOT_EMPTY = "embedding: expected a non-empty array (N, C, *grid), features C on axis 1"
#: The whole message, and the call that it is the answer to.
SENTENCES = {
    "embedding: X has 5 features, but MultiVariateGaussian is expecting 6 features as input": (
        lambda m, x: m.mahalanobis(x[:, :5])
    ),
    "embedding: an array with 0 feature(s) (shape=(40, 0)) while a minimum of 1 is required.": (
        lambda m, x: m.fit(x[:, :0])
    ),
    f"{NOT_EMPTY}, got 0 samples in shape (0, 6)": lambda m, x: m.fit(x[:0]),
    f"{NOT_EMPTY}, got shape (6,). Reshape your data: x[None] is one sample, x[:, None] one feature": (
        lambda m, x: m.fit(x[0])
    ),
    "embedding: expected real numbers, got dtype complex128. Complex data not supported except by cov and "
    "Moments": lambda m, x: m.fit(1j * x),
}


@pytest.mark.parametrize("message", list(SENTENCES))
def test_a_table_is_refused_in_one_natural_sentence(x, message):
    table = frozen(x[:, :, 0, 0])
    assert refused(lambda: SENTENCES[message](MultiVariateGaussian().fit(table), table)) == message


@pytest.mark.filterwarnings("error")
def test_features_in_volts_warn_and_the_ridge_that_the_warning_names_finds_the_defect(x):
    volts, defect = frozen(1e-6 * x), frozen(1e-6 * (x[:1] + 20))
    with pytest.warns(RidgeWarning, match="at 12 of 12 patches reg_covar=0.01 is larger than") as caught:
        blind = MultiVariateGaussian().fit(volts)
    assert blind.mahalanobis(defect).max() < 1e-2
    numbers = re.search(r"([^ ]+) in the median.* set reg_covar=([^ ,]+)", str(caught[0].message))
    variance, ridge = numbers.groups()
    assert np.isclose(float(variance), np.median(volts.var(axis=0).mean(axis=0)), rtol=0.05)
    assert MultiVariateGaussian(reg_covar=float(ridge)).fit(volts).mahalanobis(defect).min() > 10
    MultiVariateGaussian(reg_covar=0, shrinkage="oas").fit(volts)


def test_a_ridge_warns_where_it_is_larger_at_more_than_half_of_the_patches_that_vary(rng):
    x = rng.standard_normal((30, 4, 40))
    x[:, :, 20:] *= 0.01  # variances of 1e-4
    x[:, :, 38:] = 7  # nothing varies
    for start, warns in ((0, False), (1, False), (2, False), (3, True), (20, True), (38, False)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            MultiVariateGaussian().fit(frozen(x[:, :, start:]))
        assert [w.category for w in caught] == [RidgeWarning] * warns
    weights = frozen(np.arange(30) < 20, float)
    x[20:] *= 1000  # of no weight
    with pytest.warns(RidgeWarning, match="at 18 of 20 patches"):
        MultiVariateGaussian().fit(x[:, :, 20:], sample_weight=weights)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("c", [6, 60], ids=["a square", "rows"])
def test_a_stream_warns_of_its_ridge_at_the_first_use_and_once(rng, c):
    x = frozen(1e-3 * rng.standard_normal((20, c, 9)))
    model = MultiVariateGaussian().partial_fit(x[:8]).partial_fit(x[8:])
    with pytest.warns(RidgeWarning, match="at 9 of 9 patches"):
        model.mahalanobis(x)
    model.mahalanobis(x)
    unfitted = MultiVariateGaussian()
    with pytest.raises(RidgeWarning):
        unfitted.fit(x)
    with pytest.raises(ValueError, match="not fitted"):
        unfitted.predict(x)


def inverse_in_single(covariance):
    """Invert by LU factors in single precision, as PyTorch does: asymmetric in the last bits."""
    factors = (scipy.linalg.lapack.sgetrf(s) for s in covariance.astype(np.float32))
    return np.stack([scipy.linalg.lapack.sgetri(lu, pivots)[0] for lu, pivots, _ in factors])


@pytest.mark.parametrize("seed", range(4))
def test_half_of_an_inverse_of_single_precision_is_taken_in_its_own_precision(seed):
    rng = np.random.default_rng(seed)
    x = np.moveaxis(rng.standard_normal((60, 784, 8)) @ rng.standard_normal((8, 16)), 1, 2)
    x += 0.1 * rng.standard_normal(x.shape)
    model = MultiVariateGaussian().fit(frozen(x))
    half = inverse_in_single(model.covariance).astype(np.float16)
    given = MultiVariateGaussian.from_parameters(model.mean.astype(np.float32), frozen(half))
    z = np.abs(np.moveaxis(x[:9], 2, 0) - model.mean.T[:, None])
    # of z^T P z, where entries of P are rounded to half precision
    rounding = 2.0**-11 * np.vecdot(z @ np.abs(model.inv_covariance), z).T
    errors = given.mahalanobis(x[:9], squared=True) - model.mahalanobis(x[:9], squared=True)
    assert (np.abs(errors) <= rounding).all()
    half[3, 0, 1] += 0.1 * half[3].max()
    refused(lambda: MultiVariateGaussian.from_parameters(model.mean, half), "symmetric matrices", "index 3 ")


def test_parameters_in_another_layout_are_told_how_to_be_moved(x):
    mean, inverse = MultiVariateGaussian().fit(x)
    given, last = MultiVariateGaussian.from_parameters, np.moveaxis(inverse, 0, -1)
    refused(lambda: given(mean.T, inverse), "mean is (P, C): give mean.T")
    refused(lambda: given(mean, last), "give np.moveaxis(inv_covariance, -1, 0)")
    refused(lambda: given(mean.T, last), "give mean.T and np.moveaxis(inv_covariance, -1, 0)")
    assert "give" not in refused(lambda: given(mean, inverse[:5]))


@pytest.mark.parametrize(
    ("misspelt", "nearest"), [("reg_cov", "reg_covar"), ("axis", "feature_axis"), ("jobs", "n_jobs")]
)
def test_a_misspelt_parameter_is_told_the_nearest_one(misspelt, nearest):
    message = refused(lambda: MultiVariateGaussian(**{misspelt: 1}), error=TypeError)
    assert re.fullmatch(rf"MultiVariateGaussian: .*, got {misspelt}; did you mean {nearest}\?", message)
    assert "did you mean" not in refused(lambda: MultiVariateGaussian(zzz=1), "n_features", error=TypeError)


def test_the_method_that_sets_a_limit_is_not_replaced_by_one(x):
    model = MultiVariateGaussian().fit(x)
    refused(lambda: setattr(model, "threshold", 3), "got 3", "assigned to threshold_", error=AttributeError)
    model.threshold_ = 3
    assert model.threshold_ == 3 != model.threshold(x[:20], 0.1)


def test_samples_with_the_features_last_are_told_of_the_axis(x):
    flat = frozen(x.reshape(40, 6, 12))
    last = np.moveaxis(flat, 1, 2)
    for model in (
        MultiVariateGaussian().fit(flat),
        MultiVariateGaussian().fit(x),
        MultiVariateGaussian.from_parameters(*MultiVariateGaussian().fit(flat)),
    ):
        refused(lambda model=model: model.mahalanobis(last), "set feature_axis=-1")
    for sizes in ({"n_features": 6}, {"n_patches": 12}, {"n_features": 6, "n_patches": 12}):
        refused(lambda sizes=sizes: MultiVariateGaussian(**sizes).fit(last), "set feature_axis=-1")
    assert "axis=" not in refused(lambda: MultiVariateGaussian(6, 5).fit(last))  # that would not fit either
    model = MultiVariateGaussian(feature_axis=-1).fit(last)
    refused(lambda: model.mahalanobis(flat), "set feature_axis=1")


def test_who_wants_an_order_alone_is_told_that_it_needs_no_limit(rng):
    x = frozen(rng.standard_normal((20, 30)))
    order = (
        "to rank images, as for an AUC, score_samples and the largest distance of each image need no limit"
    )
    few = MultiVariateGaussian().fit(x)
    refused(lambda: few.decision_function(x), order, error=ValueError)
    many = MultiVariateGaussian().fit(x[:, :5])
    with pytest.warns(DefaultThresholdWarning, match=order):
        decision = many.decision_function(x[:, :5])
    for scores in (many.score_samples(x[:, :5]), -many.mahalanobis(x[:, :5])):
        np.testing.assert_array_equal(np.argsort(scores.ravel()), np.argsort(decision))
