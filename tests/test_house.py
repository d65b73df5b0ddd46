"""The shape of the house: which room knows which, what an import brings in, the fixed names."""

import ast
import graphlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import mvgauss

FOLDER = Path(mvgauss.__file__).parent

#: The rooms, floor by floor: a room imports from lower floors only. The folders are optional parts, which
#: import what they like of the rooms, and which no room imports.
FLOORS = [
    {"_arguments"},
    {"_blas", "_distributions", "_embedding", "_files", "_locks", "_maps", "_names", "_triangular"},
    {"_blocks", "_conformal", "_warnings", "_whitening"},
    {"_distance", "_factor", "_sums", "_walks"},
    {"_moments", "_thin"},
    {"_cov", "_scatter"},
    {"_sample"},
    {"_shrinkage"},
    {"_fitted", "_leverage"},
    {"_fitting", "_html", "_limits", "_state"},
    {"_leave_one_out", "_params"},
    {"_saving", "_scoring", "_training"},
    {"_decisions"},
    {"_gaussian"},
    {"__init__"},
]
ROOMS = [room for floor in FLOORS for room in sorted(floor)]
#: Maths rooms know nothing of pictures and files; most know nothing of threads and progress either.
MATHS = ["_distributions", "_factor", "_leverage", "_shrinkage", "_thin", "_triangular", "_whitening"]
WALKED = ["_cov", "_distance", "_moments", "_sample", "_scatter", "_sums"]
#: Packages besides NumPy, SciPy and the standard library; the optional ones are imported when asked for.
OUTSIDE = {"_blas": {"threadpoolctl"}, "_blocks": {"tqdm"}, "_params": {"sklearn"}}
#: Optional parts, and what they import besides the rooms.
PARTS = {"dask": {"dask", "distributed"}, "plot": {"matplotlib"}, "testing": {"hypothesis"}}

TESTS = Path(__file__).parent
#: Rooms without a test file of their name, and the file that holds them with what they serve.
TESTED_WITH = {
    "__init__": "house",
    "_fitted": "gaussian",
    "_fitting": "streaming",
    "_leverage": "leave_one_out",
    "_names": "sklearn_use",
    "_params": "sklearn",
    "_sample": "scatter",
    "_saving": "files",
    "_state": "forged_files",
    "_sums": "moments",
    "_thin": "factor",
    "_training": "streaming",
    "_walks": "blocks",
    "_warnings": "decisions",
}
#: What spans rooms, or is no room: kinds of input, faults, processes, other packages, documentation.
ACROSS = {
    *("alt_texts", "benchmarks", "diagnostics", "docs", "embedder", "pictures"),
    *("boundaries", "earlier_files", "foreign_files", "metadata", "published", "real_embeddings", "regions"),
    *("dask", "faults", "processes", "torch"),
}


def name_of(path):
    """Return the name of a module of the package, as it is imported."""
    parts = path.relative_to(FOLDER.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(FOLDER.rglob("*.py"))}


def imported(module):
    """Return the names of the modules that the source of a module imports."""
    names = set()
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            children = {f"{node.module}.{alias.name}" for alias in node.names} & set(FILES)
            # what is taken from a module itself, or are all of it modules?
            whole = len(children) < len(node.names)
            names |= children | ({node.module} if whole or not children else set())
    return names


def module_of(room):
    """Return the name of the module of a room."""
    return "mvgauss" if room == "__init__" else f"mvgauss.{room}"


def rooms_of(room):
    """Return what a room imports of the package."""
    return {name.removeprefix("mvgauss.") for name in imported(module_of(room)) if name.startswith("mvgauss")}


@pytest.mark.parametrize("room", ROOMS)
def test_imports_between_rooms_go_one_way(room):
    floor = next(i for i, rooms in enumerate(FLOORS) if room in rooms)
    assert rooms_of(room) <= set().union(*FLOORS[:floor])


def test_every_room_has_its_floor_and_every_folder_is_an_optional_part():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(ROOMS)
    assert {path.parent.name for path in FOLDER.glob("*/*.py")} == set(PARTS)


def test_every_room_has_its_test_file_and_every_test_file_its_subject():
    files = {path.stem.removeprefix("test_") for path in TESTS.glob("test_*.py")}
    own = {room.strip("_") for room in ROOMS} & files
    assert set(TESTED_WITH) == {room for room in ROOMS if room.strip("_") not in own}
    assert files == own | set(TESTED_WITH.values()) | ACROSS


