"""What the benchmarks write: tables, targets and plots, from figures that are given."""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.paths import ROOT

BENCHMARKS = ROOT / "benchmarks"
README = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
SVG = "{http://www.w3.org/2000/svg}"
MODULES = ("plots", "render", "subjects", "suite", "targets")

ORIGIN = {
    "command": "python benchmarks/echo.py",
    "date": "2026-01-31",
    "machine": "2 cores",
    "versions": "CPython 3.11",
    "compiled": False,
}


def echoes(**cpu: float) -> list[dict[str, Any]]:
    return [
        {"subject": name.replace("_", "-"), "cpu": used, "rate": 90_000, "median": 500, "p99": 1020}
        for name, used in cpu.items()
    ]


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Scripts find each other in their own folder, of which nothing stays behind."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def render(scripts: None) -> Any:
    import render

    return render


@pytest.fixture
def plots(scripts: None) -> Any:
    import plots

    return plots


@pytest.fixture
def targets(scripts: None) -> Any:
    import targets

    return targets


# -- the marks of a page ------------------------------------------------------------------------


def test_a_mark_is_filled_and_filled_again(render: Any) -> None:
    page = "above\n\n<!-- a -->\n<!-- end -->\n\nbelow\n"
    once = render.fill(page, "a", "| 1 |")
    assert once == "above\n\n<!-- a -->\n\n| 1 |\n\n<!-- end -->\n\nbelow\n"
    assert render.fill(once, "a", "| 2 |") == once.replace("1", "2")


@pytest.mark.parametrize("inside", ["", "\n", "\nold\n\n"])
def test_what_stands_around_a_mark_is_left_alone(render: Any, inside: str) -> None:
    page = f"<!-- a -->\n{inside}<!-- end -->\ntext\n<!-- b -->\n{inside}<!-- end -->\n"
    filled = render.fill(page, "a", "| 1 |")
    assert filled.endswith(f"<!-- end -->\ntext\n<!-- b -->\n{inside}<!-- end -->\n")


@pytest.mark.parametrize(
    "page", ["", "<!-- a -->\n", "<!-- a -->\ntext\n<!-- b -->\n<!-- end -->\n", "<!-- end -->\n"]
)
def test_a_page_without_the_mark_is_an_error(render: Any, page: str) -> None:
    with pytest.raises(ValueError, match="there is no <!-- a -->"):
        render.fill(page, "a", "| 1 |")


