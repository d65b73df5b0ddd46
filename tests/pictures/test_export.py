"""``mvgauss.onnx.export`` with an embedder: network, glue and Gaussians are one file, from pictures on."""

import re
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from common import run_onnx
from PIL import Image

from mvgauss import MultiVariateGaussian, anomaly_map
from mvgauss.pictures import Embedder, Inspector, find_pictures
from mvgauss.pictures._program import main

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

from mvgauss.onnx import export  # noqa: E402


def pictures(n, size, seed=0, colours=3):
    """Draw n pictures."""
    shape = (n, *size, colours)[: 3 + (colours > 1)]
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def assert_exported(embedder, path, n=30, rtol=1e-4):
    """Fit pictures, export, run, and compare; return the file."""
    size, colours = embedder.setup["input_size"], 3 if embedder.network.mode == "RGB" else 1
    model = MultiVariateGaussian().fit(embedder.embed(pictures(n, size, 1, colours)))
    model.threshold_ = float(np.median(model.mahalanobis(embedder.embed(pictures(9, size, 3, colours)))))
    assert export(model, path, embedder=embedder, image_size=16) < 10 * rtol
    new = pictures(embedder.network.batch or 5, size, 2, colours)
    want = model.mahalanobis(embedder.embed(new))
    fed = new if colours == 3 else new[..., None]
    got = run_onnx(path, pictures=fed if embedder.network.layout == "NHWC" else np.moveaxis(fed, -1, 1))
    np.testing.assert_allclose(got["distances"], want, rtol=rtol)
    np.testing.assert_array_equal(got["pred_score"], got["distances"].max(axis=(1, 2)))
    np.testing.assert_allclose(got["anomaly_map"], anomaly_map(want, 16), rtol=rtol)
    return onnx.load(path)


CHANNELS = {"all": {}, "some": {"channels": [2, 0]}, "drawn": {"channels": 2, "seed": 1}}


@pytest.mark.parametrize("channels", CHANNELS.values(), ids=CHANNELS)
def test_a_network_of_floats_is_exported_with_its_normalisation(make, channels, tmp_path):
    path = make("Relu", ["N", 3, "h", "w"], ["N", 3, "h", "w"])
    embedder = Embedder(path, (6, 8), **channels)
    file = assert_exported(embedder, tmp_path / "model.onnx")
    assert [(o.domain, o.version) for o in file.opset_import] == [("", 17)]
    assert file.ir_version == 8


def test_scale_mean_and_standard_deviation_are_those_of_the_embedder(make, tmp_path):
    path = make("Relu", ["N", "h", "w", 3], ["N", "h", "w", 3])
    embedder = Embedder(path, (6, 8), output_layout="NHWC", scale=0.1, mean=[1, 2, 3], std=[2.0])
    assert_exported(embedder, tmp_path / "model.onnx")


def test_a_network_of_grey_pictures_is_exported(make, tmp_path):
    path = make("Relu", ["N", 1, "h", "w"], ["N", 1, "h", "w"])
    assert_exported(Embedder(path, (6, 8), scale=0.1), tmp_path / "model.onnx")


def test_a_network_in_half_precision_is_exported(make, tmp_path):
    twice = np.full(1, 2, np.float16)
    path = make("Mul", ["N", 3, "h", "w"], ["N", 3, "h", "w"], dtype="FLOAT16", constants=[twice])
    assert_exported(Embedder(path, (6, 8)), tmp_path / "model.onnx", rtol=1e-2)


def test_a_network_that_takes_so_many_pictures_is_exported_for_as_many(make, tmp_path):
    path = make("Relu", [4, 3, 6, 8], [4, 3, 6, 8])
    file = assert_exported(Embedder(path, (6, 8)), tmp_path / "model.onnx")
    assert file.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 4


def test_tokens_are_exported(make, tmp_path):
    x = np.random.default_rng(0).standard_normal((5 * 4, 3 * 16)).astype(np.float32)
    path = make(
        *("Reshape", [2, 3, 4, 4], ["N", 48], "FLOAT"),
        constants=[np.array([2, 48], np.int64), x.T, np.array([2, 5, 4], np.int64)],
        more=[
            ("MatMul", ["y", "c1"], "flat", [2, 20], {}),
            ("Reshape", ["flat", "c2"], "tokens", [2, 5, 4], {}),
        ],
    )
    assert_exported(Embedder(path, (4, 4), layers=["tokens"]), tmp_path / "model.onnx")


@pytest.mark.parametrize("grid", ["y", "pooled"])
def test_layers_are_brought_to_one_grid(make, grid, tmp_path):
    more = [("AveragePool", ["y"], "pooled", ["N", 3, 3, 4], {"kernel_shape": (2, 2), "strides": (2, 2)})]
    path = make("Relu", ["N", 3, 6, 8], ["N", 3, 6, 8], more=more)
    for channels in (None, [4, 0, 1]):
        embedder = Embedder(path, (6, 8), layers=["pooled", "y"], grid=grid, channels=channels)
        assert_exported(embedder, tmp_path / "model.onnx")


