"""Who decides, what is refused, and the warnings where numbers mislead."""

import contextlib
import itertools
import re
import threading

import numpy as np
import pytest
from common import OnDisk, frozen, needs_threads

from mvgauss import DefaultThresholdWarning, FewSamplesWarning, MultiVariateGaussian, PictureWarning


def images(rng, n, c=3, grid=(2, 2), dtype=np.float64):
    return frozen(rng.standard_normal((n, c, *grid)), dtype)


# ---- who decides


@pytest.mark.parametrize("ask", ["predict", "decision_function", "fit_predict"])
@pytest.mark.parametrize("options", [{}, {"reg_covar": 0}, {"shrinkage": 0.1}], ids=str)
def test_decisions_by_a_limit_that_nobody_set_warn_by_an_exact_law_too(rng, ask, options):
    x = images(rng, 20)
    model = MultiVariateGaussian(**options).fit(x)
    match = r"no limit was set.*if embeddings are Gaussian, and those of networks are not.*threshold\(good_"
    with pytest.warns(DefaultThresholdWarning, match=match) as caught:
        getattr(model, ask)(x)
    assert [w.filename for w in caught] == [__file__]


@pytest.mark.filterwarnings("error")
def test_a_limit_that_was_set_decides_without_a_warning_and_is_saved(rng, tmp_path):
    x = images(rng, 20)
    model = MultiVariateGaussian().fit(x)
    default, d = model.threshold_, model.mahalanobis(x).max(axis=(1, 2))
    model.threshold_ = np.median(d)
    model.save(tmp_path / "m.npz")
    loaded = MultiVariateGaussian.load(tmp_path / "m.npz")
    for one in (model, loaded):
        assert one.threshold_ == np.median(d)
        assert (one.predict(x) == np.where(d <= np.median(d), 1, -1)).all()
    assert model.fit(x).threshold_ == default
    model.threshold(images(rng, 9), 0.1)
    model.predict(x)


@pytest.mark.parametrize(
    ("n", "options", "w"),
    [(5, {}, None), (3, {"shrinkage": "oas"}, None), (5, {}, [0.5] * 5), (1, {"ddof": 0}, None)],
)
def test_where_no_law_is_decisions_raise_and_say_the_line_to_write(rng, n, options, w):
    x = images(rng, n, c=5)
    model = MultiVariateGaussian(**options).fit(x, sample_weight=w)
    line = r"model\.threshold\(train, 0\.05, source='training'\)"
    for ask in (model.predict, model.decision_function, lambda x: model.threshold_, lambda x: model.offset_):
        with pytest.raises(ValueError, match=f"threshold_: expected a model with a limit.*{line}"):
            ask(x)
    with pytest.raises(ValueError, match=line):
        model.fit_predict(x, sample_weight=w)
    with pytest.raises(ValueError, match=r"p_value: .*model\.calibrate\(train\)"):
        model.p_value(x)
    model.threshold_ = 3.0
    model.predict(x)  # as it is said to


def test_an_intensity_of_one_leaves_no_law_for_a_limit(rng):
    model = MultiVariateGaussian(shrinkage=1.0).fit(images(rng, 20))
    with pytest.raises(ValueError, match="threshold_: expected a model with a limit"):
        model.predict(images(rng, 4))


def test_a_model_of_given_sizes_scores_before_fit_and_does_not_decide(rng):
    x = images(rng, 20)
    model = MultiVariateGaussian(3, 4)
    np.testing.assert_allclose(model.mahalanobis(x), np.linalg.norm(x, axis=1), rtol=1e-6)
    for ask in (model.predict, model.decision_function, lambda x: model.threshold(x, 0.1)):
        with pytest.raises(ValueError, match="not fitted yet"):
            ask(x)
    with pytest.raises(ValueError, match="not fitted yet"):
        model.threshold_ = 2.0


def test_the_parameters_that_a_model_unpacks_into_are_of_one_fit(rng):
    x, other = images(rng, 30), images(rng, 30)
    model = MultiVariateGaussian().fit(x)
    want, parameters = list(model), iter(model)
    np.testing.assert_array_equal(next(parameters), want[0])
    model.fit(other)
    np.testing.assert_array_equal(next(parameters), want[1])


QUESTIONS = {
    "decision_function": lambda model, x: [model.decision_function(x)],
    "offset_": lambda model, x: [model.offset_],
    "p_value": lambda model, x: [model.p_value(x)],
    "image_p_value": lambda model, x: [model.image_p_value(x)],
}


