"""How a long stack is walked: every item once, in order, whatever the blocks and threads."""

import gc
import os
import sys
import threading
import time
import weakref
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import threadpoolctl
from common import blocks_of, frozen
from hypothesis import given
from hypothesis import strategies as st

from mvgauss import MultiVariateGaussian, _blocks, _moments, cov, mahalanobis, pinv


class Bar:
    """What a walk needs of tqdm."""

    made: ClassVar[list["Bar"]] = []

    def __init__(self, total, desc, unit):
        self.total, self.desc, self.count, self.closed = total, desc, 0, False
        self.made.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True

    def update(self):
        self.count += 1


@pytest.fixture
def bars(monkeypatch):
    """The bars that a test makes."""
    monkeypatch.setitem(sys.modules, "tqdm", SimpleNamespace(auto=SimpleNamespace(tqdm=Bar)))
    monkeypatch.setitem(sys.modules, "tqdm.auto", SimpleNamespace(tqdm=Bar))
    monkeypatch.setattr(Bar, "made", [])
    return Bar.made


@given(st.integers(0, 500), st.integers(0, 1 << 24), st.integers(1, 64), st.sampled_from([1, 4096, 4 << 20]))
def test_slices_cover_a_range_once_and_in_order(length, item_bytes, least, size):
    with blocks_of(size):
        parts = _blocks.slices(length, item_bytes, least=least)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(length))
    assert all(part.stop > part.start for part in parts)


@pytest.mark.parametrize(("item_bytes", "count"), [(1, 1), (64, 1), (128, 2), (640, 10), (1 << 30, 10)])
def test_slices_are_as_large_as_a_block(item_bytes, count):
    with blocks_of(640):
        assert len(_blocks.slices(10, item_bytes)) == count


def test_slices_are_even():
    with blocks_of(40):
        sizes = {part.stop - part.start for part in _blocks.slices(101, 1)}
    assert sizes == {33, 34}


@pytest.mark.parametrize("n_jobs", [None, 1, 2, 5, -1])
def test_results_come_in_order_on_any_number_of_threads(n_jobs):
    def task(part):
        time.sleep(0.002 if part.start % 2 else 0)
        return part.start

    answers = []
    _blocks.in_order(task, answers.append, [slice(i, i + 1) for i in range(25)], n_jobs=n_jobs)
    assert answers == list(range(25))


def test_rows_are_put_together_in_order():
    def kernel(run):
        time.sleep(0.001 if run.start % 2 else 0)
        return (np.arange(run.start, run.stop)[None],)

    with blocks_of(24):
        (rows,) = _blocks.over_rows(kernel, 41, 8)
    np.testing.assert_array_equal(rows, [range(41)])


def test_a_thread_that_is_far_ahead_waits_for_the_answers_before_its_own():
    begun, ahead = [], []

    def task(part):
        begun.append(part)
        if part == 0:
            time.sleep(0.05)
            ahead.append(len(begun))
        return part

    answers = []
    _blocks.in_order(task, answers.append, range(100), n_jobs=2)
    assert answers == list(range(100))
    assert ahead[0] <= 8


def test_threads_do_not_wait_for_an_answer_that_failed():
    def task(part):
        if part == 0:
            time.sleep(0.05)
            raise KeyboardInterrupt
        return part

    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        _blocks.in_order(task, lambda _: None, range(100), n_jobs=3)
    assert time.perf_counter() - start < _blocks._PATIENCE / 2


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_the_first_failure_stops_the_walk_and_comes_through(n_jobs):
    done = []

    def task(part):
        if part.start == 3:
            raise KeyboardInterrupt
        done.append(part.start)

    with pytest.raises(KeyboardInterrupt):
        _blocks.run(task, [slice(i, i + 1) for i in range(200)], n_jobs=n_jobs)
    assert done[:3] == [0, 1, 2]
    assert len(done) < 100


def test_of_several_failures_that_of_the_first_part_comes_through():
    later = threading.Event()

    def task(part):
        if part.start == 0:
            assert later.wait(20)
            raise ValueError("the first part")
        later.set()
        raise ValueError("another part")

    with pytest.raises(ValueError, match="the first part"):
        _blocks.run(task, [slice(i, i + 1) for i in range(9)], n_jobs=2)


def test_an_interrupt_comes_through_whatever_else_failed():
    caller, at_work, interrupted = threading.current_thread(), threading.Event(), threading.Event()

    def task(part):
        if threading.current_thread() is not caller:
            at_work.set()  # on an earlier part than the one that is interrupted
            assert interrupted.wait(20)
            raise ValueError
        assert at_work.wait(20)
        if part.start == 2:
            interrupted.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _blocks.run(task, [slice(i, i + 1) for i in range(3)], n_jobs=2)