def test_the_page_has_a_place_for_all_that_is_run(scripts: None) -> None:
    import suite

    marks = re.findall("<!-- (.*?) -->", README)
    assert marks[1::2] == ["end"] * (len(marks) // 2)
    assert sorted(marks[::2]) == sorted([*suite.JOBS, "targets"])


# -- tables -------------------------------------------------------------------------------------


def test_a_table_has_a_row_for_each_subject(render: Any) -> None:
    assert render.table("echo-1k", echoes(aiohttp=9.54, new_one=1234.0)).splitlines() == [
        "| | CPU, µs per message | messages/s | median, µs | 99 %, µs |",
        "|---|---|---|---|---|",
        "| aiohttp | 9.5 | 90,000 | 500 | 1,020 |",
        "| new-one | 1234.0 | 90,000 | 500 | 1,020 |",
    ]


def test_every_benchmark_has_columns(render: Any) -> None:
    import suite

    for name in suite.JOBS:
        assert render.COLUMNS[render.KINDS.get(name, name)]


def test_every_subject_has_a_label(render: Any) -> None:
    import subjects

    assert set(subjects.SUBJECTS) <= set(render.LABELS)


@pytest.mark.parametrize(("compiled", "said"), [(True, "with"), (False, "without")])
def test_a_table_says_where_it_comes_from(render: Any, compiled: bool, said: str) -> None:
    assert render.origin({**ORIGIN, "compiled": compiled}) == (
        f"`python benchmarks/echo.py`, 2026-01-31, {said} compiled modules; 2 cores; CPython 3.11."
    )


# -- targets ------------------------------------------------------------------------------------


def verdicts(render: Any, results: dict[str, Any]) -> dict[str, list[str]]:
    """Aim, figure and verdict of each target."""
    lines = render.targets(results).splitlines()[2:]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return {row[0]: row[1:] for row in rows}


def test_targets_are_met_up_to_their_bound(render: Any) -> None:
    name = "asyncio, function : uWSGI's API"
    for used, verdict in ((8.5, "met"), (8.6, "**missed**")):
        echo = echoes(asyncio_function=used, uwsgi_api_gevent=10.0)
        assert verdicts(render, {"echo-32": echo})[name] == ["≤ 0.85", f"{used / 10:.2f}", verdict]


def test_some_figures_have_to_be_as_great_as_their_bound(render: Any) -> None:
    for ours, verdict in ((200.0, "met"), (199.0, "**missed**")):
        found = [
            {"subject": "gevent-class", "handshakes": ours},
            {"subject": "flask-sock-gevent", "handshakes": 100.0},
        ]
        row = verdicts(render, {"handshakes": found})["handshakes, gevent : Flask-Sock"]
        assert row == ["≥ 2", f"{ours / 100:.2f}", verdict]


def test_a_target_says_that_it_wasnt_measured(render: Any, targets: Any) -> None:
    found = verdicts(render, {})
    assert len(found) == len(targets.TARGETS)
    assert all(row[-1] == "not measured" for row in found.values())


def test_figures_of_another_load_are_not_taken(render: Any) -> None:
    few = [
        {"subject": name, "members": 100, "deliveries": 1.0} for name in ("gevent-class", "picows")
    ]
    many = [{**row, "members": 500, "deliveries": 2.0 + index} for index, row in enumerate(few)]
    name = "fan-out to 500, gevent, 16 messages under way : picows"
    assert verdicts(render, {"fan-out": few})[name][-1] == "not measured"
    assert verdicts(render, {"fan-out": few + many})[name][1] == "0.67"


def test_marshmallows_own_cost_isnt_ours(render: Any) -> None:
    parts = ("json.loads", "load by the schema", "dump by the schema", "json.dumps")
    took = {**dict.fromkeys(parts, 4.0), "raw class view": 20.0, "typed": 40.5}
    found = [{"subject": name, "microseconds": us} for name, us in took.items()]
    row = verdicts(render, {"typed": found})["a typed message beside JSON and marshmallow"]
    assert row == ["≤ 5 µs", "4.50 µs", "met"]


def test_crowds_are_compared_with_fewer_connections(render: Any) -> None:
    loads = {
        "crowd": [(100, 0, 5.0, 200.0), (100, 10_000, 5.0, 500.0)],
        "many": [(100, 0, 10.0, 900.0), (10_000, 0, 11.0, 9_000.0)],
    }
    keys = ("connections", "idle", "cpu", "p99")
    found = verdicts(
        render,
        {
            name: [{"subject": "gevent-class", **dict(zip(keys, row, strict=True))} for row in rows]
            for name, rows in loads.items()
        },
    )
    assert found["p99 beside 10,000 idle ones : without, gevent"][1:] == ["2.50", "**missed**"]
    assert found["CPU with 10,000 connections : 100, gevent"][1:] == ["1.10", "met"]


def test_the_router_is_judged_by_its_worst_round_trip(render: Any) -> None:
    found = [
        {"subject": "a", "direct": 50, "routed": 60},
        {"subject": "b", "direct": 1, "routed": 40},
    ]
    row = verdicts(render, {"router": found})["a round trip through the router : direct, at worst"]
    assert row[1:] == ["40.00", "**missed**"]


# -- plots --------------------------------------------------------------------------------------


def test_a_plot_is_readable_by_a_screen_reader(plots: Any) -> None:
    drawn = [plots.Bar("ours & co", 2, "2 µs", True), plots.Bar("<theirs>", 4, "4 µs", False)]
    picture = ET.fromstring(plots.bars("less is <better>", drawn))
    assert picture.get("role") == "img"
    said = {element.get("id"): element.text for element in picture if element.get("id")}
    assert said == {"title": "less is <better>", "desc": "ours & co: 2 µs; <theirs>: 4 µs"}
    assert picture.get("aria-labelledby") == "title desc"


def test_bars_are_as_long_as_their_figures(plots: Any) -> None:
    figures = [plots.Bar("a", 1, "1", False), plots.Bar("b", 4, "4", True)]
    picture = ET.fromstring(plots.bars("title", [*figures, plots.Bar("c", 0, "0", False)]))
    found = [each for each in picture.iter(f"{SVG}rect") if each.get("class", "").startswith("bar")]
    short, long, none = (float(each.get("width", "")) for each in found)
    assert long == pytest.approx(4 * short, abs=0.5)
    assert none == 1
    assert [each.get("class") for each in found] == ["bar", "bar ours", "bar"]
    bottom = max(float(each.get("y", "")) + 16 for each in found)
    assert bottom <= float(picture.get("height", ""))


def test_a_plot_brings_its_background_for_light_and_dark(plots: Any) -> None:
    picture = ET.fromstring(plots.bars("title", [plots.Bar("a", 1, "1", False)]))
    style = picture.findtext(f"{SVG}style") or ""
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    assert ".page" in light
    assert ".page" in dark
    page = next(picture.iter(f"{SVG}rect"))
    assert (page.get("class"), page.get("width"), page.get("height")) == ("page", "100%", "100%")


# -- all of it ----------------------------------------------------------------------------------


def test_results_become_a_page_and_plots(render: Any, tmp_path: Path) -> None:
    results, images = tmp_path / "results", tmp_path / "images"
    results.mkdir()
    images.mkdir()
    rows = echoes(gevent_class=12.0, aiohttp=9.0, bare_c=4.0)
    (results / "echo-32.json").write_text(json.dumps({**ORIGIN, "rows": rows}))
    members = [
        {"subject": name, "members": count, "deliveries": count * 10.0 + index, "cpu": 1.0}
        for index, name in enumerate(("picows", "gevent-class"))
        for count in (500, 5000)
    ]
    (results / "fan-out.json").write_text(json.dumps({**ORIGIN, "rows": members}))
    page = tmp_path / "README.md"
    page.write_text(
        "".join(f"<!-- {name} -->\n<!-- end -->\n" for name in ("echo-32", "fan-out", "targets"))
    )

    render.render(results, page, images)

    text = page.read_text()
    assert "| **gevent, class-based view** | 12.0 | 90,000 | 500 | 1,020 |" in text
    assert "| picows | 5,000 | 50,000 | 1.00 |" in text
    assert "| gevent, class : Flask-Sock on gevent | ≤ 0.5 | | not measured |" in text
    assert sorted(image.name for image in images.iterdir()) == [
        "bench-echo.svg",
        "bench-fan-out.svg",
    ]
    said = {image.stem: ET.parse(image).findtext(f"{SVG}desc") for image in images.iterdir()}
    # The best is on top, and what isn't a server of WebSockets isn't there.
    assert said == {
        "bench-echo": "aiohttp: 9.0; gevent, class-based view: 12.0",
        "bench-fan-out": "gevent, class-based view: 5,001; picows: 5,000",
    }

    render.render(results, page, images)
    assert page.read_text() == text


def test_the_page_in_the_repository_is_what_its_results_say(render: Any, tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(README, encoding="utf-8")
    render.render(BENCHMARKS / "results", page, tmp_path)
    assert page.read_text(encoding="utf-8") == README
    for image in tmp_path.glob("*.svg"):
        kept = BENCHMARKS.parent / "docs" / "images" / image.name
        assert kept.read_text(encoding="utf-8") == image.read_text(encoding="utf-8")
