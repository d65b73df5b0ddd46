"""Laws of an estimator that fits one Gaussian to each patch of ``(N, C, H, W)`` embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from mvgauss.testing import _calls
from mvgauss.testing._bounds import cov_bound, distance_bound, mean_bound, pinv_bound
from mvgauss.testing._calls import Answer, Array, Subject, array_of, holds, shaped, within
from mvgauss.testing._cases import Dtype, frozen, root, table, these
from mvgauss.testing._laws import each, law
from mvgauss.testing._oracle_gaussian import ExactGaussian, exact_gaussian


def fitting(f: Subject, *before: Array) -> Subject:
    """Return the subject as a function of an embedding that gives the two parameters of a new model."""

    def fit(embedding: Any, **weights: Any) -> list[Array]:
        model = f.function()
        for other in before:
            model.fit(f.given(other))
        model.fit(embedding, **weights)
        return [_calls.as_numpy(value) for value in (model.mean, model.inv_covariance)]

    return Subject(fit, f.features, f.asarray, "factory().fit")


def fitted(f: Subject, embedding: Array, *before: Array, **weights: Any) -> list[Answer]:
    """Return the mean and the inverse covariance of a new model after `fit`."""
    raw, told = fitting(f, *before).attempt(embedding, **weights)
    names = ".mean", ".inv_covariance"
    return [array_of(v, told._replace(call=told.call + name)) for v, name in zip(raw, names, strict=True)]


def scoring(f: Subject, embedding: Array, *before: Array, **weights: Any) -> Subject:
    """Return the subject as a function of images that gives their distances from a new model."""

    def mahalanobis(images: Any) -> Array:
        model = f.function()
        for other in before:
            model.fit(f.given(other))
            model.mahalanobis(images)
        model.fit(f.given(embedding), **{name: f.given(w) for name, w in weights.items()})
        return _calls.as_numpy(model.mahalanobis(images))

    fit = _calls.written("factory().fit", embedding, **weights)
    return Subject(mahalanobis, f.features, f.asarray, f"model = {fit}; model.mahalanobis")


def scored(f: Subject, embedding: Array, images: Array, *before: Array, **weights: Any) -> Answer:
    """Return the distances of images from a new model that was fitted to an embedding."""
    return scoring(f, embedding, *before, **weights).answer(images)


def exact(embedding: Array, ridge: float, w: Any = None) -> ExactGaussian:
    """Return the exact fit of an embedding, computed once however many laws need it."""
    weights = None if w is None else tuple(np.asarray(w, np.float64).tolist())
    return _exact(embedding.tobytes(), embedding.shape, embedding.dtype, ridge, weights)


@lru_cache(maxsize=64)
def _exact(data: bytes, shape: tuple[int, ...], dtype: Dtype, ridge: float, w: Any) -> ExactGaussian:
    """Return the exact fit of an embedding that is given by its bytes."""
    return exact_gaussian(np.frombuffer(data, dtype).reshape(shape), ridge, sample_weight=w)


def patches(embedding: Array) -> Array:
    """Return an embedding as a stack of samples ``(P, N, C)``."""
    return np.moveaxis(embedding.reshape(*embedding.shape[:2], -1), -1, 0)


def inverse_bound(embedding: Array, ridge: float, dtype: Dtype, w: Any = None) -> Array:
    """Bound the error of inverse covariances that come from an embedding."""
    error = np.linalg.norm(cov_bound(patches(embedding), fweights=w, dtype=dtype), axis=(-2, -1))
    s = exact(embedding, ridge, w).covariance
    return pinv_bound(s, error=error, dtype=dtype)


def score_bound(embedding: Array, images: Array, ridge: float, dtype: Dtype, w: Any = None) -> Array:
    """Bound the error of distances of images from a model that was fitted to an embedding."""
    fit = exact(embedding, ridge, w)
    off, means = inverse_bound(embedding, ridge, dtype, w), mean_bound(patches(embedding), dtype=dtype)
    roots, bounds = fit.mahalanobis(images).reshape(len(images), -1), []
    for p, y in enumerate(patches(images)):
        # the inverse is off in norm, and the mean moves a distance by the norm of the factor
        mean, inverse = fit.mean[:, p], fit.inv_covariance[p]
        error = len(mean) * off[p].max() * ((y - mean) ** 2).sum(axis=1)
        root = np.maximum(roots[:, p], np.sqrt(error))
        moved = np.sqrt(np.linalg.norm(inverse, 2)) * np.linalg.norm(means[p])
        own = distance_bound(y, mean, inverse, dtype=dtype)
        bounds.append(error / np.where(root > 0, root, 1) + moved + own)
    return np.array(bounds).T.reshape(len(images), *images.shape[2:])


def images(*shape: int, salt: int = 0) -> Array:
    """Return an embedding of whole numbers."""
    return table(shape[0], int(np.prod(shape[1:])), salt).reshape(shape)


def embeddings(dtype: Dtype) -> Iterator[Array]:
    """Yield embeddings from one patch of one feature on."""
    for shape in ((2, 1, 1, 1), (3, 2, 1, 2), (4, 2, 2, 3), (6, 3, 3, 2)):
        yield (images(*shape, salt=shape[0]) / 4).astype(dtype)


def inverse(f: Subject, dtype: Dtype, x: Array, ridge: float) -> None:
    """Hold inverse covariances against the exact ones."""
    within(fitted(f, x)[1], exact(x, ridge).inv_covariance, inverse_bound(x, ridge, dtype))


def mean(f: Subject, dtype: Dtype, x: Array, ridge: float, *before: Array) -> None:
    """Hold means against the exact ones, also after fits to other embeddings."""
    bound = mean_bound(patches(x), dtype=dtype).T
    within(fitted(f, x, *before)[0], exact(x, ridge).mean, bound)


def weighted(f: Subject, dtype: Dtype, x: Array, w: Any, ridge: float) -> None:
    """Hold means and inverse covariances of weighted images against the exact ones."""
    w = np.asarray(w, dtype)
    (mean, inverse), want = fitted(f, x, sample_weight=w), exact(x, ridge, w)
    within(mean, want.mean, mean_bound(patches(x), dtype=dtype).T)
    within(inverse, want.inv_covariance, inverse_bound(x, ridge, dtype, w))


def unpacks(f: Subject, dtype: Dtype, x: Array, ridge: float) -> None:
    """Hold what fit returns to the two parameters of the model."""
    subject = Subject(lambda x: list(f.function().fit(x)), f.features, f.asarray, "factory().fit")
    raw, told = subject.attempt(x)
    holds(told, len(raw) == 2, "two parameters", len(raw))
    for value, want in zip(raw, fitted(f, x), strict=True):
        within(array_of(value, told), want.value, 0)


def positive_definite(f: Subject, dtype: Dtype, x: Array, ridge: float) -> None:
    """Expect positive eigenvalues."""
    got = fitted(f, x)[1]
    values = np.linalg.eigvalsh(got.value.astype(np.float64))
    holds(got, (values > 0).all(), "eigenvalues > 0", values)


def single_in_double(f: Subject, dtype: Dtype, ridge: float) -> None:
    """Hold fits to embeddings in single precision against the bound of double."""
    eps = float(np.finfo(np.float32).eps)
    for x in embeddings(np.dtype(np.float32)):
        # features that nearly agree: their small difference is lost in single precision
        y = (300 + 40 / 7 * x[:, :1] + x / 3).astype(np.float32)
        want = exact(y, ridge).inv_covariance
        norm = np.linalg.norm(want, 2, axis=(-2, -1))[:, None, None]
        # a result may be the product of a factor in single precision: C roundings of its norm
        within(fitted(f, y)[1], want, inverse_bound(y, ridge, dtype) + 2 * y.shape[1] * eps * norm)


def others(dtype: Dtype) -> Iterator[tuple[Array, Array]]:
    """Yield embeddings to fit, and one or many images that were not fitted."""
    for x in embeddings(dtype):
        for count in (1, 5):
            yield x, (images(count, *x.shape[1:], salt=7) / 3).astype(dtype)


def distances(
    f: Subject, dtype: Dtype, x: Array, y: Array, ridge: float, *before: Array, w: Any = None
) -> Answer:
    """Hold the distances of images against the exact ones."""
    weights = {} if w is None else {"sample_weight": np.asarray(w, dtype)}
    got = scored(f, x, y, *before, **weights)
    want = exact(x, ridge, w).mahalanobis(y)
    within(got, want, score_bound(x, y, ridge, dtype, w))
    return got


def one_by_one(f: Subject, dtype: Dtype, x: Array, y: Array, ridge: float) -> None:
    """Hold the distances of every image alone."""
    for i in range(len(y) if len(y) > 1 else 0):
        distances(f, dtype, x, y[i : i + 1].copy(), ridge)


def at_the_mean(f: Subject, dtype: Dtype, x: Array, ridge: float) -> None:
    """Hold the distances of the mean image to what an error of the mean may be."""
    y = exact(x, ridge).mean.reshape(1, *x.shape[1:]).astype(dtype)
    got = distances(f, dtype, x, y, ridge)
    holds(got, (got.value >= 0).all(), "distances >= 0", got.value)


def misfits(dtype: Dtype) -> list[tuple[Array, Array]]:
    """Return an embedding with images of another number of features, of another grid, and with NaN."""
    x, bad = images(4, 2, 2, 3).astype(dtype), images(1, 2, 2, 3).astype(dtype)
    bad[0, 1, 1, 2] = np.nan
    shapes = (2, 3, 2, 3), (2, 1, 2, 3), (2, 2, 3, 3), (2, 2, 1, 1), (2, 2, 3, 2)
    return [(x, bad), *((x, images(*shape).astype(dtype)) for shape in shapes)]


# fmt: off
LAWS = (
    law("the_inverse_is_that_of_the_covariance_plus_ridge: Inverses (P, C, C) of S + ridge I, with divisor "
        "N - 1 and each patch alone.", "", each(inverse, embeddings)),
    law("means_are_features_by_patches: Their shape is (C, P) with P = H W.", "", each(
        lambda f, d, x, ridge: shaped(fitted(f, x)[0], exact(x, ridge).mean.shape), embeddings)),
    law("patches_are_numbered_row_by_row: Patch p = h W + w, and the mean is that of its patch.",
        "", each(mean, embeddings)),
    law("a_constant_feature_has_the_ridge_as_variance: The ridge is absolute, and added once.",
        "", each(inverse, these(np.full((3, 2, 1, 1), 5.0)))),
    law("fewer_samples_than_features_are_fine: The ridge makes S + ridge I regular.",
        "", each(inverse, these(images(3, 5, 2, 1)))),
    law("an_offset_costs_no_digits: Each patch is centred before anything is multiplied.",
        "", each(inverse, lambda d: [(images(5, 2, 1, 2) + root(d) / 4).astype(d)])),
    law("what_fit_returns_unpacks_into_the_parameters: It gives the mean and the inverse covariance.",
        "unpacking", each(unpacks, embeddings)),
    law("fitting_again_replaces_the_first_fit: Nothing of an earlier fit is left in the parameters.",
        "", lambda f, d, ridge: mean(
        f, d, images(4, 2, 2, 1, salt=3).astype(d), ridge, images(5, 2, 2, 1).astype(d))),
    law("the_inverse_is_symmetric_to_the_last_bit: Entries j, k and k, j are equal.",
        "symmetric", each(
        lambda f, d, x, ridge: _calls.hermitian(fitted(f, x)[1]), embeddings)),
    law("the_inverse_is_positive_definite: No direction has a negative squared distance.",
        "", each(positive_definite, embeddings)),
    law("a_single_sample_is_refused: It has no covariance.",
        "errors", each(
        lambda f, d, x, ridge: fitting(f).refuses(x), these(np.ones((1, 2, 1, 1))))),
    law("an_embedding_that_is_not_finite_is_refused: A NaN or an infinity is an error.",
        "errors", each(
        lambda f, d, x, ridge: fitting(f).refuses(x), these(*(
            images(3, 2, 1, 1) + np.array([0, v])[:, None, None] for v in (np.nan, np.inf))))),
    law("no_input_is_written_to: The embedding is as before the fit.",
        "", each(lambda f, d, x, ridge: fitting(f).keeps(x), embeddings)),
    law("read_only_inputs_are_accepted: An embedding that cannot be written to is fitted.",
        "layouts", each(inverse, lambda d: map(frozen, embeddings(d)))),
    law("a_sample_weight_of_two_is_the_sample_twice: The divisor is the sum of the weights minus one.",
        "sample_weight", each(weighted, lambda d: ((x, np.arange(len(x)) % 3 + 1) for x in embeddings(d)))),
    law("sample_weights_may_be_fractional: Weights of 0.75, 1, 1.25, ... count as they are.",
        "sample_weight", each(
        weighted, lambda d: ((x, 0.75 + np.arange(len(x)) / 4) for x in embeddings(d)))),
    law("a_sample_weight_of_zero_drops_the_sample: The fit is that to the other samples.",
        "sample_weight", each(
        weighted, lambda d: ((x, np.arange(len(x)) % 3) for x in embeddings(d) if len(x) > 3))),
    law("sample_weights_that_sum_to_one_are_refused: They count samples, and a single one has no covariance.",
        "sample_weight errors", each(
            lambda f, d, x, ridge: fitting(f).refuses(x, sample_weight=np.full(4, 0.25, d)),
            these(images(4, 2, 1, 1)))),
    law("results_have_the_dtype_of_the_embedding: Single precision gives single, double gives double.",
        "dtypes", each(
        lambda f, d, x, ridge: [_calls.typed(got, x.dtype) for got in fitted(f, x)],
        lambda d: [images(4, 2, 1, 1).astype(kind) for kind in (np.float32, np.float64)])),
    law("single_precision_is_computed_in_double: Only results are rounded to single.",
        "dtypes", single_in_double),
    law("distances_are_images_by_the_grid: M images on the grid (H, W) give (M, H, W), also for M = 1.",
        "distances", each(lambda f, d, x, y, ridge: shaped(scored(f, x, y), (len(y), *y.shape[2:])), others)),
    law("a_distance_is_that_from_the_gaussian_of_the_patch: It is the root of z^T P z, where z is the image "
        "less the mean and P the inverse covariance of S + ridge I, for images that were not fitted.",
        "distances", each(distances, others)),
    law("images_that_were_fitted_have_distances_too: They are computed as those of any other image.",
        "distances", each(
        lambda f, d, x, ridge: distances(f, d, x, x.copy(), ridge), embeddings)),
    law("the_other_images_do_not_matter: An image alone is as far away as among many.",
        "distances", each(one_by_one, others)),
    law("the_mean_image_has_distance_zero: It may be off by the error of the mean, and is never negative.",
        "distances", each(at_the_mean, embeddings)),
    law("distances_from_a_constant_patch_are_those_of_the_ridge: With S = 0 they are |z| / sqrt(ridge).",
        "distances", each(
            distances, lambda d: [(np.full((3, 2, 1, 1), 5, d), images(2, 2, 1, 1).astype(d))])),
    law("distances_with_fewer_samples_than_features_count_all_directions: Those without samples have the "
        "ridge as variance.", "distances", each(
            distances, lambda d: [(images(3, 5, 2, 1).astype(d), images(2, 5, 2, 1, salt=4).astype(d))])),
    law("an_offset_costs_distances_no_digits: The mean is subtracted before anything is multiplied.",
        "distances", each(distances, lambda d: [tuple(
            (images(n, 2, 1, 2, salt=n) + root(d) / 4).astype(d) for n in (5, 2))])),
    law("distances_are_those_of_the_last_fit: Nothing of an earlier fit is used, if it was scored or not.",
        "distances", lambda f, d, ridge: distances(
            f, d, images(4, 2, 2, 1, salt=3).astype(d), images(2, 2, 2, 1, salt=4).astype(d), ridge,
            images(5, 2, 2, 1).astype(d))),
    law("distances_have_the_weighted_mean_and_covariance: They are from what was fitted with weights.",
        "distances sample_weight", each(
            lambda f, d, x, w, ridge: distances(f, d, x, x[:2] + d.type(1), ridge, w=w),
            lambda d: ((x, np.arange(len(x)) % 3 + 1) for x in embeddings(d)))),
    law("images_that_do_not_fit_are_refused: Another number of features, another grid, and NaN.",
        "distances errors", each(lambda f, d, x, y, ridge: scoring(f, x).refuses(y), misfits)),
    law("no_image_is_written_to: Images that are scored are as before the call.",
        "distances", each(lambda f, d, x, y, ridge: scoring(f, x).keeps(y), others)),
    law("read_only_images_are_accepted: Images that cannot be written to are scored.",
        "distances layouts", each(
        lambda f, d, x, y, ridge: distances(f, d, x, frozen(y), ridge), others)),
)

FEATURES = {
    "distances": "`mahalanobis(embedding)` after `fit`: the distances (M, H, W) of images",
    "sample_weight": "`fit(embedding, sample_weight=...)`: a weight of 2 is the sample twice",
    "unpacking": "what `fit` returns unpacks into the mean and the inverse covariance",
    "symmetric": "inverse covariances equal their transposes to the last bit",
    "errors": "a single sample, NaN and infinities are errors",
    "dtypes": "single precision stays single, but is computed in double",
    "layouts": "read-only arrays",
}
