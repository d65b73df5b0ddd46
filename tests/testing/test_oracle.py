"""The oracle is exact, rounds once and correctly, and has nothing to do with the rest of the package."""

import ast
import decimal
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mvgauss.testing
from mvgauss.testing import (
    _rational,
    exact_cov,
    exact_gaussian,
    exact_mahalanobis,
    exact_mean,
    exact_pinv,
    strategies,
    svd_gaussian,
)
from mvgauss.testing._cases import LONGLEY, smls

fractions = st.fractions(min_value=-(2**70), max_value=2**70, max_denominator=2**80)
DTYPES = [np.float16, np.float32, np.float64, np.longdouble]


# ---- rounding


@strategies.steady
@given(fractions)
def test_a_fraction_is_rounded_as_python_rounds_it(q):
    assert _rational.rounded(q, np.dtype(np.float64)) == float(q)


@pytest.mark.parametrize("dtype", DTYPES)
@strategies.steady
@given(q=fractions)
def test_the_nearest_number_of_the_format_is_taken(dtype, q):
    got = _rational.rounded(q, np.dtype(dtype))
    assert got.dtype == dtype
    if not np.isfinite(got):
        assert abs(q) > Fraction(*np.finfo(dtype).max.as_integer_ratio())
        return
    off = abs(Fraction(*got.as_integer_ratio()) - q)
    for other in (np.nextafter(got, dtype(-np.inf)), np.nextafter(got, dtype(np.inf))):
        if np.isfinite(other):
            assert off <= abs(Fraction(*other.as_integer_ratio()) - q)


ONE, TIE = Fraction(1), Fraction(2) ** -53
TINY = Fraction(1, 2**1075)
ROUNDED = {
    "a tie to the even number below": (ONE + TIE, float, 1.0),
    "a tie to the even number above": (ONE + 3 * TIE, float, 1 + 2 * 2.0**-52),
    # to double this is a tie, that single rounds down
    "once, not twice": (ONE + Fraction(2) ** -24 + Fraction(2) ** -60, np.float32, 1 + 2.0**-23),
    "a tie between subnormal numbers": (5 * TINY / 2, float, float(5 * TINY / 2)),
    "a subnormal number at its last place": (3 * TINY, float, float(3 * TINY)),
    "less than the last place": (TINY / 32, float, 0.0),
    "too large": (Fraction(2) ** 1024, float, np.inf),
    "too large below zero": (-(Fraction(2) ** 70), np.float16, -np.inf),
}


@pytest.mark.parametrize("case", list(ROUNDED))
def test_a_fraction_is_rounded_once_to_the_nearest_or_to_the_even_number(case):
    q, dtype, want = ROUNDED[case]
    assert _rational.rounded(q, np.dtype(dtype)) == want


@strategies.steady
@given(st.fractions(min_value=0, max_value=2**70, max_denominator=2**80))
def test_a_root_is_rounded_correctly(q):
    with decimal.localcontext(prec=80):
        want = float((decimal.Decimal(q.numerator) / decimal.Decimal(q.denominator)).sqrt())
    assert _rational.rounded(_rational.root(q), np.dtype(float)) == want


@pytest.mark.parametrize("n", [0, 1, 4, 9, 2**106, (2**53 - 1) ** 2, Fraction(9, 16)])
def test_roots_of_squares_are_exact(n):
    assert _rational.root(Fraction(n)) ** 2 == n


def test_a_root_just_above_a_tie_is_not_a_tie():
    tie = 1 + Fraction(2) ** -53
    just = tie**2 + Fraction(2) ** -240
    assert _rational.rounded(_rational.root(tie**2), np.dtype(float)) == 1
    assert _rational.rounded(_rational.root(just), np.dtype(float)) == 1 + 2.0**-52


# ---- algebra


def matrices(rows, columns):
    entries = st.fractions(min_value=-4, max_value=4, max_denominator=8)
    return st.lists(st.lists(entries, min_size=columns, max_size=columns), min_size=rows, max_size=rows)


