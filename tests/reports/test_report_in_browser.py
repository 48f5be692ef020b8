"""The report as a person sees it: in headless Chromium, wide and narrow, light and dark, and on paper."""

import pytest
from PIL import Image

from goodnet.reports.html import html_report
from goodnet.reports.run_folders import find_runs
from tests.chromium import NAMES, browse, find_chromium

pytestmark = pytest.mark.skipif(find_chromium() is None, reason=f"no Chromium here (looked for {', '.join(NAMES)})")

LIGHT, DARK = False, True


@pytest.fixture(scope="module")
def browser():
    with browse() as opened:
        yield opened


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html_report(find_runs([runs.folder])), encoding="utf-8")
    return path


def brightness(path) -> float:
    with Image.open(path) as picture:
        return picture.convert("L").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))


@pytest.mark.parametrize("dark", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page(browser, page, width, dark, tmp_path):
    browser.open(page, width, dark=dark)
    picture = browser.photograph(tmp_path / "page.png")
    assert browser.complaints == []
    assert [address for address in browser.fetched if not address.startswith("data:")] == [page.as_uri()]
    assert browser.evaluate("document.documentElement.scrollWidth") == width, "nothing is wider than the window"
    with Image.open(picture) as seen:
        assert seen.width == width
        assert seen.height == browser.evaluate("document.documentElement.scrollHeight")
    assert (brightness(picture) < 128) == dark


@pytest.mark.parametrize("width", [1280, 390])
def test_the_verdict_is_seen_first(browser, page, width):
    browser.open(page, width, height=800)
    words, top, bottom, size = browser.evaluate(
        """(() => { const e = document.querySelector(".verdict .sentence"), r = e.getBoundingClientRect();
        return [e.innerText, r.top, r.bottom, parseFloat(getComputedStyle(e).fontSize)] })()"""
    )
    assert words.startswith("bd_net.h5 is suspected of a backdoor")
    assert 0 < top < bottom < 800
    assert size >= 18


@pytest.mark.parametrize("width", [1280, 390])
def test_the_figures_are_large_enough_to_see(browser, page, width):
    browser.open(page, width)
    sizes = browser.evaluate(
        """[...document.querySelectorAll(".chart svg, .pictures.large img, .sheet img")]
        .map(e => e.getBoundingClientRect()).map(r => [r.width, r.height])"""
    )
    assert len(sizes) == 3 + 4 + 2
    assert all(wide >= 120 and high >= 80 for wide, high in sizes)
    assert browser.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")


def test_text_stands_inside_its_box_and_can_be_read(browser, page):
    browser.open(page, 390)
    cut = browser.evaluate(
        """[...document.querySelectorAll("section *")].filter(e => e.getBoundingClientRect().right > 391)
        .map(e => e.outerHTML.slice(0, 80))"""
    )
    assert cut == []
    smallest = browser.evaluate(
        """Math.min(...[...document.querySelectorAll("body *")].filter(e => e.innerText && !e.children.length)
        .map(e => parseFloat(getComputedStyle(e).fontSize)))"""
    )
    assert smallest >= 10


@pytest.mark.parametrize("width", [1280, 390])
def test_the_text_of_charts_is_neither_small_nor_huge_and_stands_inside(browser, page, width):
    browser.open(page, width)
    sizes, outside = browser.evaluate(
        """(() => { const all = [...document.querySelectorAll(".chart svg text")], sizes = all.map(
        e => parseFloat(getComputedStyle(e).fontSize) * e.ownerSVGElement.getScreenCTM().a); const outside = all.filter(
        e => { const t = e.getBoundingClientRect(), s = e.ownerSVGElement.getBoundingClientRect();
        return t.left < s.left - 1 || t.right > s.right + 1 || t.top < s.top - 1 || t.bottom > s.bottom + 1 })
        .map(e => e.textContent); return [sizes, outside] })()"""
    )
    assert len(sizes) > 30
    assert min(sizes) >= 10
    assert max(sizes) <= 18
    assert outside == []


def test_on_paper_it_is_light(browser, page, tmp_path):
    browser.open(page, 1280, dark=True)
    chart = "getComputedStyle(document.querySelector('.chart svg')).filter"
    assert browser.evaluate(chart) == "invert(0.9) hue-rotate(180deg)"
    printed = browser.print(tmp_path / "page.pdf")
    assert printed.read_bytes().startswith(b"%PDF-")
    ink, paper = browser.evaluate(
        "(() => { const s = getComputedStyle(document.body); return [s.color, s.backgroundColor] })()"
    )
    assert (ink, paper) == ("rgb(0, 0, 0)", "rgb(255, 255, 255)")
    assert browser.evaluate(chart) == "none"


def test_the_browser_of_these_tests_notices_what_is_wrong(browser, tmp_path):
    path = tmp_path / "bad.html"
    path.write_text("<p style='width: 2000px'>x<script>console.log('hello'); fail()</script><img src='missing.png'>")
    browser.open(path, 390)
    assert len(browser.complaints) >= 2
    assert (tmp_path / "missing.png").as_uri() in browser.fetched
    assert browser.evaluate("document.documentElement.scrollWidth") > 390
