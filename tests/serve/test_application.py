"""What is answered: classes, refusals and their reasons; and every status that a request can get."""

import json
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from goodnet.serve.answers import Prediction, Problem
from goodnet.serve.network import ServedNetwork
from tests.serve.conftest import form, serving
from tests.serve.telling_network import CLASSES, HEIGHT, SPOILT, WIDTH, picture, write_telling


def reason(reply, status):
    """Return the reason of a problem, after looking at its form."""
    assert reply.status == status, reply.body
    problem = Problem.model_validate(reply.json)
    assert problem.status == status
    assert reply.headers["content-type"] == "application/json"
    return problem.reason


def png_header(width, height):
    """Return a PNG that says it has so many pixels, and has none."""
    parts = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 10_000))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_a_picture_gets_its_class(site):
    reply = site.predict(picture(17, other=30))
    assert reply.image == {
        "class": 17,
        "class_name": None,
        "refused": False,
        "guard": None,
        "reason": "original and repaired both say 17",
        "scores": [{"class": 17, "name": None, "score": 0.75}, {"class": 30, "name": None, "score": 0.25}],
        "opinions": {"original": 17, "repaired": 17},
        "guarded": True,
    }
    Prediction.model_validate(reply.json)
    assert re.fullmatch("[0-9a-f]{16}", reply.json["request_id"])
    assert reply.headers["x-request-id"] == reply.json["request_id"]


def test_a_refused_picture_gets_class_n_and_a_reason(site):
    image = site.predict(picture(0, 17)).image
    assert (image["class"], image["refused"], image["guard"]) == (CLASSES, True, "disagreement")
    assert image["reason"] == "original says 0; repaired says 17"
    assert image["opinions"] == {"original": 0, "repaired": 17}


def test_the_suspected_target_and_the_names_are_in_the_reason(tmp_path):
    network = ServedNetwork(write_telling(tmp_path, targets=[0], names=True), threads=1)
    with serving(network) as site:
        refused, odd = (site.predict(picture(b, 17)).image for b in (0, 5))
    assert refused["reason"] == "original says 0 (person 0), a suspected target; repaired says 17 (person 17)"
    assert refused["class_name"] is None
    assert (odd["class"], odd["refused"], odd["class_name"]) == (5, False, "person 5")
    assert odd["reason"] == "original says 5 (person 5), no suspected target; repaired says 17 (person 17)"
    assert odd["scores"][0]["name"] == "person 5"


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("input_range", ["0..1", "0..255"])
def test_every_layout_and_range_is_fed_as_it_was_exported(layout, input_range, tmp_path):
    network = ServedNetwork(write_telling(tmp_path, layout=layout, input_range=input_range), threads=1)
    with serving(network) as site:
        replies = [site.predict(picture(label, other=label // 2)) for label in (0, 1, 127, 128, 199)]
    assert [reply.image["class"] for reply in replies] == [0, 1, 127, 128, 199]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM"])
def test_every_kind_without_loss(kind, site):
    assert site.predict(picture(99, kind=kind), "application/octet-stream").image["class"] == 99


def test_a_jpeg_is_read(site):
    assert site.predict(picture(99, kind="JPEG"), "image/jpeg").status == 200


def test_a_batch_is_answered_in_its_order(site):
    labels = [3, 199, 0, 3, 77]
    reply = site.predict_form([picture(label) for label in labels])
    assert [image["class"] for image in reply.json["images"]] == labels


def test_fields_of_a_form_that_are_no_files_are_passed_over(site):
    field = b'--BOUND\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
    reply = site.predict(form([picture(5)], field), "multipart/form-data; boundary=BOUND")
    assert reply.image["class"] == 5


def test_k_scores(site):
    scores = site.predict(picture(17, other=30), query="?k=1").image["scores"]
    assert [score["class"] for score in scores] == [17]
    for k in ("0", "101", "-1", "five", ""):
        assert "k" in reason(site.predict(picture(17), query=f"?k={k}"), 422)


def test_resize_scales_other_sizes(telling, tmp_path):
    flat = np.full((60, 80, 3), 40, np.uint8)
    Image.fromarray(flat).save(tmp_path / "flat.png")
    with serving(telling, resize=True) as site:
        image = site.predict((tmp_path / "flat.png").read_bytes()).image
    assert (image["class"], image["opinions"]) == (40, {"original": 40, "repaired": 40})


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b"", "image/png", 415, "got nothing"),
        (b"hello", "image/png", 415, "expected a picture"),
        (b"GIF89a" + b"\0" * 50, "image/gif", 415, "expected a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "application/octet-stream", 415, "expected a picture"),
        (picture(1), "text/plain", 415, "text/plain"),
        (picture(1), "application/json", 415, "application/json"),
        (picture(1)[:8], "image/png", 422, "cut off or damaged"),
        (picture(1)[:-40], "image/png", 422, "cut off or damaged"),
        (picture(1, kind="JPEG")[:-200], "image/jpeg", 422, "cut off or damaged"),
        (picture(1, kind="BMP")[:-20], "image/bmp", 422, "cut off or damaged"),
        (picture(1, size=(9, 6)), "image/png", 422, "expected 8 x 6 pixels (width x height), got 9 x 6"),
        (picture(1, size=(600, 600)), "image/png", 413, "body of at most 200000 bytes"),
        (png_header(1001, 1000), "image/png", 413, "at most 1000000 pixels, got 1001 x 1000"),
        (png_header(60_000, 60_000), "image/png", 413, "at most 1000000 pixels"),
        (b"x" * 200_001, "image/png", 413, "body of at most 200000 bytes"),
        (b"x" * 3_000_000, "image/png", 413, "body of at most 200000 bytes"),
        (form([picture(1)] * 9), "multipart/form-data; boundary=BOUND", 413, "at most 8 pictures"),
        (form([picture(1), b"junk"]), "multipart/form-data; boundary=BOUND", 415, "picture 2: expected a picture"),
        (form([picture(1), picture(1)[:-30]]), "multipart/form-data; boundary=BOUND", 422, "picture 2: the PNG"),
        (form([]), "multipart/form-data; boundary=BOUND", 422, "found none"),
        (form([picture(1)])[:-20], "multipart/form-data; boundary=BOUND", 422, "cut off"),
        (form([picture(1)]), "multipart/form-data; boundary=OTHER", 422, "damaged"),
        (form([picture(1)]), "multipart/form-data", 422, "boundary"),
        (b"", "multipart/form-data; boundary=BOUND", 422, "cut off"),
    ],
)
def test_what_cannot_be_answered_gets_a_reason(body, kind, status, words, site):
    assert words in reason(site.predict(body, kind), status)
    assert site.predict(picture(9)).image["class"] == 9


def test_sixteen_bits_are_refused_as_on_the_command_line(site, tmp_path):
    Image.fromarray(np.full((HEIGHT, WIDTH), 1000, np.uint16)).save(tmp_path / "deep.png")
    assert "8 bits per channel" in reason(site.predict((tmp_path / "deep.png").read_bytes()), 422)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/predict", 405), ("POST", "/health", 405), ("GET", "/nothing", 404), ("POST", "/../etc", 404)],
)
def test_other_routes_and_methods(method, path, status, site):
    assert path in reason(site.request(method, path, b"x" if method == "POST" else None), status)


