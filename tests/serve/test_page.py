"""The page at / as a person uses it, in headless Chromium: wide and narrow, light and dark."""

import time
from collections.abc import Iterator

import pytest
from PIL import Image

from goodnet.serve.network import ServedNetwork
from tests.chromium import NAMES, Browser, browse, find_chromium
from tests.serve.conftest import Site, serving
from tests.serve.telling_network import SPOILT, picture, write_telling

pytestmark = pytest.mark.skipif(find_chromium() is None, reason=f"no Chromium here (looked for {', '.join(NAMES)})")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browse() as opened:
        yield opened


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("network")
    with serving(ServedNetwork(write_telling(folder, targets=[0], names=True), threads=1), fail="open") as running:
        yield running


def choose(browser, *files):
    """Choose files in the page as a person would, and wait for the answers."""
    before = count(browser)
    found = browser.send("Runtime.evaluate", expression="document.getElementById('files')")["result"]["objectId"]
    browser.send("DOM.setFileInputFiles", files=[str(file) for file in files], objectId=found)
    end = time.monotonic() + 20
    while count(browser) < before + len(files):
        assert time.monotonic() < end, "no answer on the page"
        time.sleep(0.05)
    return browser.evaluate("[...document.querySelectorAll('.answer')].map((one) => one.innerText)")[: len(files)]


def count(browser):
    return browser.evaluate("document.querySelectorAll('.answer').length")


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


def test_a_person_sees_the_answer_and_why(browser, site, tmp_path):
    browser.open(f"http://127.0.0.1:{site.port}/", 1280)
    (answer,) = choose(browser, write(tmp_path, "a.png", picture(17, other=30)))
    assert answer.startswith("person 17 (class 17)\n")
    assert "original and repaired both say 17 (person 17)." in answer
    assert "0.7500" in answer
    (refused,) = choose(browser, write(tmp_path, "b.png", picture(0, 17)))
    assert refused.startswith("Refused: this picture looks backdoored\n")
    assert "original says 0 (person 0), a suspected target; repaired says 17 (person 17)." in refused
    assert "guard disagreement" in refused
    (unguarded,) = choose(browser, write(tmp_path, "c.png", picture(5, mark=SPOILT)))
    assert unguarded.startswith("person 5 (class 5), unguarded\n")
    assert browser.complaints == []


def test_what_cannot_be_answered_says_why(browser, site, tmp_path):
    browser.open(f"http://127.0.0.1:{site.port}/", 390)
    last, first = choose(browser, write(tmp_path, "a.png", b"text"), write(tmp_path, "b.png", picture(1, size=(9, 9))))
    assert first.startswith("No answer (415)\n")
    assert "expected a picture" in first
    assert last.startswith("No answer (422)\n")
    assert "expected 8 x 6 pixels" in last


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("path", ["/", "/docs"])
def test_it_fits_the_window_and_fetches_nothing_from_elsewhere(path, width, dark, browser, site, tmp_path):
    address = f"http://127.0.0.1:{site.port}"
    browser.open(address + path, width, dark=dark)
    if path == "/":
        choose(browser, write(tmp_path, "a.png", picture(17, other=30)), write(tmp_path, "b.png", picture(0, 17)))
    seen = browser.photograph(tmp_path / "page.png")
    assert browser.evaluate("document.documentElement.scrollWidth") == width, "nothing is wider than the window"
    own = (address, "data:", f"blob:{address}")
    assert [fetched for fetched in browser.fetched if not fetched.startswith(own)] == []
    assert browser.complaints == []
    with Image.open(seen) as photograph:
        brightness = photograph.convert("L").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    assert (brightness < 128) == dark


def test_the_interface_is_described(browser, site):
    browser.open(f"http://127.0.0.1:{site.port}/docs", 1280)
    end = time.monotonic() + 20
    while "Prediction" not in (text := browser.evaluate("document.body.innerText")):
        assert time.monotonic() < end
    for words in (
        "POST /predict",
        "GET /health",
        "GET /metrics",
        "multipart/form-data",
        "413",
        "class_name",
        "request_id",
    ):
        assert words in text
