"""The golden vectors: made anew bit for bit, kept by the package, readable elsewhere."""

import json
import warnings

import numpy as np
import pytest
from make_vectors import dumped, encoded, made, main

import mvgauss
from mvgauss.testing import load_vectors
from mvgauss.testing._vectors import FILE, decoded

VECTORS = load_vectors()


def called(vector):
    """Return the answers of the package."""
    arguments = dict(vector.arguments)
    if vector.function == "cov":
        return {"covariance": mvgauss.cov(**arguments)}
    if vector.function == "pinv":
        inverse, rank = mvgauss.pinv(arguments["covariance"], return_rank=True)
        return {"inv_covariance": inverse, "rank": rank}
    if vector.function == "mahalanobis":
        return {"distances": mvgauss.mahalanobis(**arguments)}
    model = mvgauss.MultiVariateGaussian(reg_covar=arguments["reg_covar"]).fit(arguments["embedding"])
    return {
        "mean": model.mean,
        "inv_covariance": model.inv_covariance,
        "distances": model.mahalanobis(arguments["scored"]),
    }


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v.name)
def test_the_package_gives_the_golden_answers(vector):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if vector.refused:
            with pytest.raises(ValueError, match="expected"):
                called(vector)
            return
        answers = called(vector)
    vector.check(**answers)
    for name, got in answers.items():
        assert got.dtype == vector.answers[name].dtype or name == "rank"


def test_a_vector_says_what_is_wrong():
    vector = VECTORS[0]
    right = vector.answers["covariance"]
    with pytest.raises(
        AssertionError, match=r"'cov: three samples of two features', covariance\n.*off at \[0, 1\]"
    ):
        vector.check(covariance=right + np.array([[0, 1e-13], [0, 0]]))
    with pytest.raises(AssertionError, match=r"expected: shape \(2, 2\)"):
        vector.check(covariance=right[0])
    with pytest.raises(ValueError, match=r"answers: expected some of \['covariance'\], got \['cov'\]"):
        vector.check(cov=right)


@pytest.mark.slow
def test_the_file_is_made_anew_bit_for_bit(capsys):
    assert FILE.read_bytes() == dumped(made()).encode()
    assert main(["--check"]) == 0
    assert "vectors.json is what the script makes" in capsys.readouterr().out


@pytest.mark.slow
def test_a_changed_file_is_told_of_and_mended(tmp_path, monkeypatch, capsys):
    changed = tmp_path / "vectors.json"
    changed.write_bytes(FILE.read_bytes().replace(b"0x1.0", b"0x1.1", 1))
    monkeypatch.setattr("make_vectors.FILE", changed)
    assert main(["--check"]) == 1
    assert "regenerate" in capsys.readouterr().out
    assert main([]) == 0
    assert changed.read_bytes() == FILE.read_bytes()


def test_names_are_unique_and_all_functions_are_there():
    assert len({v.name for v in VECTORS}) == len(VECTORS)
    assert {v.function for v in VECTORS} == {"cov", "pinv", "mahalanobis", "fit"}
    assert [v.name for v in load_vectors("fit")] == [v.name for v in VECTORS if v.function == "fit"]
    assert all(set(v.answers) == set(v.bounds) for v in VECTORS)


def test_every_float_is_a_hex_string():
    document = json.loads(FILE.read_text(encoding="utf-8"), parse_float=pytest.fail)
    assert document["format"] == "mvgauss golden vectors"
    assert document["version"] == 1


@pytest.mark.parametrize(
    "value",
    [
        np.array([[0.1, -0.0], [np.inf, -np.inf], [5e-324, 1e308]]),
        np.array([np.nan]),
        np.array([0.1, 65504], np.float16),
        np.array([[1 + 2j, 0.1j]]),
        np.array([0.1 + 0.2j], np.complex64),
        np.array([[1, -2]]),
        np.array([True, False]),
        np.array(0.1),
        np.zeros((0, 3)),
        0.1,
        True,
    ],
    ids=repr,
)
def test_what_is_written_is_read_back(value):
    got = decoded(json.loads(json.dumps(encoded(value))))
    np.testing.assert_array_equal(got, value)
    assert np.asarray(got).dtype == np.asarray(value).dtype
    assert np.shape(got) == np.shape(value)
    assert np.array_equal(np.signbit(np.real(got)), np.signbit(np.real(value)))


def test_another_file_is_refused(tmp_path, monkeypatch):
    other = tmp_path / "vectors.json"
    other.write_text('{"format": "mvgauss golden vectors", "version": 2, "vectors": []}', encoding="utf-8")
    monkeypatch.setattr("mvgauss.testing._vectors.FILE", other)
    with pytest.raises(ValueError, match="version 1, got another file"):
        load_vectors()
