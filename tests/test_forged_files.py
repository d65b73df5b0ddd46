"""A file that is whole but says what no model can be is refused: each value, and parts that do not fit."""

import numpy as np
import pytest
from common import frozen
from forging import loaded, parts, put

from mvgauss import MultiVariateGaussian

C = 3  #: features of the models below
KINDS = {"triangle": (12, np.float64), "rows": (3, np.float64), "single rows": (3, np.float32)}


@pytest.fixture(params=list(KINDS))
def path(request, rng, tmp_path):
    """Return the path of a calibrated model with a limit, of more samples than features and of fewer."""
    n, dtype = KINDS[request.param]
    x = frozen(rng.standard_normal((n, C, 2, 2)), dtype)
    model = MultiVariateGaussian(reg_covar=0.05, shrinkage="ledoit_wolf").fit(x).calibrate(x)
    model.threshold(x, 0.25, source="training")
    model.save(tmp_path / "m")
    return tmp_path / "m"


def test_the_file_that_is_forged_below_is_loaded_as_it_is(path):
    put(path, *parts(path))
    assert loaded(path) is not None


CHANGES = {
    "of NaN": lambda a: np.full_like(a, np.nan) if a.dtype.kind == "f" else a.astype(float),
    "of an infinity": lambda a: np.where(np.arange(a.size).reshape(a.shape) == 0, np.inf, a).astype(a.dtype),
    "of another dtype": lambda a: a.astype({"f": np.float16, "i": np.int8}[a.dtype.kind]),
    "of fewer patches": lambda a: a[1:],
    "of more patches": lambda a: np.concatenate([a, a]),
    "of one axis less": lambda a: a[0],
    "of one axis more": lambda a: a[..., None],
    "without a number": lambda a: a[..., :0],
}


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@pytest.mark.parametrize("change", list(CHANGES))
def test_each_array_has_finite_numbers_of_its_dtype_and_shape(path, change):
    header, arrays = parts(path)
    for name, array in arrays.items():
        if change == "of an infinity" and array.dtype.kind != "f":
            continue
        put(path, header, arrays | {name: CHANGES[change](array)})
        assert loaded(path) is None, name


def test_each_array_is_needed_but_those_of_a_calibration(path):
    header, arrays = parts(path)
    for name in arrays:
        put(path, header, {other: a for other, a in arrays.items() if other != name})
        assert name.startswith("loo_") or loaded(path) is None, name


def test_an_array_that_no_model_has_is_refused(path):
    header, arrays = parts(path)
    put(path, header, arrays | {"extra": np.zeros(4)})
    assert loaded(path) is None


def longer(array, axis):
    """Return an array with its last numbers on an axis once more."""
    return np.concatenate([array, np.take(array, [-1], axis)], axis)


def test_arrays_that_fit_each_other_but_not_the_samples_or_the_features_are_refused(path):
    header, arrays = parts(path)
    loo = {name: longer(arrays[name], -1) for name in ("loo_distances", "loo_largest")}
    forged = [arrays | loo]
    if "root" in arrays:
        forged.append(arrays | {"root": longer(arrays["root"], 1)})
    if "small" in arrays:
        forged.append(arrays | {"rows": arrays["rows"][:, :1], "small": arrays["small"][:, :1, :1]})
    for changed in forged:
        put(path, header, changed)
        assert loaded(path) is None


def test_moments_of_no_samples_are_refused(path):
    header, arrays = parts(path)
    sums = dict.fromkeys(("n_samples", "sum_weights", "sum_squared_weights"), 0)
    arrays = {name: a for name, a in arrays.items() if not name.startswith("loo_")}
    put(path, header | sums, arrays)
    assert loaded(path) is None


#: Numbers that an array cannot begin with; distances are in order.
OUT_OF_RANGE = {
    "rank": [-1, C + 1],
    "shrinkage": [-0.1, 1.5],
    "loo_distances": [-0.5, 1e9],
    "loo_largest": [-0.5, 1e9],
    "fourth": [-1.0],
    "scale": [-1.0],
    "floor": [-1.0],
}


def test_a_number_out_of_its_range_is_refused(path):
    header, arrays = parts(path)
    for name in OUT_OF_RANGE.keys() & arrays.keys():
        for value in OUT_OF_RANGE[name]:
            forged = arrays[name].copy()
            forged[(0,) * forged.ndim] = value
            put(path, header, arrays | {name: forged})
            assert loaded(path) is None, (name, value)


HUGE = 2**1023
SAID = {
    "params": [None, 3, {"n_clusters": 3}, {"\x1b[2J": 1}],
    "metadata": [None, 3, "a", [1]],
    "grid": [[4, 0], [True, 4], [-2, -2], [2, 4], ["a"], 4, [HUGE, 4], [4] + [1] * 3_000, {"a": 4}],
    "dtype": ["f4,(", "f4,f4", 4, "object", "no such", None, {"a": "f4"}, ["float64"]],
    "regularisation": [None, 3, {}, {"reg_covar": "a"}, [HUGE]],
    "resolution": [-1, "a", None, HUGE],
    "n_samples": [-12, 12.5, True, 0, 7, "12", None, HUGE],
    "sum_weights": [0, -12.0, "many", None, 1e200, HUGE],
    "sum_squared_weights": [0, 1e6, 1e-6, "a", 1e300, HUGE],
    "limit": [-1.0, True, "a", HUGE, {"a": 1}, [1.0], [-1.0, 3], [1.0, -3]],
    "feature_names": [["a"], "abc", 3, [1, 2, 3], {"a": 1, "b": 2, "c": 3}],
    "resumable": [None, 2, "yes", []],
    "format": ["mvgauss.Other", None, 3],
}


@pytest.mark.parametrize("name", list(SAID))
def test_each_value_of_the_header_is_one_that_a_model_can_have(path, name):
    header, arrays = parts(path)
    assert name in header
    for value in SAID[name]:
        put(path, header | {name: value}, arrays)
        assert loaded(path) is None, value


def test_each_value_of_the_header_is_needed_but_the_names_of_features_and_the_limit(path):
    header, arrays = parts(path)
    for name in set(header) - {"feature_names", "limit"}:
        put(path, {other: value for other, value in header.items() if other != name}, arrays)
        assert loaded(path) is None, name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reg_covar", -1),
        ("shrinkage", 2),
        ("shrinkage", "none"),
        ("ddof", True),
        ("dtype", "f4,("),
        ("dtype", "float16"),
        ("dtype", {"a": "f4"}),
        ("feature_axis", 1.0),
        ("n_features", 0),
        ("n_patches", "4"),
        ("n_jobs", 0),
        ("progress", 2),
    ],
)
def test_a_parameter_out_of_range_is_neither_loaded_nor_saved(path, name, value, tmp_path):
    header, arrays = parts(path)
    model = MultiVariateGaussian.load(path)
    put(path, header | {"params": header["params"] | {name: value}}, arrays)
    assert loaded(path) is None
    with pytest.raises((ValueError, TypeError), match=f"^{name}: expected"):
        model.set_params(**{name: value}).save(tmp_path / "new")
    assert not (tmp_path / "new").exists()
