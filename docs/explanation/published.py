"""How far mvgauss and other packages are from the exact answers on tables that others have published.

python docs/explanation/published.py    # print the table; needs `pip install scikit-learn array-api-extra`
"""

import json
from fractions import Fraction
from pathlib import Path

import array_api_extra
import numpy as np
import scipy
from scipy.spatial.distance import cdist
from scipy.stats import multivariate_normal
from sklearn.covariance import EmpiricalCovariance

from mvgauss import MultiVariateGaussian, cov, mahalanobis, pinv

FILE = Path(__file__).resolve().parent / "../../tests/data/published.json"
#: NIST's files of one-way analyses of variance come with SciPy, where its tests are installed.
NIST = Path(scipy.__file__).parent / "stats" / "tests" / "data" / "nist_anova"


def exact_moments(x):
    """Return the mean and the covariance of samples (N, C) as fractions."""
    rows = [[Fraction(float(v)) for v in row] for row in x]
    n = len(rows)
    mean = [sum(column) / n for column in zip(*rows, strict=True)]
    z = list(zip(*([v - m for v, m in zip(row, mean, strict=True)] for row in rows), strict=True))
    return mean, [[sum(a * b for a, b in zip(p, q, strict=True)) / (n - 1) for q in z] for p in z]


def exact_solution(matrix, columns):
    """Return matrix⁻¹ columns as fractions, by elimination."""
    a = [[*row, *right] for row, right in zip(matrix, columns, strict=True)]
    for i in range(len(a)):
        a[i] = [v / a[i][i] for v in a[i]]
        for j in set(range(len(a))) - {i}:
            a[j] = [v - a[j][i] * u for v, u in zip(a[j], a[i], strict=True)]
    return [row[len(a) :] for row in a]


def exact_squared(x):
    """Return the squared distances of samples (N, C) from their mean, rounded once."""
    mean, covariance = exact_moments(x)
    z = [[Fraction(float(v)) - m for v, m in zip(row, mean, strict=True)] for row in x]
    solved = exact_solution(covariance, list(zip(*z, strict=True)))
    columns = zip(*solved, strict=True)
    pairs = zip(z, columns, strict=True)
    return np.array([sum(a * b for a, b in zip(p, q, strict=True)) for p, q in pairs], float)


def exact_residual(x):
    """Return the residual sum of squares of the first feature on the others, rounded once."""
    _, covariance = exact_moments(x)
    first = [[int(i == 0)] for i in range(len(covariance))]
    return np.array([float((len(x) - 1) / exact_solution(covariance, first)[0][0])])


COVARIANCES = {
    "mvgauss": cov,
    "its model": lambda x: MultiVariateGaussian(reg_covar=0).fit(x).covariance[0],
    "NumPy": lambda x: np.cov(x, rowvar=False),
    "SciPy": lambda x: multivariate_normal.fit(x)[1] * len(x) / (len(x) - 1),
    "scikit-learn": lambda x: EmpiricalCovariance().fit(x).covariance_ * len(x) / (len(x) - 1),
    "array-api-extra": lambda x: array_api_extra.cov(x, axis=-2),
}
PACKAGES = list(COVARIANCES)
INVERSES = {
    "mvgauss": lambda x: pinv(cov(x)),
    "its model": lambda x: MultiVariateGaussian(reg_covar=0).fit(x).inv_covariance[0],
    "NumPy": lambda x: np.linalg.inv(np.cov(x, rowvar=False)),
    "SciPy": lambda x: scipy.linalg.pinvh(np.cov(x, rowvar=False)),
    "scikit-learn": lambda x: EmpiricalCovariance().fit(x).precision_ * (len(x) - 1) / len(x),
}


def squared_by_numpy(x):
    """Return squared distances by the quadratic form: NumPy has no function for them."""
    z = x - x.mean(axis=0)
    return np.einsum("ni,ij,nj->n", z, INVERSES["NumPy"](x), z)


SQUARED = {
    "mvgauss": lambda x: mahalanobis(x, x.mean(axis=0), pinv(cov(x)), squared=True),
    "its model": lambda x: MultiVariateGaussian(reg_covar=0).fit(x).mahalanobis(x, squared=True),
    "NumPy": squared_by_numpy,
    "SciPy": lambda x: cdist(x, [x.mean(axis=0)], "mahalanobis", VI=INVERSES["SciPy"](x))[:, 0] ** 2,
    "scikit-learn": lambda x: EmpiricalCovariance().fit(x).mahalanobis(x) * (len(x) - 1) / len(x),
}
RESIDUALS = {name: lambda x, f=f: np.array([(len(x) - 1) / f(x)[0, 0]]) for name, f in INVERSES.items()}


def read_groups(name):
    """Return the groups of a file of NIST that comes with SciPy, or of our copy of SmLs07."""
    path = NIST / f"{name}.dat"
    if path.is_file():
        lines = path.read_text(encoding="ascii").splitlines()[60:]
        rows = np.array([line.split() for line in lines if line.strip()], float)
        return [rows[rows[:, 0] == k, 1:] for k in np.unique(rows[:, 0])]
    own = json.loads(FILE.read_text(encoding="utf-8"))[name.lower()]
    return [np.array([[own["offset"] + t / 10] for t in row]) for row in own["tenths"]]


def largest_error(f, exact, tables):
    """Return the largest relative error of an answer, of any of some tables."""
    errors = []
    for x, want in zip(tables, exact, strict=True):
        got = np.reshape(f(x), want.shape)
        errors.append(np.abs(got - want).max() / np.abs(want).max())
    return max(errors)


def cases():
    """Yield what was published, the tables, their exact answers, and how each package computes them."""
    tables = json.loads(FILE.read_text(encoding="utf-8"))
    groups = [
        ("SmLs01", "1 constant digit"),
        ("SmLs04", "7 constant digits"),
        ("SmLs07", "13 constant digits"),
    ]
    for name, digits in groups if NIST.is_dir() else groups[-1:]:
        samples = read_groups(name)
        exact = [np.array(exact_moments(x)[1], float) for x in samples]
        yield f"NIST {name}, {digits}: variances", samples, exact, COVARIANCES
    for name, text in {
        "nist_handbook": "NIST handbook, 6.5.4.1: covariance",
        "lumber": "Johnson & Wichern, Table 4.4: covariance",
    }.items():
        x = np.array(tables[name]["data"], float)
        yield text, [x], [np.array(exact_moments(x)[1], float)], COVARIANCES
    for name, text in {
        "lumber": "Johnson & Wichern, Table 4.4: distances",
        "stackloss": "Rousseeuw & van Zomeren, stackloss: distances",
        "cork_borings": "Rao, cork borings: distances",
    }.items():
        x = np.array(tables[name]["data"], float)
        yield text, [x], [exact_squared(x)], SQUARED
    x = np.array(tables["longley"]["data"], float)
    yield "NIST Longley: residual sum of squares", [x], [exact_residual(x)], RESIDUALS


class Table(dict):
    """The relative error of each package in each case, by its name; a notebook shows it as a table."""

    def __init__(self):
        for name, samples, exact, functions in cases():
            self[name] = {p: largest_error(f, exact, samples) for p, f in functions.items()}

    def _repr_markdown_(self):
        lines = [f"| | {' | '.join(PACKAGES)} |", "| --- " * (len(PACKAGES) + 1) + "|"]
        for name, row in self.items():
            cells = [f"{row[p]:.0e}" if row.get(p) else "exact" if p in row else "-" for p in PACKAGES]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        return "\n".join(lines)


if __name__ == "__main__":
    print(Table()._repr_markdown_())
