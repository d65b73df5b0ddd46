"""Good pictures -> a model and a limit -> verdicts and maps."""

import shutil

import numpy as np
import pytest
from PIL import Image

import mvgauss
from mvgauss.pictures import Embedder, Inspector, PictureError, _network, find_pictures, overlay


@pytest.fixture(scope="module")
def inspector(cork, network):
    """Return an inspector of 20 channels of the cork."""
    return Inspector.fit(Embedder(network, (144, 144), channels=20), find_pictures(cork / "good"))


def test_it_is_the_model_of_the_embedding_with_the_limit_of_leave_one_out(inspector, cork):
    good = np.concatenate([x for _, _, x in inspector.embedder.batches(find_pictures(cork / "good"))])
    model = mvgauss.MultiVariateGaussian().fit(good)
    limit = model.threshold(good, 0.05, source="training")
    assert inspector.limit == pytest.approx(limit, rel=1e-5)
    assert inspector.rate == pytest.approx(3 / 61)
    files = find_pictures(cork / "test")
    test = np.concatenate([x for _, _, x in inspector.embedder.batches(files)])
    verdicts = list(inspector.judge(files))
    distances = np.stack([verdict.distances for verdict in verdicts])
    np.testing.assert_allclose(distances, model.mahalanobis(test), rtol=1e-4)
    p_values = inspector.model.image_p_value(test)
    for verdict, distance, p_value in zip(verdicts, distances, p_values, strict=True):
        assert verdict.score == distance.max()
        assert verdict.p_value == p_value
        assert verdict.flagged == (verdict.score > inspector.limit) == (p_value <= 0.05)


@pytest.mark.parametrize("batch", [7, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 100))])
def test_batches_change_nothing(inspector, cork, monkeypatch, batch):
    files = find_pictures(cork / "good")[:20]
    whole = Inspector.fit(inspector.embedder, files)
    expected = [(v.score, v.p_value) for v in whole.judge(files)]
    monkeypatch.setattr(_network, "BATCH", batch)
    parts = Inspector.fit(inspector.embedder, files)
    np.testing.assert_allclose([(v.score, v.p_value) for v in parts.judge(files)], expected, rtol=1e-4)
    assert parts.limit == pytest.approx(whole.limit, rel=1e-4)


def test_bars_show_how_far_it_is_where_they_are_asked_for(few, network, capsys):
    embedder, files = Embedder(network, (16, 24)), find_pictures(few / "good")
    inspector = Inspector.fit(embedder, files, rate=1 / 21)  # the smallest
    assert len(list(inspector.judge(files))) == 20
    assert capsys.readouterr().err == ""
    list(Inspector.fit(embedder, files, progress=True).judge(files, progress=True))
    said = capsys.readouterr().err
    for label, count in (("reading good pictures", 20), ("embedding good pictures", 2), ("judging", 20)):
        assert f"\r{label} [{'#' * 30}] {count}/{count}\n" in said


# saving


def test_what_was_saved_judges_as_before_and_at_any_rate(inspector, cork, network, tmp_path):
    inspector.save(tmp_path / "m.npz")
    loaded = Inspector.load(tmp_path / "m.npz", network)
    assert loaded.embedder.setup == inspector.embedder.setup
    assert loaded.limit == inspector.limit
    files = find_pictures(cork / "test")
    expected = list(inspector.judge(files))
    assert [v.score for v in loaded.judge(files)] == [v.score for v in expected]
    rate = next(v.p_value for v in expected if 0.1 < v.p_value < 0.5)
    flagged = [v.flagged for v in Inspector.load(tmp_path / "m.npz", network, rate=rate).judge(files)]
    assert flagged == [v.p_value <= rate for v in expected]
    with pytest.raises(ValueError, match=r"rate: 0.01 needs at least 99 good pictures"):
        Inspector.load(tmp_path / "m.npz", network, rate=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ["block2"]}, r"layers: expected \['block2', 'block4', 'block10'\], as the model"),
        ({"channels": 30}, "channels: expected the 20 that the model"),
        ({"seed": 1}, "channels: expected the 20 that the model"),
        ({"mean": [0.0]}, "mean: expected None, as the model"),
        ({"grid": "block10"}, "grid: expected block4, as the model"),
        ({"input_size": (128, 128)}, r"input_size: expected \[144, 144\], as the model"),
        ({"white": 4095}, "white: expected 65535, as the model"),
    ],
)
def test_another_set_up_or_network_than_that_of_the_model_is_refused(
    inspector, network, tmp_path, options, message
):
    inspector.save(tmp_path / "m.npz")
    with pytest.raises(ValueError, match=message):
        Inspector.load(tmp_path / "m.npz", network, **options)
    (tmp_path / "other.onnx").write_bytes(network.read_bytes() + b"\x00\x00")
    with pytest.raises(ValueError, match="network: expected the one that the model was fitted with"):
        Inspector.load(tmp_path / "m.npz", tmp_path / "other.onnx")


def test_a_model_that_no_inspector_saved_is_refused(network, tmp_path):
    mvgauss.MultiVariateGaussian().fit(np.random.default_rng(0).random((5, 2, 3))).save(tmp_path / "m.npz")
    with pytest.raises(ValueError, match="model: expected one that an Inspector saved"):
        Inspector.load(tmp_path / "m.npz", network)


# pictures that are not as they should be