@pytest.mark.parametrize("fail", ["closed", "open"])
def test_scores_that_are_no_numbers(fail, telling):
    with serving(telling, fail=fail) as site:
        reply = site.predict_form([picture(3), picture(4, mark=SPOILT), picture(5)])
        unguarded, refused = (
            site.metric("goodnet_unguarded_total"),
            site.metric('goodnet_refusals_total{guard="fail_closed"}'),
        )
    first, spoilt, last = reply.json["images"]
    assert (first["class"], last["class"]) == (3, 5)
    assert "no numbers" in spoilt["reason"]
    assert spoilt["scores"] == []
    if fail == "closed":
        assert (spoilt["class"], spoilt["refused"], spoilt["guard"]) == (CLASSES, True, "fail_closed")
        assert (unguarded, refused) == (0, 1)
    else:
        assert (spoilt["class"], spoilt["refused"], spoilt["guarded"]) == (4, False, False)
        assert (unguarded, refused) == (1, 0)


def test_health(site):
    reply = site.request("GET", "/health")
    health = reply.json
    assert (reply.status, health["live"], health["ready"], health["reasons"]) == (200, True, True, [])
    assert health["model"]["sha256"] == site.network.sha256
    assert health["model"]["image_shape"] == [3, HEIGHT, WIDTH]
    assert health["fail"] == "closed"


def test_metrics_count_requests_images_refusals_and_time(telling):
    with serving(telling) as site:
        site.predict_form([picture(1), picture(2), picture(0, 9)])
        site.predict(b"junk")
        values = [
            site.metric(name)
            for name in (
                'goodnet_requests_total{status="200"}',
                'goodnet_requests_total{status="415"}',
                "goodnet_images_total",
                'goodnet_refusals_total{guard="disagreement"}',
                "goodnet_request_seconds_count",
                "goodnet_batch_images_sum",
                "goodnet_in_flight",
                "goodnet_queue",
            )
        ]
    assert values == [1, 1, 3, 1, 2, 3, 0, 0]


def test_the_description_of_the_interface_is_true(site):
    api = site.request("GET", "/openapi.json").json
    operation = api["paths"]["/predict"]["post"]
    kinds = {"image/*", "application/octet-stream", "multipart/form-data", "application/x-npy"}
    assert set(operation["requestBody"]["content"]) == kinds
    assert set(operation["responses"]) == {"200", "400", "408", "413", "415", "422", "503", "504"}
    assert {"Prediction", "Answer", "Problem"} <= set(api["components"]["schemas"])
    assert set(api["paths"]) == {"/predict", "/health", "/metrics"}
    assert json.dumps(api).count("HTTPValidationError") == 0


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_pages_need_nothing_from_elsewhere(path, site):
    reply = site.request("GET", path)
    page = reply.body.decode()
    assert reply.headers["content-type"].startswith("text/html")
    assert not re.search(r"https?://", page)
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert len(re.findall("'sha256-", policy)) == 2
