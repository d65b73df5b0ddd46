"""The benchmark runs, names the peers that are missing, and fails where an answer is wrong."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info

from benchmarks import agreement, cost, few, peers
from mvgauss import MultiVariateGaussian
from mvgauss._scatter import in_rows

ROOT = Path(__file__).parents[1]


def run(*arguments, before="pass", folder=None):
    """Run the benchmark on small data, after some code in each of its processes."""
    environment = dict(os.environ)
    if folder is not None:
        (folder / "sitecustomize.py").write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{before}\n")
        environment["PYTHONPATH"] = str(folder)
    command = [sys.executable, "-m", "benchmarks", "--quick", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)


@pytest.mark.slow
def test_a_quick_run_prints_the_table_and_writes_the_same_as_markdown(tmp_path):
    page = tmp_path / "page.md"
    done = run("--only", "pinv", "--markdown", page)
    assert done.returncode == 0, done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 114
    printed = [line.split() for line in done.stdout.splitlines() if line.startswith("pinv")]
    assert len(printed) == 2
    written = [line for line in page.read_text().splitlines() if line.startswith("| pinv")]
    assert [line.replace("|", " ").split() for line in written] == printed


@pytest.mark.slow
def test_what_models_keep_is_printed_and_written(tmp_path):
    page = tmp_path / "page.md"
    done = run("--only", "few-kept", "--markdown", page)
    assert done.returncode == 0, done.stdout + done.stderr
    printed = [line.split() for line in done.stdout.splitlines() if re.match(r"\d+x\d+x", line)]
    assert len(printed) == 8
    written = [line for line in page.read_text().splitlines() if re.match(r"\| \d+x\d+x", line)]
    assert [line.replace("|", " ").split() for line in written] == printed


def test_a_model_keeps_what_its_cost_says_and_less_without_its_moments():
    lines = list(few.kept(quick=True))
    for case, fitted, scoring in zip(few.cases(quick=True, many=True), lines[::2], lines[1::2], strict=True):
        n, c, h, w = case.shape
        assert fitted.bytes == cost.state_bytes(n, c, h * w)
        assert scoring.bytes < fitted.bytes
        for line, most in ((fitted, case.fitted), (scoring, case.scoring)):
            assert line.share == line.bytes / (h * w * c * c * 4)
            assert line.most == most


def test_of_few_samples_a_wrong_ridge_is_more_than_rounding():
    for case in few.cases(quick=True):
        data = few.embeddings(case.shape)
        right, wrong = (
            MultiVariateGaussian(reg_covar=ridge).fit(data.train).mahalanobis(data.image)
            for ridge in (peers.RIDGE, 1.05 * peers.RIDGE)
        )
        assert agreement.error(right, right, few.inverted(data, right)) == 0
        assert agreement.error(wrong, right, few.inverted(data, right)) > 1


@pytest.mark.parametrize("case", few.CASES, ids=lambda case: case.key)
def test_few_samples_are_kept_in_less_than_is_asked_for(case):
    n, c, h, w = case.shape
    assert cost.state_bytes(n, c, h * w) <= case.fitted * h * w * c * c * 4


def test_the_cases_of_few_samples_are_kept_as_rows_at_all_sizes():
    for quick in (False, True):
        for case in few.cases(quick):
            assert in_rows(case.shape[0], case.shape[1])


@pytest.mark.slow
def test_a_wrong_answer_is_named_and_fails(tmp_path):
    wrong = "from benchmarks import peers; peers.numpy_pinv = lambda s: s"
    done = run("--only", "pinv", before=wrong, folder=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count("WRONG: pinv") == 2


@pytest.mark.slow
def test_a_peer_that_breaks_or_ends_is_named_and_fails(tmp_path):
    breaks = "from benchmarks import peers; peers.numpy_pinv = lambda s: 1 / 0"
    done = run("--only", "pinv", before=breaks, folder=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count("(failed: ZeroDivisionError)") == 2
    ends = "import os; from benchmarks import peers; peers.numpy_pinv = lambda s: os._exit(3)"
    done = run("--only", "pinv-deficient", before=ends, folder=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "(failed: the process ended)" in done.stdout


@pytest.mark.slow
def test_a_peer_that_is_not_installed_is_named(tmp_path):
    done = run("--only", "score-1", before="sys.modules['torch'] = None", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(no torch)" in done.stdout
    assert "Not installed, so not measured: torch." in done.stdout


def kernels(stdout):
    """Return the kernels of BLAS that are named."""
    return re.findall(r"with\s(\w+)\skernels", stdout)


@pytest.mark.slow
def test_the_kernels_are_named_and_no_setting_chooses_them(monkeypatch):
    plain = run("--only", "pinv-deficient")
    pools = [i for i in threadpool_info() if i.get("architecture")]
    assert bool(kernels(plain.stdout)) == bool(pools), plain.stdout + plain.stderr
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    done = run("--only", "pinv-deficient")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("Measured without OPENBLAS_CORETYPE, OPENBLAS_NUM_THREADS.\n")
    assert kernels(done.stdout) == kernels(plain.stdout)


@pytest.mark.slow
def test_an_unknown_work_is_refused_with_the_names_there_are():
    done = run("--only", "nothing")
    assert done.returncode == 2
    assert "expected a part of one of fit-100" in done.stderr
    assert "got nothing" in done.stderr
