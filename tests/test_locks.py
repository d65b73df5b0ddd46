"""Laws of threads: many may score one model, and fitting calls on one model wait for each other."""

import contextlib
import copy
import itertools
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from common import assert_within, blocks_of, frozen
from threadpoolctl import ThreadpoolController

from mvgauss import MultiVariateGaussian

SECONDS = 60


def together(tasks):
    """Run tasks at once, each in a thread of its own; return their answers, or raise the first error."""
    gate = threading.Barrier(len(tasks))

    def run(task):
        gate.wait(SECONDS)
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return [future.result(SECONDS) for future in [pool.submit(run, task) for task in tasks]]


BLAS = ThreadpoolController().select(user_api="blas")


def blas_threads():
    """Return how many threads each BLAS of this process may use."""
    return [pool["num_threads"] for pool in BLAS.info()]


@pytest.fixture(autouse=True)
def blas_is_left_as_it_was():
    """Whatever threads do, BLAS has its own again afterwards."""
    before = blas_threads()
    yield
    after = blas_threads()
    if after != before:  # one failure is enough; but a thread that sets limits keeps others from it
        for library, number in zip(BLAS.lib_controllers, before, strict=True):
            library.set_num_threads(number)
    assert after == before


@pytest.fixture(params=[1, 3], ids=["1 job", "3 jobs"])
def jobs(request):
    return request.param


@pytest.fixture
def train(rng):
    return frozen(rng.standard_normal((20, 6, 9, 9)))


@pytest.fixture
def test(rng):
    return frozen(rng.standard_normal((4, 6, 9, 9)))


SCORES = {
    "mahalanobis": lambda m, x: m.mahalanobis(x),
    "score_samples": lambda m, x: m.score_samples(x),
    "p_value": lambda m, x: m.p_value(x),
    "predict": lambda m, x: m.predict(x),
    "contributions": lambda m, x: m.contributions(x),
    "inv_covariance": lambda m, x: m.inv_covariance,
    "covariance": lambda m, x: m.covariance,
    "diagnostics": lambda m, x: np.stack(list(m.diagnostics().values())),
}


def test_threads_scoring_one_model_get_the_bits_of_one_thread(train, test, jobs):
    """The factors are not made yet: all threads ask for them at once."""
    with blocks_of(1 << 12):
        want = [score(MultiVariateGaussian(n_jobs=1).partial_fit(train), test) for score in SCORES.values()]
        model = MultiVariateGaussian(n_jobs=jobs).partial_fit(train)
        tasks = [lambda score=score: score(model, test) for score in SCORES.values()] * 2
        for answer, right in zip(together(tasks), want * 2, strict=True):
            np.testing.assert_array_equal(answer, right)


def test_the_factors_are_made_once_whoever_asks_first(train, test, jobs, monkeypatch):
    import mvgauss._whitening as room

    made, whiten = [], room.whiten
    monkeypatch.setattr(room, "whiten", lambda s, *a, **k: made.append(len(s)) or whiten(s, *a, **k))
    model = MultiVariateGaussian(n_jobs=jobs).partial_fit(train)
    together([lambda: model.mahalanobis(test)] * 6)
    assert sum(made) == 81


def test_threads_may_score_different_models(train, test, jobs):
    models = [
        MultiVariateGaussian(reg_covar=r, n_jobs=jobs).partial_fit(train) for r in (0.01, 0.1, 1.0, 10.0)
    ]
    want = [
        MultiVariateGaussian(reg_covar=m.reg_covar, n_jobs=1).partial_fit(train).mahalanobis(test)
        for m in models
    ]
    for answer, right in zip(together([lambda m=m: m.mahalanobis(test) for m in models]), want, strict=True):
        np.testing.assert_array_equal(answer, right)


def test_a_score_beside_a_fit_is_that_of_the_old_or_of_the_new_model(train, test, jobs):
    with blocks_of(1 << 12):
        old, new = (MultiVariateGaussian(n_jobs=1).fit(x).mahalanobis(test) for x in (train, train + 1))
        model = MultiVariateGaussian(n_jobs=jobs).fit(train)

        def fits():
            for k in range(10):
                model.fit(train + (k + 1) % 2)

        def scores():
            return [model.mahalanobis(test) for _ in range(10)]

        for answer in itertools.chain(*together([fits, scores, scores])[1:]):
            assert np.array_equal(answer, old) or np.array_equal(answer, new)


def assert_sum(model, x):
    """Assert that a model is that of all samples, to rounding."""
    want = MultiVariateGaussian(n_jobs=1).fit(x)
    assert_within(model.mean, want.mean, 1e-12 * np.ones(want.mean.shape))
    assert_within(model.covariance, want.covariance, 1e-11 * np.ones(want.covariance.shape))


