"""Laws of metadata, which travel in the header of a file: plain values, independent of what was given."""

import copy
import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvgauss import MultiVariateGaussian

MODEL = MultiVariateGaussian().fit(np.random.default_rng(3).standard_normal((5, 2)))
names = st.text(st.characters(categories=("L", "N", "P")), max_size=9)
values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=9,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("metadata")


def saved_and_loaded(metadata, folder):
    """Return metadata as a loaded model has them."""
    MODEL.save(folder / "m", metadata=metadata)
    return MultiVariateGaussian.load(folder / "m").metadata


def nested(levels):
    """Return a dict of lists within each other, of so many levels together."""
    value = []
    for _ in range(levels - 2):
        value = [value]
    return {"a": value}


def test_plain_values_come_back_as_they_are_and_numpys_as_plain_ones(tmp_path):
    given = {
        "network": "resnet18",
        "layers": ("layer1", "layer2"),
        "channels": [np.int64(3), np.uint8(5)],
        "size": {"height": 224, "scale": np.float32(0.5), "crop": None},
        "grey": np.False_,
        "ä": np.str_("ö"),
        "seed": 2**1022,
    }
    got = saved_and_loaded(given, tmp_path)
    assert got == {
        "network": "resnet18",
        "layers": ["layer1", "layer2"],
        "channels": [3, 5],
        "size": {"height": 224, "scale": 0.5, "crop": None},
        "grey": False,
        "ä": "ö",
        "seed": 2**1022,
    }
    kinds = {type(v) for v in (*got.values(), *got["size"].values(), *got["channels"], *got["layers"])}
    assert kinds == {str, list, dict, bool, int, float, type(None)}
    assert json.loads(json.dumps(got)) == got


@given(values)
def test_metadata_of_any_plain_values_survive_a_file_and_a_second_one(folder, value):
    try:
        got = saved_and_loaded({"value": value}, folder)
    except ValueError as error:  # the numbers that are none of JSON
        assert "finite" in str(error) or "bits" in str(error)  # noqa: PT017
        return
    assert got == {"value": value}
    MultiVariateGaussian.load(folder / "m").save(folder / "again")
    assert (folder / "again").read_bytes() == (folder / "m").read_bytes()


def test_the_most_deeply_nested_metadata_that_can_be_saved_can_be_loaded_and_copied(tmp_path):
    got = saved_and_loaded(nested(31), tmp_path)
    assert got == copy.deepcopy(got) == nested(31)
    model = copy.deepcopy(MultiVariateGaussian.load(tmp_path / "m"))
    assert model.metadata == nested(31)


def test_metadata_share_nothing_with_what_was_given_or_with_the_model(tmp_path):
    given = {"a": [1, {"b": 2}]}
    MODEL.save(tmp_path / "m", metadata=given)
    model = MultiVariateGaussian.load(tmp_path / "m")
    model.metadata["a"][1]["b"] = 3
    assert model.metadata == given == {"a": [1, {"b": 2}]}


LOOP = {}
LOOP["again"] = [LOOP, LOOP]
TOO_DEEP = "metadata: expected lists and dicts that are nested at most 31 deep, got deeper ones"
KEYS = "expected keys that are printable text"
NOT_PLAIN = {
    "list": ([1], TypeError, r"metadata: expected a dict, got \[1\]"),
    "text": ("a", TypeError, "metadata: expected a dict, got 'a'"),
    "key": ({3: 1}, TypeError, f"metadata: {KEYS}, got 3"),
    "inner key": ({"a": [{None: 1}]}, TypeError, rf"metadata\['a'\]\[0\]: {KEYS}, got None"),
    "control": ({"a": {"\x1b[2J": 1}}, ValueError, rf"metadata\['a'\]: {KEYS}, got '\\x1b\[2J'"),
    "set": ({"a": {1}}, TypeError, r"metadata\['a'\]: expected .*, got \{1\} of type set"),
    "bytes": ({"a": [b"x"]}, TypeError, r"metadata\['a'\]\[0\]: expected .*, got b'x' of type bytes"),
    "array": ({"a": np.ones(2)}, TypeError, r"metadata\['a'\]: expected .* of type ndarray; see .tolist\(\)"),
    "complex": ({"a": 1j}, TypeError, r"metadata\['a'\]: expected .* got 1j of type complex"),
    "nan": (
        {"a": {"b": np.nan}},
        ValueError,
        r"metadata\['a'\]\['b'\]: expected a finite real number, got nan",
    ),
    "huge": (
        {"a": 2**1023},
        ValueError,
        r"metadata\['a'\]: expected an integer of at most 1023 bits, got one",
    ),
    "long": ({"a": "x" * 48_000}, ValueError, "metadata: expected at most 48000 bytes as JSON, got 48009"),
    "deep": (nested(32), ValueError, TOO_DEEP),
    "very deep": (nested(100_000), ValueError, TOO_DEEP),
    "loop": (LOOP, ValueError, TOO_DEEP),
}


@pytest.mark.parametrize("case", list(NOT_PLAIN))
def test_metadata_that_are_not_plain_are_refused_by_the_key_and_nothing_is_written(case, tmp_path):
    value, error, message = NOT_PLAIN[case]
    with pytest.raises(error, match=f"^{message}"):
        MODEL.save(tmp_path / "m", metadata=value)
    assert not os.listdir(tmp_path)


def test_the_largest_metadata_can_be_saved(tmp_path):
    largest = {"a": "x" * 47_991}
    assert saved_and_loaded(largest, tmp_path) == largest


def test_a_header_that_could_not_be_read_is_not_written(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(np.random.default_rng(0).standard_normal((5, 2)), columns=["a", "b" * 70_000])
    with pytest.raises(ValueError, match="header: expected a text of at most 65536 bytes, got 7"):
        MultiVariateGaussian().fit(frame).save(tmp_path / "m")
    assert not os.listdir(tmp_path)