@needs_threads
@pytest.mark.filterwarnings("ignore::mvgauss.DefaultThresholdWarning")
@pytest.mark.parametrize("question", list(QUESTIONS))
def test_an_answer_beside_fits_is_that_of_one_fit(rng, question):
    """A fit in another thread changes the model between two answers, never within one."""
    sets = [scale * images(rng, 30, c=2, grid=(3,)) for scale in (1, 100)]
    new = images(rng, 4, c=2, grid=(3,))
    model, done = MultiVariateGaussian(n_jobs=1).fit(sets[0]), threading.Event()
    calibrated = question == "image_p_value"

    def fit(x):
        model.fit(x)
        if calibrated:
            model.calibrate(x)

    def answer():
        return [a.tolist() for a in QUESTIONS[question](model, new)]

    def fits():
        for x in itertools.cycle(sets):
            fit(x)
            if done.is_set():
                return

    right = []
    for x in sets:
        fit(x)
        right.append(answer())
    thread = threading.Thread(target=fits)
    thread.start()
    try:
        for _ in range(200):
            # between a fit and its calibration there are no ranks
            with contextlib.suppress(*[ValueError] * calibrated):
                assert answer() in right
    finally:
        done.set()
        thread.join()


# ---- which images are refused


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("n", [3, 20, 60])
def test_as_many_images_as_were_fitted_with_their_mean_are_refused_as_held_out(rng, dtype, offset, n):
    x = frozen(images(rng, n, c=5) + offset, dtype)
    parts = MultiVariateGaussian().partial_fit(x[: n // 2]).partial_fit(x[n // 2 :])
    for model in (MultiVariateGaussian().fit(x), parts):
        # half precision has no digits for a mean that is a thousand standard deviations from zero
        others = [np.float32, np.float64] if dtype != np.float16 or not offset else []
        copies = [x.astype(other) for other in others]
        for same in (x, x[rng.permutation(n)], *copies):
            with pytest.raises(ValueError, match=r"fitted ones; use source='training'"):
                model.threshold(same, 0.5)
        model.threshold(x, 0.5, source="training")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 10.0, 1000.0])
@pytest.mark.parametrize("n", [6, 60])
def test_other_images_are_taken_as_held_out(rng, n, offset, dtype):
    x = rng.standard_normal((n, 3)) + offset
    model = MultiVariateGaussian(n_jobs=1).fit(x)
    for _ in range(50):
        model.threshold((rng.standard_normal((n, 3)) + offset).astype(dtype), 0.5)
    if dtype == np.float64 and not offset:
        other = np.array(x)
        other[3, 1] += 1e-6
        for held in (-x, 2 * x, other, x[1:]):
            model.threshold(held, 0.5)


@pytest.mark.parametrize("n", [3, 7, 12])
@pytest.mark.parametrize("options", [{"reg_covar": 0}, {"reg_covar": 0, "shrinkage": 0}], ids=str)
def test_leave_one_out_limits_of_pseudo_inverses_that_lose_a_direction_are_refused(rng, n, options):
    """Without ridge and shrinkage, of at most C + 1 samples; those of weight zero do not count."""
    x = images(rng, n, c=11)
    model = MultiVariateGaussian(**options).fit(x)
    for call in (model.calibrate, lambda x: model.threshold(x, 0.5, source="training")):
        with pytest.raises(
            ValueError, match=r"more than C \+ 1 = 12 samples.*reg_covar or shrinkage, or use"
        ):
            call(x)
    assert np.isfinite(model.leave_one_out(x)).all()
    more = images(rng, 13, c=11)
    MultiVariateGaussian(**options).fit(more).calibrate(more).threshold(more, 0.5, source="training")
    w = np.arange(13) > 0
    weighted = MultiVariateGaussian(**options).fit(more, sample_weight=w)
    with pytest.raises(ValueError, match=r"more than C \+ 1"):
        weighted.calibrate(more, sample_weight=w)
    MultiVariateGaussian(shrinkage=0.1, reg_covar=0).fit(x).calibrate(x)


