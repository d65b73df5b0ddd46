"""The kit accepts what is right, and each wrong implementation is refused by the law it breaks."""

import numpy as np
import pytest
import reference
from mutants import ONE_PASS, ROWS, mutant

import mvgauss
from mvgauss.testing import (
    FEATURES,
    cov_checks,
    exact_cov,
    gaussian_checks,
    load_vectors,
    mahalanobis_checks,
    pinv_checks,
)
from mvgauss.testing._cases import smls

#: For each part of the reference its checks in a dtype, and the part.
SUITES = {
    "cov": (lambda dtype: cov_checks(dtype=dtype, beyond_numpy=True), reference.cov),
    "pinv": (lambda dtype: pinv_checks(dtype=dtype), reference.pinv),
    "mahalanobis": (lambda dtype: mahalanobis_checks(dtype=dtype), reference.mahalanobis),
    "Gaussian": (lambda dtype: gaussian_checks(dtype=dtype), reference.Gaussian),
}
RIDGE = "out = scatter / divisor[..., None, None] + 1e-8 * np.eye(x.shape[-1])"


def broken(checks, implementation):
    """Return the names of the laws that an implementation breaks."""
    return [check.name for check in checks if check.broken(implementation) is not None]


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
    checks, right = SUITES[suite]
    assert broken(checks(dtype), right) == []


@pytest.mark.slow
def test_a_right_covariance_in_single_precision_breaks_no_law():
    assert broken(cov_checks(dtype=np.float32), in_single(reference.cov)) == []
    assert "samples_are_in_rows" in broken(cov_checks(), in_single(reference.cov))


@pytest.mark.parametrize(("name", "changed", "law"), ROWS)
def test_a_mutant_is_refused_by_its_law(name, changed, law):
    (check,) = (check for check in SUITES[name][0](np.float64) if check.name == law)
    with pytest.raises(AssertionError, match=law):
        check(mutant(name, changed))


@pytest.mark.parametrize("suite", SUITES)
def test_every_law_refuses_a_mutant(suite):
    """A law that nothing breaks may be one that holds for anything."""
    laws = {check.name for check in SUITES[suite][0](np.float64)}
    assert laws == {law for name, _, law in ROWS if name == suite}


#: Mistakes of a score that a single fit shows; weights, earlier fits and wrong images are for the laws.
SCORES = [
    changed
    for name, changed, law in ROWS
    if name == "Gaussian" and "distance" in law and "last_fit" not in law and "weighted" not in law
]


@pytest.mark.parametrize("changed", sorted(set(SCORES)))
def test_a_mistake_of_a_score_is_refused_by_a_golden_vector(changed):
    with pytest.raises(AssertionError, match=r"'fit: .*', distances"):  # noqa: PT012
        for vector in load_vectors("fit"):
            if vector.arguments["reg_covar"] == 0.01:
                model = mutant("Gaussian", changed)()
                model.fit(vector.arguments["embedding"])
                vector.check(distances=model.mahalanobis(vector.arguments["scored"].copy()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "law"),
    [
        (ONE_PASS, "data_far_from_zero_are_not_squared"),
        ("mean = x.mean(axis=-2, keepdims=True)", "the_mean_is_weighted"),
        (RIDGE, "a_constant_feature_has_no_variance"),
        ("divisor = total * (len(x) - ddof) / len(x)", "with_aweights_the_divisor_uses_their_squares"),
    ],
)
def test_a_mutant_in_single_precision_is_refused_too(changed, law):
    assert law in broken(cov_checks(dtype=np.float32), in_single(mutant("cov", changed)))


@pytest.mark.parametrize("features", [[], ["stacks"], ["aweights"], ["fweights", "errors"], ["ddof", "bias"]])
def test_an_implementation_is_called_only_with_the_arguments_it_has(features):
    """And every law calls it: a law that does not would hold for anything."""
    options = set(features) & {"aweights", "fweights", "ddof", "bias"}
    calls = []

    def plain(observations, **given):
        calls.append(given)
        assert given.keys() <= options
        return reference.cov(observations, **given)

    for check in cov_checks(features=features):
        calls.clear()
        check(plain)
        assert calls, check.name


@pytest.mark.parametrize(
    "changed",
    ["divisor = 0 * total + len(x)", ONE_PASS, RIDGE, "given = np.asarray(observations)\ngiven -= 1"],
)
def test_a_mutant_without_features_is_refused_too(changed):
    assert broken(cov_checks(features=[]), mutant("cov", changed))


def test_a_textbook_covariance_of_one_argument_keeps_the_laws_that_concern_it():
    def cov(x):
        z = x - x.mean(axis=0)
        return z.T @ z / (len(x) - 1)

    assert broken(cov_checks(features=()), cov) == []
    assert broken(cov_checks(features=()), lambda x: np.cov(x, rowvar=False)) == []
    assert "samples_are_in_rows" in broken(cov_checks(features=()), np.cov)
    assert broken(cov_checks(features={"symmetric", "nan", "two_pass"}), cov) == []


def test_two_passes_lose_the_digits_of_the_mean_and_a_subtracted_sample_keeps_them():
    """NumPy's error for SmLs07 is 3.6e-6 of the variance, within what its formula may lose."""
    x = next(smls(np.dtype(float)))
    error = np.abs(np.cov(x, rowvar=False) - exact_cov(x)).max() / exact_cov(x).max()
    assert 1e-9 < error < 1e-5
    laws = "data_sets_of_nist_lose_no_digits_but_those_of_the_mean", "data_sets_of_nist_lose_no_digits"
    checks = [check for check in cov_checks(beyond_numpy=True) if check.name in laws]
    assert broken(checks, lambda x: np.cov(x, rowvar=False)) == [laws[1]]
    assert broken(checks, lambda x: np.cov(x - x[0], rowvar=False)) == []


@pytest.mark.parametrize("suite", SUITES)
def test_every_feature_has_a_law_and_every_feature_of_a_law_is_listed(suite):
    concerned = {feature for check in SUITES[suite][0](np.float64) for feature in check.law.features}
    assert concerned == set(FEATURES[suite.lower()])


@pytest.mark.parametrize("check", cov_checks(beyond_numpy=True))
def test_the_covariance_of_the_package_keeps_each_law(check):
    check(mvgauss.cov)


def test_the_package_keeps_all_laws():
    for checks, function in (
        (pinv_checks(), mvgauss.pinv),
        (mahalanobis_checks(), mvgauss.mahalanobis),
        (gaussian_checks(), mvgauss.MultiVariateGaussian),
        (gaussian_checks(reg_covar=0.01001), lambda: mvgauss.MultiVariateGaussian(reg_covar=0.01001)),
    ):
        assert broken(checks, function) == []