def test_good_pictures_that_cannot_be_used_are_all_named_before_anything_is_fitted(
    few, network, tmp_path, monkeypatch
):
    files = find_pictures(shutil.copytree(few / "good", tmp_path / "good"))
    files[3].write_bytes(b"text")
    files[5].write_bytes(b"")
    Image.new("RGB", (16, 24)).save(files[7])
    monkeypatch.setattr(Embedder, "embed", None)
    with pytest.raises(ValueError, match=r"good pictures: .* got 3 that cannot be used") as stop:
        Inspector.fit(Embedder(network, (16, 24)), files)
    said = str(stop.value)
    assert all(files[i].name in said for i in (3, 5, 7))
    assert "16 x 24 pixels, which is not the shape of 24 x 16" in said


def test_good_pictures_that_are_all_alike_are_refused_and_copies_warned_of(few, network, tmp_path):
    embedder = Embedder(network, (16, 24))
    for i in range(20):
        shutil.copy(few / "good" / "00.png", tmp_path / f"{i:02}.png")
    with pytest.raises(ValueError, match=r"good pictures: .* 20 that are all like '.*00.png'"):
        Inspector.fit(embedder, find_pictures(tmp_path))
    for i in range(10, 20):
        shutil.copy(few / "good" / f"{i:02}.png", tmp_path / f"{i:02}.png")
    with pytest.warns(
        UserWarning, match=r"9 of 20 good pictures are copies of others, as '.*01.png' of '.*00"
    ):
        Inspector.fit(embedder, find_pictures(tmp_path))


def test_good_pictures_that_a_network_cannot_tell_apart_are_refused(few, make):
    shape = ["N", 3, "h", "w"]
    embedder = Embedder(make("Mul", shape, shape, constants=[np.float32(0)]), (16, 24), scale=1)
    with pytest.raises(ValueError, match=r"good pictures: .* 20 that are all like"):
        Inspector.fit(embedder, find_pictures(few / "good"))


@pytest.mark.parametrize(
    ("top", "white", "right"), [(4095, 65535, 4095), (1900, 65535, 4095), (1023, 8191, 1023)]
)
def test_nearly_black_pictures_of_12_bits_are_warned_of_by_the_white_that_they_need(
    network, tmp_path, rng, top, white, right
):
    for i in range(20):
        values = rng.integers(0, top + 1, (16, 24))
        values[:8, :8] = top  # a few bright pixels survive resizing
        Image.fromarray(values.astype(np.uint16)).save(tmp_path / f"{i:02}.tiff")
    files = find_pictures(tmp_path)
    with pytest.warns(UserWarning, match=rf"reaches {top} of {white}, .* --white {right}"):
        Inspector.fit(Embedder(network, (16, 24), white=white), files)
    Inspector.fit(Embedder(network, (16, 24), white=right), files)  # a warning is an error


def test_a_picture_that_gives_no_finite_numbers_is_named_and_the_others_are_judged(few, make, tmp_path):
    """A network that divides by the picture: black gives infinity."""
    shape, good = ["N", 3, "h", "w"], find_pictures(few / "others")
    embedder = Embedder(make("Reciprocal", shape, shape), (16, 24), scale=1)
    for path in good:  # none of them has a zero
        with Image.open(path) as picture:
            Image.fromarray(np.asarray(picture) // 2 + 100).save(tmp_path / path.name)
    Image.new("RGB", (24, 16)).save(tmp_path / "black.png")
    black, *good = sorted(find_pictures(tmp_path), reverse=True)
    inspector = Inspector.fit(embedder, good, rate=0.5)
    assert [verdict.error for verdict in inspector.judge([black, good[0]])] == [
        "the network gives no finite numbers",
        "",
    ]
    with pytest.raises(PictureError, match=r"black.png': the network gives no finite numbers"):
        Inspector.fit(embedder, [black, *good], rate=0.5)


# maps


def test_a_map_has_the_size_of_the_picture_and_an_outline_where_it_exceeds_the_limit():
    picture, distances = Image.new("RGB", (61, 47), (120, 90, 60)), np.zeros((5, 7))
    plain = np.asarray(overlay(picture, distances, 1.0))
    assert plain.shape == (47, 61, 3)
    assert np.ptp(plain) == 0  # a picture in grey
    distances[1, 4] = 1.001  # at no pixel between the patches
    outlined = np.asarray(overlay(picture, distances, 1.0))
    rows, columns = np.nonzero((outlined == 255).all(axis=2))
    assert 47 / 5 < rows.min() < rows.max() < 2 * 47 / 5
    assert 4 * 61 / 7 < columns.min() < columns.max() < 5 * 61 / 7
    distances[1, 4] = 0.999
    assert not (np.asarray(overlay(picture, distances, 1.0)) == 255).all(axis=2).any()
    with pytest.raises(ValueError, match="limit: expected a finite real number > 0"):
        overlay(picture, distances, 0.0)


def test_heat_is_where_a_picture_is_defective(inspector, cork):
    for name in ("014_hole", "020_hole", "025_stain"):
        (verdict,) = inspector.judge([cork / "test" / f"{name}.jpg"])
        heat = overlay(verdict.picture, verdict.distances, inspector.limit)
        colour = np.ptp(np.asarray(heat).astype(int), axis=2)
        with Image.open(cork / f"masks/{name}.png") as mask:
            inside = np.asarray(mask) > 0
        assert colour[inside].mean() > 5 * colour[~inside].mean()
