"""Laws of what travels in the header of a file: plain values, checked and independent of what was given."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvgauss import _files

values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("metadata")


def test_plain_values_come_back_as_they_are_and_numpys_as_plain_ones():
    given = {
        "network": "resnet18",
        "layers": ("layer1", "layer2"),
        "channels": [np.int64(3), np.uint8(5)],
        "size": {"height": 224, "scale": np.float32(0.5), "crop": None},
        "grey": np.False_,
        "ä": np.str_("ö"),
        "seed": 2**200,
    }
    got = _files.plain_metadata(given)
    assert got == {
        "network": "resnet18",
        "layers": ["layer1", "layer2"],
        "channels": [3, 5],
        "size": {"height": 224, "scale": 0.5, "crop": None},
        "grey": False,
        "ä": "ö",
        "seed": 2**200,
    }
    kinds = {type(v) for v in (*got.values(), *got["size"].values(), *got["channels"], *got["layers"])}
    assert kinds == {str, list, dict, bool, int, float, type(None)}
    assert json.loads(json.dumps(got)) == got


@given(values)
def test_metadata_of_any_plain_values_survive_a_file(folder, value):
    try:
        given = _files.plain_metadata({"value": value})
    except ValueError as error:  # the numbers that are none of JSON
        assert "finite" in str(error) or "bits" in str(error)  # noqa: PT017
        return
    _files.write(folder / "m", {"metadata": given}, {})
    assert _files.read(folder / "m") == (2, {"metadata": given}, {})


def test_metadata_share_nothing_with_what_was_given():
    given = {"a": [1, {"b": 2}]}
    got = _files.plain_metadata(given)
    given["a"][1]["b"] = 3
    given["a"].append(4)
    assert got == {"a": [1, {"b": 2}]}


class Loop(dict):
    """A dict within itself."""

    def items(self):
        return [("again", self)]


NOT_PLAIN = {
    "list": ([1], TypeError, r"metadata: expected a dict, got \[1\]"),
    "text": ("a", TypeError, "metadata: expected a dict, got 'a'"),
    "key": ({3: 1}, TypeError, "metadata: expected keys that are text, got 3"),
    "inner key": (
        {"a": [{None: 1}]},
        TypeError,
        r"metadata\['a'\]\[0\]: expected keys that are text, got None",
    ),
    "set": ({"a": {1}}, TypeError, r"metadata\['a'\]: expected .*, got \{1\} of type set"),
    "bytes": ({"a": [b"x"]}, TypeError, r"metadata\['a'\]\[0\]: expected .*, got b'x' of type bytes"),
    "path": ({"a": Path("x")}, TypeError, r"metadata\['a'\]: expected .* of type \w*Path"),
    "array": ({"a": np.ones(2)}, TypeError, r"metadata\['a'\]: expected .* of type ndarray; see .tolist\(\)"),
    "dtype": ({"a": np.dtype("f4")}, TypeError, r"metadata\['a'\]: expected .*"),
    "complex": ({"a": 1j}, TypeError, r"metadata\['a'\]: expected .* got 1j of type complex"),
    "date": ({"a": np.datetime64("2020")}, TypeError, r"metadata\['a'\]: expected .* of type datetime64"),
    "nan": (
        {"a": {"b": np.nan}},
        ValueError,
        r"metadata\['a'\]\['b'\]: expected a finite real number, got nan",
    ),
    "inf": ({"a": np.float32(-np.inf)}, ValueError, r"metadata\['a'\]: expected a finite real number, got "),
    "huge": ({"a": 10**5000}, ValueError, r"metadata\['a'\]: expected an integer of at most 1024 bits"),
    "long": ({"a": "x" * 48_000}, ValueError, "metadata: expected at most 48000 bytes as JSON, got 48009"),
    "loop": (Loop(again=1), ValueError, "metadata: expected lists and dicts that end, got some within them"),
}


@pytest.mark.parametrize("case", list(NOT_PLAIN))
def test_metadata_that_are_not_plain_are_refused_by_the_key(case):
    value, error, message = NOT_PLAIN[case]
    with pytest.raises(error, match=f"^{message}"):
        _files.plain_metadata(value)


def test_the_largest_metadata_fit_beside_the_largest_header(tmp_path):
    header = {"metadata": _files.plain_metadata({"a": "x" * 47_991}), "grid": [10**18] * 62}
    _files.write(tmp_path / "m", header, {"mean": np.ones(1)})
    assert _files.read(tmp_path / "m")[1] == header


def test_a_header_that_could_not_be_read_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="header: expected a text of at most 65536 bytes, got 7"):
        _files.write(tmp_path / "m", {"a": "x" * 70_000}, {})
    assert not os.listdir(tmp_path)
