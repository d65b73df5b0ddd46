"""From a folder of good pictures to decisions on others.

    python -m mvgauss.pictures GOOD OTHERS --network NET.onnx --out FOLDER [--rate 0.05]
    python -m mvgauss.pictures OTHERS --model FOLDER/model.npz --network NET.onnx --out FOLDER

The first line fits the pictures of GOOD and judges those of OTHERS; the second judges with a model that was
fitted before. FOLDER is written when all is done: index.html with all pictures, worst first, scores.csv,
maps, and in the first case model.npz. The exit status is 0 if all pictures were judged, 3 if some could not
be, and 1 or 2 if nothing was written.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from mvgauss import __version__, _arguments
from mvgauss.pictures import _folder
from mvgauss.pictures._embedder import Embedder
from mvgauss.pictures._files import WHITE, PictureError, find_pictures, read_picture, written_size
from mvgauss.pictures._inspector import Inspector, Verdict, check_rate, raise_unreadable
from mvgauss.pictures._maps import captioned, overlay
from mvgauss.pictures._page import page

#: Exit status where some pictures could not be judged.
NOT_ALL = 3
#: How many of the flagged pictures are printed.
_SHOWN = 10


def _number(text: str) -> float:
    """Return a number, which may be a fraction."""
    return float(Fraction(text))


def _size(text: str) -> tuple[int, int]:
    """Return height and width of WIDTHxHEIGHT, or of one number."""
    width, _, height = text.lower().partition("x")
    return int(height or width), int(width)


def _shrinkage(text: str) -> float | Literal["oas", "ledoit_wolf"]:
    """Return the name of an estimate, or a number."""
    if text in ("oas", "ledoit_wolf"):
        return text  # type: ignore[return-value]
    return float(text)


_SEVERAL: dict[str, Any] = {"nargs": "+"}
_LAYOUT: dict[str, Any] = {"choices": ["NCHW", "NHWC"]}
#: What an `Embedder` can be told, and how `argparse` takes it.
OPTIONS: dict[str, dict[str, Any]] = {
    "input_size": {
        "type": _size,
        "metavar": "WIDTHxHEIGHT",
        "help": "size that pictures are resized to, or one number for both; by default as the network asks, "
        "else their own, or 256 pixels along the longer side if that is more",
    },
    "layers": {
        **_SEVERAL,
        "help": "outputs of the network, (N, C, h, w) or tokens (N, T, C); by default all",
    },
    "grid": {"help": "layer on whose grid all are put; by default the one of medium resolution"},
    "channels": {"type": int, "help": "how many channels to draw at random; by default all are taken"},
    "seed": {"type": int, "help": "of the draw; by default 0"},
    "layout": {**_LAYOUT, "help": "of the input; by default as its shape says"},
    "output_layout": {**_LAYOUT, "help": "of the layers; by default NCHW"},
    "scale": {
        "type": _number,
        "help": "a network that takes floats is fed (scale * x - mean) / std with x from 0 to 255, "
        "by default as the networks of torchvision",
    },
    "mean": {"type": _number, **_SEVERAL, "help": "one number, or one for each colour"},
    "std": {"type": _number, **_SEVERAL, "help": "one number, or one for each colour"},
    "white": {"type": int, "help": "white of grey pictures in 16 bits; by default 65535, of 12 bits 4095"},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit and judge, or judge alone, as the command line says; return the exit status."""
    args = _parser().parse_args(arguments)
    if len(args.folders) != (1 if args.model else 2):
        _parser().error("expected GOOD and OTHERS, or --model and OTHERS")
    if args.model and (args.shrinkage is not None or args.reg_covar is not None):
        _parser().error("--shrinkage and --reg-covar are for fitting, not with --model")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names that the terminal cannot show are escaped
            stream.reconfigure(errors="backslashreplace")
    try:
        with _heard() as said:
            return _run(
                args, {key: getattr(args, key) for key in OPTIONS if getattr(args, key) is not None}, said
            )
    except (ValueError, OSError) as error:
        print(f"mvgauss.pictures: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    usage, description = (__doc__ or "").split("\n\n")[1:3]
    parser = argparse.ArgumentParser(
        prog="python -m mvgauss.pictures", usage=usage.strip(), description=description
    )
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="GOOD and OTHERS, or OTHERS")
    parser.add_argument("--network", required=True, help="an ONNX file with layers among its outputs")
    parser.add_argument("--out", required=True, type=Path, help="a new folder, or one of an earlier run")
    parser.add_argument("--model", type=Path, help="a model that was fitted before, instead of GOOD")
    parser.add_argument("--rate", type=float, help="of false alarms; by default 0.05, or that of the model")
    fitting = parser.add_argument_group("how to fit")
    fitting.add_argument("--reg-covar", type=float, help="added to all variances; by default 0.01")
    fitting.add_argument("--shrinkage", type=_shrinkage, help="oas, ledoit_wolf, or a number from 0 to 1")
    more = parser.add_argument_group("pictures and network", "saved with the model")
    for name, options in OPTIONS.items():
        more.add_argument(f"--{name.replace('_', '-')}", **options)
    return parser


