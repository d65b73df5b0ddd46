"""The shape of the house: which part imports which, what an import brings in, the fixed names."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import mvgauss
from mvgauss import MultiVariateGaussian

FOLDER = Path(mvgauss.__file__).parent

#: The parts of the package, floor by floor: a part imports from lower floors only.
FLOORS = [
    {"_arguments"},
    {"_stack"},
    {"_runtime", "_linalg"},
    {"_stats", "_maps"},
    {"_model"},
    {"_gaussian"},
    {"dask", "plot", "onnx", "__init__"},
    {"pictures"},
]
#: The packages besides NumPy and SciPy; all but threadpoolctl are imported when they are asked for.
OUTSIDE = {
    "_runtime": {"threadpoolctl", "tqdm"},
    "_gaussian": {"sklearn"},
    "dask": {"dask", "distributed"},
    "plot": {"matplotlib"},
    "pictures": {"PIL", "matplotlib", "onnxruntime"},
    "onnx": {"onnx", "onnxruntime"},
    "testing": {"hypothesis"},
}
FILES = sorted(FOLDER.rglob("*.py"))


def part_of(path):
    """Return the part of the package that a file belongs to."""
    return path.relative_to(FOLDER).parts[0].removesuffix(".py")


def imports_of(path):
    """Return the parts of this package and the other packages that a file imports."""
    inside, outside = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for package, *rest in (name.split(".") for name in names):
            (inside if package == "mvgauss" else outside).update(
                rest[:1] if package == "mvgauss" else [package]
            )
    return inside, outside - set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_imports_go_one_way(path):
    part, (inside, outside) = part_of(path), imports_of(path)
    lower = set()
    for floor in FLOORS if part != "testing" else []:
        if part in floor:
            break
        lower |= floor
    if part in ("dask", "plot", "pictures", "onnx"):
        inside -= {*mvgauss.__all__, "__version__"}  # the public face
    assert inside - {part} <= lower
    assert outside <= {"numpy", "scipy"} | OUTSIDE.get(part, set())


def test_using_a_model_imports_nothing_that_is_optional():
    program = (
        "import sys, numpy as np, mvgauss\n"
        "x = np.random.default_rng(0).standard_normal((20, 3, 2))\n"
        "m = mvgauss.MultiVariateGaussian(shrinkage=0.1).fit(x).partial_fit(x[:9] + 1)\n"
        "m.fit(x).calibrate(x).threshold(x[:19] + 1, 0.1)\n"
        "m.predict(x), m.p_value(x), m.score(x), m.diagnostics(), m._repr_html_(), m.n_features_in_\n"
        "try:\n    mvgauss.MultiVariateGaussian().mean\nexcept ValueError as error:\n    print(error)\n"
        "optional = {'torch', 'matplotlib', 'hypothesis', 'tqdm', 'sklearn', 'pandas', 'pytest', 'dask'}\n"
        "optional |= {'PIL', 'onnx', 'onnxruntime'}\n"
        "print(sorted(optional & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    message, modules = done.stdout.splitlines()
    assert "not fitted yet" in message
    assert modules == "[]"
    assert not done.stderr


def test_the_public_names_are_these():
    assert sorted(mvgauss.__all__) == [
        *("ConstantPatchWarning", "DefaultThresholdWarning", "FewSamplesWarning", "Moments"),
        *("MultiVariateGaussian", "PictureWarning", "RidgeWarning", "anomaly_map", "conformal_p_value"),
        *("conformal_threshold", "cov", "mahalanobis", "pinv"),
    ]
    assert all(hasattr(mvgauss, name) for name in mvgauss.__all__)
    assert mvgauss.__version__.count(".") == 2
    assert (FOLDER / "py.typed").is_file()
    assert MultiVariateGaussian.__call__ is MultiVariateGaussian.forward
    assert MultiVariateGaussian._cov is mvgauss.cov
    for name in ("mean", "inv_covariance", "covariance", "rank", "nbytes", "p_value_law", "threshold_"):
        assert isinstance(inspect.getattr_static(MultiVariateGaussian, name), property)


SIGNATURES = {
    mvgauss.cov: (
        "(observations, rowvar=False, bias=False, ddof=None, aweights=None, *, fweights=None, dtype=None)"
    ),
    mvgauss.pinv: "(covariance, rtol=None, *, return_rank=False)",
    mvgauss.mahalanobis: "(x, mean, inv_covariance, *, squared=False)",
    mvgauss.anomaly_map: "(distances, image_size, sigma=4.0)",
    mvgauss.conformal_threshold: "(scores, false_positive_rate=0.01)",
    mvgauss.conformal_p_value: "(scores, good_scores)",
    mvgauss.Moments.merge: "(self, other)",
    mvgauss.Moments.cov: "(self, bias=False, ddof=None)",
    MultiVariateGaussian: (
        "(n_features=None, n_patches=None, *, reg_covar=0.01, shrinkage=None, ddof=1, feature_axis=1, "
        "dtype=None, n_jobs=None, progress=False)"
    ),
    MultiVariateGaussian.from_parameters: (
        "(mean, inv_covariance, *, rank=None, feature_axis=1, dtype=None)"
    ),
    MultiVariateGaussian.fit: "(self, embedding, y=None, sample_weight=None)",
    MultiVariateGaussian.partial_fit: "(self, embedding, y=None, sample_weight=None)",
    MultiVariateGaussian.fit_predict: "(self, embedding, y=None, sample_weight=None)",
    MultiVariateGaussian.merge: "(self, other)",
    MultiVariateGaussian.forward: "(self, embedding)",
    MultiVariateGaussian.mahalanobis: "(self, embedding, squared=False)",
    MultiVariateGaussian.score_samples: "(self, embedding)",
    MultiVariateGaussian.score: "(self, embedding, y=None)",
    MultiVariateGaussian.contributions: "(self, embedding)",
    MultiVariateGaussian.diagnostics: "(self)",
    MultiVariateGaussian.leave_one_out: "(self, embedding, sample_weight=None)",
    MultiVariateGaussian.calibrate: "(self, embedding, sample_weight=None)",
    MultiVariateGaussian.p_value: "(self, embedding)",
    MultiVariateGaussian.image_p_value: "(self, embedding)",
    MultiVariateGaussian.predict: "(self, embedding)",
    MultiVariateGaussian.decision_function: "(self, embedding)",
    MultiVariateGaussian.threshold: (
        "(self, embedding, false_positive_rate=0.01, *, source='held-out', sample_weight=None)"
    ),
    MultiVariateGaussian.save: "(self, path, *, resumable=True, metadata=None)",
    MultiVariateGaussian.load: "(path)",
}


@pytest.mark.parametrize("function", list(SIGNATURES), ids=lambda f: f.__qualname__)
def test_the_fixed_signatures_are_these(function):
    signature = inspect.signature(function)
    parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    assert str(inspect.Signature(parameters)) == SIGNATURES[function]
