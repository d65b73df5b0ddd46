"""Wrong input that once passed in silence is refused, or warned of, with its remedy."""

import re
import warnings

import numpy as np
import pytest
from common import frozen

from mvgauss import MultiVariateGaussian, RidgeWarning


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


# ---------------------------------------------------------------------------------------------------------
# what is no array


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
    "partial_fit": lambda model, x: model.partial_fit(x),
    "mahalanobis": lambda model, x: model.mahalanobis(x),
    "threshold": lambda model, x: model.threshold(x, 0.5),
}


@pytest.mark.parametrize("reader", list(READERS))
def test_a_list_of_batches_or_of_images_is_refused_and_told_how_to_be_joined(x, reader):
    model = MultiVariateGaussian().fit(x)
    for parts in ([x[:8], x[8:16]], (x[:8], x[8:11]), [x[0], x[1]]):
        shape = f"{len(parts)} arrays, the first of shape {parts[0].shape}"
        refused(lambda parts=parts: READERS[reader](model, parts), shape, "np.concatenate", "np.stack")
    nested = x[:8, :, 0, 0].tolist()  # numbers alone: an array
    np.testing.assert_array_equal(
        MultiVariateGaussian().fit(nested).mean, MultiVariateGaussian().fit(x[:8, :, 0, 0]).mean
    )


@pytest.mark.parametrize("reader", list(READERS))
def test_what_yields_batches_is_refused_unread_and_told_of_partial_fit(x, reader):
    model, loader = MultiVariateGaussian().fit(x), Loader(x)
    for name, batches in (("Loader", loader), ("generator", iter(loader)), ("map", map(abs, loader))):
        refused(lambda batches=batches: READERS[reader](model, batches), name, "partial_fit", error=TypeError)
    assert not loader.reads
    streamed = MultiVariateGaussian()
    for batch in loader:
        streamed.partial_fit(batch)
    np.testing.assert_allclose(streamed.mean, model.mean, atol=1e-15)


class Half:
    """A tensor of a dtype that NumPy lacks."""

    dtype = "torch.bfloat16"

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Got unsupported ScalarType BFloat16")


def test_bfloat16_is_told_to_be_converted(x):
    half = pytest.importorskip("ml_dtypes").bfloat16
    for given in (Half(), x.astype(half)):
        refused(
            lambda given=given: MultiVariateGaussian().fit(given), "bfloat16", ".float()", "astype('float32')"
        )


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


# ---------------------------------------------------------------------------------------------------------
# sentences that scikit-learn's tools look for


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m, x: m.mahalanobis(x[:, :5]),
            "embedding: X has 5 features, but MultiVariateGaussian is expecting 6 features as input",
        ),
        (
            lambda m, x: m.fit(x[:, :0]),
            "embedding: an array with 0 feature(s) (shape=(40, 0)) while a minimum of 1 is required.",
        ),
        (
            lambda m, x: m.fit(x[:0]),
            "embedding: expected a non-empty array (N, C, *grid), features C on axis 1, "
            "got 0 samples in shape (0, 6)",
        ),
        (
            lambda m, x: m.fit(x[0]),
            "embedding: expected a non-empty array (N, C, *grid), features C on axis 1, got shape (6,). "
            "Reshape your data: x[None] is one sample, x[:, None] are samples of one feature",
        ),
        (
            lambda m, x: m.fit(1j * x),
            "embedding: expected real numbers, got dtype complex128. "
            "Complex data not supported except by cov and Moments",
        ),
    ],
)
def test_a_table_is_refused_in_one_natural_sentence(x, call, message):
    table = frozen(x[:, :, 0, 0])
    assert refused(lambda: call(MultiVariateGaussian().fit(table), table)) == message


# ---------------------------------------------------------------------------------------------------------
# a ridge larger than the variances


@pytest.mark.filterwarnings("error")
def test_features_in_volts_warn_and_the_ridge_that_the_warning_names_finds_the_defect(x):
    volts, defect = frozen(1e-6 * x), frozen(1e-6 * (x[:1] + 20))
    with pytest.warns(RidgeWarning, match="at 12 of 12 patches reg_covar=0.01 is larger than") as caught:
        blind = MultiVariateGaussian().fit(volts)
    assert blind.mahalanobis(defect).max() < 1e-2
    variance, ridge = re.search(
        r"([^ ]+) in the median.* set reg_covar=([^ ,]+)", str(caught[0].message)
    ).groups()
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