@strategies.steady
@given(st.data(), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_the_four_identities_hold_exactly_at_any_rank(data, m, n, r):
    # a product through r dimensions has at most that rank
    a = _rational.product(data.draw(matrices(m, r)), data.draw(matrices(r, n)))
    p = _rational.pseudo_inverse(a)
    ap, pa = _rational.product(a, p), _rational.product(p, a)
    assert _rational.product(ap, a) == a
    assert _rational.product(pa, p) == p
    assert _rational.transposed(ap) == ap
    assert _rational.transposed(pa) == pa


@strategies.steady
@given(strategies.covariances(c=(1, 3), deficient=True))
def test_exact_pinv_is_the_inverse_of_the_given_floats(s):
    p = exact_pinv(s)
    assert p.shape == s.shape
    want = _rational.pseudo_inverse(_rational.matrix(s))
    np.testing.assert_array_equal(p, [[float(v) for v in row] for row in want])


def test_a_stack_is_a_loop():
    s = np.array([[[2.0, 1], [1, 2]], [[1, 1], [1, 1]], [[0, 0], [0, 0]]])
    np.testing.assert_array_equal(exact_pinv(s), [exact_pinv(v) for v in s])
    x = np.arange(24.0).reshape(2, 2, 3, 2) ** 2 / 7
    w = np.arange(1.0, 13).reshape(2, 2, 3)
    for i in np.ndindex(2, 2):
        np.testing.assert_array_equal(exact_cov(x, aweights=w)[i], exact_cov(x[i], aweights=w[i]))
        np.testing.assert_array_equal(exact_mean(x, fweights=w)[i], exact_mean(x[i], fweights=w[i]))


# ---- answers that can be checked by head, or by another road


def test_thirds_and_sevenths_are_rounded_once():
    assert exact_cov([0.0, 0.0, 1.0]) == 1 / 3
    assert exact_cov([0.0, 0.0, 1.0], ddof=0) == 2 / 9
    assert exact_mean([[1.0], [0.0], [0.0]]) == 1 / 3
    assert exact_mahalanobis([1.0], [0.0], [[2.0]]) == math.sqrt(2)
    assert exact_mahalanobis([1.0], [0.0], [[2.0]], squared=True) == 2
    assert exact_cov([0.0, 0.0, 1.0], dtype=np.float32) == np.float32(1 / 3)


def test_complex_entries_are_z_j_conj_z_k():
    x = np.array([[1 + 1j, 0], [-1 - 1j, 2j], [0, -2j]])
    np.testing.assert_array_equal(exact_cov(x), [[2, -1 + 1j], [-1 - 1j, 4]])


def test_weights_are_repetitions_or_importances():
    x = [[1.0], [2.0], [4.0]]
    assert exact_cov(x, fweights=[2, 1, 1]) == exact_cov([[1.0], [1.0], [2.0], [4.0]])
    assert exact_cov(x, aweights=[2, 1, 1]) == exact_cov(x, aweights=[4, 2, 2])
    # sum(w) = 4, mean 2, scatter 6, divisor 4 - 6 / 4
    assert exact_cov(x, aweights=[2, 1, 1]) == 2.4


def test_what_is_given_is_taken_as_it_is():
    tenth = np.array([0.1, 0.3], np.float32)
    assert exact_cov(tenth) == float((Fraction(float(tenth[1])) - Fraction(float(tenth[0]))) ** 2 / 2)
    assert exact_cov(np.array([250, 5], np.uint8)) == 245**2 / 2
    assert exact_cov(np.array([True, False])) == 0.5
    wide = np.longdouble(2) ** 40 + np.longdouble(2) ** -20
    assert exact_cov(np.array([wide, np.longdouble(2) ** 40])).dtype == np.longdouble


@pytest.mark.parametrize(
    "wrong",
    [
        {"aweights": [1, -1, 1]},
        {"aweights": [1, np.nan, 1]},
        {"aweights": [0, 0, 0]},
        {"aweights": [1, 1]},
        {"aweights": 1.0},
        {"fweights": [1, 1.5, 1]},
    ],
)
def test_wrong_weights_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}: expected"):
        exact_cov([[1.0], [2.0], [4.0]], **wrong)


def test_a_negative_square_is_refused():
    with pytest.raises(ValueError, match="inv_covariance: expected positive semi-definite"):
        exact_mahalanobis([[1.0]], [0.0], [[-1.0]])


def test_a_fit_is_the_composition_without_roundings_between():
    x = np.arange(24.0).reshape(4, 2, 1, 3) ** 2 / 7
    mean, inverse = exact_gaussian(x, 0.25)
    assert mean.shape == (2, 3)
    assert inverse.shape == (3, 2, 2)
    for p in range(3):
        np.testing.assert_array_equal(mean[:, p], exact_mean(x[:, :, 0, p]))
        s = exact_cov(x[:, :, 0, p]) + 0.25 * np.eye(2)
        np.testing.assert_allclose(inverse[p], np.linalg.inv(s), rtol=1e-10)


def test_a_sample_weight_of_two_is_the_image_twice():
    x, w = np.arange(24.0).reshape(4, 2, 1, 3) ** 2 / 7, [2, 1, 3, 1]
    for shrinkage in (None, 0.25, "oas", "ledoit_wolf"):
        one, many = (
            exact_gaussian(y, 0.1, ddof=0.5, sample_weight=v, shrinkage=shrinkage)
            for y, v in ((x, w), (np.repeat(x, w, axis=0), None))
        )
        for name in ("mean", "inv_covariance", "covariance", "intensity", "rank"):
            np.testing.assert_array_equal(getattr(one, name), getattr(many, name))
        np.testing.assert_array_equal(one.score_samples(x), many.score_samples(x))


