"""The kit accepts what is right, and each wrong implementation is refused by the law it breaks."""

import mutants
import numpy as np
import pytest

import mvgauss
from mvgauss.testing import (
    FEATURES,
    cov_checks,
    gaussian_checks,
    mahalanobis_checks,
    pinv_checks,
)

SUITES = {
    "cov": (
        lambda dtype: cov_checks(dtype=dtype, beyond_numpy=True),
        mutants.Cov(),
        mutants.COV,
    ),
    "pinv": (lambda dtype: pinv_checks(dtype=dtype), mutants.Pinv(), mutants.PINV),
    "mahalanobis": (
        lambda dtype: mahalanobis_checks(dtype=dtype),
        mutants.Mahalanobis(),
        mutants.DISTANCE,
    ),
    "gaussian": (lambda dtype: gaussian_checks(dtype=dtype), mutants.Gaussian, mutants.GAUSSIAN),
}
MUTANTS = [(suite, mutant) for suite, (_, _, found) in SUITES.items() for mutant in found]


def told(check, implementation):
    """Return what a check says of an implementation, nothing if the law holds."""
    try:
        check(implementation)
    except AssertionError as error:
        return str(error)
    return ""


def broken(checks, implementation):
    """Return the names of the laws that an implementation breaks."""
    said = {check.name: told(check, implementation) for check in checks}
    return [name for name, text in said.items() if text]


def in_single(cov):
    """Let a covariance compute in single precision throughout."""

    def single(observations, *args, **kwargs):
        kind = np.asarray(observations).dtype.kind
        return cov(observations, *args, dtype=np.complex64 if kind == "c" else np.float32, **kwargs)

    return single


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("suite", SUITES)
def test_a_right_implementation_breaks_no_law(suite, dtype):
    checks, right, _ = SUITES[suite]
    assert broken(checks(dtype), right) == []


@pytest.mark.slow
def test_a_right_covariance_in_single_precision_breaks_no_law():
    assert broken(cov_checks(dtype=np.float32), in_single(mutants.Cov())) == []
    assert "samples_are_in_rows" in broken(cov_checks(), in_single(mutants.Cov()))


@pytest.mark.parametrize(("suite", "mutant"), MUTANTS, ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_a_mutant_is_refused_by_its_law(suite, mutant):
    checks, _, found = SUITES[suite]
    (law,) = (check for check in checks(np.float64) if check.name == found[mutant])
    assert told(law, mutant if suite == "gaussian" else mutant())


@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITES)
def test_every_law_refuses_something(suite):
    """A law that nothing breaks may be one that holds for anything."""
    checks, _, found = SUITES[suite]
    laws, caught = checks(np.float64), set()
    for mutant in found:
        caught.update(broken(laws, mutant if suite == "gaussian" else mutant()))
    assert {check.name for check in laws} == caught


@pytest.mark.slow
@pytest.mark.parametrize("name", ["OnePass", "UnweightedMean", "HiddenRidge", "DivisorOfAweightsIsN"])
def test_a_mutant_in_single_precision_is_refused_too(name):
    mutant = getattr(mutants, name)
    assert mutants.COV[mutant] in broken(cov_checks(dtype=np.float32), in_single(mutant()))


@pytest.mark.parametrize("features", [[], ["stacks"], ["aweights"], ["fweights", "errors"], ["ddof", "bias"]])
def test_an_implementation_is_called_only_with_the_arguments_it_has(features):
    """And every law calls it: a law that does not would hold for anything."""
    options = set(features) & {"aweights", "fweights", "ddof", "bias"}
    calls = []

    def plain(observations, **given):
        calls.append(given)
        assert given.keys() <= options
        return mutants.Cov()(observations, **given)

    for check in cov_checks(features=features):
        calls.clear()
        check(plain)
        assert calls, check.name


@pytest.mark.parametrize("name", ["DivisorN", "GlobalMean", "OnePass", "HiddenRidge", "WritesToItsInput"])
def test_a_mutant_without_features_is_refused_too(name):
    stacks = ["stacks"] if name == "GlobalMean" else []
    assert broken(cov_checks(features=stacks), getattr(mutants, name)())


def test_a_textbook_covariance_of_one_argument_keeps_the_laws_that_concern_it():
    def cov(x):
        z = x - x.mean(axis=0)
        return z.T @ z / (len(x) - 1)

    assert broken(cov_checks(features=()), cov) == []
    assert broken(cov_checks(features=()), lambda x: np.cov(x, rowvar=False)) == []
    assert "samples_are_in_rows" in broken(cov_checks(features=()), np.cov)
    assert broken(cov_checks(features={"symmetric", "nan", "two_pass"}), cov) == []


@pytest.mark.parametrize("suite", SUITES)
def test_every_feature_has_a_law_and_every_feature_of_a_law_is_listed(suite):
    concerned = {feature for check in SUITES[suite][0](np.float64) for feature in check.law.features}
    assert concerned == set(FEATURES[suite])


@pytest.mark.parametrize("check", cov_checks(beyond_numpy=True))
def test_the_covariance_of_the_package_keeps_each_law(check):
    check(mvgauss.cov)


def test_the_package_keeps_all_laws():
    for checks, function in (
        (pinv_checks(), mvgauss.pinv),
        (mahalanobis_checks(), mvgauss.mahalanobis),
        (gaussian_checks(), mvgauss.MultiVariateGaussian),
        (
            gaussian_checks(reg_covar=0.01001),
            lambda: mvgauss.MultiVariateGaussian(reg_covar=0.01001),
        ),
    ):
        assert broken(checks, function) == []
