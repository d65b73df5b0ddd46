"""Published numbers: what books, NIST and other packages say of small public tables.

A number that was published with d decimals is held to half a unit of the last of them, beside the error that
a correct implementation may have and what the decimals of the table lose when they are read as doubles.
"""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import scipy
from common import EPS, frozen

from mvgauss import Moments, MultiVariateGaussian, cov, mahalanobis, pinv
from mvgauss.testing import cov_bound, distance_bound, exact_cov, mean_bound, pinv_bound

FILE = Path(__file__).parent / "data" / "published.json"
PUBLISHED = json.loads(FILE.read_text(encoding="utf-8"))
#: NIST's files of one-way analyses of variance come with SciPy, where its tests are installed.
NIST = Path(scipy.__file__).parent / "stats" / "tests" / "data" / "nist_anova"


def table(name, key="data"):
    """Return a published table as read-only doubles."""
    return frozen(PUBLISHED[name][key], np.float64)


def reading_mean(x):
    """Bound what the mean moves because decimals were rounded to doubles, feature by feature."""
    return EPS / 2 * np.abs(x).max(axis=-2)


def reading_cov(x, divisor):
    """Bound what the covariance of ``(..., N, C)`` samples moves because decimals were rounded to doubles."""
    z, h = np.abs(x - x.mean(axis=-2, keepdims=True)), 2 * reading_mean(x)
    one = h[..., :, None] * z.sum(axis=-2)[..., None, :]
    both = x.shape[-2] * h[..., :, None] * h[..., None, :]
    return (one + one.swapaxes(-1, -2) + both) / divisor


def inverse_bound(x, ddof=1):
    """Bound the error, in the 2-norm, of the inverse covariance of a table."""
    error = cov_bound(x, ddof=ddof) + reading_cov(x, len(x) - ddof)
    return pinv_bound(cov(x, ddof=ddof), error=np.linalg.norm(error)).max()


def squared_bound(x, points, ddof=1):
    """Bound the error of squared distances of points from the mean of a table."""
    mean, p = x.mean(axis=0), pinv(cov(x, ddof=ddof))
    z = np.linalg.norm(points - mean, axis=1)
    moved = np.linalg.norm(mean_bound(x) + 2 * reading_mean(np.vstack([x, points])))
    inverse = z**2 * inverse_bound(x, ddof) + 2 * z * moved * np.linalg.norm(p, 2)
    return distance_bound(points, mean, p, squared=True) + inverse


def squared_distances(x, points, ddof=1):
    """Return squared distances from the mean of a table: by the functions, by moments, and by the model."""
    moments = Moments(x)
    model = MultiVariateGaussian(reg_covar=0, ddof=ddof).fit(x)
    return (
        mahalanobis(points, x.mean(axis=0), pinv(cov(x, ddof=ddof)), squared=True),
        mahalanobis(points, moments.mean, pinv(moments.cov(ddof=ddof)), squared=True),
        model.mahalanobis(points, squared=True),
    )


def test_the_handbook_of_nist_has_this_mean_and_covariance():
    x, mean, covariance = (table("nist_handbook", key) for key in ("data", "mean", "covariance"))
    bound = cov_bound(x) + reading_cov(x, len(x) - 1) + EPS * np.abs(covariance)
    model = MultiVariateGaussian(reg_covar=0).fit(x)
    for got in (cov(x), Moments(x).cov(), model.covariance[0]):
        assert (np.abs(got - covariance) <= bound).all()
    bound = mean_bound(x) + reading_mean(x) + EPS * mean
    for got in (Moments(x).mean, model.mean[:, 0]):
        assert (np.abs(got - mean) <= bound).all()


def test_weights_that_leave_rows_out_give_the_covariances_of_cov_wt():
    x, w = table("cov_wt"), table("cov_wt", "weights")
    counts = frozen(w, int)
    for key, ddof in (("covariance", 1), ("covariance_ml", 0)):
        want = table("cov_wt", key)
        bound = cov_bound(x, ddof=ddof, aweights=w) + EPS * np.abs(want)
        model = MultiVariateGaussian(reg_covar=0, ddof=ddof).fit(x, sample_weight=w)
        for got in (
            cov(x, ddof=ddof, aweights=w),
            cov(x, ddof=ddof, fweights=counts),
            Moments(x, aweights=w).cov(ddof=ddof),
            model.covariance[0],
        ):
            assert (np.abs(got - want) <= bound).all()


def test_the_mean_of_the_perspiration_data_lies_as_far_from_the_hypothesis_as_printed():
    x, mean, hypothesis = (table("sweat", key) for key in ("data", "mean", "hypothesis"))
    n = len(x)
    assert (np.abs(Moments(x).mean - mean) <= mean_bound(x) + reading_mean(x) + EPS * mean).all()
    bound = 0.005 + n * squared_bound(x, hypothesis[None])
    for squared in squared_distances(x, hypothesis[None]):
        assert (np.abs(n * squared - PUBLISHED["sweat"]["T2"]) <= bound).all()


def test_the_boards_lie_as_far_from_their_mean_as_printed():
    x, want = table("lumber"), table("lumber", "squared_distances")
    for got in squared_distances(x, x):
        assert (np.abs(got - want) <= 0.005 + squared_bound(x, x)).all()


def test_the_days_of_the_stackloss_data_lie_as_far_from_their_mean_as_printed():
    x, want = table("stackloss"), table("stackloss", "distances")
    for got in squared_distances(x, x):
        bound = 0.005 + squared_bound(x, x) / np.sqrt(got)
        assert (np.abs(np.sqrt(got) - want) <= bound).all()


