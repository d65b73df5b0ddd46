"""Pictures of all kinds and networks of all kinds -> embeddings."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from mvgauss.pictures import Embedder, PictureError, find_pictures, read_picture


def test_weights_beside_a_network_belong_to_it(network, tmp_path):
    copy = shutil.copy(network, tmp_path / "net.onnx")
    alone = Embedder(copy, (32, 32)).setup
    (tmp_path / "net.onnx.data").write_bytes(b"weights")
    assert Embedder(copy, (32, 32)).setup["sha256"] != alone["sha256"]


def test_a_network_that_is_none_is_refused(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"none")
    for network in (tmp_path / "net.onnx", tmp_path / "missing.onnx"):
        with pytest.raises(ValueError, match="network: expected an ONNX file"):
            Embedder(network, (16, 16))


def test_pictures_of_folders_below_are_found_and_other_files_are_not(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("z.png", "b/a.JPG", ".hidden.png", "notes.txt"):
        Image.new("RGB", (2, 2)).save(tmp_path / name, "png")
    assert find_pictures(tmp_path) == [tmp_path / "b" / "a.JPG", tmp_path / "z.png"]


# pictures


@pytest.fixture
def colours():
    return np.random.default_rng(1).integers(0, 256, (4, 6, 3), np.uint8)


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


def test_a_picture_of_another_size_is_resized_and_one_of_another_shape_refused(cork, network, tmp_path):
    embedder = Embedder(network, (144, 144))
    with Image.open(cork / "good" / "000.jpg") as picture:
        picture.resize((288, 288)).save(tmp_path / "large.png")
        picture.crop((0, 0, 144, 130)).save(tmp_path / "flat.png")
    large = embedder.read(tmp_path / "large.png")
    same = embedder.read(cork / "good" / "000.jpg")
    assert large.size == same.size == (144, 144)
    assert np.abs(np.asarray(large).astype(int) - np.asarray(same)).mean() < 8
    with pytest.raises(PictureError, match="144 x 130 pixels, which is not the shape of 144 x 144") as stop:
        embedder.read(tmp_path / "flat.png")
    assert stop.value.path == tmp_path / "flat.png"


@pytest.mark.parametrize("pool", [3, 5, 7])
def test_any_grid_keeps_the_mean_and_a_constant(make, rng, pool):
    size = ["N", 3, "h", "w"]
    pooled = ("MaxPool", ["x"], "z", ["N", 3, "i", "j"], {"kernel_shape": [pool] * 2, "strides": [pool] * 2})
    embedder = Embedder(make("Identity", size, size, more=[pooled]), (16, 24), scale=1, grid="z")
    fine, coarse = embedder.layers
    assert coarse.shape[1:] == embedder.shape[1:] == (16 // pool, 24 // pool)
    x = rng.random((2, 3, 16, 24), np.float32)
    np.testing.assert_allclose(fine.on_grid(x).mean(axis=(2, 3)), x.mean(axis=(2, 3)), rtol=1e-5)
    np.testing.assert_allclose(fine.on_grid(np.ones_like(x)), 1, rtol=1e-6)


def test_layers_say_all_that_another_program_needs_to_make_the_embedding(network, cork):
    embedder = Embedder(network, (144, 144), channels=[100, 3, 60, 2])
    x = np.asarray(Image.open(cork / "good" / "000.jpg"))[None]
    names = [layer.name for layer in embedder.layers]
    outputs = embedder.network.session.run(names, {embedder.network.input: x})
    result = np.empty((1, *embedder.shape), np.float32)
    for layer, output in zip(embedder.layers, outputs, strict=True):
        result[:, layer.positions] = layer.rows @ output[:, layer.channels] @ layer.columns.T
    assert (result == embedder.embed(x)).all()


def test_the_embedding_is_the_channels_in_their_order_of_layers_on_the_grid_of_the_second(cork, network):
    channels = [175, 3, 60, 24, 23, *range(64, 100)]
    embedder = Embedder(network, (144, 144), channels=channels)
    (_, some, x), *_ = embedder.batches(sorted((cork / "good").iterdir())[:3])
    feed = {"pictures": np.stack([np.asarray(picture) for picture in some])}
    fine, middle, coarse = embedder.network.session.run(["block2", "block4", "block10"], feed)
    fine = fine.reshape(3, 24, 18, 2, 18, 2).mean(axis=(3, 5))
    coarse = coarse.repeat(2, axis=2).repeat(2, axis=3)
    assert x.shape == (3, *embedder.shape) == (3, 41, 18, 18)
    everything = np.concatenate([fine, middle, coarse], axis=1)
    np.testing.assert_allclose(x, everything[:, channels], atol=1e-5)


def test_an_embedder_is_made_again_of_its_setup(network):
    first = Embedder(network, (300, 200), layers=["block10", "block4"], channels=7, white=1000)
    options = {name: value for name, value in first.setup.items() if name not in ("network", "sha256")}
    assert Embedder(network, **options).setup == first.setup
    assert first.setup["input_size"] == [256, 160]
    assert json.loads(json.dumps(first.setup)) == first.setup


# other networks


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
    with pytest.raises(ValueError, match="output_layout: expected y on a grid like 24 x 16, got 3 x 24"):
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
    with pytest.raises(ValueError, match=r"input_size: expected 12 x 8 .* as the network asks, got 24 x 16"):
        Embedder(net, (16, 24), input_size=(16, 24))


def test_a_network_of_one_channel_is_fed_grey_and_not_as_those_of_colours(make):
    net = make("Identity", ["N", 1, "h", "w"], ["N", 1, "h", "w"])
    assert Embedder(net, (16, 24), scale=1).embed([Image.new("L", (24, 16), 7)])[0].mean() == 7
    with pytest.raises(ValueError, match=r"mean: expected 1 number, for grey pictures, got \["):
        Embedder(net, (16, 24))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": [1, 2]}, r"mean: expected 1 number or 3, got \[1, 2\]"),
        ({"std": [1, 1, 1, 1]}, "std: expected 1 number or 3, got"),
        ({"std": [1, 0, 1]}, "std: expected numbers other than 0, got"),
        ({"input_size": (0, 24)}, "input_size: expected height and width of 1 or more"),
        ({"white": 0}, "white: expected an integer >= 1, got 0"),
        ({"channels": 2, "seed": -1}, "seed: expected an integer >= 0, got -1"),
    ],
)
def test_options_that_no_network_can_have_are_refused(make, options, message):
    net = make("Identity", ["N", 3, "h", "w"], ["N", 3, "h", "w"])
    with pytest.raises(ValueError, match=message):
        Embedder(net, (16, 24), **options)


def test_tokens_before_a_square_are_no_patches(make):
    """A network whose tokens are the pixels of a picture: two come before the square."""
    shape, pads = np.array([0, -1, 3], np.int64), np.array([0, 2, 0, 0, 0, 0], np.int64)
    padded = ("Pad", ["y", "c1"], "z", ["N", "T", 3], {})
    net = make("Reshape", ["N", "h", "w", 3], ["N", "U", 3], constants=[shape, pads], more=[padded])
    values = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    for layer in ("y", "z"):
        embedder = Embedder(net, (4, 4), scale=1, layout="NHWC", layers=[layer])
        assert (embedder.embed([Image.fromarray(values)])[0] == np.moveaxis(values, 2, 0)).all()
    with pytest.raises(ValueError, match="layers: expected y on a grid, or tokens of square pictures"):
        Embedder(net, (4, 8), scale=1, layout="NHWC", layers=["y"])


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
