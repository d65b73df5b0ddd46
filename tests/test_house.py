"""The shape of the house: which room knows which, what an import brings in, the fixed names."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import mvgauss

FOLDER = Path(mvgauss.__file__).parent

#: The rooms, floor by floor: a room imports from lower floors only. Other files are optional parts,
#: which import what they like and which no room imports.
FLOORS = [
    {"_checks"},
    {"_blas", "_embedding", "_files", "_lapack", "_maps", "_scores"},
    {"_blocks"},
    {"_moments", "_triangles"},
    {"_whitening"},
    {"_shrinkage"},
    {"_fitted"},
    {"_html", "_training"},
    {"_model"},
    {"_scoring"},
    {"_gaussian"},
    {"__init__"},
]
ROOMS = [room for floor in FLOORS for room in sorted(floor) if (FOLDER / f"{room}.py").is_file()]
#: Maths rooms know nothing of pictures and files.
MATHS = ["_moments", "_scores", "_shrinkage", "_training", "_triangles", "_whitening"]
#: Packages besides NumPy, SciPy and the standard library; the optional ones are imported when asked for.
OUTSIDE = {"_blas": {"threadpoolctl"}, "_blocks": {"tqdm"}, "_gaussian": {"sklearn"}, "_model": {"sklearn"}}


def imported(room):
    """Return the names of the modules that the source of a room imports."""
    names = set()
    for node in ast.walk(ast.parse((FOLDER / f"{room}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {
                f"{node.module}.{alias.name}" if node.module == "mvgauss" else node.module
                for alias in node.names
            }
    return names


def rooms_of(room):
    """Return the rooms that a room imports."""
    return {name.split(".")[1] for name in imported(room) if name.startswith("mvgauss.")}


@pytest.mark.parametrize("room", ROOMS)
def test_imports_between_rooms_go_one_way(room):
    floor = next(i for i, rooms in enumerate(FLOORS) if room in rooms)
    assert rooms_of(room) <= set().union(*FLOORS[:floor])


def test_every_private_room_has_its_floor():
    assert {path.stem for path in FOLDER.glob("_*.py")} <= set(ROOMS)


@pytest.mark.parametrize("room", MATHS)
def test_maths_rooms_know_nothing_of_pictures_and_files(room):
    assert not rooms_of(room) & {"_embedding", "_files", "_maps"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_uses_numpy_scipy_and_the_standard_library(room):
    packages = {name.split(".")[0] for name in imported(room)} - set(sys.stdlib_module_names)
    assert packages <= {"mvgauss", "numpy", "scipy"} | OUTSIDE.get(room, set())


def test_importing_brings_in_nothing_that_is_optional():
    program = (
        "import sys, mvgauss\n"
        "optional = {'torch', 'matplotlib', 'hypothesis', 'tqdm', 'sklearn', 'pandas', 'pytest'}\n"
        "print(sorted(optional & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert not done.stderr


def test_the_public_names_are_these():
    assert sorted(mvgauss.__all__) == [
        "Moments",
        "MultiVariateGaussian",
        "anomaly_map",
        "cov",
        "mahalanobis",
        "pinv",
    ]
    assert all(hasattr(mvgauss, name) for name in mvgauss.__all__)
    assert mvgauss.__version__.count(".") == 2
    assert (FOLDER / "py.typed").is_file()


def written(function):
    """Return a signature without its annotations."""
    signature = inspect.signature(function)
    parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(inspect.Signature(parameters))


SIGNATURES = {
    mvgauss.cov: (
        "(observations, rowvar=False, bias=False, ddof=None, aweights=None, *, fweights=None, dtype=None)"
    ),
    mvgauss.pinv: "(covariance, rtol=None, *, return_rank=False)",
    mvgauss.mahalanobis: "(x, mean, inv_covariance, *, squared=False)",
    mvgauss.anomaly_map: "(distances, image_size, sigma=4.0)",
    mvgauss.Moments.merge: "(self, other)",
    mvgauss.Moments.cov: "(self, bias=False, ddof=None)",
    mvgauss.MultiVariateGaussian.fit: "(self, embedding, y=None, sample_weight=None)",
    mvgauss.MultiVariateGaussian.forward: "(self, embedding)",
    mvgauss.MultiVariateGaussian.__call__: "(self, embedding)",
    mvgauss.MultiVariateGaussian.mahalanobis: "(self, embedding, squared=False)",
    mvgauss.MultiVariateGaussian.save: "(self, path)",
    mvgauss.MultiVariateGaussian.load: "(path)",
}


@pytest.mark.parametrize("function", list(SIGNATURES), ids=lambda f: f.__qualname__)
def test_the_fixed_signatures_are_these(function):
    """A method may have got options since: by keyword only."""
    fixed, parameters = SIGNATURES[function], inspect.signature(function).parameters.values()
    assert written(function).startswith(fixed.removesuffix(")"))
    count = fixed.count(",") + 1 - fixed.count("*")
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in list(parameters)[count:])


def test_the_constructor_takes_fixed_names_in_their_order():
    """Options of later issues may be absent, but none is renamed, moved or given another default."""
    fixed = {
        "n_features": None,
        "n_patches": None,
        "reg_covar": 0.01,
        "shrinkage": None,
        "ddof": 1,
        "feature_axis": 1,
        "dtype": None,
        "n_jobs": None,
        "progress": False,
    }
    parameters = inspect.signature(mvgauss.MultiVariateGaussian).parameters
    assert list(parameters) == [name for name in fixed if name in parameters]
    assert {name: p.default for name, p in parameters.items()} == {name: fixed[name] for name in parameters}
    positional = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == ["n_features", "n_patches"]
    assert mvgauss.MultiVariateGaussian.from_parameters
    assert list(inspect.signature(mvgauss.MultiVariateGaussian.from_parameters).parameters)[:2] == [
        "mean",
        "inv_covariance",
    ]