def test_a_bar_that_fails_stops_the_walk(bars, monkeypatch):
    def update(_):
        raise ZeroDivisionError

    done = []
    monkeypatch.setattr(Bar, "update", update)
    with pytest.raises(ZeroDivisionError):
        _blocks.run(done.append, [slice(0, 1)] * 50, n_jobs=2, progress="failing")
    assert len(done) <= 2


def test_a_failure_is_gone_when_it_was_handled():
    class Held:
        pass

    held = []

    def task(part):
        mine = Held()
        held.append(weakref.ref(mine))
        raise LookupError

    gc.disable()  # what is left in a circle would stay
    try:
        with pytest.raises(LookupError):
            _blocks.run(task, [slice(0, 1), slice(1, 2)], n_jobs=2)
        assert held
        assert all(reference() is None for reference in held)
    finally:
        gc.enable()


@pytest.mark.parametrize("n_jobs", [1, 2, 3])
def test_who_asks_works_too_and_no_thread_stays(n_jobs):
    before, names = threading.active_count(), set()
    all_of_them = threading.Barrier(n_jobs, timeout=20)

    def task(_):
        names.add(threading.current_thread().name)
        all_of_them.wait()

    _blocks.run(task, [slice(i, i + 1) for i in range(2 * n_jobs)], n_jobs=n_jobs)
    assert len(names) == n_jobs
    assert threading.current_thread().name in names
    assert threading.active_count() == before


def test_tasks_run_beside_each_other():
    both = threading.Barrier(2, timeout=20)
    _blocks.run(lambda _: both.wait(), [slice(0, 1), slice(1, 2)], n_jobs=2)


def test_tasks_see_the_settings_of_the_caller():
    def task(_):
        return np.geterr()["divide"]

    with np.errstate(divide="raise"):
        answers = []
        _blocks.in_order(task, answers.append, range(4), n_jobs=2)
    assert answers == ["raise"] * 4


def test_a_walk_inside_a_walk_starts_no_threads():
    def outer(_):
        names = []
        _blocks.run(lambda _: names.append(threading.current_thread().name), range(4), n_jobs=4)
        return names == [threading.current_thread().name] * 4

    answers = []
    _blocks.in_order(outer, answers.append, range(4), n_jobs=2)
    assert answers == [True] * 4


def test_whoever_works_knows_to_be_inside_a_walk():
    inside, both = [], threading.Barrier(2, timeout=20)

    def task(_):
        both.wait()
        inside.append(_blocks.inside_walk())

    _blocks.run(task, [slice(0, 1), slice(1, 2)], n_jobs=2)
    assert inside == [True, True]
    assert not _blocks.inside_walk()


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_bar_counts_every_block(rng, bars, n_jobs):
    with blocks_of(1):
        model = MultiVariateGaussian(progress=True, n_jobs=n_jobs).fit(rng.standard_normal((9, 2, 100)))
        model.mahalanobis(rng.standard_normal((1, 2, 100)))
    assert len(bars) == 2
    assert all(bar.closed and bar.count == bar.total > 1 for bar in bars)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_bar_is_closed_after_a_failure(bars, n_jobs):
    with pytest.raises(ZeroDivisionError):
        _blocks.run(lambda part: 1 / part.start, [slice(0, 1)] * 5, n_jobs=n_jobs, progress="dividing")
    (bar,) = bars
    assert bar.closed
    assert (bar.desc, bar.total, bar.count) == ("dividing", 5, 0)


