"""The benchmark runs, names the peers that are missing, and fails where an answer is wrong."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*arguments, before="pass"):
    """Run the benchmark on small data in a process of its own, after some code."""
    code = f"import sys; {before}; from benchmarks.__main__ import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "--quick", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_a_quick_run_prints_the_table_and_writes_the_same_as_markdown(tmp_path):
    page = tmp_path / "page.md"
    done = run("--only", "pinv", "--markdown", page)
    assert done.returncode == 0, done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 110
    printed = [line.split() for line in done.stdout.splitlines() if line.startswith("pinv")]
    assert len(printed) == 2
    written = [line for line in page.read_text().splitlines() if line.startswith("| pinv")]
    assert [line.replace("|", " ").split() for line in written] == printed


def test_a_wrong_answer_is_named_and_fails():
    done = run("--only", "pinv", before="from benchmarks import peers; peers.numpy_pinv = lambda s: s")
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count("WRONG: pinv") == 2


def test_a_peer_that_is_not_installed_is_named():
    done = run("--only", "score-1", before="sys.modules['torch'] = None")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(no torch)" in done.stdout
    assert "Not installed, so not measured: torch." in done.stdout


def test_an_unknown_work_is_refused_with_the_names_there_are():
    done = run("--only", "nothing")
    assert done.returncode == 2
    assert "expected a part of one of fit-100" in done.stderr
    assert "got nothing" in done.stderr
