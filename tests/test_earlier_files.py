"""A later version reads the files of an earlier one, and gives the same answers; see `data/README.md`."""

from pathlib import Path

import numpy as np
import pytest

from mvgauss import MultiVariateGaussian

FOLDER = Path(__file__).parent / "data"
FILES = sorted(path.stem for path in FOLDER.glob("v1_*.npz") if path.stem != "v1_answers")
with np.load(FOLDER / "v1_answers.npz") as file:
    ANSWERS = {
        name: {key.split(".")[1]: file[key] for key in file.files if f"v1_{key.split('.')[0]}" == name}
        for name in FILES
    }


def tolerance(name):
    """Return the relative error that is allowed: condition numbers are below 1000 where a rank is full.

    Kept or computed in single precision, factors carry errors of 1000 eps at most; else of that in double.
    """
    single = "single" in name or name == "v1_identity"
    return 1e3 * np.finfo(np.float32 if single else np.float64).eps


def agree(got, want, name):
    """Assert that answers are the same, to the rounding of numbers of their size."""
    assert got.dtype == want.dtype
    size = np.abs(want[np.isfinite(want)]).max(initial=0)
    np.testing.assert_allclose(got, want, rtol=tolerance(name), atol=tolerance(name) * size)


def test_every_kind_of_model_has_its_file_and_answers():
    assert len(FILES) == 14
    assert all(len(said) >= 8 for said in ANSWERS.values())


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_version_1_gives_the_answers_of_the_version_that_wrote_it(name):
    model, said = MultiVariateGaussian.load(FOLDER / f"{name}.npz"), ANSWERS[name]
    for key in ("mean", "covariance"):
        agree(getattr(model, key), said[key], name)
    for key in ("mahalanobis", "score_samples"):
        agree(getattr(model, key)(said["probes"]), said[key], name)
    np.testing.assert_array_equal(model.rank, said["rank"])
    if "p_value" in said:
        agree(model.p_value(said["probes"]), said["p_value"], name)
        assert model.threshold_ == said["threshold_"]
        np.testing.assert_array_equal(model.predict(said["probes"]), said["predict"])


@pytest.mark.parametrize("name", [name for name in FILES if "mahalanobis_with_more" in ANSWERS[name]])
def test_a_file_of_version_1_goes_on_fitting_as_the_version_that_wrote_it_did(name):
    said = ANSWERS[name]
    model = MultiVariateGaussian.load(FOLDER / f"{name}.npz").partial_fit(said["more"])
    agree(model.mahalanobis(said["probes"]), said["mahalanobis_with_more"], name)
    np.testing.assert_array_equal(model.rank, said["rank_with_more"])


@pytest.mark.parametrize("resumable", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_version_1_is_saved_again_in_the_version_of_today(name, resumable, tmp_path):
    MultiVariateGaussian.load(FOLDER / f"{name}.npz").save(tmp_path / "m", resumable=resumable)
    model = MultiVariateGaussian.load(tmp_path / "m")
    agree(model.mahalanobis(ANSWERS[name]["probes"]), ANSWERS[name]["mahalanobis"], name)
