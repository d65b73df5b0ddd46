"""Real embeddings: the numbers of a fit agree with the float64 reference beside them."""

from pathlib import Path

import numpy as np
import pytest
from common import EPS, SINGLE, assert_within, distance_bound, inverse_bound, pinvh, spectrum

from mvgauss import MultiVariateGaussian, anomaly_map, pinv
from mvgauss.testing import cov_bound

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared" / "data"
NAMES = ["docs", "small", pytest.param("medium", marks=pytest.mark.slow), "relu", "tokens"]


def paths(name):
    """Return the data and the reference of a set; skip where it is not beside the checkout."""
    if name == "docs":
        return (
            REPOSITORY / "docs" / "data" / "small.npz",
            REPOSITORY / "docs" / "data" / "small_reference.npz",
        )
    if not (SHARED / name).is_dir():
        pytest.skip(f"the set {name!r} of larger embeddings is not in the repository")
    return SHARED / name / f"{name}.npz", SHARED / name / "reference.npz"


class Fitted:
    """One set, the reference and a model of it in single and in double precision."""

    def __init__(self, name):
        data, reference = paths(name)
        with np.load(data) as file:
            self.train, self.test = (file[key].astype(np.float32) for key in ("train", "test"))
            self.labels, self.masks = file["test_labels"], file["test_masks"]
        with np.load(reference) as file:
            self.reference = dict(file)
        self.axis = -1 if name == "tokens" else 1
        for a in (self.train, self.test):
            a.setflags(write=False)
        self.single = MultiVariateGaussian(feature_axis=self.axis).fit(self.train)
        self.double = MultiVariateGaussian(feature_axis=self.axis, dtype=float).fit(self.train)

    def patches(self, which):
        """Return the embeddings of some patches, (N, C, P)."""
        x = self.train if self.axis == 1 else np.moveaxis(self.train, -1, 1)
        return x.reshape(*x.shape[:2], -1)[:, :, which]

    @property
    def regularised(self):
        """Return the reference's covariances, ridge included."""
        s = self.reference["covariance"]
        return s + 0.01 * np.eye(s.shape[-1])


@pytest.fixture(scope="module", params=NAMES)
def fitted(request):
    return Fitted(request.param)


@pytest.fixture(scope="module", params=["docs", "relu", "tokens"])
def other(request):
    return Fitted(request.param)


@pytest.mark.parametrize(("precision", "eps"), [("single", SINGLE / 2), ("double", 0)])
def test_means_are_those_of_the_reference(fitted, precision, eps):
    want, model = fitted.reference["mean"], getattr(fitted, precision)
    assert_within(model.mean, want, (1.01 * eps + 4 * len(fitted.train) * EPS) * np.abs(want).max())


@pytest.mark.parametrize(("precision", "eps"), [("single", SINGLE / 2), ("double", 0)])
def test_covariances_are_those_of_the_reference(fitted, precision, eps):
    which, want = fitted.reference["patches"], fitted.regularised
    bound = 2 * cov_bound(np.moveaxis(fitted.patches(which), -1, 0)) + (1.01 * eps + 4 * EPS) * np.abs(want)
    assert_within(getattr(fitted, precision).covariance[which], want, bound)


@pytest.mark.parametrize(("precision", "eps"), [("single", SINGLE), ("double", 0)])
def test_inverses_are_those_of_the_reference(fitted, precision, eps):
    which, want = fitted.reference["patches"], fitted.reference["inv_covariance"]
    got = getattr(fitted, precision).inv_covariance[which]
    assert (got == got.swapaxes(1, 2)).all()
    assert_within(got, want, inverse_bound(fitted.regularised, EPS, eps))


@pytest.mark.parametrize(("precision", "eps"), [("single", SINGLE), ("double", 0)])
def test_scores_are_those_of_the_reference(fitted, precision, eps):
    want = fitted.reference["scores"]
    got = getattr(fitted, precision).mahalanobis(fitted.test)
    cond, c = fitted.reference["cond_regularised"], fitted.reference["mean"].shape[0]
    relative = 16 * c * (EPS * cond + eps * np.sqrt(cond))
    # single precision rounds the mean too
    moved = 4 * np.sqrt(c) * eps * np.abs(fitted.reference["mean"]).max() / 0.1
    flat = want.reshape(len(want), -1)
    assert_within(got.reshape(flat.shape), flat, relative * flat + moved)


def test_without_a_ridge_pseudo_inverses_ranks_and_distances_are_right(other):
    which = other.reference["patches"]
    s = other.reference["covariance"]
    model = MultiVariateGaussian(reg_covar=0, feature_axis=other.axis, dtype=float).fit(other.train)
    want, rank = pinvh(s)
    np.testing.assert_array_equal(model.rank[which], rank)
    assert_within(model.inv_covariance[which], want, inverse_bound(s))
    p, ranks = pinv(s, return_rank=True)
    np.testing.assert_array_equal(ranks, rank)
    assert_within(p, want, inverse_bound(s))
    test = other.test if other.axis == 1 else np.moveaxis(other.test, -1, 1)
    test = test.reshape(*test.shape[:2], -1)[:, :, which].astype(float)
    z = test - other.reference["mean"][:, which]
    d = np.sqrt(np.maximum(np.einsum("njp,pjk,nkp->np", z, want, z), 0))
    got = model.mahalanobis(other.test).reshape(len(test), -1)[:, which]
    size = np.sqrt((test**2).sum(axis=1).max())
    # the form of the oracle loses half of the digits of what the pseudo-inverse ignores
    assert_within(got, d, distance_bound(s, d.T, size).T * 4 + 16 * size * EPS / spectrum(s)[1] ** 0.5)


def test_dead_channels_have_no_covariance_at_all():
    relu = Fitted("relu")
    dead = (relu.train == relu.train[0]).all(axis=0).reshape(64, -1)
    model = MultiVariateGaussian(reg_covar=0, dtype=float).fit(relu.train)
    variances = np.diagonal(model.covariance, axis1=1, axis2=2).T
    np.testing.assert_array_equal(variances == 0, dead)
    assert dead.sum() == 3339
    assert (model.rank <= 49).all()
    assert (model.rank.min(), np.median(model.rank), model.rank.max()) == (40, 46, 49)


def test_defects_stand_out_in_images_and_in_pixels():
    """The README of the set: image AUC 0.9722 (raw maps), 0.9444 (smoothed), pixel AUC 0.9580."""
    docs = Fitted("docs")
    scores = docs.single.mahalanobis(docs.test)
    maps = anomaly_map(scores, docs.masks.shape[1:])
    assert round(auc(scores.max(axis=(1, 2)), docs.labels), 4) == 0.9722
    assert round(auc(maps.max(axis=(1, 2)), docs.labels), 4) == 0.9444
    assert round(auc(maps.ravel(), docs.masks.ravel()), 4) == 0.9580
    bilinear = anomaly_map(scores, docs.masks.shape[1:], sigma=0)
    assert round(auc(bilinear.ravel(), docs.masks.ravel()), 4) == 0.9469


def auc(scores, labels):
    """Return the share of pairs of a good and a bad one that are in the right order."""
    good, bad = np.sort(scores[labels == 0]), scores[labels != 0]
    below, upto = np.searchsorted(good, bad, "left"), np.searchsorted(good, bad, "right")
    return float((below + upto).sum() / (2 * good.size * bad.size))