def test_a_network_whose_operators_have_changed_is_brought_to_the_opset_of_the_file(make, tmp_path):
    """Axes were attributes before opset 13."""
    more = [
        ("Unsqueeze", ["y"], "five", ["N", 1, 3, 6, 8], {"axes": [1]}),
        ("Squeeze", ["five"], "four", ["N", 3, 6, 8], {"axes": [1]}),
    ]
    path = make("Relu", ["N", 3, 6, 8], ["N", 3, 6, 8], more=more)
    network = onnx.load(path)
    network.opset_import[0].version, network.ir_version = 11, 6
    onnx.save(network, path)
    file = assert_exported(Embedder(path, (6, 8), layers=["four"]), tmp_path / "model.onnx")
    assert [(o.domain, o.version) for o in file.opset_import] == [("", 17)]


@pytest.mark.parametrize(("opset", "want"), [(13, 17), (18, 18), (20, 20)])
def test_networks_of_other_opsets_are_exported(opset, want, make, tmp_path):
    path = make("Relu", ["N", 3, 6, 8], ["N", 3, 6, 8])
    network = onnx.load(path)
    network.opset_import[0].version = opset
    network.ir_version = 9 if opset > 18 else 7
    onnx.save(network, path)
    file = assert_exported(Embedder(path, (6, 8)), tmp_path / "model.onnx")
    assert [(o.domain, o.version) for o in file.opset_import] == [("", want)]
    assert file.ir_version == (9 if opset > 18 else 8)


def test_what_no_layer_needs_is_left_out(make, tmp_path):
    head = np.zeros((8, 50_000), np.float32)
    path = make(
        *("Mul", ["N", 3, 6, 8], ["N", 3, 6, 8]),
        constants=[np.ones(1, np.float32), head],
        more=[("MatMul", ["y", "c1"], "head", ["N", 3, 6, 50_000], {})],
    )
    assert path.stat().st_size > head.nbytes
    assert_exported(Embedder(path, (6, 8), layers=["y"]), tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").stat().st_size < 20_000


def test_an_embedder_of_another_grid_or_channels_is_refused(make, tmp_path):
    embedder = Embedder(make("Relu", ["N", 3, "h", "w"], ["N", 3, "h", "w"]), (6, 8))
    for shape in ((30, 3, 8, 6), (30, 2, 6, 8), (30, 3, 48)):
        model = MultiVariateGaussian().fit(np.random.default_rng(0).standard_normal(shape))
        with pytest.raises(
            ValueError, match=r"embedder: expected one of \d features on axis 1 and a grid of"
        ):
            export(model, tmp_path / "model.onnx", embedder=embedder)


def test_parameters_get_the_grid_of_the_embedder(make, tmp_path):
    embedder = Embedder(make("Relu", ["N", 3, "h", "w"], ["N", 3, "h", "w"]), (6, 8))
    model = MultiVariateGaussian.from_parameters(
        *MultiVariateGaussian().fit(embedder.embed(pictures(30, (6, 8))))
    )
    export(model, tmp_path / "model.onnx", embedder=embedder)
    new = pictures(3, (6, 8), 1)
    got = run_onnx(tmp_path / "model.onnx", pictures=np.moveaxis(new, -1, 1))["distances"]
    np.testing.assert_allclose(
        got.reshape(3, 48), model.mahalanobis(embedder.embed(new).reshape(3, 3, 48)), rtol=1e-4
    )


def test_a_network_that_changed_meanwhile_is_refused(make, tmp_path):
    embedder = Embedder(make("Relu", ["N", 3, 6, 8], ["N", 3, 6, 8]), (6, 8))
    model = MultiVariateGaussian().fit(embedder.embed(pictures(30, (6, 8))))
    make("Abs", ["N", 3, 6, 8], ["N", 3, 6, 8])
    with pytest.raises(ValueError, match="model: expected distances of the file within the bound"):
        export(model, tmp_path / "model.onnx", embedder=embedder)
    assert not (tmp_path / "model.onnx").exists()


@pytest.fixture(scope="module")
def exported(cork, network, tmp_path_factory):
    """Run the program on the cork, with a file that it writes; return the folder."""
    out = tmp_path_factory.mktemp("exported") / "out"
    line = [cork / "good", cork / "test", "--network", network, "--out", out, "--export", out / "model.onnx"]
    assert main([str(word) for word in line]) == 0
    return out


def test_the_file_of_the_cork_decides_as_the_model_does(exported, cork, network):
    inspector = Inspector.load(exported / "model.npz", network)
    read = [inspector.embedder.read(file) for file in find_pictures(cork / "test")]
    embedding = inspector.embedder.embed(read)
    got = run_onnx(exported / "model.onnx", pictures=np.stack([np.asarray(picture) for picture in read]))
    want = inspector.model.mahalanobis(embedding)
    np.testing.assert_allclose(got["distances"], want, rtol=1e-5)
    np.testing.assert_array_equal(got["pred_label"], inspector.model.predict(embedding) == -1)
    largest = anomaly_map(want, 144).max(axis=(1, 2), keepdims=True)
    assert (np.abs(got["anomaly_map"] - anomaly_map(want, 144)) < 1e-5 * largest).all()
    assert got["pred_label"].sum() == 15


def test_a_folder_of_an_earlier_run_with_a_file_is_replaced(few, network, tmp_path):
    folders = [
        str(few / "good"),
        str(few / "others"),
        "--network",
        str(network),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*folders, "--export", str(tmp_path / "out" / "model.onnx")]) == 0
    assert main([*folders, "--export", str(tmp_path / "elsewhere" / "model.onnx")]) == 0
    assert not (tmp_path / "out" / "model.onnx").exists()
    assert (tmp_path / "elsewhere" / "model.onnx").is_file()


