"""The pages of the documentation: their code runs, and they load and reveal nothing from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mvgauss
from mvgauss import MultiVariateGaussian

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
FENCE = re.compile(r"^```(?P<kind>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
#: What pages may import besides NumPy, SciPy and the standard library: the extra `docs` brings it.
OPTIONAL = ("dask", "h5py", "matplotlib", "onnx", "onnxruntime", "sklearn", "torch", "tqdm", "zarr")
#: What programs and optional parts need that pages import or run.
NEEDS = {"fit_folder": ["tqdm"], "mvgauss.pictures": ["matplotlib", "onnxruntime", "PIL"]}
#: What a reader sees of code without running it: shell commands, output, data.
SHOWN = {"sh", "text", "console", "bibtex", "toml", "yaml", ""}
#: How a page shows an error: without a traceback, which would name places of this machine.
REFUSED = "except ValueError as error:\n    print(error)\n"


def named(path):
    """Return the name of a page in messages."""
    return path.relative_to(DOCS).as_posix()


def fences(page):
    """Yield the kind, the body and the line number of each fenced block of a page."""
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        yield match["kind"].strip(), match["body"], text.count("\n", 0, match.start()) + 1


def program(page):
    """Return the cells of a page as one program; what a cell shows as an error has to be one."""
    lines = []
    for kind, body, line in fences(page):
        if kind != "{code-cell} python":
            continue
        options, code = re.match(r"((?::[^\n]*\n)*)(.*)", body, re.DOTALL).groups()
        start = line + options.count("\n")
        if "raises-exception" in options:
            start -= 1
            code = "try:\n" + re.sub(r"^(?=.)", "    ", code, flags=re.MULTILINE) + REFUSED
        code = code.replace(REFUSED, REFUSED + "else: raise AssertionError('nothing was refused')\n")
        lines += [""] * (start - len(lines)) + code.splitlines()
    return "\n".join(lines)


CELLS = [page for page in PAGES if program(page).strip()]


@pytest.mark.slow
@pytest.mark.parametrize("page", CELLS, ids=named)
def test_the_cells_of_a_page_run(page, tmp_path):
    code = program(page)
    for package in OPTIONAL:
        if re.search(rf"^\s*(import|from) {package}\b", code, re.MULTILINE):
            pytest.importorskip(package)
    for name, packages in NEEDS.items():
        if name in code:
            for package in packages:
                pytest.importorskip(package)
    environment = {
        **os.environ,
        "MPLBACKEND": "agg",
        "TMPDIR": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    source = f"exec(compile({code!r}, {str(page)!r}, 'exec'))"
    command = [sys.executable, "-W", "error", "-c", source]
    done = subprocess.run(command, cwd=page.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_statistics_of_anomalib_are_exported(tmp_path):
    """The names are those of a Lightning checkpoint of its PaDiM."""
    torch = pytest.importorskip("torch")
    mean, inverse = np.ones((3, 4), np.float32), np.tile(np.eye(3, dtype=np.float32), (4, 1, 1))
    state = {"gaussian.mean": mean, "gaussian.inv_covariance": inverse, "idx": np.array([2, 0, 5])}
    state = {f"model.{name}": torch.from_numpy(a) for name, a in state.items()}
    torch.save({"state_dict": state, "epoch": 1}, tmp_path / "model.ckpt")
    command = [sys.executable, DOCS / "howto" / "export_anomalib.py", "model.ckpt", "padim.npz"]
    subprocess.run(command, cwd=tmp_path, check=True)
    with np.load(tmp_path / "padim.npz") as file:
        assert sorted(file) == ["idx", "inv_covariance", "mean"]
        model = MultiVariateGaussian.from_parameters(file["mean"], file["inv_covariance"])
        assert file["idx"].tolist() == [2, 0, 5]
    assert model.mahalanobis(np.ones((2, 3, 4))).tolist() == [[0.0] * 4] * 2


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's, about itself
def test_a_network_of_torch_is_exported_with_its_layers(tmp_path, monkeypatch):
    """As a dictionary, the way anomalib's feature extractor gives them; for any number of pictures."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")

    class Extractor(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Conv2d(3, 4, 3, 2, 1), torch.nn.Conv2d(4, 6, 3, 2, 1)

        def forward(self, x):
            first = self.first(x)
            return {"second": self.second(first), "first": first}

    monkeypatch.syspath_prepend(str(DOCS / "howto"))
    from export_network import export

    extractor, x = Extractor().eval(), torch.rand(5, 3, 16, 16)
    export(extractor, ["first", "second"], (16, 16), str(tmp_path / "net.onnx"))
    session = runtime.InferenceSession(tmp_path / "net.onnx")
    assert [output.name for output in session.get_outputs()] == ["first", "second"]
    for name, layer in zip(["first", "second"], session.run(None, {"pictures": x.numpy()}), strict=True):
        np.testing.assert_allclose(layer, extractor(x)[name].detach().numpy(), atol=1e-5)


def test_there_is_code_to_run():
    assert len(CELLS) >= 10


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_page_has_no_python_that_is_not_executed(page):
    for kind, body, line in fences(page):
        executed = kind.startswith("{") or (kind == "python" and body.startswith(">>> "))
        assert executed or kind in SHOWN, f"line {line}: a block of {kind!r} is not executed"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_of_a_page_are_the_same_in_powershell_and_cmd(page):
    for kind, body, line in fences(page):
        if kind == "sh":
            assert not re.search(r"\\$|&&|^(export|source) ", body, re.MULTILINE), f"line {line}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [*PAGES, DOCS / "conf.py"], ids=named)
def test_a_page_names_no_place_of_this_machine(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"/(work|home|root|tmp|usr|Users)/", text)
    assert not re.search(r"pypi\.org|pythonhosted|conda\.anaconda|cdn", text)


def test_the_reference_has_every_public_name():
    text = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.rst"))
    documented = set(re.findall(r"^\.\. auto\w+:: (?:mvgauss\.)?([\w.]+)", text, re.MULTILINE))
    assert set(mvgauss.__all__) <= documented
    members = {name for name in dir(mvgauss.MultiVariateGaussian) if not name.startswith("_")}
    assert {f"MultiVariateGaussian.{name}" for name in members} <= documented
