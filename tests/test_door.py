"""Wrong input that once passed in silence is refused, or warned of, with its remedy."""

import re

import numpy as np
import pytest
from common import frozen

from mvgauss import MultiVariateGaussian


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
            "embedding: expected real numbers, got dtype complex128. Complex data not supported except by cov "
            "and Moments",
        ),
    ],
)
def test_a_table_is_refused_in_one_natural_sentence(x, call, message):
    table = frozen(x[:, :, 0, 0])
    assert refused(lambda: call(MultiVariateGaussian().fit(table), table)) == message