def test_a_calibrated_model_has_the_ranks_that_its_limit_needs(rng, monkeypatch):
    """No second leave-one-out; and other images are refused."""
    x = np.array(images(rng, 20))
    x[:, 0], x[0, 0] = 0, 1e4  # the direction of one image alone
    x = frozen(x)
    model = MultiVariateGaussian().fit(x)
    disk = OnDisk(x)
    want = model.threshold(disk, 0.1, source="training")
    assert sum(size for _, size in disk.reads) == 2 * x.nbytes
    disk = OnDisk(x)
    assert model.calibrate(x).threshold(disk, 0.1, source="training") == want
    disk.was_read_once()  # leave-one-out reads again whatever loses digits
    for other in (images(rng, 20), x[1:], x + 1):
        with pytest.raises(ValueError, match="embedding: expected the 20 samples that were fitted"):
            model.threshold(other, 0.1, source="training")


@pytest.mark.parametrize("c", [3, 40], ids=["more samples than features", "fewer"])
def test_leave_one_out_reads_fitted_images_once_where_no_digits_are_lost(rng, c):
    x = images(rng, 20, c=c)
    disk = OnDisk(x)
    MultiVariateGaussian().fit(x).leave_one_out(disk)
    disk.was_read_once()


def test_a_calibration_of_images_that_do_not_vary_has_a_limit():
    x = frozen(np.full((20, 3, 4), 7.0))
    model = MultiVariateGaussian().fit(x)
    want = model.threshold(x, 0.1, source="training")
    assert model.calibrate(x).threshold(x, 0.1, source="training") == want == 0


@pytest.mark.parametrize("n", [20, 7])
def test_held_out_images_are_read_once(rng, n):
    x = images(rng, 20)
    disk, model = OnDisk(images(rng, n)), MultiVariateGaussian().fit(x)
    assert model.threshold(disk, 0.2) == MultiVariateGaussian().fit(x).threshold(disk.array, 0.2)
    disk.was_read_once()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_held_out_images_with_numbers_that_are_not_finite_are_refused_for_that(rng, bad):
    x = np.array(images(rng, 20))
    model = MultiVariateGaussian().fit(x)
    x[3, 1, 0, 1], x[5, 1, 0, 1] = bad, -bad
    with pytest.raises(ValueError, match=r"finite numbers, got .* at index \(3, 1, 0, 1\)"):
        model.threshold(x, 0.1)


@pytest.mark.filterwarnings("error")
def test_a_file_that_only_scores_needs_no_law(rng, tmp_path):
    x = images(rng, 5, c=5)
    model = MultiVariateGaussian(shrinkage="oas").fit(x)  # no default limit
    model.save(tmp_path / "m.npz", resumable=False)
    np.testing.assert_array_equal(
        MultiVariateGaussian.load(tmp_path / "m.npz").mahalanobis(x), model.mahalanobis(x)
    )


# ---- warnings and remedies


def of_parts(x):
    """Return models without a ridge that come to few samples by and by."""
    streamed, merged, other = (MultiVariateGaussian(reg_covar=0) for _ in range(3))
    streamed.partial_fit(x[:2]).partial_fit(x[2:])
    merged.partial_fit(x[:2]).merge(other.partial_fit(x[2:]))
    return {"streamed": streamed, "merged": merged}


@pytest.mark.filterwarnings("error")
def test_few_samples_with_neither_ridge_nor_shrinkage_warn_once(rng):
    x = images(rng, 5, c=5)
    with pytest.warns(FewSamplesWarning, match=r"5 samples of 5 features.*leave_one_out.*'oas'") as caught:
        MultiVariateGaussian(reg_covar=0).fit(x)
    assert [w.filename for w in caught] == [__file__]
    MultiVariateGaussian().fit(x)
    MultiVariateGaussian(reg_covar=0, shrinkage="oas").fit(x)
    MultiVariateGaussian(reg_covar=0).fit(x[:, :4])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["streamed", "merged"])
@pytest.mark.parametrize("use", ["mahalanobis", "rank", "inv_covariance", "diagnostics", "save"])
def test_few_samples_that_came_in_parts_warn_once_at_the_first_use(rng, tmp_path, name, use):
    x = images(rng, 5, c=5)
    model = of_parts(x)[name]

    def ask():
        if use == "save":
            model.save(tmp_path / "m.npz", resumable=False)
        elif use == "mahalanobis":
            model.mahalanobis(x)
        elif callable(value := getattr(model, use)):
            value()

    with pytest.warns(FewSamplesWarning) as caught:
        ask()
    ask()
    assert [w.filename for w in caught] == [__file__]


