"""`docs/pictures.py` and `docs/embedder.py`: from folders of pictures to decisions."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

import mvgauss

pytest.importorskip("onnxruntime")
pytest.importorskip("matplotlib")
Image = pytest.importorskip("PIL.Image")

DOCS = Path(__file__).resolve().parents[1] / "docs"
CORK, NETWORK = DOCS / "data" / "cork", DOCS / "data" / "net" / "efficientnet_lite0_blocks.onnx"
sys.path.insert(0, str(DOCS))

import embedder as embedders  # noqa: E402
import pictures  # noqa: E402
from embedder import Embedder  # noqa: E402


def command(*arguments, cwd=None):
    """Run the program as a user does; a warning is an error."""
    line = [sys.executable, "-W", "error", DOCS / "pictures.py", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, cwd=cwd)


def table(folder):
    """Return the lines of scores.csv."""
    with open(folder / "scores.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def cork(tmp_path_factory):
    """Return the folder that the program writes of the cork."""
    out = tmp_path_factory.mktemp("cork") / "not" / "yet"
    done = command(CORK / "good", CORK / "test", "--network", NETWORK, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Return two folders of pictures, 24 x 16: 20 good ones, and 3 others."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("few")
    for name, n in (("good", 20), ("others", 3)):
        (folder / name).mkdir()
        for i in range(n):
            Image.fromarray(rng.integers(0, 256, (16, 24, 3), np.uint8)).save(folder / name / f"{i:02}.png")
    return folder


# the whole program


def test_every_picture_has_a_line_and_a_map(cork):
    rows = table(cork)
    assert list(rows[0]) == ["file", "score", "p_value", "flagged"]
    files = sorted(path.name for path in (CORK / "test").iterdir())
    assert [row["file"] for row in rows] == files
    assert sorted(path.name for path in (cork / "maps").iterdir()) == [f"{name}.png" for name in files]
    for name in files[::10]:
        with Image.open(cork / "maps" / f"{name}.png") as heat:
            assert (heat.size, heat.mode) == ((144, 144), "RGB")


def test_the_scores_are_those_that_are_known_of_these_pictures(cork):
    rows = table(cork)
    scores = np.array([float(row["score"]) for row in rows])
    defective = np.array(["good" not in row["file"] for row in rows])
    auc = mannwhitneyu(scores[defective], scores[~defective]).statistic / (18 * 12)
    assert round(auc, 3) == 0.963
    assert [round(v) for v in (scores[~defective].min(), scores[~defective].max())] == [358, 598]
    assert [round(v) for v in (scores[defective].min(), scores[defective].max())] == [411, 1195]


def test_a_picture_is_flagged_where_its_p_value_is_at_most_the_rate(cork):
    for row in table(cork):
        assert row["flagged"] == str(float(row["p_value"]) <= 0.05)
        assert round(float(row["p_value"]) * 61, 3).is_integer()


def test_what_is_flagged_is_what_the_model_calls_defective(cork):
    model, embedder = pictures.load(cork / "model.npz", NETWORK)
    files = [CORK / "test" / row["file"] for row in table(cork)]
    embedding = np.concatenate([x for _, _, x in embedder.batches(files)])
    answers = model.predict(embedding)
    assert [row["flagged"] for row in table(cork)] == [str(a == -1) for a in answers]


def test_heat_is_where_a_picture_is_defective(cork):
    for name in ("014_hole", "020_hole", "025_stain"):
        with (
            Image.open(cork / "maps" / f"{name}.jpg.png") as heat,
            Image.open(CORK / f"masks/{name}.png") as mask,
        ):
            colour = np.ptp(np.asarray(heat).astype(int), axis=2)
            inside = np.asarray(mask) > 0
        assert colour[inside].mean() > 5 * colour[~inside].mean()


def test_a_model_judges_without_good_pictures_as_it_did_with_them(cork, tmp_path):
    arguments = [CORK / "test", "--model", cork / "model.npz", "--network", NETWORK, "--out", tmp_path]
    pictures.main([*map(str, arguments)])
    assert table(tmp_path) == table(cork)
    assert not (tmp_path / "model.npz").exists()
    rate = 7 / 61  # that of one of the pictures
    pictures.main([*map(str, arguments), "--rate", str(rate + 1e-9)])
    flagged = [row["flagged"] == "True" for row in table(tmp_path)]
    assert flagged == [float(row["p_value"]) < rate + 1e-5 for row in table(cork)]
    assert sum(flagged) > sum(row["flagged"] == "True" for row in table(cork))


@pytest.mark.slow
def test_a_rate_holds_for_good_pictures_that_were_not_fitted():
    """In random splits of the good ones: 40 are fitted, 20 are new."""
    files = np.array(pictures.find_pictures(CORK / "good"))
    embedder = Embedder(NETWORK, (144, 144), channels=20)
    everything = np.concatenate([x for _, _, x in embedder.batches(files)])
    by_name = dict(zip(files, everything, strict=True))
    rng, flagged = np.random.default_rng(0), []
    for _ in range(20):
        order = rng.permutation(60)
        embedder.batches = lambda paths: [(paths, None, np.stack([by_name[p] for p in paths]))]
        model = pictures.fit(embedder, list(files[order[:40]]), rate=0.1)
        flagged += list(model.image_p_value(everything[order[40:]]) <= 0.1)
    assert 0.02 < np.mean(flagged) < 0.15  # 400 decisions


@pytest.mark.parametrize("batch", [7, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 100))])
def test_batches_change_nothing(monkeypatch, batch):
    files = pictures.find_pictures(CORK / "good")[:20]
    embedder = Embedder(NETWORK, (144, 144), channels=10)
    whole = pictures.fit(embedder, files)
    expected = [row[1:3] for row in pictures.judge(whole, embedder, files)]
    monkeypatch.setattr(embedders, "BATCH", batch)
    parts = pictures.fit(embedder, files)
    got = [row[1:3] for row in pictures.judge(parts, embedder, files)]
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    assert parts.threshold_ == pytest.approx(whole.threshold_, rel=1e-4)


def test_the_set_up_travels_in_the_file_of_the_model(cork):
    assert sorted(path.name for path in cork.iterdir()) == ["maps", "model.npz", "scores.csv"]
    metadata = mvgauss.MultiVariateGaussian.load(cork / "model.npz").metadata
    assert metadata == {"setup": Embedder(NETWORK, (144, 144)).setup, "rate": 0.05, "pictures": 60}


# what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--layers", "block2", "block4"],
            r"layers: expected \['block2', 'block4', 'block10'\], as the model",
        ),
        (["--channels", "20"], "channels: expected the 176 that the model"),
        (["--mean", "0"], "mean: expected None, as the model"),
        (["--grid", "block10"], "grid: expected block4, as the model"),
        (["--input-size", "128", "128"], r"input_size: expected \[144, 144\], as the model"),
        (["--white", "4095"], "white: expected 65535, as the model"),
    ],
)
def test_another_set_up_than_that_of_the_model_is_refused_by_name(cork, tmp_path, options, message):
    arguments = [str(CORK / "test"), "--model", str(cork / "model.npz"), "--network", str(NETWORK)]
    with pytest.raises(SystemExit, match=f"pictures.py: {message}"):
        pictures.main([*arguments, "--out", str(tmp_path), *options])


def test_channels_drawn_by_another_seed_are_refused(tmp_path):
    setup = Embedder(NETWORK, (144, 144), channels=20).setup
    model = mvgauss.MultiVariateGaussian().fit(np.random.default_rng(0).random((5, 2, 3)))
    model.save(tmp_path / "m.npz", metadata={"setup": setup})
    assert pictures.load(tmp_path / "m.npz", NETWORK, seed=0)[1].setup == setup
    with pytest.raises(ValueError, match="channels: expected the 20 that the model was fitted with"):
        pictures.load(tmp_path / "m.npz", NETWORK, seed=1)


def test_another_network_is_refused(cork, tmp_path):
    other = tmp_path / NETWORK.name
    other.write_bytes(NETWORK.read_bytes() + b"\x00\x00")
    with pytest.raises(ValueError, match="network: expected the one that the model was fitted with"):
        pictures.load(cork / "model.npz", other)


def test_a_model_without_a_set_up_is_refused(tmp_path):
    mvgauss.MultiVariateGaussian().fit(np.random.default_rng(0).random((5, 2, 3))).save(tmp_path / "m.npz")
    with pytest.raises(ValueError, match="model: expected one that was saved with the set-up"):
        pictures.load(tmp_path / "m.npz", NETWORK)


def _broken(few, tmp_path):
    """Return a folder with a file that says it is a picture and is none."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "bad.png").write_bytes(b"not a picture")
    return [few / "good", tmp_path / "broken"]


