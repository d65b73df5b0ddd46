"""scikit-learn's contract, kept without depending on it, and its tools on a model."""

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


# ---- names of features, searches, detectors, pipelines


class Frame:
    """What is needed of a data frame: columns, and a view as an array."""

    def __init__(self, values, columns):
        self.values, self.columns = values, columns

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


@pytest.fixture
def x(rng):
    return frozen(rng.standard_normal((30, 3)) * [1.0, 2.0, 3.0])


NAMES = ["length", "width", "height"]


def test_names_of_columns_are_kept(x, tmp_path):
    model = MultiVariateGaussian().fit(Frame(x, NAMES))
    assert model.feature_names_in_.tolist() == NAMES
    assert model.feature_names_in_.dtype == object
    model.save(tmp_path / "m.npz")
    other = MultiVariateGaussian().merge(model)
    for kept in (MultiVariateGaussian.load(tmp_path / "m.npz"), other, model.partial_fit(Frame(x, NAMES))):
        assert kept.feature_names_in_.tolist() == NAMES
    assert not hasattr(model.fit(x), "feature_names_in_")
    assert not hasattr(MultiVariateGaussian().fit(Frame(x, [0, 1, 2])), "feature_names_in_")


WRONG = [
    (["width", "length", "height"], "Feature names must be in the same order as they were in fit"),
    (["length", "width", "depth"], "Feature names unseen at fit time:\n- depth\n.*now missing:\n- height"),
]


@pytest.mark.parametrize(("columns", "match"), WRONG, ids=["reordered", "another"])
@pytest.mark.parametrize("method", ["mahalanobis", "predict", "score", "p_value", "threshold", "partial_fit"])
def test_other_columns_are_refused(x, columns, match, method):
    model = MultiVariateGaussian().fit(Frame(x, NAMES))
    before = model.mean
    with pytest.raises(ValueError, match=f"(?s)should match those .*{match}"):
        getattr(model, method)(Frame(x, columns))
    np.testing.assert_array_equal(model.mean, before)


def test_models_of_other_columns_are_not_merged(x):
    model = MultiVariateGaussian().fit(Frame(x, NAMES))
    with pytest.raises(ValueError, match="same order"):
        model.merge(MultiVariateGaussian().fit(Frame(x, NAMES[::-1])))


def test_names_on_one_side_only_warn_in_the_words_of_scikit_learn(x):
    with pytest.warns(UserWarning, match="X does not have valid feature names, but MultiVariateGaussian was"):
        MultiVariateGaussian().fit(Frame(x, NAMES)).mahalanobis(x)
    with pytest.warns(UserWarning, match="fitted without feature names"):
        MultiVariateGaussian().fit(x).mahalanobis(Frame(x, NAMES))


def test_names_of_mixed_kinds_are_refused(x):
    with pytest.raises(TypeError, match="only supported if all input features have string names"):
        MultiVariateGaussian().fit(Frame(x, ["length", 1, 2]))


@pytest.mark.parametrize("shape", [(9, 3), (9, 3, 2, 2)])
def test_the_score_is_the_mean_log_density(rng, shape):
    x = frozen(rng.standard_normal(shape), np.float32)
    model = MultiVariateGaussian().fit(x)
    assert isinstance(model.score(x), float)
    assert model.score(x) == pytest.approx(np.mean(model.score_samples(x)), rel=1e-6)


def test_searches_over_the_regularisation_need_no_scoring(rng):
    from sklearn.model_selection import GridSearchCV, cross_val_score

    x = frozen(rng.standard_normal((40, 20, 4)))
    assert np.isfinite(cross_val_score(MultiVariateGaussian(), x)).all()
    grid = {"reg_covar": [1e-6, 1e-2], "shrinkage": [None, "oas"]}
    search = GridSearchCV(MultiVariateGaussian(), grid).fit(x)
    assert search.best_params_["shrinkage"] == "oas"
    assert search.best_score_ == pytest.approx(
        cross_val_score(MultiVariateGaussian(**search.best_params_), x).mean()
    )


def test_fit_predict_is_fit_and_predict(x):
    outliers = np.concatenate([x, [[50.0, 0, 0]]])
    for options in ({}, {"reg_covar": 0}):
        want = MultiVariateGaussian(**options).fit(outliers).predict(outliers)
        np.testing.assert_array_equal(MultiVariateGaussian(**options).fit_predict(outliers), want)
        assert want[-1] == -1
    weights = np.arange(31) < 30
    assert MultiVariateGaussian().fit_predict(outliers, sample_weight=weights)[-1] == -1


def test_scikit_learn_takes_it_for_a_detector_of_outliers():
    from sklearn.base import is_outlier_detector
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.utils import get_tags

    tags = get_tags(MultiVariateGaussian())
    assert not tags.target_tags.required
    assert not any([tags.input_tags.allow_nan, tags.input_tags.sparse])
    assert is_outlier_detector(MultiVariateGaussian())
    assert is_outlier_detector(make_pipeline(StandardScaler(), MultiVariateGaussian()))


@pytest.mark.parametrize("grid", [(), (4,), (2, 3)], ids=str)
@pytest.mark.parametrize("options", [{}, {"reg_covar": 0}, {"shrinkage": 0.2}], ids=str)
def test_a_margin_is_the_smallest_log_density_less_that_at_the_limit(rng, grid, options):
    train, new = (frozen(rng.standard_normal((n, 3, *grid))) for n in (30, 9))
    model = MultiVariateGaussian(**options).fit(train)
    for limit in (model.threshold_, 2.5):
        model.threshold_ = limit
        assert np.shape(model.offset_) == grid
        margin = (model.score_samples(new) - model.offset_).reshape(9, -1).min(axis=1)
        np.testing.assert_allclose(model.decision_function(new), margin, rtol=1e-9, atol=1e-12)
        d = model.mahalanobis(new).reshape(9, -1).max(axis=1)
        assert (model.decision_function(new) >= 0).tolist() == (d <= limit).tolist()


def test_parameters_alone_have_log_densities_at_the_limit_too():
    model = MultiVariateGaussian.from_parameters(np.zeros((2, 3)), np.stack([np.eye(2)] * 3))
    model.threshold_ = 2.0
    np.testing.assert_allclose(model.offset_, [-np.log(2 * np.pi) - 2] * 3)


def test_a_limit_that_nothing_reaches_flags_nothing(x):
    model = MultiVariateGaussian().fit(x)
    model.threshold_ = 1e300
    assert (model.predict(1e100 * x) == 1).all()


def test_columns_of_data_frames_are_checked_as_scikit_learn_checks_its_own():
    pytest.importorskip("pandas")
    from sklearn.utils.estimator_checks import check_dataframe_column_names_consistency

    check_dataframe_column_names_consistency("MultiVariateGaussian", MultiVariateGaussian(reg_covar=0))
