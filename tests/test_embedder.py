"""`docs/embedder.py`: pictures of all kinds and networks of all kinds -> embeddings."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
Image = pytest.importorskip("PIL.Image")

DOCS = Path(__file__).resolve().parents[1] / "docs"
CORK, NETWORK = DOCS / "data" / "cork", DOCS / "data" / "net" / "efficientnet_lite0_blocks.onnx"
sys.path.insert(0, str(DOCS))

from embedder import Embedder, hash_of, read_picture, resample  # noqa: E402


def test_weights_beside_a_network_belong_to_it(tmp_path):
    for name, data in (("n.onnx", b"1"), ("m.onnx", b"1"), ("m.onnx.data", b"2")):
        (tmp_path / name).write_bytes(data)
    assert hash_of(tmp_path / "n.onnx") != hash_of(tmp_path / "m.onnx")


def test_a_network_that_is_none_is_refused(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"none")
    for network in (tmp_path / "net.onnx", tmp_path / "missing.onnx"):
        with pytest.raises(ValueError, match="network: expected an ONNX file"):
            Embedder(network, (16, 16))


# pictures


@pytest.fixture
def colours():
    return np.random.default_rng(1).integers(0, 256, (4, 6, 3), np.uint8)


def test_an_opaque_picture_is_the_same_in_every_mode_that_holds_it(tmp_path, colours):
    rgb = Image.fromarray(colours)
    rgba = rgb.copy()
    rgba.putalpha(255)
    palette = rgb.quantize(256, dither=Image.Dither.NONE)
    for name, picture in (("rgb", rgb), ("rgba", rgba), ("palette", palette)):
        picture.save(tmp_path / f"{name}.png")
        read = read_picture(tmp_path / f"{name}.png")
        assert read.mode == "RGB"
        np.testing.assert_allclose(np.asarray(read), colours, atol=0 if name != "palette" else 3)


def test_grey_becomes_three_equal_colours_and_one_where_one_is_asked_for(tmp_path, colours):
    Image.fromarray(colours[..., 0]).save(tmp_path / "grey.png")
    assert (np.asarray(read_picture(tmp_path / "grey.png")) == colours[..., :1]).all()
    assert (np.asarray(read_picture(tmp_path / "grey.png", "L")) == colours[..., 0]).all()


def test_what_is_transparent_is_white_whatever_its_colour_is(tmp_path, colours):
    picture = Image.fromarray(colours)
    alpha = np.full(colours.shape[:2], 255, np.uint8)
    alpha[0] = 0
    picture.putalpha(Image.fromarray(alpha))
    picture.save(tmp_path / "a.png")
    read = np.asarray(read_picture(tmp_path / "a.png"))
    assert (read[0] == 255).all()
    assert (read[1:] == colours[1:]).all()


def test_sixteen_bits_are_scaled_by_what_is_white(tmp_path):
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert np.asarray(read_picture(tmp_path / "deep.png"))[0, :, 1].tolist() == [0, 1, 128, 255]
    Image.fromarray(values // 16).save(tmp_path / "deep.png")
    assert np.asarray(read_picture(tmp_path / "deep.png", white=4095))[0, :, 1].tolist() == [0, 1, 128, 255]
    with pytest.raises(ValueError, match=r"deep.png': values from 0 to 4095, not 0 to white = 1023"):
        read_picture(tmp_path / "deep.png", white=1023)


@pytest.mark.parametrize(("orientation", "turn"), [(1, 0), (6, -90), (3, 180), (8, 90)])
def test_pictures_are_turned_upright(tmp_path, colours, orientation, turn):
    picture = Image.fromarray(colours)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "turned.png", exif=exif)
    upright = np.asarray(picture.rotate(turn, expand=True))
    assert (np.asarray(read_picture(tmp_path / "turned.png")) == upright).all()


def test_a_float_picture_a_film_and_half_a_file_are_refused_by_name(tmp_path, colours):
    Image.fromarray(np.ones((4, 6), np.float32)).save(tmp_path / "float.tiff")
    film = [Image.fromarray(colours), Image.fromarray(255 - colours)]
    film[0].save(tmp_path / "film.gif", save_all=True, append_images=film[1:])
    large = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8))
    large.save(tmp_path / "half.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "half.jpg").read_bytes()[:3000])
    for name, why in (("float.tiff", "floats"), ("film.gif", "2 pictures"), ("half.jpg", "truncated")):
        with pytest.raises(ValueError, match=rf"picture: expected one to read, got '.*{name}': .*{why}"):
            read_picture(tmp_path / name)


def test_a_picture_of_another_size_is_resized_and_one_of_another_shape_refused(tmp_path):
    embedder = Embedder(NETWORK, (144, 144))
    with Image.open(CORK / "good" / "000.jpg") as picture:
        picture.resize((288, 288)).save(tmp_path / "large.png")
        picture.crop((0, 0, 144, 130)).save(tmp_path / "flat.png")
    large = embedder.read(tmp_path / "large.png")
    same = embedder.read(CORK / "good" / "000.jpg")
    assert large.size == same.size == (144, 144)
    assert np.abs(np.asarray(large).astype(int) - np.asarray(same)).mean() < 8
    with pytest.raises(
        ValueError, match=r"picture: expected the shape of 144 x 144 pixels, got 130 x 144 in '.*flat"
    ):
        embedder.read(tmp_path / "flat.png")


# grids


@pytest.mark.parametrize("times", [1, 2, 3, 5])
def test_whole_multiples_are_averages_and_repetitions(times):
    a = np.random.default_rng(times).random((2, 3, 4, 5), np.float32)
    large = a.repeat(times, axis=2).repeat(times, axis=3)
    assert (resample(a, large.shape[2:]) == large).all()
    noisy = np.random.default_rng(0).random(large.shape, np.float32)
    means = noisy.reshape(2, 3, 4, times, 5, times).mean(axis=(3, 5))
    np.testing.assert_allclose(resample(noisy, (4, 5)), means, rtol=1e-5)


@pytest.mark.parametrize("grid", [(1, 1), (3, 7), (6, 4), (11, 2)])
def test_any_grid_keeps_the_mean_and_a_constant(grid):
    a = np.random.default_rng(0).random((2, 3, 5, 6), np.float32)
    np.testing.assert_allclose(resample(a, grid).mean(axis=(2, 3)), a.mean(axis=(2, 3)), rtol=1e-5)
    np.testing.assert_allclose(resample(np.ones_like(a), grid), 1, rtol=1e-6)


# the set-up


def test_the_embedding_is_the_three_layers_on_the_grid_of_the_second():
    embedder = Embedder(NETWORK, (144, 144))
    (_, some, x), *_ = embedder.batches(sorted((CORK / "good").iterdir())[:3])
    feed = {"pictures": np.stack([np.asarray(picture) for picture in some])}
    fine, middle, coarse = embedder.session.run(["block2", "block4", "block10"], feed)
    fine = fine.reshape(3, 24, 18, 2, 18, 2).mean(axis=(3, 5))
    coarse = coarse.repeat(2, axis=2).repeat(2, axis=3)
    assert x.shape == (3, *embedder.shape) == (3, 176, 18, 18)
    np.testing.assert_allclose(x, np.concatenate([fine, middle, coarse], axis=1), atol=1e-5)


def test_channels_are_taken_in_the_order_given():
    some = [Image.open(CORK / "good" / "000.jpg")]
    everything = Embedder(NETWORK, (144, 144)).embed(some)
    channels = [175, 3, 60, 24, 23]
    assert (Embedder(NETWORK, (144, 144), channels=channels).embed(some) == everything[:, channels]).all()


def test_a_draw_of_channels_is_that_of_its_seed():
    draws = [Embedder(NETWORK, (32, 32), channels=9, seed=s).setup["channels"] for s in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert all(len(set(draw)) == 9 for draw in draws)


def test_an_embedder_is_made_again_of_its_setup():
    first = Embedder(NETWORK, (300, 200), layers=["block10", "block4"], channels=7, white=1000)
    options = {name: value for name, value in first.setup.items() if name not in ("network", "sha256")}
    assert Embedder(NETWORK, **options).setup == first.setup
    assert first.setup["input_size"] == [256, 160]
    assert json.loads(json.dumps(first.setup)) == first.setup


def test_an_option_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="options: expected some of"):
        Embedder(NETWORK, (144, 144), chanels=3)


# other networks


@pytest.fixture
def make(tmp_path):
    """Return a function that writes a network of one node, and returns its path."""
    onnx = pytest.importorskip("onnx")

    def make(op, fed, given, dtype="FLOAT", constants=(), **attributes):
        kind = getattr(onnx.TensorProto, dtype)
        names = [f"c{i}" for i in range(len(constants))]
        info = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node(op, ["x", *names], ["y"], **attributes)],
            "net",
            [info("x", kind, fed)],
            [info("y", kind, given)],
            [onnx.numpy_helper.from_array(a, name) for a, name in zip(constants, names, strict=True)],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, tmp_path / "made.onnx")
        return tmp_path / "made.onnx"

    return make


GREY = [Image.new("RGB", (24, 16), (30, 60, 90)), Image.new("RGB", (24, 16), (0, 0, 255))]


@pytest.mark.parametrize("dtype", ["FLOAT", "FLOAT16"])
def test_a_network_of_floats_is_fed_as_those_of_torchvision_unless_told_otherwise(make, dtype):
    net = make("Identity", ["N", 3, "h", "w"], ["N", 3, "h", "w"], dtype)
    tolerance = 1e-5 if dtype == "FLOAT" else 2e-3
    x = Embedder(net, (16, 24)).embed(GREY)
    wanted = (np.array([30, 60, 90]) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(x[0, :, 3, 5], wanted, rtol=tolerance)
    told = Embedder(net, (16, 24), scale=1 / 127.5, mean=[1.0]).embed(GREY)
    np.testing.assert_allclose(told[0, :, 3, 5], np.array([30, 60, 90]) / 127.5 - 1, rtol=tolerance)
    told = Embedder(net, (16, 24), mean=[10, 20, 30], std=[2, 4, 6]).embed(GREY)
    assert told[0, :, 3, 5].tolist() == [10, 10, 10]


def test_channels_may_be_last_in_the_input_and_in_the_layers(make):
    last = make("Identity", ["N", "h", "w", 3], ["N", "h", "w", 3])
    embedder = Embedder(last, (16, 24), output_layout="NHWC", scale=1)
    assert embedder.shape == (3, 16, 24)
    assert embedder.embed(GREY)[1, :, 2, 2].tolist() == [0, 0, 255]
    with pytest.raises(ValueError, match="output_layout: expected y on a grid like 16 x 24, got 24 x 3"):
        Embedder(last, (16, 24))
    free = make("Identity", ["N", "a", "b", "c"], ["N", "a", "b", "c"])
    assert Embedder(free, (16, 24), scale=1).setup["layout"] == "NCHW"
    told = Embedder(free, (16, 24), layout="NHWC", output_layout="NHWC", scale=1)
    assert told.embed(GREY)[1, :, 2, 2].tolist() == [0, 0, 255]


@pytest.mark.parametrize("batch", [1, 3])
def test_a_network_may_ask_for_a_number_of_pictures_and_for_a_size(make, batch):
    net = make("Identity", [batch, 3, 8, 12], [batch, 3, 8, 12])
    embedder = Embedder(net, (16, 24), scale=1)
    assert embedder.setup["input_size"] == [8, 12]
    five = [Image.new("RGB", (12, 8), (i, 0, 0)) for i in range(5)]
    assert embedder.embed(five)[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match=r"input_size: expected \[8, 12\], as the network asks"):
        Embedder(net, (16, 24), input_size=(16, 24))


def test_a_network_of_one_channel_is_fed_grey(make):
    net = make("Identity", ["N", 1, "h", "w"], ["N", 1, "h", "w"])
    embedder = Embedder(net, (16, 24), scale=1)
    assert embedder.embed([Image.new("L", (24, 16), 7)])[0].mean() == 7
    assert embedder.mode == "L"


def test_a_network_of_one_channel_is_not_fed_as_those_of_colours(make):
    net = make("Identity", ["N", 1, "h", "w"], ["N", 1, "h", "w"])
    with pytest.raises(ValueError, match=r"mean: expected 1 number, for grey pictures, got \["):
        Embedder(net, (16, 24))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": [1, 2]}, r"mean: expected 1 number or 3, got \[1, 2\]"),
        ({"std": [1, 1, 1, 1]}, "std: expected 1 number or 3, got"),
        ({"std": [1, 0, 1]}, "std: expected numbers other than 0, got"),
        ({"input_size": (0, 24)}, "input_size: expected 1 or more, got"),
        ({"white": 0}, "white: expected 1 or more, got 0"),
        ({"channels": 2, "seed": -1}, "seed: expected 0 or more, got -1"),
    ],
)
def test_options_that_no_network_can_have_are_refused(make, options, message):
    net = make("Identity", ["N", 3, "h", "w"], ["N", 3, "h", "w"])
    with pytest.raises(ValueError, match=message):
        Embedder(net, (16, 24), **options)


def test_tokens_before_a_square_are_no_patches(make):
    """A network whose tokens are the pixels of a padded picture: two come before the square."""
    constants = [np.array([0, -1, 3], np.int64)]
    net = make("Reshape", ["N", 4, 4, 3], ["N", "T", 3], constants=constants)
    embedder = Embedder(net, (4, 4), scale=1, layout="NHWC")
    values = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert (embedder.embed([Image.fromarray(values)])[0] == np.moveaxis(values, 2, 0)).all()
    layer = np.arange(2 * 18 * 3).reshape(2, 18, 3)
    placed = embedder._on_grid("y", layer)
    assert (placed == np.moveaxis(layer[:, 2:].reshape(2, 4, 4, 3), 3, 1)).all()
    embedder.setup["input_size"] = [4, 8]
    with pytest.raises(ValueError, match="layers: expected y on a grid, or tokens of square pictures"):
        embedder._on_grid("y", layer)


def test_a_network_without_layers_or_pictures_is_refused(make):
    pooled = make("Flatten", ["N", 3, "h", "w"], ["N", "c"])
    with pytest.raises(
        ValueError, match=r"layers: expected some of the outputs of the network.*, got none on a"
    ):
        Embedder(pooled, (16, 24))
    with pytest.raises(ValueError, match="layers: expected y on a grid"):
        Embedder(pooled, (16, 24), layers=["y"])
    for fed, dtype in ((["N", 5], "FLOAT"), (["N", 3, "h", "w"], "INT64")):
        with pytest.raises(ValueError, match="network: expected one input"):
            Embedder(make("Identity", fed, fed, dtype), (16, 24))