@pytest.mark.filterwarnings("error")
def test_few_samples_do_not_warn_before_they_are_used_nor_where_they_are_enough(rng, tmp_path):
    x = images(rng, 5, c=5)
    model = of_parts(x)["streamed"]
    model.save(tmp_path / "m.npz")
    model.partial_fit(images(rng, 1, c=5)).mahalanobis(x)
    MultiVariateGaussian().partial_fit(x).mahalanobis(x)
    with pytest.raises(FewSamplesWarning):
        MultiVariateGaussian.load(tmp_path / "m.npz").mahalanobis(x)


@pytest.mark.filterwarnings("error")
def test_a_warning_that_is_an_error_leaves_the_model_as_it_was(rng):
    model = MultiVariateGaussian(reg_covar=0).fit(images(rng, 9, c=5))
    before = model.mean
    with pytest.raises(FewSamplesWarning):
        model.fit(images(rng, 5, c=5))
    np.testing.assert_array_equal(model.mean, before)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((9, 6, 5, 3), "(N, H, W, 3)"),
        ((9, 6, 5, 4), "(N, H, W, 4)"),
        ((9, 6, 5, 1), "(N, H, W, 1)"),
        ((9, 3, 6, 5), "(N, 3, H, W)"),
        ((9, 1, 6, 5), "(N, 1, H, W)"),
        ((9, 6, 5), "(N, H, W)"),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("axis", [1, -1])
def test_pictures_of_small_integers_in_place_of_embeddings_warn(rng, shape, layout, dtype, axis):
    x = frozen(rng.integers(0, 256, shape), dtype)
    model = MultiVariateGaussian(feature_axis=axis)
    message = f"look like pictures of layout {layout}; fit their embeddings, the output of a network"
    with pytest.warns(PictureWarning, match=re.escape(message)):
        model.fit(x)
    model.fit(x.astype(np.float32)).mahalanobis(x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_colour_pictures_of_floats_warn_and_small_grids_do_not(rng, dtype):
    x = frozen(rng.random((9, 17, 16, 3)), dtype)
    with pytest.warns(PictureWarning, match=r"layout \(N, H, W, 3\); fit their embeddings, .* network$"):
        MultiVariateGaussian().fit(x)
    for other in (x[:, :15], x[:, :, :15], x[..., :2], x[0]):
        MultiVariateGaussian().fit(other)


@pytest.mark.parametrize("shape", [(9, 3), (9, 8, 5, 6)])
def test_tables_and_networks_of_small_integers_are_no_pictures(rng, shape):
    MultiVariateGaussian().fit(frozen(rng.integers(0, 256, shape), np.uint8))


@pytest.mark.parametrize(
    ("axis", "shape", "hint"),
    [
        (1, (4, 5, 6, 3), "set feature_axis=-1"),
        (-1, (4, 3, 5, 6), "set feature_axis=1"),
        (1, (4, 3, 6, 5), "resize pictures as when fitting"),
        (1, (4, 3, 7, 9), "resize pictures as when fitting"),
        (1, (3, 5, 6), r"embedding\[None\]"),
        (1, (4, 3, 30), "reshape the patches to the grid"),
        (1, (4, 30, 3), "set feature_axis=-1"),
        (-1, (4, 3, 30), "set feature_axis=1"),
    ],
)
def test_an_embedding_of_another_shape_is_refused_with_one_remedy(rng, axis, shape, hint):
    x = images(rng, 9, grid=(5, 6))
    model = MultiVariateGaussian(feature_axis=axis).fit(x if axis == 1 else np.moveaxis(x, 1, -1))
    remedies = ("feature_axis=", "resize", "[None]", "reshape")
    with pytest.raises(ValueError, match=hint) as caught:
        model.mahalanobis(np.zeros(shape))
    assert sum(remedy in str(caught.value) for remedy in remedies) == 1


@pytest.mark.parametrize("calibrated", [False, True])
def test_images_without_weight_set_no_limit(rng, calibrated):
    x = images(rng, 60, c=5)
    bad = np.concatenate([x, 9 + images(rng, 20, c=5)])
    w = frozen(np.arange(80) < 60, float)
    model = MultiVariateGaussian().fit(bad, sample_weight=w)
    good = MultiVariateGaussian().fit(x)
    if calibrated:
        model.calibrate(bad, sample_weight=w)
        good.calibrate(x)
        np.testing.assert_allclose(model.image_p_value(x), good.image_p_value(x))
    limit = model.threshold(bad, 0.1, source="training", sample_weight=w)
    assert np.isclose(limit, good.threshold(x, 0.1, source="training"))
