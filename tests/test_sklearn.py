"""scikit-learn's contract, kept without depending on it."""

import pickle

import numpy as np
import pytest
from common import frozen

from mvgauss import MultiVariateGaussian

pytest.importorskip("sklearn")


@pytest.mark.filterwarnings(
    "ignore:Estimator MultiVariateGaussian does not inherit from `sklearn.base.BaseEstimator`",
    "ignore::sklearn.exceptions.SkipTestWarning",
)
@pytest.mark.parametrize("options", [{}, {"reg_covar": 0}, {"reg_covar": 1e-4, "n_jobs": 1}], ids=str)
def test_check_estimator_passes_but_for_decisions_of_fewer_samples_than_features(options):
    """One check compares decisions of 15 weighted samples of 30 features, which have no limit."""
    from sklearn.utils.estimator_checks import check_estimator

    no_limit = {"check_sample_weight_equivalence_on_dense_data": "no limit for 15 samples of 30 features"}
    results = check_estimator(MultiVariateGaussian(**options), expected_failed_checks=no_limit, on_fail=None)
    failed = {r["check_name"] for r in results if r["status"] == "failed"}
    (expected,) = [r for r in results if r["status"] == "xfail"]
    assert not failed
    assert expected["check_name"] in no_limit
    assert "threshold_: expected a model with a limit" in str(expected["exception"])
    # only what needs another package or a variable of the environment is not checked
    skipped = {r["check_name"] for r in results if r["status"] == "skipped"}
    pandas = {"check_sample_weights_pandas_series", "check_classifier_data_not_an_array"}
    assert skipped <= pandas | {"check_array_api_input"}
    passed = {r["check_name"] for r in results if r["status"] == "passed"}
    assert len(results) > 40
    assert passed > {"check_outliers_fit_predict", "check_outliers_train"}


def test_with_a_limit_decisions_of_weighted_and_of_repeated_samples_are_equal(rng):
    """What the check that fails is about, of the samples and weights that it has."""
    x, w = frozen(rng.uniform(0, 10, (15, 30))), frozen(rng.integers(0, 5, 15))
    weighted = MultiVariateGaussian().fit(x, sample_weight=w)
    repeated = MultiVariateGaussian().fit(np.repeat(x, w, axis=0))
    for model in (weighted, repeated):
        model.threshold_ = 20.0
    np.testing.assert_allclose(weighted.decision_function(x), repeated.decision_function(x), rtol=1e-9)
    np.testing.assert_array_equal(weighted.predict(x), repeated.predict(x))


def test_the_tables_of_scikit_learn_have_one_gaussian(rng):
    from sklearn.covariance import EmpiricalCovariance

    x = frozen(rng.standard_normal((30, 4)))
    theirs = EmpiricalCovariance().fit(x)
    ours = MultiVariateGaussian(reg_covar=0, ddof=0).fit(x)
    np.testing.assert_allclose(ours.covariance[0], theirs.covariance_, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(ours.mahalanobis(x, squared=True), theirs.mahalanobis(x), rtol=1e-11)
    assert ours.n_features_in_ == theirs.n_features_in_ == 4


def test_a_clone_has_the_parameters_and_not_the_fit(rng):
    from sklearn.base import clone
    from sklearn.exceptions import NotFittedError

    x = rng.standard_normal((9, 3, 2))
    options = {
        "n_features": 3,
        "n_patches": None,
        "reg_covar": 0.5,
        "shrinkage": "oas",
        "ddof": 0,
        "feature_axis": -2,
        "dtype": np.float32,
        "n_jobs": 1,
        "progress": False,
    }
    model = MultiVariateGaussian(**options).fit(x)
    model.threshold(x, 0.5, source="training")
    model.read_bytes = 12345
    copy = clone(model)
    assert copy.get_params() == options
    assert copy.read_bytes == 12345
    for attribute in ("mean", "n_features_in_", "rank", "threshold_", "nbytes"):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            getattr(copy, attribute)
    np.testing.assert_array_equal(copy.fit(x).covariance, model.covariance)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_model_is_pickled_whole(rng, protocol):
    x = frozen(rng.standard_normal((20, 3, 4)))
    model = MultiVariateGaussian(dtype=np.float32).fit(x).calibrate(x)
    limit = model.threshold(x, 0.2, source="training")
    copy = pickle.loads(pickle.dumps(model, protocol))
    assert copy.threshold_ == limit
    assert copy.get_params() == model.get_params()
    np.testing.assert_array_equal(copy.p_value(x), model.p_value(x))
    np.testing.assert_array_equal(copy.partial_fit(x).covariance, model.partial_fit(x).covariance)


def test_a_deep_copy_goes_its_own_way(rng):
    import copy

    x = rng.standard_normal((20, 3, 4))
    model = MultiVariateGaussian().fit(x)
    want = model.mahalanobis(x)
    for other in (copy.copy(model), copy.deepcopy(model)):
        other.partial_fit(x + 1)
        np.testing.assert_array_equal(model.mahalanobis(x), want)


def test_tags_are_made_when_scikit_learn_asks():
    from sklearn.utils import get_tags

    tags = get_tags(MultiVariateGaussian())
    assert not tags.target_tags.required
    assert not tags.input_tags.allow_nan
    assert not tags.input_tags.sparse
