"""``python -m mvgauss.pictures``: from folders of pictures to a folder of results."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from scipy.stats import mannwhitneyu

from mvgauss.pictures import Embedder, Inspector
from mvgauss.pictures._program import main


def run(network, out, *arguments):
    """Call the program in this process; return its exit status."""
    return main([*map(str, arguments), "--network", str(network), "--out", str(out)])


def table(folder):
    """Return the lines of scores.csv."""
    with open(folder / "scores.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def done(cork, network, tmp_path_factory):
    """Run the program on the cork as a user does; return what it printed, and the folder."""
    out = tmp_path_factory.mktemp("cork") / "not" / "yet"
    line = [sys.executable, "-m", "mvgauss.pictures", cork / "good", cork / "test"]
    done = subprocess.run([*line, "--network", network, "--out", out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done, out


def test_it_says_what_was_fitted_the_limit_who_is_flagged_and_where_everything_is(done):
    said, out = done
    fitted, gaussians, network, limit, flagged, worst, *_ = said.stdout.splitlines()
    assert fitted == "fitted: 60 good pictures of 144 x 144 pixels"
    assert gaussians == "Gaussians: 324, one at each of 18 x 18 patches, of 176 features"
    assert network == "network: efficientnet_lite0_blocks.onnx, at 144 x 144 pixels"
    assert limit == "limit: 475.6 standard deviations; of good pictures, 4.9% exceed it"
    assert flagged == "flagged: 15 of 30 pictures; if all were good, 1.5 would be"
    assert re.fullmatch(r" +1195  p = 0.0164  026_hole.jpg", worst)
    for name in ("index.html", "scores.csv", "maps", "model.npz"):
        assert str(out / name) in said.stdout
    assert "warning: 60 samples of 176 features, without shrinkage" in said.stderr
    assert len(said.stderr.splitlines()) == 1  # bars are for terminals


def test_every_picture_has_a_line_and_a_map_under_its_name(done, cork):
    _, out = done
    rows = table(out)
    assert list(rows[0]) == ["file", "score", "p_value", "limit", "flagged", "error"]
    files = sorted(path.name for path in (cork / "test").iterdir())
    assert [row["file"] for row in rows] == files
    assert {(row["limit"], row["error"]) for row in rows} == {("475.638", "")}
    assert sorted(path.name for path in (out / "maps").iterdir()) == [f"{Path(f).stem}.jpg" for f in files]
    for row in rows:
        assert row["flagged"] == str(float(row["p_value"]) <= 0.05) == str(float(row["score"]) > 475.638)
        assert round(float(row["p_value"]) * 61, 3).is_integer()


def test_the_scores_are_those_that_are_known_of_these_pictures(done):
    rows = table(done[1])
    scores = np.array([float(row["score"]) for row in rows])
    defective = np.array(["good" not in row["file"] for row in rows])
    auc = mannwhitneyu(scores[defective], scores[~defective]).statistic / (18 * 12)
    assert round(auc, 3) == 0.963
    assert [round(v) for v in (scores[~defective].min(), scores[~defective].max())] == [358, 598]
    assert [round(v) for v in (scores[defective].min(), scores[defective].max())] == [411, 1195]


def test_the_page_has_all_pictures_worst_first_and_loads_nothing_from_elsewhere(done):
    text = (done[1] / "index.html").read_text(encoding="utf-8")
    sources = [unquote(name) for name in re.findall(r'src="([^"]*)"', text)]
    rows = sorted(table(done[1]), key=lambda row: -float(row["score"]))
    assert sources == [f"maps/{Path(row['file']).stem}.jpg" for row in rows]
    assert set(re.findall(r'href="([^"]*)"', text)) <= {name for name in sources if (done[1] / name).exists()}
    assert "://" not in text
    assert "Flagged: 15 of 30 pictures" in text
    assert "without shrinkage" in text  # the warning


def test_maps_are_as_large_as_the_picture_up_to_1024_pixels_below_a_caption(few, network, tmp_path):
    (tmp_path / "in").mkdir()
    for width in (240, 2400):
        Image.new("RGB", (width, width * 2 // 3), (200, 30, 30)).save(tmp_path / "in" / f"{width}.png")
    assert run(network, tmp_path / "out", few / "good", tmp_path / "in") == 0
    for width, expected in ((240, 240), (2400, 1024)):
        with Image.open(tmp_path / "out" / "maps" / f"{width}.jpg") as heat:
            assert heat.width == expected
            caption = heat.height - round(expected * 2 / 3)
            top = np.asarray(heat)[:caption]
        assert 30 < caption < 100
        assert top[-1].std(axis=0).max() < 8  # one colour, and letters on it
        assert (top.min(axis=2) > 200).mean() > 0.01


def test_a_model_judges_without_good_pictures_as_it_did_with_them(done, cork, network, tmp_path):
    arguments = [cork / "test", "--model", done[1] / "model.npz"]
    assert run(network, tmp_path / "again", *arguments) == 0
    assert table(tmp_path / "again") == table(done[1])
    assert not (tmp_path / "again" / "model.npz").exists()
    assert run(network, tmp_path / "again", *arguments, "--rate", "0.2") == 0
    rows = table(tmp_path / "again")
    assert [row["flagged"] for row in rows] == [str(float(row["p_value"]) <= 0.2) for row in table(done[1])]
    assert all(float(row["limit"]) < 475 for row in rows)


def test_options_reach_the_embedder_and_the_model(few, network, tmp_path):
    options = ["--input-size", "48x32", "--channels", "9", "--layers", "block2", "block4"]
    options += ["--shrinkage", "oas", "--reg-covar", "0.5", "--rate", "0.2"]
    assert run(network, tmp_path / "out", few / "good", few / "others", *options) == 0
    inspector = Inspector.load(tmp_path / "out" / "model.npz", network)
    expected = Embedder(network, (16, 24), input_size=(32, 48), channels=9, layers=["block2", "block4"])
    assert inspector.embedder.setup == expected.setup
    assert (inspector.model.shrinkage, inspector.model.reg_covar) == ("oas", 0.5)
    assert inspector.rate == pytest.approx(4 / 21)


def test_a_picture_that_cannot_be_judged_has_a_line_and_the_others_are_judged(few, network, tmp_path, capsys):
    others = shutil.copytree(few / "others", tmp_path / "others")
    (others / "corrupt.jpg").write_bytes(b"a text")
    (others / "empty.png").write_bytes(b"")
    Image.new("RGB", (16, 24)).save(others / "tall.png")
    assert run(network, tmp_path / "out", few / "good", others) == 3
    rows = {row["file"]: row for row in table(tmp_path / "out")}
    assert [rows[f"0{i}.png"]["error"] for i in range(3)] == [""] * 3
    assert all(float(rows[f"0{i}.png"]["score"]) > 0 for i in range(3))
    for name, why in (("corrupt.jpg", "identify"), ("empty.png", "identify"), ("tall.png", "16 x 24 pixels")):
        assert why in rows[name]["error"]
        assert (rows[name]["score"], rows[name]["flagged"]) == ("", "")
        assert name in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    said = capsys.readouterr()
    assert "not judged: 3 of 6 pictures" in said.out
    assert "not judged: corrupt.jpg: cannot identify image file" in said.err


def test_maps_of_like_names_are_apart_and_names_are_written_as_they_are(few, network, tmp_path):
    names = ["a,b.png", "sub/a,b.png", "a,b.tiff", "<i> & #1?.png"]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        with Image.open(few / "others" / "00.png") as picture:
            picture.save(tmp_path / "in" / name)
    assert run(network, tmp_path / "out", few / "good", tmp_path / "in") == 0
    assert {row["file"] for row in table(tmp_path / "out")} == set(names)
    maps = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.jpg")}
    assert maps == {f"maps/{n}.jpg" for n in ("a,b_png", "a,b_tiff", "sub/a,b", "<i> & #1?")}
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert {unquote(name) for name in re.findall(r'src="([^"]*)"', text)} == maps
    assert "<b>&lt;i&gt; &amp; #1?.png</b>" in text
    assert not re.search(r'src="[^"]*[#?<]', text)


# the folder


def test_a_folder_of_an_earlier_run_is_replaced_as_a_whole_and_only_by_success(few, network, tmp_path):
    out = tmp_path / "out"
    assert run(network, out, few / "good", few / "others") == 0
    one = shutil.copytree(few / "others", tmp_path / "one")
    (one / "01.png").unlink()
    before = {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()}
    assert run(network, out, few / "good", one, "--rate", "0.001") == 1
    assert {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()} == before
    assert run(network, out, few / "good", one) == 0
    assert sorted(path.name for path in (out / "maps").iterdir()) == ["00.jpg", "02.jpg"]
    assert [row["file"] for row in table(out)] == ["00.png", "02.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "out"]  # nothing is left beside it
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert found == set(json.loads((out / "run.json").read_text(encoding="utf-8"))["files"])


@pytest.mark.parametrize("name", ["notes.txt", "maps/notes.txt"])
def test_a_folder_with_anything_else_is_not_replaced(few, network, tmp_path, capsys, name):
    out = tmp_path / "out"
    out.mkdir()
    assert run(network, out, few / "good", few / "others") == 0  # an empty one is
    (out / name).write_text("mine")
    (out / ".DS_Store").write_text("of a system")
    assert run(network, out, few / "good", few / "others") == 1
    assert (
        f"out: expected a new folder, or one that an earlier run wrote, got {str(out)!r} with '{name}'"
        in (capsys.readouterr().err)
    )
    assert (out / name).read_text() == "mine"


def test_results_are_not_written_among_the_pictures_nor_over_the_model_nor_a_file(
    few, done, network, tmp_path, capsys
):
    folders = [few / "good", few / "others"]
    for out in (few / "good", few / "others" / "below"):
        assert run(network, out, *folders) == 1
        assert "out: expected a folder outside" in capsys.readouterr().err
    assert run(network, done[1], few / "others", "--model", done[1] / "model.npz") == 1
    assert "out: expected another folder than that of the model" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    for out, why in ((tmp_path / "file", "got the file"), (tmp_path / "file" / "b", "a folder to write to")):
        assert run(network, out, *folders) == 1
        assert why in capsys.readouterr().err


# what is refused


@pytest.mark.parametrize(
    ("folders", "options", "message"),
    [
        (("good", "none"), [], r"folder: expected a folder of pictures, got '.*none'"),
        (("good", "good"), [], "OTHERS: expected other pictures than those of GOOD"),
        (("others", "good"), [], "rate: 0.05 needs at least 19 good pictures; 'others' has 3"),
        (("good", "others"), ["--rate", "5"], "rate: .*; 5 % is 0.05"),
        (("good", "others"), ["--scale", "1/255"], "whole numbers, got"),
        (("good", "others"), ["--shrinkage", "2"], "shrinkage: expected"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(few, network, tmp_path, capsys, folders, options, message):
    assert run(network, tmp_path / "out", *(few / folder for folder in folders), *options) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(f"mvgauss.pictures: .*{message}", line), line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [[], ["a", "b", "c"], ["a"], ["a", "b", "--model", "m"]])
def test_two_folders_are_asked_for_and_one_with_a_model(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--network", "n", "--out", "o"])
    assert "GOOD" in capsys.readouterr().err