@pytest.fixture
def picture(exported, cork, network, tmp_path):
    """Return the bytes of a picture in a file, and its score, its label and the centre of its map."""
    inspector = Inspector.load(exported / "model.npz", network)
    read = np.asarray(inspector.embedder.read(find_pictures(cork / "test")[0]))
    (tmp_path / "picture.raw").write_bytes(read.tobytes())
    got = run_onnx(exported / "model.onnx", pictures=read[None])
    return tmp_path / "picture.raw", got["pred_score"][0], got["anomaly_map"][0, 72, 72]


def assert_says(command, exported, picture, **options):
    """Hold what a program says of a picture, by the limit of the file and by another."""
    path, score, centre = picture
    for limit, flagged in ([], "not flagged"), (["100"], "flagged"):
        line = [*command, exported / "model.onnx", path, "144", "144", *limit]
        said = subprocess.run(line, capture_output=True, text=True, check=True, **options).stdout
        numbers = re.fullmatch(r"score (\S+), (.+), centre of the map (\S+)\n", said)
        assert numbers[2] == flagged
        np.testing.assert_allclose([float(numbers[1]), float(numbers[3])], [score, centre], rtol=1e-4)


HOWTO = Path(__file__).resolve().parents[2] / "docs" / "howto"


@pytest.fixture(scope="module")
def onnxruntime_web(tmp_path_factory):
    """Return a folder into which npm installed onnxruntime-web."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not here")
    folder = tmp_path_factory.mktemp("web")
    npm = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "onnxruntime-web@1"]
    (folder / "package.json").write_text("{}")
    done = subprocess.run(npm, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"npm cannot get onnxruntime-web: {done.stderr[-200:]}")
    return folder


@pytest.mark.slow
def test_the_program_in_javascript_says_what_the_file_says_in_python(exported, picture, onnxruntime_web):
    shutil.copy(HOWTO / "run_onnx.mjs", onnxruntime_web)
    assert_says(["node", onnxruntime_web / "run_onnx.mjs"], exported, picture)


@pytest.mark.slow
def test_the_page_says_in_chromium_what_the_file_says_in_python(
    exported, picture, cork, onnxruntime_web, tmp_path
):
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("there is no Chromium here")
    shutil.copy(HOWTO / "run_onnx.html", tmp_path / "index.html")
    shutil.copy(exported / "model.onnx", tmp_path)
    with Image.open(find_pictures(cork / "test")[0]) as image:
        image.save(tmp_path / "picture.png")
    shutil.copytree(onnxruntime_web / "node_modules" / "onnxruntime-web" / "dist", tmp_path / "ort")
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        line = [chromium, "--headless", "--no-sandbox", "--virtual-time-budget=100000", "--dump-dom"]
        line += [f"--user-data-dir={tmp_path / 'profile'}", f"http://127.0.0.1:{server.server_port}/"]
        said = subprocess.run(line, capture_output=True, text=True, check=True, timeout=300).stdout
        server.shutdown()
    numbers = re.search(r"<p>score (\S+), not flagged, centre of the map (\S+)</p>", said)
    np.testing.assert_allclose([float(numbers[1]), float(numbers[2])], picture[1:], rtol=1e-4)


@pytest.mark.slow
def test_the_program_in_cpp_says_what_the_file_says_in_python(exported, picture, tmp_path):
    """With the library that is in the package for Python; its headers are not."""
    library = next(Path(runtime.__file__).parent.glob("capi/libonnxruntime.so.*"), None)
    compiler = shutil.which("g++")
    if not (library and compiler):
        pytest.skip("g++ and the library of onnxruntime for Linux are not here")
    look = [compiler, "-E", "-x", "c++", "-include", "onnxruntime_cxx_api.h", "/dev/null"]
    if subprocess.run(look, capture_output=True).returncode:
        pytest.skip("g++ does not find onnxruntime_cxx_api.h; CPLUS_INCLUDE_PATH says where it is")
    program = tmp_path / "run_onnx"
    line = [
        compiler,
        "-std=c++17",
        HOWTO / "run_onnx.cpp",
        library,
        f"-Wl,-rpath,{library.parent}",
        "-o",
        program,
    ]
    subprocess.run(line, check=True, capture_output=True)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libonnxruntime.so.1").symlink_to(library)
    assert_says([program], exported, picture, env={"LD_LIBRARY_PATH": str(tmp_path / "lib")})
