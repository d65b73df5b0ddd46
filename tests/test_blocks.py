"""How a long stack is computed: every item once, in order, whatever the blocks and threads."""

import contextvars
import gc
import itertools
import math
import sys
import threading
import time
import weakref
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from common import blocks_of, frozen, needs_threads, seeds
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import ThreadpoolController, threadpool_limits

from mvgauss import MultiVariateGaussian, cov, mahalanobis, pinv
from mvgauss._arguments import BadItem
from mvgauss._runtime import blocks
from mvgauss._stack import Stack

SECONDS = 60
BLAS = ThreadpoolController().select(user_api="blas")


def blas_threads():
    """Return how many threads each BLAS of this process may use."""
    return [library.num_threads for library in BLAS.lib_controllers]


# ---------------------------------------------------------------------------------------------------------
# slices


@given(st.integers(1, 500), st.integers(0, 1 << 24), st.integers(1, 64), st.sampled_from([1, 4096, 4 << 20]))
def test_slices_cover_a_range_once_in_order_and_evenly(length, item_bytes, least, size):
    with blocks_of(size):
        parts = blocks.slices(length, item_bytes, least=least)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(length))
    sizes = {part.stop - part.start for part in parts}
    assert min(sizes) >= max(1, max(sizes) - 1)


@pytest.mark.parametrize(("item_bytes", "count"), [(1, 1), (64, 1), (128, 2), (640, 10), (1 << 30, 10)])
def test_slices_are_as_large_as_a_block(item_bytes, count):
    with blocks_of(640):
        assert len(blocks.slices(10, item_bytes)) == count


def test_slices_have_at_least_so_many_items():
    with blocks_of(1):
        assert [part.stop - part.start for part in blocks.slices(24, 8, least=6)] == [6] * 4


def test_an_empty_range_is_one_slice():
    assert blocks.slices(0, 8) == [slice(0, 0)]


@given(st.integers(1, 500), st.integers(1, 64), st.integers(1, 16))
def test_slices_can_be_shared_evenly_unless_they_were_half_as_large(length, size, shares):
    with blocks_of(size):
        whole, shared = (len(blocks.slices(length, 1, shares=k)) for k in (1, shares))
    assert whole <= shared <= 2 * whole
    assert whole == 1 or shared % shares == 0 or shared in (2 * whole, length)
    assert whole > 1 or shared == 1
    assert shared < whole + shares


# ---------------------------------------------------------------------------------------------------------
# tasks on threads


@pytest.mark.parametrize("n_jobs", [None, 1, 2, 5, -1])
def test_every_part_is_done_once_on_any_number_of_threads_and_results_are_in_order(n_jobs):
    begun = []

    def task(part):
        begun.append(part)
        time.sleep(0.002 if part % 2 else 0)
        return part * part

    assert blocks.run(task, range(25), n_jobs=n_jobs) == [part * part for part in range(25)]
    assert sorted(begun) == list(range(25))
    assert n_jobs != 1 or begun == list(range(25))


def test_no_part_has_no_result():
    assert blocks.run(pytest.fail, []) == []


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


@pytest.mark.parametrize("started", [0, *(pytest.param(n, marks=needs_threads) for n in (1, 2))])
def test_where_threads_cannot_start_the_others_do_all_parts(monkeypatch, started):
    start, count = threading.Thread.start, itertools.count()

    def refused(thread):
        if next(count) >= started:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)
    assert blocks.run(abs, range(20), n_jobs=4) == list(range(20))
    assert next(count) == started + 1, "one attempt that fails is enough"


def test_tasks_see_the_context_of_the_caller_and_keep_their_changes_to_themselves():
    name = contextvars.ContextVar("name", default="none")

    def task(_):
        seen = name.get(), np.geterr()["divide"]
        name.set("task")
        return seen[0], seen[1], np.float64(1) / np.float64(0)

    for n_jobs in (1, 2):
        with np.errstate(divide="raise"):
            token = name.set("caller")
            answers = blocks.run(task, range(2), n_jobs=n_jobs)
            assert {seen[1:] for seen in answers} == {("ignore", np.inf)}
            assert {seen[0] for seen in answers} <= {"caller", "task"}
            assert answers[0][0] == name.get() == "caller"
            assert np.geterr()["divide"] == "raise"
            name.reset(token)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_run_inside_a_run_of_several_parts_starts_no_threads(n_jobs):
    def outer(_):
        return set(blocks.run(lambda _: threading.get_ident(), range(4), n_jobs=4)) == {threading.get_ident()}

    assert blocks.run(outer, range(4), n_jobs=n_jobs) == [True] * 4


@needs_threads
@pytest.mark.parametrize(("n_jobs", "count"), [(None, 3), (5, 3), (2, 2), (1, 1)])
def test_one_part_alone_leaves_its_threads_to_blas_and_to_a_run_within(n_jobs, count):
    all_of_them = threading.Barrier(count, timeout=SECONDS)

    def inner(_):
        all_of_them.wait()
        return threading.get_ident()

    def outer(_):
        return blas_threads(), len(set(blocks.run(inner, range(2 * count), n_jobs=3)))

    with threadpool_limits(3, user_api="blas"):
        limited = blas_threads()
        ((answer,),) = blocks.run(lambda _: blocks.run(outer, [0], n_jobs=n_jobs), [0])
    assert answer == (limited, count)


# ---------------------------------------------------------------------------------------------------------
# progress


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


# ---------------------------------------------------------------------------------------------------------
# walks


class Pair(Stack):
    """A stack of two arrays and a number."""

    def __init__(self, a, b, number=7):
        self.a, self.b, self.number = a, b, number


