"""What tests of pictures share: folders of small pictures, and networks of a node or two."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).resolve().parents[2] / "docs" / "data"

if any(importlib.util.find_spec(name) is None for name in ("PIL", "matplotlib", "onnxruntime")):
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def cork():
    """Return the folder of pictures of cork."""
    return DATA / "cork"


@pytest.fixture(scope="session")
def network():
    """Return the file of the network that goes with them."""
    return DATA / "net" / "efficientnet_lite0_blocks.onnx"


@pytest.fixture(scope="session")
def few(tmp_path_factory):
    """Return two folders of pictures, 24 x 16: 20 good ones, and 3 others."""
    from PIL import Image

    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("few")
    for name, n in (("good", 20), ("others", 3)):
        (folder / name).mkdir()
        for i in range(n):
            Image.fromarray(rng.integers(0, 256, (16, 24, 3), np.uint8)).save(folder / name / f"{i:02}.png")
    return folder


@pytest.fixture
def make(tmp_path):
    """Return a function that writes a network and returns its path; `more` are further nodes and outputs."""
    onnx = pytest.importorskip("onnx")

    def make(op, fed, given, dtype="FLOAT", constants=(), more=(), **attributes):
        kind = getattr(onnx.TensorProto, dtype)
        names = [f"c{i}" for i in range(len(constants))]
        info = onnx.helper.make_tensor_value_info
        own = names[:1] if more else names
        nodes = [onnx.helper.make_node(op, ["x", *own], ["y"], **attributes)]
        outputs = [info("y", kind, given)]
        for name, inputs, output, shape, more_attributes in more:
            nodes.append(onnx.helper.make_node(name, inputs, [output], **more_attributes))
            outputs.append(info(output, kind, shape))
        graph = onnx.helper.make_graph(
            nodes,
            "net",
            [info("x", kind, fed)],
            outputs,
            [onnx.numpy_helper.from_array(a, name) for a, name in zip(constants, names, strict=True)],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, tmp_path / "made.onnx")
        return tmp_path / "made.onnx"

    return make