def test_no_imports_go_round_in_a_circle():
    graph = {module: imported(module) & set(FILES) - {module} for module in FILES}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("part", list(PARTS))
def test_an_optional_part_imports_no_other_and_its_own_packages_only(part):
    for module in FILES:
        if module.startswith(f"mvgauss.{part}"):
            names = imported(module)
            inside = {name.split(".")[1] for name in names if name.startswith("mvgauss.")}
            assert not inside & (set(PARTS) - {part})
            packages = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
            assert packages <= {"mvgauss", "numpy", "scipy"} | PARTS[part]


def test_the_kit_shares_no_code_with_what_it_tests():
    for module in FILES:
        if module.startswith("mvgauss.testing"):
            assert {name for name in imported(module) if name.startswith("mvgauss")} <= {
                name for name in FILES if name.startswith("mvgauss.testing")
            }


@pytest.mark.parametrize("room", MATHS + WALKED)
def test_maths_rooms_know_nothing_of_pictures_and_files(room):
    assert not rooms_of(room) & {"_embedding", "_files", "_maps", "_fitted", "_html"}


@pytest.mark.parametrize("room", MATHS)
def test_most_maths_rooms_know_nothing_of_threads_and_progress(room):
    assert not rooms_of(room) & {"_blas", "_blocks", "_locks"}
    names = {name.split(".")[0] for name in imported(module_of(room))}
    assert not names & {"threading", "concurrent", "multiprocessing", "threadpoolctl", "tqdm"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_uses_numpy_scipy_and_the_standard_library(room):
    packages = {name.split(".")[0] for name in imported(module_of(room))} - set(sys.stdlib_module_names)
    assert packages <= {"mvgauss", "numpy", "scipy"} | OUTSIDE.get(room, set())


@pytest.mark.parametrize("module", list(FILES))
def test_a_file_has_at_most_three_hundred_lines(module):
    assert len(FILES[module].read_text(encoding="utf-8").splitlines()) <= 300


def test_using_a_model_imports_nothing_that_is_optional():
    program = (
        "import sys, numpy as np, mvgauss\n"
        "x = np.random.default_rng(0).standard_normal((20, 3, 2))\n"
        "m = mvgauss.MultiVariateGaussian(shrinkage=0.1).fit(x).calibrate(x).partial_fit(x)\n"
        "m.threshold(x[:20] + 1, 0.1), m.predict(x), m.score_samples(x), m.diagnostics(), m.n_features_in_\n"
        "mvgauss.MultiVariateGaussian(reg_covar=0).fit_predict(x), m.score(x)\n"
        "try:\n    mvgauss.MultiVariateGaussian().mean\nexcept ValueError as error:\n    print(error)\n"
        "optional = {'torch', 'matplotlib', 'hypothesis', 'tqdm', 'sklearn', 'pandas', 'pytest'}\n"
        "print(sorted(optional & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    message, modules = done.stdout.splitlines()
    assert "not fitted yet" in message
    assert modules == "[]"
    assert not done.stderr


def test_the_public_names_are_these():
    assert sorted(mvgauss.__all__) == [
        "DefaultThresholdWarning",
        "FewSamplesWarning",
        "Moments",
        "MultiVariateGaussian",
        "PictureWarning",
        "anomaly_map",
        "conformal_p_value",
        "conformal_threshold",
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
    mvgauss.MultiVariateGaussian.partial_fit: "(self, embedding, y=None, sample_weight=None)",
    mvgauss.MultiVariateGaussian.merge: "(self, other)",
    mvgauss.MultiVariateGaussian.score_samples: "(self, embedding)",
    mvgauss.MultiVariateGaussian.p_value: "(self, embedding)",
    mvgauss.MultiVariateGaussian.leave_one_out: "(self, embedding, sample_weight=None)",
    mvgauss.MultiVariateGaussian.calibrate: "(self, embedding, sample_weight=None)",
    mvgauss.MultiVariateGaussian.predict: "(self, embedding)",
    mvgauss.MultiVariateGaussian.decision_function: "(self, embedding)",
    mvgauss.MultiVariateGaussian.contributions: "(self, embedding)",
    mvgauss.MultiVariateGaussian.diagnostics: "(self, embedding=None)",
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
