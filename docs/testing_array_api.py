"""The covariance of array-api-extra on strict arrays, tested: ``pytest docs/testing_array_api.py``."""

import array_api_extra as xpx
import array_api_strict as xp
import pytest

from mvgauss.testing import cov_checks


def cov(x, ddof=1, aweights=None, fweights=None):
    """Samples are on the last axis but one; what is None is not passed."""
    weights = {"aweights": aweights, "fweights": fweights}
    return xpx.cov(x, axis=-2, correction=ddof, **{k: w for k, w in weights.items() if w is not None})


FEATURES = {
    "ddof",
    "fractional_ddof",
    "aweights",
    "fweights",
    "complex",
    "nan",
    "stacks",
    "warnings",
    "two_pass",
}
#: It squeezes all axes of length one, those of the stack too.
BROKEN = {"a_stack_of_one_keeps_its_axis", "one_feature_in_a_stack_keeps_its_axes"}


@pytest.mark.parametrize("check", cov_checks(features=FEATURES, skip=BROKEN, asarray=xp.asarray))
def test_a_law(check):
    check(cov)


@pytest.mark.parametrize(
    "check", [c for c in cov_checks(features=FEATURES, asarray=xp.asarray) if c.name in BROKEN]
)
def test_a_law_that_it_breaks(check):
    with pytest.raises(AssertionError, match=check.name):
        check(cov)
