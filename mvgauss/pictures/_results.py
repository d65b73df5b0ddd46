"""What a run writes of the pictures that were judged: scores, maps, a page."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from mvgauss.pictures._files import written_size
from mvgauss.pictures._inspector import Inspector, Verdict
from mvgauss.pictures._maps import captioned, overlay
from mvgauss.pictures._page import page

#: How many of the flagged pictures are printed.
_SHOWN = 10

#: The name of a file, that of its map, and the verdict.
Result = tuple[str, str, Verdict]


def write(inspector: Inspector, paths: list[Path], names: list[Path], out: Path) -> list[Result]:
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


def _map(verdict: Verdict, limit: float) -> Image.Image:
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


def facts(inspector: Inspector, results: list[Result]) -> list[str]:
    """Return in words what was fitted, the limit, and how many pictures are flagged."""
    c, h, w = inspector.embedder.shape
    setup, n = inspector.embedder.setup, len(inspector.good_scores)
    judged = [verdict for _, _, verdict in results if not verdict.error]
    flagged = sum(verdict.flagged for verdict in judged)
    facts = [
        f"fitted: {n} good pictures of {written_size(setup['picture_size'])} pixels",
        f"Gaussians: {h * w}, one at each of {w} x {h} patches, of {c} features",
        f"network: {setup['network']}, at {written_size(setup['input_size'])} pixels",
        f"limit: {inspector.limit:.4g} standard deviations; of good pictures, {inspector.rate:.1%} exceed it",
        f"flagged: {flagged} of {len(judged)} pictures; if all were good, "
        f"{inspector.rate * len(judged):.1f} would be",
    ]
    if len(judged) < len(results):
        facts.append(f"not judged: {len(results) - len(judged)} of {len(results)} pictures")
    return facts


def print_results(results: list[Result]) -> None:
    """Print the flagged pictures, worst first, and those that could not be judged."""
    flagged = sorted((r for r in results if r[2].flagged), key=lambda r: -r[2].score)
    for name, _, verdict in flagged[:_SHOWN]:
        print(f"  {verdict.score:8.4g}  p = {verdict.p_value:.3g}  {name}")
    if len(flagged) > _SHOWN:
        print(f"  and {len(flagged) - _SHOWN} more, in scores.csv")
    for name, _, verdict in results:
        if verdict.error:
            print(f"mvgauss.pictures: not judged: {name}: {verdict.error}", file=sys.stderr)


def write_page(
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