def test_without_tqdm_a_bar_is_refused_and_nothing_is_fitted(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    model = MultiVariateGaussian(progress=True)
    with pytest.raises(ImportError, match=r"progress=True: expected the package tqdm.*mvgauss\[progress\]"):
        model.fit(rng.standard_normal((9, 2, 100)))
    assert not model.__sklearn_is_fitted__()


@pytest.mark.parametrize("fails", [False, True])
def test_blas_gets_its_threads_back(fails):
    def threads():
        return [p["num_threads"] for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"]

    def task(_):
        seen.extend(threads())
        if fails:
            raise OSError

    seen, before = [], threads()
    try:
        _blocks.run(task, [slice(0, 1)] * 3, n_jobs=2)
    except OSError:
        assert fails
    assert set(seen) <= {1}
    assert threads() == before


def test_an_interrupt_while_the_limit_is_set_leaves_no_limit(monkeypatch):
    def threads():
        return [p["num_threads"] for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"]

    class Interrupted(threading.Event):
        def wait(self, timeout=None):
            super().wait(timeout)
            if threading.current_thread() is threading.main_thread():
                raise KeyboardInterrupt
            return True

    before = threads()
    with monkeypatch.context() as patch:
        patch.setattr("mvgauss._blocks.threading.Event", Interrupted)
        with pytest.raises(KeyboardInterrupt), _blocks.one_blas_thread():
            pass
    for keeper in [thread for thread in threading.enumerate() if thread.name == "mvgauss-blas"]:
        keeper.join(20)
        assert not keeper.is_alive()
    assert threads() == before


def test_a_limit_that_the_caller_owns_changes_no_bit(rng):
    threadpoolctl = pytest.importorskip("threadpoolctl")
    x = rng.standard_normal((40, 550, 4, 3))
    want = MultiVariateGaussian(n_jobs=1).fit(x).inv_covariance
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        for n_jobs in (1, 2, 2, 2):
            assert (MultiVariateGaussian(n_jobs=n_jobs).fit(x).inv_covariance == want).all()


@pytest.mark.parametrize(("n_jobs", "count"), [(1, 1), (7, 7), (-10000, 1)])
def test_jobs_are_counted_as_joblib_counts_them(n_jobs, count):
    assert _blocks.cpu_count(n_jobs) == count


def test_minus_one_job_is_all_processors():
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert _blocks.cpu_count(None) == _blocks.cpu_count(-1) == cpus
    assert _blocks.cpu_count(-2) == max(1, cpus - 1)


@pytest.mark.parametrize(("n_jobs", "got"), [(0, "0"), (1.5, "1.5"), ("all", "'all'"), (True, "True")])
def test_a_bad_number_of_jobs_is_refused(n_jobs, got):
    with pytest.raises((ValueError, TypeError), match=f"n_jobs: expected .*, got {got}"):
        _blocks.cpu_count(n_jobs)


@pytest.mark.parametrize("size", [1, 100, 4 << 20])
def test_operands_that_cannot_be_viewed_as_one_axis_are_walked_too(rng, size):
    x = frozen(rng.standard_normal((6, 5, 4, 3)))
    views = [x, x[::2, ::-1], x.transpose(1, 0, 2, 3), np.broadcast_to(x[:1], x.shape), x[:, :, None]]
    for view in views:
        stack, out = view.shape[:-2], np.empty(view.shape[:-2])
        with blocks_of(size):
            _blocks.over_stack(lambda a: (a.sum(axis=(1, 2)),), stack, [(view, 2)], [out], item_bytes=96)
        np.testing.assert_allclose(out, view.sum(axis=(-1, -2)), rtol=1e-13, atol=1e-13)


def test_outputs_are_written_where_they_belong(rng):
    a, b = frozen(rng.standard_normal((5, 1, 3))), frozen(rng.standard_normal((4, 3)))
    out = np.full((5, 4, 3), np.nan), np.full((5, 4), np.nan)
    with blocks_of(1):
        _blocks.over_stack(
            lambda x, y: (x + y, (x * y).sum(axis=1)), (5, 4), [(a, 1), (b, 1)], out, item_bytes=1
        )
    np.testing.assert_array_equal(out[0], a + b)
    np.testing.assert_array_equal(out[1], (a * b).sum(axis=-1))


@pytest.mark.parametrize("length", [1, 7])
def test_many_threads_give_the_bits_of_one(rng, length, monkeypatch):
    x = frozen(rng.standard_normal((length, 60, 9)))

    def answers():
        s = cov(x)
        model = MultiVariateGaussian().fit(x.swapaxes(0, 1).swapaxes(1, 2))
        return s, pinv(s), mahalanobis(x, x.mean(axis=1), pinv(s)), *model

    with blocks_of(1 << 12):
        want = answers()
        monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3, 4}, raising=False)
        for a, b in zip(answers(), want, strict=True):
            np.testing.assert_array_equal(a, b)


def test_models_may_be_used_from_many_threads(rng):
    model = MultiVariateGaussian().fit(frozen(rng.standard_normal((20, 6, 9, 9))))
    test, answers = frozen(rng.standard_normal((4, 6, 9, 9))), []
    with blocks_of(1 << 12):
        users = [threading.Thread(target=lambda: answers.append(model.mahalanobis(test))) for _ in range(6)]
        for user in users:
            user.start()
        for user in users:
            user.join()
    assert len(answers) == 6
    for d in answers[1:]:
        np.testing.assert_array_equal(d, answers[0])


def test_runs_of_a_long_sample_and_what_unites_them_leave_blas_one_thread(rng, monkeypatch):
    """Its own threads would be busy waiting for more long after the last product."""
    product, counts = _moments._self_product, []

    def watched(*arguments):
        counts.extend(p["num_threads"] for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas")
        return product(*arguments)

    monkeypatch.setattr(_moments, "_self_product", watched)
    with blocks_of(1 << 12):
        cov(rng.standard_normal((2000, 5)))
    assert len(counts) > 4
    assert set(counts) == {1}