def test_partial_fits_of_one_model_from_many_threads_all_count(rng, jobs):
    parts = rng.standard_normal((12, 5, 6, 9, 9))
    with blocks_of(1 << 12):
        for _ in range(5):
            model = MultiVariateGaussian(n_jobs=jobs)
            together([partial(model.partial_fit, x) for x in parts])
            assert_sum(model, parts.reshape(60, 6, 9, 9))


def test_merges_into_one_model_from_many_threads_all_count(rng, jobs):
    parts = rng.standard_normal((8, 5, 6, 9, 9))
    others = [MultiVariateGaussian(n_jobs=1).partial_fit(x) for x in parts[1:]]
    for _ in range(5):
        model = MultiVariateGaussian(n_jobs=jobs).partial_fit(parts[0])
        together([partial(model.merge, other) for other in others])
        assert_sum(model, parts.reshape(40, 6, 9, 9))


def test_two_models_may_merge_into_each_other_at_once(rng, jobs):
    """Neither waits for the other for ever."""
    x, y = rng.standard_normal((2, 20, 6, 9))
    for _ in range(20):
        a, b = (MultiVariateGaussian(n_jobs=jobs).fit(part) for part in (x, y))
        together([lambda a=a, b=b: a.merge(b), lambda a=a, b=b: b.merge(a)])
        counts = [round(float(m.diagnostics()["effective_samples"][0])) for m in (a, b)]
        assert sorted(counts) in ([40, 40], [40, 60])


def test_a_calibration_beside_a_partial_fit_is_lost_or_refused_but_never_stale(rng, train, jobs):
    for _ in range(10):
        model = MultiVariateGaussian(n_jobs=jobs).fit(train)

        def calibrate(model=model):
            with contextlib.suppress(ValueError):  # the samples are no longer all
                model.calibrate(train)

        together([calibrate, partial(model.partial_fit, train)])
        assert model.p_value_law == "chi2"
        assert model.diagnostics()["effective_samples"][0, 0] == 40


def test_fits_of_different_models_run_beside_each_other(train):
    """A lock belongs to one model: a fit that is held up holds up no other."""
    began, go = threading.Event(), threading.Event()

    class Slow:
        shape, dtype = train.shape, train.dtype

        def __getitem__(self, key):
            began.set()
            assert go.wait(SECONDS)
            return train[key]

    slow = MultiVariateGaussian(n_jobs=1)
    thread = threading.Thread(target=slow.fit, args=(Slow(),))
    thread.start()
    try:
        assert began.wait(SECONDS)
        MultiVariateGaussian(n_jobs=1).fit(train).mahalanobis(train)
    finally:
        go.set()
        thread.join(SECONDS)
    assert not thread.is_alive()
    assert slow.__sklearn_is_fitted__()


def test_a_failed_fit_gives_the_lock_back(train, jobs):
    model = MultiVariateGaussian(n_jobs=jobs).fit(train)
    for _ in range(3):
        with pytest.raises(ValueError, match="embedding"):
            model.partial_fit(train * np.nan)
    together([lambda: model.partial_fit(train)] * 2)
    assert model.diagnostics()["effective_samples"][0, 0] == 60


def test_a_model_may_be_saved_while_it_is_fitted(train, tmp_path, jobs):
    model = MultiVariateGaussian(n_jobs=jobs).fit(train)

    def save(k):
        model.save(tmp_path / f"m{k}")
        return MultiVariateGaussian.load(tmp_path / f"m{k}").diagnostics()["effective_samples"][0, 0]

    counts = together([lambda: model.partial_fit(train), lambda: save(1), lambda: save(2), lambda: save(3)])[
        1:
    ]
    assert set(counts) <= {20, 40}


def test_threads_saving_to_one_name_leave_one_whole_file(train, tmp_path):
    models = [MultiVariateGaussian(reg_covar=r, n_jobs=1).fit(train) for r in (1.0, 2.0, 3.0, 4.0)]
    together([lambda m=m: m.save(tmp_path / "m") for m in models])
    assert os.listdir(tmp_path) == ["m"]
    assert MultiVariateGaussian.load(tmp_path / "m").reg_covar in (1, 2, 3, 4)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_has_a_lock_of_its_own(train, copied):
    model = MultiVariateGaussian(n_jobs=1).fit(train)
    other = copied(model)
    with model._training():
        other.partial_fit(train)
    assert other.diagnostics()["effective_samples"][0, 0] == 40