def test_the_fourth_powers_of_distances_give_the_kurtosis_of_the_cork_borings():
    x = table("cork_borings")
    bound = squared_bound(x, x, ddof=0)
    for squared in squared_distances(x, x, ddof=0):
        error = 0.0005 + np.mean(2 * squared * bound + bound**2)
        assert abs(np.mean(squared**2) - PUBLISHED["cork_borings"]["mardia_kurtosis"]) <= error


def test_the_classes_of_iris_lie_as_far_apart_as_sas_prints():
    iris = pytest.importorskip("sklearn.datasets").load_iris()
    names = list(iris.target_names)
    x = frozen([iris.data[iris.target == k] for k in range(3)])  # (3, 50, 4)
    means, pooled = x.mean(axis=1), cov(x).mean(axis=0)  # as many of each class
    grid = frozen(np.moveaxis(x, 0, -1))  # a Gaussian for each class, as for a patch
    model = MultiVariateGaussian(reg_covar=0).fit(grid)
    error = np.linalg.norm((cov_bound(x) + reading_cov(x, 49)).mean(axis=0))
    own = pinv_bound(pooled, error=error).max()
    moved = 2 * np.linalg.norm((mean_bound(x) + reading_mean(x)).max(axis=0))
    for mean, covariance in ((means, pooled), (model.mean.T, model.covariance.mean(axis=0))):
        p = pinv(covariance)
        for pair, want in PUBLISHED["iris"]["squared_distances"].items():
            i, j = (names.index(name) for name in pair.split("-"))
            z = np.linalg.norm(mean[i] - mean[j])
            bound = 5e-6 + z**2 * own + 2 * z * moved * np.linalg.norm(p, 2)
            bound += distance_bound(mean[i], mean[j], p, squared=True)
            assert abs(mahalanobis(mean[i], mean[j], p, squared=True) - want) <= bound


def read_nist(name):
    """Return the groups of a file of NIST, (groups, N, 1), and the certified mean square within them."""
    lines = (NIST / f"{name}.dat").read_text(encoding="ascii").splitlines()
    rows = np.array([line.split() for line in lines[60:] if line.strip()], float)
    certified = next(line.split()[-1] for line in lines if line.startswith("Within"))
    return np.stack([rows[rows[:, 0] == k, 1:] for k in np.unique(rows[:, 0])]), float(certified)


def smls07():
    """Return the groups of SmLs07, (9, 21, 1), from our copy, and the certified mean square."""
    own = PUBLISHED["smls07"]
    values = [[Fraction(own["offset"]) + Fraction(t, 10) for t in row] for row in own["tenths"]]
    return np.array(values, float)[..., None], own["mean_square_within"]


def hold_mean_square(x, certified):
    """Assert that variances within groups are exact, and that their mean is the certified one.

    The bound does not grow with the mean of the responses, as samples are shifted before anything is added.
    """
    x = frozen(x)
    exact = exact_cov(x)
    bound = x.shape[1] * EPS * exact
    grid = frozen(np.moveaxis(x, 0, -1))  # (N, 1, groups): a Gaussian for each group
    model = MultiVariateGaussian(reg_covar=0).fit(grid)
    for got in (cov(x), Moments(x).cov(), model.covariance):
        assert (np.abs(got - exact) <= bound).all()
        reading = (bound + reading_cov(x, x.shape[1] - 1)).mean()
        assert abs(got.mean() - certified) <= reading + EPS * certified


def test_the_mean_square_of_thirteen_equal_digits_is_the_one_that_nist_certifies():
    hold_mean_square(*smls07())


@pytest.mark.parametrize("name", ["AtmWtAg", "SiRstv", *(f"SmLs0{k}" for k in (1, 2, 4, 5, 7, 8))])
def test_mean_squares_within_groups_are_those_that_nist_certifies(name):
    if not NIST.is_dir():
        pytest.skip("this SciPy comes without the files of its tests")
    hold_mean_square(*read_nist(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SmLs03", "SmLs06", "SmLs09"])
def test_mean_squares_of_eighteen_thousand_responses_are_those_that_nist_certifies(name):
    if not NIST.is_dir():
        pytest.skip("this SciPy comes without the files of its tests")
    hold_mean_square(*read_nist(name))


def test_our_copy_of_smls07_is_the_file_that_comes_with_scipy():
    if not NIST.is_dir():
        pytest.skip("this SciPy comes without the files of its tests")
    (x, certified), (ours, value) = read_nist("SmLs07"), smls07()
    assert (x == ours).all()
    assert certified == value


def test_the_inverse_covariance_of_longley_has_the_certified_residual_sum_of_squares():
    """It is (N - 1) / (inverse covariance)_yy; the condition number of the 7 columns is 9e11.

    With a unit of a power of two for each column, which is exact, it is 3e4. The model keeps the digits of
    that in any units.
    """
    x, want = table("longley"), PUBLISHED["longley"]["residual_sum_of_squares"]
    unit = 2.0 ** np.round(np.log2(x.std(axis=0)))
    scaled = frozen(x / unit)
    bound = inverse_bound(scaled)
    for inverse in (
        pinv(cov(scaled)),
        pinv(Moments(scaled).cov()),
        MultiVariateGaussian(reg_covar=0).fit(scaled).inv_covariance[0],
        MultiVariateGaussian(reg_covar=0).fit(x).inv_covariance[0] * unit * unit[:, None],
    ):
        residual = (len(x) - 1) / inverse[0, 0] * unit[0] ** 2
        relative = bound / (inverse[0, 0] - bound)
        assert 0 < relative < 1e-6
        assert abs(residual / want - 1) <= relative + EPS