def _empty(few, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("none here")
    return [few / "good", tmp_path / "empty"]


BOTH = ("good", "others")


@pytest.mark.parametrize(
    ("folders", "options", "message"),
    [
        (_broken, [], r"picture: expected one to read, got '.*bad.png': cannot identify"),
        (_empty, [], r"folder: expected a folder of pictures, got '.*empty' with 1 files"),
        (("good", "none"), [], r"folder: expected a folder of pictures, got '.*none'"),
        (("good", "good"), [], "OTHERS: expected other pictures than those of GOOD"),
        (("others", "good"), [], "rate: expected 0.25 or more.* with 3 good"),
        (("good", CORK / "test"), [], "picture: expected the shape of 16 x 24 .*000_good"),
        (BOTH, ["--rate", "0.01"], "rate: expected 0.04762 or more"),
        (BOTH, ["--rate", "1"], "rate: .* less than 1"),
        (BOTH, ["--scale", "1/255"], "whole numbers, got"),
        (BOTH, ["--channels", "0"], "channels: expected 1 to 176"),
        (BOTH, ["--channels", "177"], "channels: expected 1 to 176"),
        (BOTH, ["--layers", "x"], "layers: expected some of the outputs"),
        (BOTH, ["--grid", "x"], "grid: expected one of"),
        (BOTH, ["--output-layout", "NHWC"], "output_layout: expected"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(few, tmp_path, capsys, folders, options, message):
    folders = folders(few, tmp_path) if callable(folders) else [few / folder for folder in folders]
    arguments = [*map(str, folders), "--network", str(NETWORK), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stop:
        pictures.main([*arguments, *options])
    assert "\n" not in str(stop.value)
    assert re.search(f"pictures.py: .*{message}", str(stop.value)), stop.value
    assert not (tmp_path / "out" / "scores.csv").exists()


@pytest.mark.parametrize("n", [1, 19, 60])
def test_the_smallest_rate_is_one_in_one_more_than_there_are_pictures(n):
    pictures.check_rate(1 / (n + 1), n)
    for rate in (1 / (n + 1.1), 0, -0.5, float("nan"), 1, 2):
        with pytest.raises(ValueError, match=f"rate: expected .* with {n} good pictures"):
            pictures.check_rate(rate, n)


def test_a_folder_that_cannot_be_written_to_is_refused(few, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    folders = [str(few / "good"), str(few / "others"), "--network", str(NETWORK)]
    with pytest.raises(SystemExit, match="out: expected a folder to write to"):
        pictures.main([*folders, "--out", str(tmp_path / "file")])
    monkeypatch.setattr(
        Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(PermissionError("Permission denied"))
    )
    with pytest.raises(SystemExit, match="out: expected a folder to write to, got Permission denied"):
        pictures.main([*folders, "--out", str(tmp_path / "out")])


def test_results_are_not_written_among_the_pictures(few):
    for folder in (few / "good", few / "others" / "below"):
        with pytest.raises(SystemExit, match="out: expected a folder outside"):
            pictures.main(
                [str(few / "good"), str(few / "others"), "--network", str(NETWORK), "--out", str(folder)]
            )


@pytest.mark.parametrize("folders", [[], ["a", "b", "c"], ["a"]])
def test_two_folders_are_asked_for_and_one_with_a_model(folders, capsys):
    with pytest.raises(SystemExit, match="2"):
        pictures.main([*folders, "--network", "n", "--out", "o"])
    with pytest.raises(SystemExit, match="2"):
        pictures.main(["a", "b", "--model", "m", "--network", "n", "--out", "o"])
    assert "GOOD" in capsys.readouterr().err


# folders and files


def test_pictures_of_folders_below_are_found_and_other_files_are_not(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("z.png", "b/a.JPG", ".hidden.png", "notes.txt"):
        Image.new("RGB", (2, 2)).save(tmp_path / name, "png")
    assert pictures.find_pictures(tmp_path) == [tmp_path / "b" / "a.JPG", tmp_path / "z.png"]


def test_names_with_commas_and_folders_below_have_their_lines_and_maps(few, tmp_path):
    for name in ("a,b.png", "sub/a,b.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes((few / "others" / "00.png").read_bytes())
    out = tmp_path / "out"
    pictures.main([str(few / "good"), str(tmp_path / "in"), "--network", str(NETWORK), "--out", str(out)])
    assert [row["file"] for row in table(out)] == ["a,b.png", "sub/a,b.png"]
    assert (out / "maps" / "a,b.png.png").exists()
    assert (out / "maps" / "sub" / "a,b.png.png").exists()