@contextlib.contextmanager
def _heard() -> Iterator[list[str]]:
    """Print each warning once, in a line, and collect what they say."""
    said: list[str] = []

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        if text not in said:
            said.append(text)
            print(f"mvgauss.pictures: warning: {text}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        warnings.simplefilter("always", UserWarning)
        yield said


def _run(args: argparse.Namespace, options: dict[str, Any], said: list[str]) -> int:
    """Read the folders, fit or load, judge, and write."""
    *good, others = (find_pictures(folder) for folder in args.folders)
    both = {path.resolve() for paths in good for path in paths} & {path.resolve() for path in others}
    if both:
        got = f"{len(both)} that are in both"
        _arguments.raise_error("OTHERS", "other pictures than those of GOOD", got)
    _raise_if_within(args)
    record: dict[str, Any] = {"program": "mvgauss.pictures", "version": __version__}
    with _folder.written(args.out, record) as out:
        if good:
            inspector = _fit(args, options, good[0], out)
            inspector.save(out / "model.npz")
        else:
            inspector = Inspector.load(args.model, args.network, args.rate, **options)
        names = [path.relative_to(args.folders[-1]) for path in others]
        results = _write(inspector, others, names, out)
        facts = _facts(inspector, results)
        record |= {"limit": inspector.limit, "rate": inspector.rate, "facts": facts, "warnings": said}
        _write_page(inspector, results, facts, said, out)
    print(*facts, sep="\n")
    _print_results(results)
    print(f"all pictures, worst first: {args.out / 'index.html'}")
    written = [args.out / name for name in ("scores.csv", "maps", *(["model.npz"] if good else []))]
    print(f"also written: {', '.join(str(path) for path in written)}")
    return NOT_ALL if any(verdict.error for _, _, verdict in results) else 0


def _raise_if_within(args: argparse.Namespace) -> None:
    """Refuse to write among the pictures, or over the model that is used."""
    out = args.out.resolve()
    if any(out.is_relative_to(Path(folder).resolve()) for folder in args.folders):
        _arguments.raise_error("out", "a folder outside of those with pictures", repr(str(args.out)))
    if args.model and args.model.resolve().is_relative_to(out):
        _arguments.raise_error("out", "another folder than that of the model", repr(str(args.out)))
    _folder.raise_unless_ours(args.out)


def _first_size(paths: list[Path], white: int) -> tuple[int, int]:
    """Return height and width of the first picture that can be read."""
    errors = []
    for path in paths:
        try:
            picture = read_picture(path, white=white)
        except PictureError as error:
            errors.append(error)
        else:
            return picture.height, picture.width
    raise_unreadable(errors, len(paths))
    return 0, 0


def _fit(args: argparse.Namespace, options: dict[str, Any], good: list[Path], scratch: Path) -> Inspector:
    """Fit the good pictures; all have the shape of the first that can be read."""
    rate = 0.05 if args.rate is None else args.rate
    check_rate(rate, len(good), Path(args.folders[0]).name)
    size = _first_size(good, options.get("white", WHITE))
    embedder = Embedder(args.network, size, **options)
    return Inspector.fit(
        embedder,
        good,
        rate,
        reg_covar=0.01 if args.reg_covar is None else args.reg_covar,
        shrinkage=args.shrinkage,
        scratch=scratch,
        progress=sys.stderr.isatty(),
    )


#: The name of a file, that of its map, and the verdict.
Result = tuple[str, str, Verdict]


def _write(inspector: Inspector, paths: list[Path], names: list[Path], out: Path) -> list[Result]:
    """Judge pictures, and write their scores and maps; return verdicts without what was drawn."""
    results = []
    targets, limit = map_names(names), inspector.limit
    with open(out / "scores.csv", "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.writer(file)
        table.writerow(("file", "score", "p_value", "limit", "flagged", "error"))
        verdicts = inspector.judge(paths, progress=sys.stderr.isatty())
        for name, target, verdict in zip(names, targets, verdicts, strict=True):
            numbers: tuple[object, ...] = ("", "", f"{limit:.6g}", "")
            if not verdict.error:
                score, p_value = f"{verdict.score:.6g}", f"{verdict.p_value:.6g}"
                numbers = (score, p_value, f"{limit:.6g}", verdict.flagged)
                place = out / "maps" / target
                place.parent.mkdir(parents=True, exist_ok=True)
                _map(verdict, limit).save(place, quality=90, subsampling=0)
            table.writerow((name.as_posix(), *numbers, verdict.error))
            small = Verdict(
                verdict.path, verdict.score, verdict.p_value, verdict.flagged, error=verdict.error
            )
            results.append((name.as_posix(), f"maps/{target.as_posix()}", small))
    return results


def _map(verdict: Verdict, limit: float) -> Any:
    """Return the map of a picture below its score and verdict."""
    assert verdict.picture is not None
    assert verdict.distances is not None
    drawn = overlay(verdict.picture, verdict.distances, limit)
    lines = ("flagged" if verdict.flagged else "not flagged", f"score {verdict.score:.4g}, limit {limit:.4g}")
    return captioned(drawn, lines, verdict.flagged)


def map_names(names: Sequence[Path]) -> list[Path]:
    """Return names of maps: those of the pictures, with the suffix too where two would have the same."""
    plain = [name.with_suffix(".jpg") for name in names]
    count = Counter(str(name).lower() for name in plain)
    taken = {str(name).lower() for name in plain if count[str(name).lower()] == 1}
    result = []
    for name, target in zip(names, plain, strict=True):
        number = 1
        if count[str(target).lower()] > 1:
            target = name.with_name(f"{name.stem}_{name.suffix[1:].lower()}.jpg")
            while str(target).lower() in taken:
                number += 1
                target = name.with_name(f"{name.stem}_{name.suffix[1:].lower()}_{number}.jpg")
            taken.add(str(target).lower())
        result.append(target)
    return result


def _facts(inspector: Inspector, results: list[Result]) -> list[str]:
    """Return in words what was fitted, the limit, and how many pictures are flagged."""
    c, h, w = inspector.embedder.shape
    setup, n = inspector.embedder.setup, len(inspector.good_scores)
    judged = [verdict for _, _, verdict in results if not verdict.error]
    flagged = sum(verdict.flagged for verdict in judged)
    facts = [
        f"fitted: {n} good pictures of {written_size(setup['picture_size'])} pixels, {h * w} Gaussians "
        f"({w} x {h} patches) of {c} features of {setup['network']} at {written_size(setup['input_size'])}",
        f"limit: {inspector.limit:.4g} standard deviations; of good pictures, {inspector.rate:.1%} exceed it",
        f"flagged: {flagged} of {len(judged)} pictures; if all were good, "
        f"{inspector.rate * len(judged):.1f} would be",
    ]
    if len(judged) < len(results):
        facts.append(f"not judged: {len(results) - len(judged)} of {len(results)} pictures")
    return facts


def _print_results(results: list[Result]) -> None:
    """Print the flagged pictures, worst first, and those that could not be judged."""
    flagged = sorted((r for r in results if r[2].flagged), key=lambda r: -r[2].score)
    for name, _, verdict in flagged[:_SHOWN]:
        print(f"  {verdict.score:8.4g}  p = {verdict.p_value:.3g}  {name}")
    if len(flagged) > _SHOWN:
        print(f"  and {len(flagged) - _SHOWN} more, in scores.csv")
    for name, _, verdict in results:
        if verdict.error:
            print(f"mvgauss.pictures: not judged: {name}: {verdict.error}", file=sys.stderr)


def _write_page(
    inspector: Inspector, results: list[Result], facts: list[str], said: list[str], out: Path
) -> None:
    """Write the page of all pictures."""
    judged = sorted((r for r in results if not r[2].error), key=lambda r: -r[2].score)
    cards = [(name, target, v.score, v.p_value, v.flagged) for name, target, v in judged]
    title = f"{sum(card[4] for card in cards)} of {len(cards)} pictures flagged"
    unread = [(name, verdict.error) for name, _, verdict in results if verdict.error]
    capital = [fact[0].upper() + fact[1:] + "." for fact in facts]
    text = page(title, capital, said, unread, cards, inspector.good_scores, inspector.limit)
    (out / "index.html").write_text(text, encoding="utf-8")
