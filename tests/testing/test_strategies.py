"""What the strategies promise, and that nothing but they needs Hypothesis."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import find, given
from hypothesis import strategies as st

import mvgauss
from mvgauss.testing import exact_cov, exact_gaussian, strategies

CONDITION = 2.0**10


@strategies.steady
@given(strategies.covariances((1, 6), condition=CONDITION, scales=(1.0, 1e-6, 1e6)))
def test_covariances_are_symmetric_and_of_bounded_condition(s):
    assert (s == s.T).all()
    values = np.linalg.eigvalsh(s)
    assert values[0] > 0
    assert values[-1] / values[0] <= CONDITION * (1 + 1e-9)


@strategies.steady
@given(st.data(), st.integers(0, 6))
def test_covariances_have_the_rank_that_was_asked_for(data, rank):
    s = data.draw(strategies.covariances((6, 6), rank=rank, scales=(1.0, 1e-6, 1e6)))
    assert mvgauss.pinv(s, return_rank=True)[1] == rank


@strategies.steady
@given(strategies.covariances((1, 4), deficient=True, dtype=np.float32, stacks=strategies.stack_shapes()))
def test_deficient_covariances_are_positive_semi_definite_to_rounding(s):
    assert s.dtype == np.float32
    values = np.linalg.eigvalsh(s.astype(float))
    assert (values >= -s.shape[-1] * np.finfo(np.float32).eps * values[..., -1:]).all()


@strategies.steady
@given(
    strategies.observations((2, 9), (1, 4), condition=CONDITION, offsets=(0.0, 5.0), scales=(1.0, 2.0**-20))
)
def test_observations_have_a_covariance_of_bounded_condition(x):
    values = np.linalg.eigvalsh(np.atleast_2d(exact_cov(x)))[::-1][: min(len(x) - 1, x.shape[1])]
    assert values[0] / values[-1] <= CONDITION * (1 + 1e-6)


@strategies.steady
@given(strategies.observations(dtype=np.complex64, stacks=strategies.stack_shapes()))
def test_observations_may_be_complex_and_stacked(x):
    assert x.dtype == np.complex64
    assert 2 <= x.ndim <= 4


@strategies.steady
@given(strategies.embeddings(dtype=np.float32))
def test_embeddings_are_grids_that_can_be_fitted(x):
    _, c, h, w = x.shape
    assert x.dtype == np.float32
    mean, inverse = mvgauss.MultiVariateGaussian().fit(x)
    assert mean.shape == exact_gaussian(x)[0].shape == (c, h * w)
    assert inverse.shape == (h * w, c, c)


@strategies.steady
@given(st.data(), st.integers(1, 5), strategies.stack_shapes())
def test_weights_are_weights(data, n, stack):
    w = data.draw(strategies.weights(n, stack=stack))
    assert set(w) == {"fweights", "aweights"}
    for v in w.values():
        assert v.shape == (*stack, n)
        assert (v >= 0).all()
        assert v.any(axis=-1).all()
    assert w["fweights"].dtype.kind == "i"
    mvgauss.Moments(np.zeros((*stack, n, 1)), w["aweights"], fweights=w["fweights"])


@strategies.steady
@given(strategies.weights(6, "a", zeros=False))
def test_weights_without_zeros_have_none(w):
    assert (w["aweights"] > 0).all()


@strategies.steady
@given(strategies.observations(), strategies.covariances(), strategies.embeddings(), strategies.weights(3))
def test_what_is_drawn_is_read_only(x, s, embedding, w):
    assert not any(a.flags.writeable for a in (x, s, embedding, *w.values()))


@pytest.mark.slow
def test_examples_shrink_to_what_can_be_read():
    np.testing.assert_allclose(find(strategies.observations(), lambda x: True), [[-1], [1]])
    np.testing.assert_array_equal(find(strategies.covariances(), lambda s: True), [[1]])
    np.testing.assert_array_equal(find(strategies.covariances(), lambda s: len(s) > 2), np.eye(3))
    np.testing.assert_array_equal(find(strategies.weights(3), lambda w: True)["fweights"], [1, 1, 1])
    assert find(strategies.embeddings(), lambda x: True).shape == (2, 1, 1, 1)
    assert find(strategies.stack_shapes(), lambda s: True) == ()
    heavy = find(strategies.weights(3, "a"), lambda w: w["aweights"].sum() > 4)["aweights"]
    assert heavy.sum() <= 5


def test_two_runs_draw_the_same():
    """`steady` draws without a seed and without a database."""

    def drawn():
        seen = []

        @strategies.steady
        @given(strategies.observations())
        def collect(x):
            seen.append(x.tobytes())

        collect()
        return seen

    assert drawn() == drawn()


PROGRAM = """
import sys
sys.modules["hypothesis"] = None    # importing it fails
import mvgauss
assert "mvgauss.testing" not in sys.modules
import mvgauss.testing
from mvgauss.testing import check_cov, check_gaussian, exact_cov, load_vectors
check_cov(mvgauss.cov)
load_vectors()
try:
    mvgauss.testing.strategies
except ImportError:
    print("only the strategies need Hypothesis")
"""


@pytest.mark.slow
def test_only_the_strategies_need_hypothesis():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "only the strategies need Hypothesis"
    assert not done.stderr


def test_the_public_names_are_these():
    assert all(hasattr(mvgauss.testing, name) for name in mvgauss.testing.__all__)
    assert mvgauss.testing.strategies is strategies
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mvgauss.testing.nothing  # noqa: B018