def test_too_little_weight_is_refused():
    with pytest.raises(ValueError, match=r"sample_weight: expected a sum larger than ddof = 1, got 1"):
        exact_gaussian(np.eye(4)[..., None], sample_weight=np.full(4, 0.25))


@pytest.mark.parametrize("shrinkage", [None, 0.3, 1.0, "oas", "ledoit_wolf"])
@pytest.mark.parametrize("ridge", [0.01, 0.0])
@pytest.mark.parametrize("shape", [(6, 3), (3, 5), (4, 1)])
def test_the_exact_gaussian_is_that_by_singular_values(rng, shape, ridge, shrinkage):
    x = (rng.integers(-9, 10, shape) / 4)[..., None] * [1, 2]
    y, w = rng.integers(-9, 10, (3, shape[1], 2)) / 2, rng.integers(1, 3, len(x))
    exact = exact_gaussian(x, ridge, ddof=0.5, sample_weight=w, shrinkage=shrinkage)
    distances, densities = exact.mahalanobis(y), exact.score_samples(y)
    squared, left_out = exact.mahalanobis(y, squared=True), exact.leave_one_out()
    np.testing.assert_allclose(squared, distances**2, rtol=1e-14)
    for p in range(2):
        g = svd_gaussian(x[..., p], w, 0.5, ridge, shrinkage)
        assert g.rank == exact.rank[p]
        for got, want in (
            (g.mean, exact.mean[:, p]),
            (g.covariance, exact.covariance[p]),
            (g.inv_covariance, exact.inv_covariance[p]),
            (g.intensity, exact.intensity[p]),
            (g.mahalanobis(y[..., p]), distances[:, p]),
            (g.score_samples(y[..., p]), densities[:, p]),
            (g.leave_one_out(), left_out[:, p]),
        ):
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


def test_a_log_density_is_rounded_once():
    x = np.array([[[0.0]], [[2.0]]])
    g = exact_gaussian(x, 0.0, ddof=0)
    with decimal.localcontext(prec=60):
        pi = decimal.Decimal("3.14159265358979323846264338327950288419716939937510582097494")
        want = -((2 * pi).ln() + 4) / 2  # mean 1, variance 1, two standard deviations off
    assert g.score_samples([[[3.0]]]) == float(want)


def test_a_singular_gaussian_has_a_density_on_its_support_only():
    x = np.array([[0.0, 0.0], [2.0, 4.0], [4.0, 8.0]])[..., None]
    g = exact_gaussian(x, 0)
    inside, outside = g.score_samples(np.array([[3.0, 6.0], [5.0, 5.0]])[..., None])
    assert g.rank == 1
    assert inside == pytest.approx(-0.5 * (math.log(2 * math.pi * 20) + 0.25), rel=1e-15)
    assert outside == -np.inf
    assert g.leave_one_out().shape == (3, 1)


# ---- independence

FOLDER = Path(mvgauss.testing.__file__).parent


def imported(path):
    """Return the modules that a source imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {
                f"{node.module}.{a.name}" if node.module.startswith("mvgauss") else node.module
                for a in node.names
            }
    return names


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda p: p.stem)
def test_the_kit_shares_no_code_with_the_package(path):
    ours = {name for name in imported(path) if name.startswith("mvgauss")}
    assert all(name.startswith("mvgauss.testing") for name in ours)
    outside = {name.split(".")[0] for name in imported(path)} - {"mvgauss", "hypothesis"}
    assert "scipy" not in outside


@pytest.mark.parametrize("module", ["_rational", "_oracle", "_oracle_gaussian"])
def test_the_oracle_knows_no_linear_algebra_of_numpy(module):
    source = (FOLDER / f"{module}.py").read_text(encoding="utf-8")
    assert not any(word in source for word in ("linalg", "matmul", "einsum", "np.dot", "np.cov", ".mean("))


def test_the_data_sets_of_nist_have_their_certified_numbers():
    """Of SmLs07 the mean square within treatments is 0.01; doubles of 13 digits miss it by 6e-5 of that."""
    (small, *_) = smls(np.dtype(float))
    tenths = np.round(small * 10) - 1e13
    assert exact_cov(tenths / 10)[0, 0] == pytest.approx(0.01, rel=1e-14)
    assert exact_cov(small)[0, 0] == pytest.approx(0.01, rel=1e-3)
    residual = 15 / exact_pinv(exact_cov(LONGLEY))[-1, -1]
    assert residual == pytest.approx(836424.055505915, rel=1e-12)
