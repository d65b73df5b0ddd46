"""What a user sees of blocks and threads: the same bits, failures as themselves, no thread left, bars."""

import gc
import sys
import threading
import time
import weakref
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from common import blocks_of, frozen, needs_threads
from threadpoolctl import threadpool_limits

from mvgauss import MultiVariateGaussian, cov, mahalanobis, pinv
from mvgauss._runtime import blocks

SECONDS = 60


# ---- failures


@pytest.mark.parametrize("error", [KeyboardInterrupt, IndexError, StopIteration])
@pytest.mark.parametrize("n_jobs", [1, 3])
def test_the_first_failure_stops_the_run_and_comes_through_as_itself(n_jobs, error):
    done = []

    def task(part):
        if part == 3:
            raise error
        time.sleep(0.002)  # or all parts are done while the system lets the failing thread wait
        done.append(part)

    with pytest.raises(error):
        blocks.run(task, range(200), n_jobs=n_jobs)
    assert {0, 1, 2} <= set(done)
    assert len(done) < 100


@needs_threads
def test_of_several_failures_that_of_the_first_part_comes_through():
    later = threading.Event()

    def task(part):
        if part == 0:
            assert later.wait(20)
            raise ValueError("the first part")
        later.set()
        raise ValueError("another part")

    with pytest.raises(ValueError, match="the first part"):
        blocks.run(task, range(9), n_jobs=2)


@needs_threads
def test_an_interrupt_comes_through_whatever_else_failed():
    caller, at_work, interrupted = threading.current_thread(), threading.Event(), threading.Event()

    def task(part):
        if threading.current_thread() is not caller:
            at_work.set()  # on an earlier part than the one that is interrupted
            assert interrupted.wait(20)
            raise ValueError
        assert at_work.wait(20)
        if part == 2:
            interrupted.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        blocks.run(task, range(3), n_jobs=2)


@needs_threads
def test_an_interrupt_while_threads_are_waited_for_comes_through_when_they_have_ended(monkeypatch):
    """The caller has nothing left to do; the part that has begun is waited for again."""
    join, joined, ended = threading.Thread.join, [], []

    def interrupted(thread, timeout=None):
        joined.append(thread)
        if len(joined) == 1:
            raise KeyboardInterrupt
        join(thread, timeout)

    caller, both = threading.current_thread(), threading.Barrier(2)

    def task(part):
        both.wait(SECONDS)  # neither takes both parts, however late the other is
        if threading.current_thread() is not caller:
            time.sleep(0.1)
            ended.append(part)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        blocks.run(task, range(2), n_jobs=2)
    assert len(ended) == 1
    assert not joined[0].is_alive()


class LateThread(threading.Thread):
    """A thread whose start is interrupted before it has begun, as one that waits for a core."""

    def start(self):
        threading.Timer(0.02, super().start).start()
        raise KeyboardInterrupt


@needs_threads
def test_an_interrupt_while_threads_start_comes_through_as_itself_and_no_thread_stays(monkeypatch):
    before, done = threading.active_count(), []
    monkeypatch.setattr(threading, "Thread", LateThread)
    with pytest.raises(KeyboardInterrupt):
        blocks.run(done.append, range(9), n_jobs=2)
    monkeypatch.undo()
    assert not done
    assert not [thread for thread in threading.enumerate() if thread.name == "mvgauss"]
    assert threading.active_count() <= before + 1  # the timer, which may be about to end


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
            blocks.run(task, range(2), n_jobs=2)
        assert held
        assert all(reference() is None for reference in held)
    finally:
        gc.enable()


@needs_threads
@pytest.mark.parametrize("n_jobs", [1, 2, 3])
def test_the_caller_works_too_and_no_thread_stays(n_jobs):
    before, all_of_them = threading.active_count(), threading.Barrier(n_jobs, timeout=SECONDS)

    def task(_):
        all_of_them.wait()
        return threading.get_ident()

    workers = set(blocks.run(task, range(2 * n_jobs), n_jobs=n_jobs))
    assert len(workers) == n_jobs
    assert threading.get_ident() in workers
    assert threading.active_count() == before


# ---- progress


class Bar:
    """What a run needs of tqdm."""

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


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_bar_counts_every_block(bars, n_jobs):
    with blocks_of(1):
        blocks.walk(lambda b: None, 50, 8, n_jobs=n_jobs, progress="walking")
    (bar,) = bars
    assert (bar.desc, bar.count, bar.total, bar.closed) == ("walking", 50, 50, True)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_bar_is_closed_after_a_failure(bars, n_jobs):
    with pytest.raises(ZeroDivisionError):
        blocks.run(lambda _: 1 / 0, range(5), n_jobs=n_jobs, progress="dividing")
    (bar,) = bars
    assert (bar.desc, bar.total, bar.count, bar.closed) == ("dividing", 5, 0, True)


def test_a_bar_that_fails_stops_the_run(bars, monkeypatch):
    def update(_):
        raise ZeroDivisionError

    done = []
    monkeypatch.setattr(Bar, "update", update)
    with pytest.raises(ZeroDivisionError):
        blocks.run(done.append, range(50), n_jobs=2, progress="failing")
    assert len(done) <= 2


def test_without_tqdm_a_bar_is_refused_and_nothing_is_fitted(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    model = MultiVariateGaussian(progress=True)
    with pytest.raises(ImportError, match=r"progress=True: expected the package tqdm.*mvgauss\[progress\]"):
        model.fit(rng.standard_normal((9, 2, 100)))
    assert not model.__sklearn_is_fitted__()


# ---- results


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
        monkeypatch.setattr("os.cpu_count", lambda: 5)
        for a, b in zip(answers(), want, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_limit_of_blas_that_the_caller_set_changes_no_bit(rng):
    x = rng.standard_normal((40, 250, 4, 3))
    want = MultiVariateGaussian(n_jobs=1).fit(x).inv_covariance
    with threadpool_limits(2, user_api="blas"):
        for n_jobs in (1, 2):
            np.testing.assert_array_equal(MultiVariateGaussian(n_jobs=n_jobs).fit(x).inv_covariance, want)


def test_how_the_caller_treats_floating_point_errors_changes_nothing_and_stays(rng):
    x = rng.standard_normal((9, 3, 50))
    x[:, 1, ::2] = 7
    with blocks_of(1000):
        want = MultiVariateGaussian(reg_covar=0).fit(x).mahalanobis(x)
        for n_jobs in (1, 2):
            with np.errstate(all="raise"):
                got = MultiVariateGaussian(reg_covar=0, n_jobs=n_jobs).fit(x).mahalanobis(x)
                assert set(np.geterr().values()) == {"raise"}
            np.testing.assert_array_equal(got, want)


def test_a_result_is_freed_with_the_last_reference(rng):
    """Without a wait for the garbage collector, which counts objects and not their bytes."""
    x = frozen(rng.standard_normal((300, 5, 4)))
    gc.collect()
    gc.disable()
    try:
        with blocks_of(1000):
            result = cov(x)
        freed = weakref.ref(result)
        del result
        assert freed() is None
    finally:
        gc.enable()
