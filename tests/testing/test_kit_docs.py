"""The page on testing: its examples run, and its table is what the script measures."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mvgauss.testing import FEATURES, load_vectors
from mvgauss.testing._vectors import FILE

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "testing.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torch", "array_api"])
def test_the_examples_for_other_arrays_pass(name):
    pytest.importorskip({"torch": "torch", "array_api": "array_api_strict"}[name])
    pytest.importorskip({"torch": "torch", "array_api": "array_api_extra"}[name])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", DOCS / f"testing_{name}.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=DOCS.parent)
    assert done.returncode == 0, done.stdout
    assert " skipped" not in done.stdout


@pytest.mark.slow
def test_a_wrong_example_for_torch_does_not(tmp_path):
    pytest.importorskip("torch")
    right = (DOCS / "testing_torch.py").read_text(encoding="utf-8")
    wrong = right.replace("(w * a).sum(-1)", "(w * w).sum(-1)")
    assert wrong != right
    (tmp_path / "test_wrong.py").write_text(wrong, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    failed = re.findall(r"^FAILED \S+::(.*?)(?: - .*)?$", done.stdout, re.MULTILINE)
    assert "test_a_law_of_the_port[with_both_weights_the_divisor_uses_f_a_squared]" in failed
    assert any("both weights, ddof = 1" in name for name in failed)
    assert "test_a_golden_vector[cov: both weights, ddof = 0]" not in failed


READ = """
import {{ load }} from {reader};
const bits = (a) => Buffer.from(new Float64Array(a.data).buffer).toString("hex");
const seen = {{}};
for (const v of load({file})) {{
  seen[v.name] = {{}};
  for (const part of ["arguments", "answers", "bounds"])
    for (const [name, a] of Object.entries(v[part]))
      seen[v.name][part + " " + name] = a.data ? [a.shape, bits(a)] : a;
}}
console.log(JSON.stringify(seen));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node.js here")
def test_the_reader_in_javascript_reads_the_same_bits(tmp_path):
    program = tmp_path / "read.mjs"
    reader = (DOCS / "testing_vectors.mjs").as_uri()
    program.write_text(READ.format(reader=json.dumps(reader), file=json.dumps(str(FILE))), encoding="utf-8")
    done = subprocess.run(["node", program], capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout)
    vectors = load_vectors()
    assert len(seen) == len(vectors)
    for v in vectors:
        for part in ("arguments", "answers", "bounds"):
            for name, a in getattr(v, part).items():
                got = seen[v.name].pop(f"{part} {name}")
                if isinstance(a, np.ndarray):
                    flat = np.ravel(a)
                    flat = flat.view(flat.real.dtype) if flat.dtype.kind == "c" else flat
                    wide = flat.astype("<f8")
                    wide[np.isnan(wide)] = np.nan  # one NaN for all
                    assert got == [list(a.shape), wide.tobytes().hex()]
                else:
                    assert got == a
        assert seen[v.name] == {}


def test_the_reader_in_javascript_has_fifteen_lines():
    lines = (DOCS / "testing_vectors.mjs").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 15


def numbers(table):
    """Return the first cells and the numbers of each row of a table in Markdown."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {tuple(row[:2]): [float(v) for v in row[2:]] for row in rows}


@pytest.mark.slow
def test_the_accuracy_of_the_page_is_what_the_script_measures():
    """To a factor of four, since the last roundings depend on the machine's BLAS."""
    command = [sys.executable, DOCS / "accuracy.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    measured = numbers(done.stdout.strip())
    written = numbers(PAGE.split("<!-- accuracy: begin -->\n")[1].split("\n<!-- accuracy: end -->")[0])
    assert measured.keys() == written.keys()
    for row, values in measured.items():
        ours, numpys, single = values
        assert ours <= 1, row
        assert numpys <= 1, row
        assert single > 1, row
        np.testing.assert_array_less(np.abs(np.log(np.array(values) / written[row])), np.log(4.001))


def test_the_page_lists_all_features():
    rows = [f"| `{f}` | `{n}` | {meaning} |" for f, names in FEATURES.items() for n, meaning in names.items()]
    assert "\n".join(rows) in PAGE


def test_the_page_names_all_checks():
    for name in ("cov", "pinv", "mahalanobis", "gaussian"):
        assert f"`check_{name}(" in PAGE
        assert f"`{name}_checks()`" in PAGE
