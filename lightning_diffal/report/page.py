"""A run as one page of HTML: no script, nothing from the network, pictures inside."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from lightning_diffal.history.history import History
from lightning_diffal.report import pictures
from lightning_diffal.report.run import RunView, view_of
from lightning_diffal.report.tables import element, queries, rounds_table, text
from lightning_diffal.utils.extras import require
from lightning_diffal.utils.figures import png
from lightning_diffal.utils.files import replacing

if TYPE_CHECKING:
    from lightning_diffal.data.datamodule import ActiveDataModule

__all__ = ["html_report"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.note, caption { color: #6b6b6b; } img { max-width: 100%; height: auto; }
.facts { display: flex; flex-wrap: wrap; gap: .4rem 2rem; padding: 0; list-style: none; }
.facts b { font-size: 1.2rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem .2rem 0; text-align: left; border-bottom: 1px solid #e4e4e4; vertical-align: top; }
th { font-weight: 600; color: #6b6b6b; } td.number, th.number { text-align: right; }
td.differs { color: #b04a00; font-weight: 600; } details { margin: .4rem 0; } summary { cursor: pointer; }
"""

_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
"""


def html_report(
    source: History | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    data: ActiveDataModule | None = None,
    features: npt.ArrayLike | None = None,
    metrics: Sequence[str] | None = None,
    title: str | None = None,
) -> list[Path]:
    """Write what a run did as one HTML file, and its pictures beside it.

    It tells of the learning curve, of each round, of what was asked and why, of the balance of classes and of
    exploration; and where there are features, it shows a map of the pool. The page holds its pictures, runs no script
    and loads nothing. Ids and names of classes appear as text whatever they contain. A run may be going on meanwhile:
    its folder is only read.

    Args:
        source: the folder of a run (`ActiveLearning(run_dir=...)`), a history, or a file that `History.to_json` wrote.
        path: the page to write. Pictures get its name with a suffix, `report-map.png`.
        data: for a history, whose labels, ids and names of classes it does not know. A folder knows them itself, but
            for names that were not given when the run began.
        features: `(N, D)` of all points of the training data set, for the map: their first two principal components.
        metrics: names of those to draw. Default: the first eight. The table has all.
        title: of the page. Default: the run's name.

    Returns:
        The files written, the page first.

    Raises:
        ConfigurationError: nothing at `source`, no run, or arguments that do not fit it.
        ResumeError: a file of the run that cannot be read.
        FeatureError: features that are not finite.
        MissingExtraError: matplotlib is not installed.

    Example:
        >>> import tempfile
        >>> from lightning_diffal.history.history import RoundRecord
        >>> history = History([RoundRecord(r, r, range(4 + r), {"val_acc": 0.5 + 0.1 * r}) for r in range(3)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [file.name for file in html_report(history, Path(folder) / "report.html")]
        ['report.html', 'report-metrics.png']
    """
    require("matplotlib", extra="report")
    view = view_of(source, data)
    drawn = [
        ("metrics", "Learning curve", pictures.metric_curves(view, metrics), "What the rounds logged, against labels."),
        ("classes", "Balance of classes", pictures.class_balance(view), "Labels held when each round trained."),
        ("exploration", "Exploration", pictures.exploration(view), _EXPLORATION),
    ]
    if features is not None:
        drawn.append(("map", "Map of the pool", pictures.pool_map(view, features), _MAP))
    target = Path(path)
    files, sections = [target], {}
    for slug, heading, figure, words in drawn:
        if figure is None:
            continue
        picture = png(figure)
        files.append(target.with_name(f"{target.stem}-{slug}.png"))
        with replacing(files[-1]) as temporary:
            temporary.write_bytes(picture)
        sections[slug] = _picture(heading, picture, words)
    name = text(title or f"Active learning: {view.name}")
    body = [
        _HEAD.format(title=name, style=_STYLE) + element("h1", name),
        _facts(view),
        sections.pop("metrics", ""),
        element("h2", "Rounds"),
        rounds_table(view),
        *sections.values(),
        element("h2", "What was asked, and why"),
        queries(view),
        "</body>\n</html>\n",
    ]
    with replacing(target) as temporary:
        temporary.write_text("\n".join(body), encoding="utf-8")
    return files


_EXPLORATION = (
    "A point is explored where no label had arrived by diffusion, and refined where two labels meet. On the right, how "
    "many labels reach a point of the pool on average, before the query."
)
_MAP = (
    "The first two principal components of the features. What lies apart here is apart; what lies together may not be."
)


def _picture(heading: str, picture: bytes, words: str) -> str:
    encoded = base64.b64encode(picture).decode()
    image = f'<img alt="{text(heading)}" src="data:image/png;base64,{encoded}">'
    return "\n".join([element("h2", text(heading)), element("p", text(words), "note"), image])


def _facts(view: RunView) -> str:
    history = view.history
    bought = sum(1 for round_ in view.arrived.values() if round_ > 0)
    trained = sum(1 for record in history if record.n_labelled)
    facts: list[tuple[Any, str]] = [
        (len(view.arrived), "labels"),
        (bought, "of them bought"),
        (trained, "rounds trained"),
    ]
    if view.n_points is not None:
        facts.insert(0, (f"{view.n_points:,}", "points"))
    facts += [
        (len(part), word) for part, word in ((view.pending, "waiting for answers"), (view.skipped, "skipped")) if part
    ]
    items = "".join(element("li", f"<b>{text(number)}</b> {text(word)}") for number, word in facts)
    reason = history[-1].stop_reason if history else None
    ending = f"Ended: {reason}." if reason else "No end is written down: the run is going on, or it was killed."
    lines = [f'<ul class="facts">{items}</ul>', element("p", text(ending))]
    if view.sampler:
        lines.append(element("p", f"Points were chosen by {text(view.sampler)}.", "note"))
    return "\n".join(lines)
