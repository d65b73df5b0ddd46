"""One page with all pictures, worst first, which opens from the disk."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

import numpy as np

from mvgauss._arguments import Array

#: Colours follow the light or dark scheme of the reader's system.
_STYLE = """
:root{color-scheme:light dark;--text:#1b1f24;--quiet:#57606a;--ground:#fff;--card:#f5f6f8;--line:#d0d7de;
--flag:#9b1c1c;--good:#1f5fa8}
@media(prefers-color-scheme:dark){:root{--text:#e6e9ed;--quiet:#9aa4af;--ground:#14171b;--card:#1e2329;
--line:#3a424c;--flag:#ff8a80;--good:#8ab8f0}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1500px;padding:20px clamp(12px,3vw,32px);background:var(--ground);
color:var(--text);font:15px/1.5 system-ui,sans-serif;font-variant-numeric:tabular-nums}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 .6rem}h2{font-size:1.15rem;margin:2rem 0 .6rem}
p{margin:.3rem 0;max-width:75ch;overflow-wrap:anywhere}.quiet{color:var(--quiet)}
.warning{border-left:4px solid var(--flag);padding:.4rem .8rem;background:var(--card)}
ul{padding-left:1.2rem}li{overflow-wrap:anywhere}
svg{display:block;max-width:900px;margin:1rem 0 0}
svg text{fill:var(--quiet);font:13px system-ui,sans-serif}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,210px),1fr));gap:14px}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:6px;overflow:hidden}
figure.flagged{border-color:var(--flag)}
img{display:block;width:100%;height:auto}
figcaption{padding:8px 10px;font-size:14px;line-height:1.4}
figcaption b{overflow-wrap:anywhere}.flagged i{color:var(--flag);font-style:normal;font-weight:600}
i{font-style:normal}a{color:inherit}
"""
_SHARE = 0.02  #: of the width of the chart, between its ends and the first and last score


def page(
    title: str,
    facts: Sequence[str],
    warnings: Sequence[str],
    unread: Sequence[tuple[str, str]],
    cards: Sequence[tuple[str, str, float, float, bool]],
    good_scores: Array,
    limit: float,
) -> str:
    """Return the page.

    `unread` has names of files and reasons; `cards` the file, its map, score, p-value, and whether it is
    flagged, in the order of the page.
    """
    parts = [f"<h1>{_text(title)}</h1>", *(f"<p>{_text(fact)}</p>" for fact in facts)]
    parts += [f'<p class="warning">{_text(text)}</p>' for text in warnings]
    if unread:
        items = "".join(f"<li><b>{_text(name)}</b>: {_text(reason)}</li>" for name, reason in unread)
        parts.append(f"<h2>Not judged: {len(unread)}</h2><ul>{items}</ul>")
    parts.append(_chart(good_scores, cards, limit))
    for wanted, heading in ((True, "Flagged"), (False, "Not flagged")):
        some = [card for card in cards if card[4] is wanted]
        if some:
            figures = "".join(_card(*card) for card in some)
            parts.append(f'<h2>{heading}: {len(some)}</h2><div class="grid">{figures}</div>')
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _card(name: str, image: str, score: float, p_value: float, flagged: bool) -> str:
    """Return a picture with its numbers."""
    address, verdict = (
        quote(image.encode("utf-8", "surrogateescape")),
        "flagged" if flagged else "not flagged",
    )
    return (
        f'<figure class="{"flagged" if flagged else "good"}"><a href="{address}">'
        f'<img loading="lazy" src="{address}" alt="{_text(name)} in grey, with its distances over it"></a>'
        f"<figcaption><b>{_text(name)}</b><br><i>{verdict}</i>: score {score:.4g}<br>"
        f"p = {p_value:.3g}</figcaption></figure>\n"
    )


def _chart(good: Array, cards: Sequence[tuple[str, str, float, float, bool]], limit: float) -> str:
    """Return the scores as marks on an axis, those of the good pictures above those that were judged."""
    scores = np.array([card[2] for card in cards])
    smallest = limit / 1000  # the axis is logarithmic
    values = np.log(np.concatenate([good, scores, [limit]]).clip(smallest))
    low, high = float(values.min()), float(values.max())

    def x(value: float) -> str:
        share = (np.log(max(value, smallest)) - low) / max(high - low, 1e-9)
        return f"{100 * (_SHARE + (1 - 2 * _SHARE) * share):.2f}%"

    parts = []
    for y, name, some in ((44, f"{len(good)} good, fitted", good), (96, f"{len(scores)} judged", scores)):
        parts.append(f'<text x="0" y="{y - 14}">{name}</text>')
        for value in some:
            colour = "--flag" if value > limit else "--good"
            parts.append(f'<circle cx="{x(value)}" cy="{y}" r="6" fill="var({colour})" fill-opacity=".45"/>')
    at = x(limit)
    anchor = "end" if np.log(limit) - low > 0.7 * (high - low) else "start"
    parts.append(f'<line x1="{at}" x2="{at}" y1="18" y2="108" stroke="var(--text)" stroke-width="1.5"/>')
    parts.append(f'<text x="{at}" y="12" text-anchor="{anchor}">limit {limit:.4g}</text>')
    label = (
        "Scores on a logarithmic axis: of the good pictures, each left out in turn, and of the judged ones"
    )
    return (
        f'<svg width="100%" height="112" role="img" aria-label="{label}">{"".join(parts)}</svg>'
        f'<p class="quiet">{label}.</p>'
    )


def _text(text: str) -> str:
    """Return text for HTML; bytes of names that are no text are shown as such."""
    return escape(text.encode("utf-8", "backslashreplace").decode("utf-8"))
