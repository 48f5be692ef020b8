"""Figures inside a page: text that stays text, ids that do not clash, the same bytes each time, nothing from outside."""

import re
from xml.etree import ElementTree

import pytest

from goodnet.reports.figures import NARROW, PruningCurve, new_figure
from goodnet.reports.inline_pictures import inline_figure, pruning_chart
from tests.reports.conftest import HOSTILE

SVG = "{http://www.w3.org/2000/svg}"
CURVE = PruningCurve("up", 4, [1.0, 0.5, 0.0], {"corner.h5": [1.0, 1.0, 0.25]}, {0.02: 1, 0.04: 1})


def texts(svg: str) -> list[str]:
    return [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def ids(svg: str) -> list[str]:
    return re.findall(r'\bid="([^"]*)"', svg)


def test_a_pruning_curve():
    chart = pruning_chart(CURVE, "run")
    root = ElementTree.fromstring(chart.svg)
    assert chart.title == "up"
    assert root.get("role") == "img"
    assert root.get("aria-label") == "accuracy, ASR: corner.h5 while up to 2 of 4 channels are pruned"
    assert float(root.get("viewBox").split()[2]) == pytest.approx(72 * NARROW)
    words = (
        "accuracy",
        "ASR: corner.h5",
        "accuracy has dropped by",
        "2 %, 4 %: 1/4",
        "fraction of the 4 channels pruned",
    )
    assert set(words) <= set(texts(chart.svg))
    assert "up" not in texts(chart.svg), "the page has the title"


def test_two_figures_share_no_id_and_the_same_figure_has_the_same_bytes():
    one, two, again = (pruning_chart(CURVE, key).svg for key in ("one", "two", "one"))
    assert one == again
    assert len(ids(one)) == len(set(ids(one))) > 0
    assert not set(ids(one)) & set(ids(two))
    for svg in (one, two):
        referred = re.findall(r'href="([^"]*)"|url\(([^)]*)\)', svg)
        assert {"".join(address) for address in referred} == {f"#{name}" for name in ids(svg)}


@pytest.mark.parametrize("name", [*HOSTILE, "</text></svg><script>", "costs $5 or $6", "a]]>b"])
def test_names_of_strangers_are_only_text(name):
    curve = PruningCurve(name, 1, [1.0, 0.0], {name: [1.0, 0.0]})
    svg = pruning_chart(curve, name).svg
    root = ElementTree.fromstring(svg)
    kinds = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert kinds <= {"svg", "g", "defs", "clipPath", "rect", "path", "use", "text"}
    assert not any(key.startswith("on") for element in root.iter() for key in element.attrib)
    assert root.get("aria-label").startswith(f"accuracy, ASR: {name} while")
    (label,) = (text for text in texts(svg) if text.startswith("ASR"))
    whole, (start, _, end) = f"ASR: {name}", label.partition("…")
    assert whole == label or (len(label) == 42 and whole.startswith(start) and whole.endswith(end))


def test_characters_that_do_not_show_are_escapes():
    svg = pruning_chart(PruningCurve("", 1, [1.0, 0.0], {"\x00\x1b[1m\u202e\udcff": [1.0, 0.0]}), "runs/\udcff").svg
    assert r"ASR: \x00\x1b[1m\u202e\xff" in texts(svg)


def test_nothing_of_a_figure_reaches_beyond_it():
    figure = new_figure(2, 1)
    figure.text(0.5, 0.5, 'a "word" <b>')
    svg = inline_figure(figure, 'says "a" & <b>', "")
    assert svg.startswith("<svg ")
    assert texts(svg) == ['a "word" <b>']
    assert ElementTree.fromstring(svg).get("aria-label") == 'says "a" & <b>'
    assert not re.search("<style|<metadata|<!|<\\?|<title", svg)
    assert set(re.findall(r"https?://[^\"]*", svg)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
