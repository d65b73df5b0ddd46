"""From a folder of good pictures to decisions on others, with onnxruntime and without a tensor framework.

    python pictures.py GOOD OTHERS --network NET.onnx --out FOLDER [--rate 0.05]
    python pictures.py OTHERS --model FOLDER/model.npz --network NET.onnx --out FOLDER

The first line fits the pictures of GOOD, writes FOLDER/model.npz, and judges those of OTHERS; the second
judges with a model that is there. Both write FOLDER/scores.csv, and a heat map over each picture into
FOLDER/maps. It needs `pip install ".[plot]" onnxruntime pillow`. The functions may be imported or copied.
"""

import argparse
import csv
import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np
from embedder import OPTIONS, Embedder, hash_of, raise_error, read_picture
from PIL import Image

from mvgauss import MultiVariateGaussian, anomaly_map


def find_pictures(folder):
    """Return the picture files of a folder and of those in it, sorted, without hidden ones."""
    known = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    files = [p for p in sorted(Path(folder).rglob("*")) if p.is_file() and not p.name.startswith(".")]
    pictures = [p for p in files if p.suffix.lower() in known]
    if not pictures:
        got = f"{str(folder)!r} with {len(files)} files" if Path(folder).is_dir() else repr(str(folder))
        raise_error("folder", "a folder of pictures", got)
    return pictures


def fit(embedder, paths, rate=0.05, scratch=None):
    """Return a model of good pictures, with a limit that further good ones exceed at a rate.

    The limit and the p-values come from the good pictures, each left out in turn. Their embeddings are
    needed once more for that, and wait in a temporary file in the folder `scratch`.
    """
    check_rate(rate, len(paths))
    model, done = MultiVariateGaussian(), 0
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        shape = (len(paths), *embedder.shape)
        good = np.lib.format.open_memmap(Path(folder, "good.npy"), "w+", np.float32, shape)
        for some, _, embedding in embedder.batches(paths):
            good[done : done + len(some)] = embedding
            done += len(some)
            model.partial_fit(embedding)
        model.calibrate(good)
        model.threshold(good, rate, source="training")
        del good  # a file that is open cannot be removed everywhere
    return model


def check_rate(rate, n):
    """Refuse a rate of false alarms that n good pictures cannot support."""
    if not 1 / (n + 1) <= rate < 1:
        raise_error("rate", f"{1 / (n + 1):.4g} or more, and less than 1, with {n} good pictures", rate)


def judge(model, embedder, paths):
    """Yield the path of each picture, its largest distance, the p-value of that, the picture, its map."""
    for some, pictures, embedding in embedder.batches(paths):
        distances = model.mahalanobis(embedding)
        maps = anomaly_map(distances, embedder.setup["input_size"], sigma=0)
        scores, p_values = distances.max(axis=(1, 2)), model.image_p_value(embedding)
        yield from zip(some, scores, p_values, pictures, maps, strict=True)


def overlay(picture, heat, limit):
    """Return a picture with its map over it: clear up to half of the limit, full from twice the limit on."""
    level = np.clip((heat / limit - 0.5) / 1.5, 0, 1)
    colours = mpl.colormaps["inferno"](level)[..., :3] * 255
    alpha = 0.8 * np.sqrt(level)[..., None]
    grey = np.asarray(picture.convert("L").convert("RGB"))
    return Image.fromarray(((1 - alpha) * grey + alpha * colours).astype(np.uint8))


def load(path, network, **options):
    """Return a saved model and the embedder that it goes with; refuse another network or set-up."""
    model = MultiVariateGaussian.load(path)
    if "setup" not in (model.metadata or {}):
        raise_error("model", "one that was saved with the set-up of its network", repr(str(path)))
    kept = dict(model.metadata["setup"])
    name, digest = kept.pop("network"), kept.pop("sha256")
    if hash_of(network) != digest:
        raise_error("network", f"the one that the model was fitted with, {name!r}", repr(str(network)))
    if "seed" in options:  # of another draw?
        options = {"channels": len(kept["channels"]), **options}
    for name, value in options.items():
        value = list(value) if isinstance(value, tuple) else value
        if name not in ("channels", "seed") and value != kept.get(name):
            raise_error(name, f"{kept.get(name)}, as the model was fitted with", value)
    embedder = Embedder(network, **{**kept, **options})
    if embedder.setup["channels"] != kept["channels"]:
        raise_error("channels", f"the {len(kept['channels'])} that the model was fitted with", "others")
    return model, embedder


def main(arguments=None):
    """Fit and judge, or judge alone, as the command line says."""
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1].strip())
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="GOOD and OTHERS, or OTHERS")
    parser.add_argument("--network", required=True, help="an ONNX file with layers among its outputs")
    parser.add_argument("--out", required=True, type=Path, help="folder to write to")
    parser.add_argument("--model", help="a model that was fitted before, instead of GOOD")
    parser.add_argument("--rate", type=float, help="of false alarms; by default 0.05, or that of the model")
    more = parser.add_argument_group("set-up", "kept with the model")
    for name, options in OPTIONS.items():
        more.add_argument(f"--{name.replace('_', '-')}", **options)
    args = parser.parse_args(arguments)
    if len(args.folders) != (1 if args.model else 2):
        parser.error("expected GOOD and OTHERS, or --model and OTHERS")
    try:
        run(args, {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None})
    except (ValueError, OSError) as error:
        sys.exit(f"pictures.py: {error}")


def run(args, options):
    """Read the folders, fit or load, judge, and write."""
    *good, others = (find_pictures(folder) for folder in args.folders)
    both = {path.resolve() for paths in good for path in paths} & {path.resolve() for path in others}
    if both:
        raise_error("OTHERS", "other pictures than those of GOOD", f"{len(both)} that are in both")
    if any(args.out.resolve().is_relative_to(Path(folder).resolve()) for folder in args.folders):
        raise_error("out", "a folder outside of those with pictures", repr(str(args.out)))
    try:
        (args.out / "maps").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise_error("out", "a folder to write to", error)
    if good:
        first = read_picture(good[0][0], white=options.get("white", 65535))
        embedder = Embedder(args.network, (first.height, first.width), **options)
        rate = 0.05 if args.rate is None else args.rate
        model = fit(embedder, good[0], rate, args.out)
        kept = {"setup": embedder.setup, "rate": rate, "pictures": len(good[0])}
        model.save(args.out / "model.npz", resumable=False, metadata=kept)
    else:
        model, embedder = load(args.model, args.network, **options)
        rate = model.metadata["rate"] if args.rate is None else args.rate
        check_rate(rate, model.metadata["pictures"])
    rows = []
    for path, score, p_value, picture, heat in judge(model, embedder, others):
        name = path.relative_to(args.folders[-1])
        rows.append((name.as_posix(), f"{score:.6g}", f"{p_value:.6g}", p_value <= rate))
        target = args.out / "maps" / f"{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        overlay(picture, heat, model.threshold_).save(target)
    with open(args.out / "scores.csv", "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([("file", "score", "p_value", "flagged"), *rows])
    print(f"{embedder.shape[0]} features at {embedder.shape[1]} x {embedder.shape[2]} patches")
    print(f"{sum(row[3] for row in rows)} of {len(rows)} pictures flagged at a rate of {rate:g}")


if __name__ == "__main__":
    main()
