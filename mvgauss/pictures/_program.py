"""From a folder of good pictures to decisions on others.

    python -m mvgauss.pictures GOOD OTHERS --network NET.onnx --out FOLDER [--rate 0.05]
    python -m mvgauss.pictures OTHERS --model FOLDER/model.npz --network NET.onnx --out FOLDER

The first line fits the pictures of GOOD and judges those of OTHERS; the second judges with a model that was
fitted before. FOLDER is written when all is done: index.html with all pictures, worst first, scores.csv,
maps, and in the first case model.npz. With --export FILE.onnx, network and model are also written as one
ONNX file, which runs without Python. The exit status is 0 if all pictures were judged, 3 if some could not
be, and 1 or 2 if nothing was written.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import warnings
from collections.abc import Iterator, Sequence
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from mvgauss import _arguments
from mvgauss.pictures import _folder, _results
from mvgauss.pictures._embedder import Embedder
from mvgauss.pictures._files import WHITE, PictureError, find_pictures, read_picture
from mvgauss.pictures._good import check_rate, unusable
from mvgauss.pictures._inspector import Inspector

#: Exit status where some pictures could not be judged.
NOT_ALL = 3


def number(text: str) -> float:
    """Return a number, which may be a fraction."""
    return float(Fraction(text))


def size(text: str) -> tuple[int, int]:
    """Return height and width of WIDTHxHEIGHT, or of one number."""
    width, _, height = text.lower().partition("x")
    return int(height or width), int(width)


def shrinkage(text: str) -> float | Literal["oas", "ledoit_wolf"]:
    """Return the name of an estimate, or a number."""
    if text in ("oas", "ledoit_wolf"):
        return text  # type: ignore[return-value]
    return float(text)


_SEVERAL: dict[str, Any] = {"nargs": "+"}
_LAYOUT: dict[str, Any] = {"choices": ["NCHW", "NHWC"]}
#: What an `Embedder` can be told, and how `argparse` takes it.
OPTIONS: dict[str, dict[str, Any]] = {
    "input_size": {
        "type": size,
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
        "type": number,
        "help": "a network that takes floats is fed (scale * x - mean) / std with x from 0 to 255, "
        "by default as the networks of torchvision",
    },
    "mean": {"type": number, **_SEVERAL, "help": "one number, or one for each colour"},
    "std": {"type": number, **_SEVERAL, "help": "one number, or one for each colour"},
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
    parser.add_argument(
        "--export", type=Path, metavar="FILE", help="write network and model as one ONNX file"
    )
    fitting = parser.add_argument_group("how to fit")
    fitting.add_argument("--reg-covar", type=float, help="added to all variances; by default 0.01")
    fitting.add_argument("--shrinkage", type=shrinkage, help="oas, ledoit_wolf, or a number from 0 to 1")
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
    record: dict[str, Any] = {"program": "mvgauss.pictures", "version": version("mvgauss")}
    with _folder.written(args.out, record) as out:
        if good:
            inspector = _fit(args, options, good[0], out)
            inspector.save(out / "model.npz")
        else:
            inspector = Inspector.load(args.model, args.network, args.rate, **options)
        names = [path.relative_to(args.folders[-1]) for path in others]
        exported = _exported(args, inspector, out)
        results = _results.write(inspector, others, names, out)
        facts = _results.facts(inspector, results)
        record |= {"limit": inspector.limit, "rate": inspector.rate, "facts": facts, "warnings": said}
        _results.write_page(inspector, results, facts, said, out)
    print(*facts, sep="\n")
    _results.print_results(results)
    print(f"all pictures, worst first: {args.out / 'index.html'}")
    written = [args.out / name for name in ("scores.csv", "maps", *(["model.npz"] if good else []))]
    print(f"also written: {', '.join(str(path) for path in [*written, *exported])}")
    return NOT_ALL if any(verdict.error for _, _, verdict in results) else 0


def _exported(args: argparse.Namespace, inspector: Inspector, out: Path) -> list[Path]:
    """Write network and model as one ONNX file, with maps of the size of the input; return its name."""
    if args.export is None:
        return []
    from mvgauss.onnx import export  # which needs the package onnx

    within = args.export.resolve().is_relative_to(args.out.resolve())
    path = out / args.export.resolve().relative_to(args.out.resolve()) if within else args.export
    path.parent.mkdir(parents=True, exist_ok=True)
    size = tuple(inspector.embedder.setup["input_size"])
    export(inspector.model, path, embedder=inspector.embedder, image_size=size)
    return [args.export]


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
    raise unusable(errors, len(paths))


def _fit(args: argparse.Namespace, options: dict[str, Any], good: list[Path], scratch: Path) -> Inspector:
    """Fit the good pictures; all have the shape of the first that can be read."""
    rate = 0.05 if args.rate is None else args.rate
    check_rate(rate, len(good), Path(args.folders[0]).name)
    embedder = Embedder(args.network, _first_size(good, options.get("white", WHITE)), **options)
    return Inspector.fit(
        embedder,
        good,
        rate,
        reg_covar=0.01 if args.reg_covar is None else args.reg_covar,
        shrinkage=args.shrinkage,
        scratch=scratch,
        progress=sys.stderr.isatty(),
    )