@dataclass(frozen=True)
class Frozen(Stack):
    """A stack that nothing can be assigned to."""

    a: np.ndarray
    name: str


def test_a_stack_is_indexed_item_by_item(rng):
    a = frozen(rng.standard_normal((5, 2)))
    for index in (slice(1, 3), np.array([4, 0]), np.array([True, False, True, False, False])):
        pair, one = Pair(a, a[:, 0])[index], Frozen(a, "name")[index]
        np.testing.assert_array_equal(pair.a, a[index])
        np.testing.assert_array_equal(pair.b, a[index, 0])
        np.testing.assert_array_equal(one.a, a[index])
        assert (pair.number, one.name, type(one)) == (7, "name", Frozen)


@given(st.integers(0, 40), st.sampled_from([1, 100, 4 << 20]), st.sampled_from([1, 3]), seeds)
def test_a_walk_returns_the_whole_of_what_a_kernel_returns_of_blocks(length, size, n_jobs, seed):
    x = frozen(np.random.default_rng(seed).standard_normal((length, 3)))

    def kernel(b):
        double = np.asfortranarray(2 * x[b])
        return double, (Pair(x[b].sum(axis=1), -double), None), Frozen((x[b] > 0).any(axis=1), "name")

    with blocks_of(size):
        double, (pair, nothing), one = blocks.walk(kernel, length, 24, n_jobs=n_jobs)
        alone = blocks.walk(lambda b: x[b, 0], length, 24, n_jobs=n_jobs)
        assert blocks.walk(lambda b: None, length, 24, n_jobs=n_jobs) is None
    np.testing.assert_array_equal(double, 2 * x)
    np.testing.assert_array_equal(pair.b, -double)
    np.testing.assert_array_equal(pair.a, x.sum(axis=1))
    assert (pair.number, nothing, one.name, one.a.dtype) == (7, None, "name", bool)
    np.testing.assert_array_equal(one.a, (x > 0).any(axis=1))
    np.testing.assert_array_equal(alone, x[:, 0])
    for a in (double, pair.a, pair.b, one.a, alone):
        assert a.flags.owndata
        assert a.flags.c_contiguous
        assert not np.may_share_memory(a, x)


@given(st.sets(st.integers(0, 23), min_size=1), st.integers(1, 30), st.sampled_from([1, 3]), st.data())
def test_of_bad_items_the_first_is_refused_with_its_index(bad, size, n_jobs, data):
    """A kernel looks for one kind of fault after the other, so what it finds first may not be the first."""
    kind = {item: data.draw(st.sampled_from("ab")) for item in bad}

    def kernel(b):
        for fault in "ab":
            for item in range(b.start, b.stop):
                if kind.get(item) == fault:
                    raise BadItem(item - b.start, "x", "none that is bad", fault)

    first = min(bad)
    for stack, index in (((4, 6), divmod(first, 6)), (None, first)):
        with blocks_of(size), pytest.raises(ValueError, match="x: expected") as caught:
            blocks.walk(kernel, 24, 1, stack=stack, n_jobs=n_jobs)
        want = f"x: expected none that is bad, got {kind[first]} at index {index} of the stack"
        assert str(caught.value) == want


@st.composite
def operands(draw):
    """Draw an array of any strides, the number of its core axes, and a stack that it broadcasts to."""
    shape = draw(st.lists(st.integers(1, 4), max_size=4))
    x = frozen(np.random.default_rng(draw(seeds)).standard_normal(shape))
    x = x.transpose(draw(st.permutations(range(x.ndim))))
    x = x[tuple(slice(None, None, draw(st.sampled_from([1, -1, 2]))) for _ in shape)]
    core = draw(st.integers(0, x.ndim))
    own = x.shape[: x.ndim - core]
    stack = [draw(st.integers(1, 3)) if n == 1 else n for n in own]
    return x, core, (*draw(st.lists(st.integers(0, 3), max_size=2)), *stack)


@given(operands())
def test_blocks_of_an_operand_are_those_of_it_broadcast_and_flattened(operand):
    x, core, stack = operand
    core_shape = x.shape[x.ndim - core :]
    want = np.broadcast_to(x, (*stack, *core_shape)).reshape(math.prod(stack), *core_shape)
    flat = blocks.flat(x, core, stack)
    for start in range(0, max(1, len(want)), 2):
        b = slice(start, min(start + 2, len(want)))
        np.testing.assert_array_equal(flat[b], want[b])


def test_blocks_of_an_operand_are_read_only_views_wherever_they_can_be(rng):
    x = rng.standard_normal((4, 5, 2, 3))
    for a, stack in [
        (x, (4, 5)),
        (x[0], (5,)),
        (x[:, :1], (4, 1)),
        (x[0, 0], (4, 5)),
        (x[0, 0], ()),
        (x[:, :, ::-1], (4, 5)),
    ]:
        block = blocks.flat(a, 2, stack)[slice(0, 1)]
        assert np.may_share_memory(block, x)
        assert not block.flags.writeable


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


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_what_a_walk_returned_is_freed_with_the_last_reference(rng, n_jobs):
    """Without a wait for the garbage collector, which counts objects and not their bytes."""
    x = frozen(rng.standard_normal((300, 4)))
    gc.collect()
    gc.disable()
    try:
        with blocks_of(1000):
            result, _ = blocks.walk(lambda b: (2 * x[b], Pair(x[b], x[b, 0])), len(x), 32, n_jobs=n_jobs)
        freed = weakref.ref(result)
        del result, _
        assert freed() is None
    finally:
        gc.enable()
