"""The benchmark runs, names the peers that are missing, and fails where an answer is wrong."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import mvgauss
from benchmarks import agreement, rows
from mvgauss import MultiVariateGaussian

ROOT = Path(__file__).parents[1]
QUICK = {row.key: row for row in rows.rows(quick=True)}


def run(*arguments, before="pass", folder=None):
    """Run the benchmark on small data, after some code in each of its processes."""
    environment = dict(os.environ)
    if folder is not None:
        (folder / "sitecustomize.py").write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{before}\n")
        environment["PYTHONPATH"] = str(folder)
    command = [sys.executable, "-m", "benchmarks", "--quick", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)


def cells(line):
    """Return the cells of a line of a table, printed or written."""
    return re.split(r"  +|\|", line.strip().strip("|").replace(" | ", "|").strip())


@pytest.mark.slow
def test_a_quick_run_prints_the_table_and_writes_the_same_on_the_page_with_its_chart(tmp_path):
    page = tmp_path / "page.md"
    done = run("--only", "pinv,busy-1-score-1", "--page", page)
    assert done.returncode == 0, done.stdout + done.stderr
    printed = [cells(line) for line in done.stdout.splitlines() if re.match(r"(pinv|score) ", line)]
    assert len(printed) == 3
    times, _, details = page.read_text().partition("## Details")
    assert [cells(line) for line in times.splitlines() if re.match(r"\| (pinv|score) ", line)] == printed
    assert len(re.findall(r"\n\| (?:pinv|score) ", details)) == 3
    assert times.index("**asked for**") < times.index("## Covariances") < times.index("## Beside busy")
    chart = ET.parse(tmp_path / "images" / "benchmarks.svg")
    texts = [text.text for text in chart.iter("{http://www.w3.org/2000/svg}text")]
    drawn = [f"{name} / {other}" for name, other, *_ in printed if " beside " not in name]
    assert [text for text in texts if " / " in text] == drawn


@pytest.mark.slow
def test_an_older_checkout_is_compared_and_its_wrong_answers_fail(tmp_path):
    shutil.copytree(Path(mvgauss.__file__).parent, tmp_path / "mvgauss")
    done = run("--only", "pinv-deficient,partial", "--against", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^(?:pinv|partial_fit) .+ \d+\.\d\d to \d+\.\d\d ", done.stdout, re.M)) == 2
    with (tmp_path / "mvgauss" / "__init__.py").open("a") as file:
        file.write("\n\ndef pinv(covariance):\n    return covariance\n")
    done = run("--only", "pinv-deficient", "--against", tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "WRONG: pinv" in done.stdout
    shutil.rmtree(tmp_path / "mvgauss")
    done = run("--only", "pinv-deficient", "--against", tmp_path)
    assert (done.returncode, "failed: " in done.stdout) == (1, True)


@pytest.mark.parametrize("key", ["fit-100", "few-200-fit", "few-60-fit", "few-1792-fit"])
def test_a_ridge_that_is_off_by_a_twentieth_is_more_than_rounding(key):
    data = QUICK[key].make()
    right, wrong = (
        MultiVariateGaussian(reg_covar=ridge).fit(data.train).mahalanobis(data.images)
        for ridge in (agreement.RIDGE, 1.05 * agreement.RIDGE)
    )
    allowed = QUICK[key].allowed(data, right)
    assert agreement.error(right, right, allowed) == 0
    assert agreement.error(wrong, right, allowed) > 1


def test_every_row_has_a_key_of_its_own_and_the_same_at_both_sizes():
    assert [row.key for row in rows.rows()] == list(QUICK)


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
def test_a_module_that_is_not_installed_is_named(tmp_path):
    before = "sys.modules['torch'] = sys.modules['onnxruntime'] = None"
    done = run("--only", "fit-100,onnx", before=before, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"linalg.inv \(no torch\).*onnxruntime \(no .*onnxruntime\)", done.stdout, re.S)
    assert re.search(r"Not installed, so not measured: .*onnxruntime, torch\.", done.stdout)
