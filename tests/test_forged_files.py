"""A file that is whole but says what cannot be is refused: each value that no model could have."""

import json
from pathlib import Path

import numpy as np
import pytest
from common import frozen

from mvgauss import MultiVariateGaussian

FOLDER = Path(__file__).parent / "data"
C = 3  #: features of the models below
EARLIER = {"loo_distances": "good", "root": "factor"}


@pytest.fixture(params=["today", "version 1"])
def file(request, rng, tmp_path):
    """Return the header and the arrays of a calibrated model: as saved today, and of version 1."""
    path = FOLDER / "v1_calibrated.npz"
    if request.param == "today":
        x = frozen(rng.standard_normal((12, C, 2, 2)))
        model = MultiVariateGaussian(reg_covar=0.05).fit(x).calibrate(x)
        model.threshold(x, 0.25, source="training")
        path = tmp_path / "saved"
        model.save(path)
    with np.load(path) as content:
        arrays = dict(content)
    return json.loads(arrays.pop("header").tobytes()), arrays


def loads(file, path):
    """Write a header and arrays, and load them."""
    header, arrays = file
    header["members"] = sorted(arrays)
    with path.open("wb") as out:
        np.savez(out, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays)
    return MultiVariateGaussian.load(path)


def put(name, value, index=(0,)):
    """Return what puts a value into an array, or into that which version 1 called otherwise."""

    def change(header, arrays):
        arrays[name if name in arrays else EARLIER[name]][index] = value

    return change


def say(name, value):
    """Return what puts a value into the header."""

    def change(header, arrays):
        assert name in header
        header[name] = value

    return change


def add(name):
    """Return what adds an array that no model has."""

    def change(header, arrays):
        arrays[name] = np.zeros(3)

    return change


def fewer(header, arrays):
    """Leave out the distances of an image."""
    name = "loo_distances" if "loo_distances" in arrays else EARLIER["loo_distances"]
    arrays[name] = arrays[name][:, 1:]


FORGED = {
    "a negative rank": put("rank", -1),
    "a rank above the number of features": put("rank", C + 1),
    "a negative distance": put("loo_distances", -0.5, (1, 0)),
    "distances out of order": put("loo_distances", 1e9, (1, 0)),
    "distances of fewer images": fewer,
    "a shrinkage below zero": put("shrinkage", -0.1),
    "a shrinkage above one": put("shrinkage", 1.5),
    "a factor that is no number": put("root", np.nan, (0, 0, 0)),
    "a log determinant that is none": put("log_pdet", np.inf),
    "an array that no model has": add("extra"),
    "a dtype that is code": say("dtype", "f4,("),
    "a dtype of two": say("dtype", "f4,f4"),
    "a dtype that is a number": say("dtype", 4),
    "no weight": say("sum_weights", 0),
    "a negative weight": say("sum_weights", -12.0),
    "no squared weight": say("sum_squared_weights", 0),
    "squared weights of fewer than one sample": say("sum_squared_weights", 1e6),
    "squared weights of more samples than there are": say("sum_squared_weights", 1e-6),
    "a negative number of samples": say("n_samples", -12),
    "a fraction of a sample": say("n_samples", 12.0),
    "true samples": say("n_samples", True),
    "no samples": say("n_samples", 0),
    "other distances than samples": say("n_samples", 7),
    "a negative limit": say("limit", -1.0),
    "a true limit": say("limit", True),
    "a version that is true": say("version", True),
    "a version that is a fraction": say("version", 1.0),
    "a grid of no patch": say("grid", [4, 0]),
    "a grid of true": say("grid", [True, 4]),
    "a grid of negatives": say("grid", [-2, -2]),
    "parameters that are none": say("params", None),
    "parameters of another thing": say("params", {"n_clusters": 3}),
    **{
        f"a parameter {name} that is {value!r}": say("params", {name: value})
        for name, value in [
            ("reg_covar", -1),
            ("shrinkage", 2),
            ("shrinkage", "none"),
            ("ddof", True),
            ("dtype", "f4,("),
            ("dtype", "float16"),
            ("feature_axis", 1.0),
            ("n_features", 0),
            ("n_patches", "4"),
            ("n_jobs", 0),
            ("progress", 2),
        ]
    },
    "a format of another thing": say("format", "mvgauss.Other"),
}


def test_the_file_that_is_forged_below_is_loaded_as_it_is(file, tmp_path):
    loads(file, tmp_path / "m")


@pytest.mark.parametrize("what", list(FORGED))
def test_what_cannot_be_is_refused(file, tmp_path, what):
    FORGED[what](*file)
    with pytest.raises(ValueError, match=r"^path: expected"):
        loads(file, tmp_path / "m")


@pytest.mark.parametrize(("name", "value"), [("reg_covar", -1), ("dtype", "f4,("), ("n_jobs", 0)])
def test_parameters_that_a_file_may_not_have_are_not_saved(rng, tmp_path, name, value):
    model = MultiVariateGaussian().fit(frozen(rng.standard_normal((12, C)))).set_params(**{name: value})
    with pytest.raises((ValueError, TypeError), match=f"^{name}: expected"):
        model.save(tmp_path / "m")
    assert not list(tmp_path.iterdir())
