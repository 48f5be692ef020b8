"""The report: one file that says what was found, shows it, and lets nothing in from outside."""

import base64
import html
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from goodnet.core.backdoor import Backdoor
from goodnet.core.errors import UnreadableData
from goodnet.core.results import Rate
from goodnet.reports.html import html_report, make_page
from goodnet.reports.records import GuardRecord, OtherResult
from goodnet.reports.run_folders import find_runs
from goodnet.reports.runs import Recorder
from goodnet.reports.scan_examples import ScanExamples
from goodnet.reports.scan_section import _name_suspect
from tests.reports.conftest import HOSTILE, make_detection


class Reader(HTMLParser):
    """Collects the elements, the text and the addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.addresses, self.words, self.marks, self.ids = [], [], [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        given = dict(attrs)
        self.addresses += [given[name] for name in ("src", "href", "action", "data", "srcset") if name in given]
        self.marks += [given["xlink:href"]] if "xlink:href" in given else []
        self.ids += [given["id"]] if "id" in given else []
        assert not any(name.startswith("on") for name in given), f"<{tag}> with {given}"

    def handle_data(self, data):
        self.words.append(data)


def report(*folders) -> tuple[str, Reader]:
    text = html_report(find_runs(folders))
    return text, Reader(text)


@pytest.fixture(scope="module")
def page(runs):
    return report(runs.folder)


def change(folder, path, edit):
    """Copy a run and change its result, of a scan the one in `scan.json`."""
    shutil.copytree(folder, path)
    file = path / ("scan.json" if (path / "scan.json").exists() else "run.json")
    content = json.loads(file.read_text())
    edit(content if file.name == "scan.json" else content["result"])
    file.write_text(json.dumps(content))
    return path


def test_the_verdict_is_one_sentence_at_the_top(page):
    text, read = page
    sentence = f"bd_net.h5 is suspected of a backdoor that sends images to class 0 ({HOSTILE[0]})."
    assert sentence in read.text
    assert (
        read.text.index(sentence) < read.text.index("What “backdoored” means") < read.text.index("Evidence per class")
    )
    assert "What it does not prove" in read.text
    assert "<li>highest score 11.2 (class 0), threshold 8</li><li>80 images</li>" in text


def test_every_part_is_there(page):
    text, read = page
    for words in (
        *("Scan of bd_net.h5", "Evidence per class", "margin", "size", "threshold 8", "The highest scores"),
        *("The trigger recovered for class 0", "covers 9.0 of 144 pixels (6.2%)", "with the trigger", "its mask"),
        *("Repair of bd_net.h5", "recommended", "channels of pool_2 pruned, ascending", "fraction of the 12 channels"),
        *("Before and after, measured", "attack success rate on corner.h5", "clean images refused", "robust accuracy"),
        *("Inspected", "images per class", "Provenance", "SHA-256", "scan · ensemble", "torch"),
    ):
        assert words in read.text or words == "robust accuracy", words
    assert text.count('<figure class="chart') == 3, "of the scan, and the curves of the repair on both data sets"
    summaries = re.findall(r'<svg [^>]*role="img" aria-label="([^"]*)"', text)
    curve = "while up to 12 of 12 channels are pruned"
    assert summaries == [
        "score of 4 classes, the highest 11.2, 1 suspected",
        f"accuracy {curve}",
        f"accuracy, ASR {curve}",
    ]
    assert {"class 0: 11.2", "suspected", "accuracy has dropped by"} <= set(read.words), "names and legends are text"
    assert "ASR" in read.text


def test_rates_have_their_intervals(page, runs):
    _, read = page
    result = json.loads((runs.folder / "evaluation" / "run.json").read_text())["result"]
    for row in result["rows"]:
        rate = Rate(**row["metrics"]["clean_accuracy"])
        assert f"{rate.value:.4f} [{rate.low:.3f}, {rate.high:.3f}] n = {rate.n}" in read.text.replace("\xa0", " ")
        assert row["name"] in read.text
    first, last = (Rate(**result["rows"][k]["metrics"]["attack_success_rate"]["corner.h5"]) for k in (0, -1))
    assert f"{first.value:.3f} → {last.value:.3f}" in read.text


def test_nothing_comes_from_outside(page):
    text, read = page
    assert read.addresses
    assert all(address.startswith("data:image/") for address in read.addresses)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(read.tags)
    assert not re.search(r"url\((?!#)|@import|javascript:", text)
    assert {mark.removeprefix("#") for mark in read.marks} | set(re.findall(r"url\(#(\w+)\)", text)) == set(read.ids)
    assert len(read.ids) == len(set(read.ids)), "the charts' ids do not clash"
    assert "default-src 'none'" in text


def test_hostile_names_are_only_text(page):
    text, read = page
    for name in HOSTILE[:3]:
        assert name not in text
        assert html.escape(name, quote=False) in text or str(name) in read.text
    assert "runs & <b>more<b>" in read.text, "the folder's name is shown as it is"
    assert read.tags.count("title") == read.tags.count("style") == 1
    assert "the <i>accuracy</i> never falls" in read.text
    assert "i" not in [tag for tag, after in zip(read.tags, read.tags[1:], strict=False) if after == "script"]


def test_hostile_names_in_charts_are_only_text(runs, tmp_path):
    values = dict.fromkeys(["</svg><script>", "<b>\u202e$x$"], [1.0] * 4)
    change(runs.folder / "scan", tmp_path / "scan", lambda r: r.update(evidence=values))
    change(runs.folder / "repair", tmp_path / "repair", lambda r: r["trace"]["sweep"].update(layer=HOSTILE[1]))
    _, read = report(tmp_path)
    assert {"</svg><script>", r"<b>\u202e$x$"} <= set(read.words)
    assert f"{HOSTILE[1]}, ascending, on the clean data given" in read.text
    assert not {"script", "b"} & set(read.tags[read.tags.index("figure") : read.tags.index("table")])
    assert read.tags.count("svg") == 2
    assert all(address.startswith("data:image/") for address in read.addresses)


def test_pictures_are_pixels_of_the_images(page):
    text, _ = page
    encoded = re.findall(r'src="data:image/(png|webp);base64,([^"]+)"', text)
    sizes = [Image.open(io.BytesIO(base64.b64decode(content))).size for _, content in encoded]
    assert sizes.count((12, 12)) == 4 + 2 * 3
    mask = [np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))) for _, content in encoded][3]
    assert mask.shape == (12, 12)
    assert (mask[-3:, -3:] == 255).all()
    assert mask.sum() == 9 * 255
    assert len(text) < 1_000_000


def test_a_failure_is_shown_as_one(page, runs):
    _, read = page
    assert "The repair of bd_net.h5 failed: MethodFailed: the <i>accuracy</i> never falls" in read.text
    _, alone = report(runs.folder / "failed")
    assert "was not scanned, so it is unknown whether it carries a backdoor" in alone.text


def test_a_scan_that_failed(tmp_path):
    Recorder("scan", {}).run(error=ValueError("no gradient")).save(tmp_path)
    _, read = report(tmp_path)
    assert "The scan of the network failed: ValueError: no gradient" in read.text
    assert "Evidence per class" not in read.text


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        ("clean", "No backdoor was found in bd_net.h5."),
        ("inconclusive", "Whether bd_net.h5 carries a backdoor could not be decided."),
    ],
)
def test_other_verdicts(verdict, sentence, runs, tmp_path):
    folder = change(runs.folder / "scan", tmp_path / "scan", lambda r: r.update(verdict=verdict, suspected=[]))
    (folder / "suspected.npz").unlink()
    (folder / "examples.npz").unlink()
    _, read = report(folder)
    assert sentence in read.text
    assert "trigger recovered for" not in read.text
    (statement,) = make_page(find_runs([folder])).statements
    assert statement.standing == verdict
    assert statement.means
    assert statement.limits


def test_a_source_specific_backdoor_is_named_with_its_sources():
    names = ScanExamples(torch.zeros(0, 1, 2, 2), (), class_names=("stop", "", "yield", "go"))
    one = make_detection(suspected=(Backdoor(None, 0, (3,)), Backdoor(None, 0, (2,)), Backdoor(None, 1)))
    assert _name_suspect(names, one, 0) == "class 0 (stop) (from class 2 (yield), class 3 (go) alone)"
    assert _name_suspect(names, one, 1) == "class 1"
    both = make_detection(suspected=(Backdoor(None, 0, (3,)), Backdoor(None, 0)))
    assert _name_suspect(None, both, 0) == "class 0"


def test_several_scans_have_a_sentence_each(runs, tmp_path):
    clean = change(runs.folder / "scan", tmp_path / "scan", lambda r: r.update(verdict="clean", suspected=[]))
    _, read = report(runs.folder / "scan", clean)
    assert "is suspected of a backdoor" in read.text
    assert "No backdoor was found" in read.text
    assert read.text.count("What it does not prove") == 2


def test_what_the_automatic_repair_found_out(runs, tmp_path):
    diff = {
        "agreement": Rate.of(7, 8).model_dump(),
        "per_class": [{"label": k, "before": 1.0, "after": 1.0 - 0.25 * (k % 2), "n": 8} for k in range(4)],
        "surrogate_attack_success": {"before": 0.9, "after": 0.125},
    }
    folder = change(runs.folder / "repair", tmp_path / "repair", lambda r: r["trace"].update(diff=diff))
    _, read = report(folder)
    assert "accuracy after minus before, per class" in read.text
    assert "1 1.000 0.750 8 3 1.000 0.750 8" in read.text
    text = read.text.replace("\xa0", " ")
    assert "same predictions as the original 0.8750 [0.529, 0.978] n = 8" in text
    assert "attack success, before 0.9" in text
    assert "attack success, after 0.125" in text


def test_a_guard(tmp_path):
    trigger = {"target": 3, "surrogate": "shifted", "success": Rate.of(9, 10).model_dump()}
    refused = Rate.of(1, 100).model_dump()
    result = {
        "method": "ensemble",
        "threshold": 0.5,
        "targets": [3],
        "false_refusals": {"expected": 0.01, "bound": 0.0321, "n": 40},
        "refused_clean": refused,
        "surrogates": [trigger | {"refused": Rate.of(10, 10).model_dump()}, trigger | {"refused": None}],
        "goodnet": {
            "folder": "goodnet",
            "targets": [3],
            "tolerance": 0.0,
            "false_refusals": None,
            "refused_clean": refused,
            "surrogates": [trigger | {"refused": Rate.of(5, 10).model_dump()}],
        },
    }
    Recorder("guard", {}).run(GuardRecord.model_validate(result)).save(tmp_path / "guard")
    Recorder("guard", {}).run(error=ValueError("no scores")).save(tmp_path / "failed")
    _, read = report(tmp_path)
    text = read.text.replace("\xa0", " ")
    assert "the network is guarded by ensemble; suspected target 3." in text
    assert "at most, with 95 % confidence, n = 40 0.032" in text
    assert "a trigger of class 3 refused: shifted (works on 0.90) higher is better ensemble 1.0000" in text
    assert "GoodNet 0.5000 [0.237, 0.763] n = 10" in text
    assert "The guard of the network failed: ValueError: no scores" in text


def test_a_verb_that_the_page_does_not_know(runs, tmp_path):
    result = {"refused_clean": Rate.of(1, 100).model_dump(), "guards": {"strip": {"threshold": 0.25}}, "list": [1, 2]}
    Recorder("inspect_more", {}).run(OtherResult.model_validate(result)).save(tmp_path)
    _, read = report(tmp_path)
    text = read.text.replace("\xa0", " ")
    assert "refused clean 0.0100 [0.002, 0.054] n = 100" in text
    assert "guards, strip, threshold 0.25" in text
    assert "list 1, 2" in text


@pytest.mark.parametrize("name", ["scan", "repair", "evaluation"])
def test_a_record_of_the_wrong_shape(name, runs, tmp_path):
    folder = change(runs.folder / name, tmp_path / name, lambda r: r.update({"verdict": "clean", "rows": 3}))
    with pytest.raises(
        UnreadableData, match=r"run\.json: expected the result of|scan\.json: expected a record of the kind Detection"
    ):
        report(folder)


def test_a_picture_that_is_none_is_left_out(runs, tmp_path):
    (tmp_path / "samples.png").write_bytes(b"no picture")
    shutil.copy(runs.folder / "inspect" / "class_distribution.png", tmp_path)
    (gallery,) = make_page(find_runs([tmp_path])).galleries
    assert [picture.title for picture in gallery.pictures] == ["images per class"]


def test_large_pictures_are_scaled_down(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (450, 1500, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "samples.png")
    (gallery,) = make_page(find_runs([tmp_path])).galleries
    content = base64.b64decode(gallery.pictures[0].address.partition(",")[2])
    assert Image.open(io.BytesIO(content)).size == (1400, 420)
    assert len(content) < (tmp_path / "samples.png").stat().st_size / 2
