"""Laws of processes: interrupts, forks, ends of the interpreter, limits; each in a process of its own."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import mvgauss

SECONDS = 120
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

BEGIN = """
import os, random, signal, sys, threading, time
import numpy as np
from threadpoolctl import ThreadpoolController
from mvgauss import MultiVariateGaussian, cov
from mvgauss._runtime import blocks, threads

blocks.BLOCK_BYTES = 1 << 14
libraries = ThreadpoolController().select(user_api="blas").lib_controllers

def numbers():
    return [library.num_threads for library in libraries], sys.getswitchinterval()

before = numbers()
x = np.random.default_rng(0).standard_normal((300, 40, 8))
"""


def run(*programs, **environment):
    """Run programs after `BEGIN` in a process of its own, which is killed with its children if it hangs."""
    process = subprocess.Popen(
        [sys.executable, "-c", "".join(map(textwrap.dedent, [BEGIN, *programs]))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(mvgauss.__file__).parents[1],
        env=os.environ | environment,
        start_new_session=True,
    )
    try:
        said, complained = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        _kill(process)
        said, complained = process.communicate()
        pytest.fail(f"hangs after it said {said!r} and {complained!r}")
    _kill(process)
    assert process.returncode == 0, complained
    return said, complained


def _kill(process):
    """Kill what is left of a process and its children."""
    try:
        os.killpg(process.pid, 9)
    except (AttributeError, ProcessLookupError):
        process.kill()


# ---- interrupts


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no timer that sends signals")
def test_an_interrupt_at_any_time_comes_out_as_itself_and_leaves_no_thread_and_no_lock():
    """Some come while threads start or end, most while parts are computed."""
    said, complained = run(
        """
        def interrupt(*_):
            raise KeyboardInterrupt

        signal.signal(signal.SIGALRM, interrupt)
        random.seed(0)
        interrupted = 0
        for _ in range(60):
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 8e-3))
                while True:
                    blocks.run(time.sleep, [1e-3] * 20, n_jobs=3)
            except KeyboardInterrupt:
                interrupted += 1
        # Python's own list may have threads whose start was interrupted, and which never run
        alive = lambda: sum(thread.is_alive() for thread in threading.enumerate())
        until = time.monotonic() + 20
        while alive() > 1 and time.monotonic() < until:
            time.sleep(0.01)
        print(alive(), interrupted == 60)
        answers = []
        thread = threading.Thread(target=lambda: answers.append(cov(x)))
        thread.start()
        thread.join(20)
        print(np.array_equal(answers[0], cov(x)), flush=True)
        os._exit(0)  # Python itself may wait for a thread whose start was interrupted
        """
    )
    assert said == "1 True\nTrue\n"
    assert "RuntimeError" not in complained  # a callback of Python's that is interrupted tells of that


# ---- forks

FORK = """
want = cov(x)

def walks():
    # in a thread of its own, which would wait for a lock that is taken
    answers = []
    thread = threading.Thread(target=lambda: answers.append(cov(x)), daemon=True)
    thread.start()
    thread.join(20)
    return bool(answers) and np.array_equal(answers[0], want)

def fork(child):
    number = os.fork()
    if number == 0:
        try:
            os._exit(child())
        except BaseException:
            os._exit(9)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
"""


@FORKS
def test_a_child_has_the_numbers_from_outside_whoever_held_them_in_its_parent():
    said, _ = run(
        FORK,
        """
        def child():
            as_before = numbers() == before
            return 0 if as_before and walks() and numbers() == before else 1

        over, held = threading.Event(), threading.Barrier(3)

        def holder():
            with threads.held():
                held.wait(60)
                over.wait(60)

        holders = [threading.Thread(target=holder) for _ in range(2)]
        for thread in holders:
            thread.start()
        held.wait(60)
        print(fork(child))
        with threads.held():
            print(fork(child))
        over.set()
        for thread in holders:
            thread.join()
        print(blocks.run(lambda part: fork(child) if part == 1 else 0, range(3), n_jobs=1))
        print(numbers() == before)
        """,
        PYTHONWARNINGS="ignore",
    )
    assert said == "0\n0\n[0, 0, 0]\nTrue\n"


@FORKS
def test_an_exception_at_any_step_of_a_fork_leaves_no_lock_taken():
    """A signal that raises is handled where Python code runs next, which may be that of a fork."""
    said, _ = run(
        FORK,
        """
        import mvgauss
        package = os.path.dirname(mvgauss.__file__)

        class Tracer:
            def __init__(self, fails):
                self.left, self.raised = fails, False

            def __call__(self, frame, event, _):
                if not frame.f_code.co_filename.startswith(package):
                    return None
                self.left -= event == "line"
                if self.left == 0 and not self.raised:
                    self.raised = True
                    raise KeyboardInterrupt
                return self

        def child():
            sys.settrace(None)
            return (0 if walks() else 2) + tracer.raised

        ends = []
        for k in range(1, 100):
            tracer = Tracer(k)
            with threads.held():
                sys.settrace(tracer)
                try:
                    ends.append(fork(child))
                finally:
                    sys.settrace(None)
            assert walks()
            if ends[-1] == 0:  # there was no such step
                break
        print(len(ends) > 1, ends == [1] * (len(ends) - 1) + [0], numbers() == before)
        """,
        PYTHONWARNINGS="ignore",
    )
    assert said == "True True True\n"


# ---- ends of the interpreter


def test_a_fit_works_at_the_end_of_the_interpreter():
    """In a thread that outlives the main thread, and in a function at exit."""
    said, complained = run(
        """
        import atexit

        def answer(cov=cov, x=x, blocks=blocks, print=print):
            blocks.BLOCK_BYTES = 1 << 14
            print(float(cov(x).sum()), flush=True)

        def late():
            threading.main_thread().join()
            answer()

        answer()
        threading.Thread(target=late).start()
        atexit.register(answer)
        """
    )
    answers = said.split()
    assert answers == answers[:1] * 3
    assert not complained


def test_a_thread_that_fits_without_end_is_left_behind_where_it_is_a_daemon():
    _, complained = run(
        """
        def fit():
            while True:
                cov(x)

        threading.Thread(target=fit, daemon=True).start()
        time.sleep(0.2)
        """
    )
    assert not complained


# ---- limits of the system


def test_without_threads_all_is_done_by_the_caller_with_the_same_answers():
    said, _ = run(
        """
        embedding = np.random.default_rng(0).standard_normal((30, 6, 20, 20))

        def answers():
            model = MultiVariateGaussian(n_jobs=3).fit(embedding)
            return [*model, model.mahalanobis(embedding), cov(x)]

        want = answers()

        def start(thread):
            raise RuntimeError("can't start new thread")

        threading.Thread.start = start
        for a, b in zip(answers(), want, strict=True):
            assert np.array_equal(a, b)
        assert threading.active_count() == 1
        assert numbers() == before
        print("done")
        """
    )
    assert said == "done\n"


@pytest.mark.slow
def test_workers_of_joblib_take_one_thread_each():
    pytest.importorskip("joblib")
    said, _ = run(
        """
        import joblib

        def count(_):
            from mvgauss._runtime import threads
            return threads.cpu_count(None)

        with joblib.parallel_config("loky", n_jobs=joblib.cpu_count(), inner_max_num_threads=1):
            print(set(joblib.Parallel()(joblib.delayed(count)(i) for i in range(4))))
        joblib.externals.loky.get_reusable_executor().shutdown()
        """
    )
    assert said == "{1}\n"
