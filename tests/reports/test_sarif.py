"""SARIF 2.1.0: what the standard demands of the parts that a scan writes, and what the findings say."""

import json
import math
import os
from pathlib import Path

import jsonschema
import pytest

from goodnet.core.backdoor import Backdoor
from goodnet.core.errors import MethodFailed
from goodnet.reports.policy import Policy
from goodnet.reports.runs import Recorder
from goodnet.reports.sarif import scan_sarif
from tests.reports.conftest import make_detection

TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}
LEVEL = {"enum": ["none", "note", "warning", "error"]}


def record(required=(), **properties):
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


def several(items):
    return {"type": "array", "items": items}


PLACE = record(
    artifactLocation=record(
        uri={"type": "string"}, uriBaseId={"type": "string"}, index={"type": "integer", "minimum": 0}
    ),
    region=record(startLine={"type": "integer", "minimum": 1}),
)
RULE = record(
    ["id"],
    id={"type": "string"},
    name={"type": "string"},
    shortDescription=TEXT,
    help=TEXT,
    properties={"type": "object"},
)
RESULT = record(
    ["message"],
    ruleId={"type": "string"},
    ruleIndex={"type": "integer", "minimum": 0},
    level=LEVEL,
    message=TEXT,
    locations=several(record(physicalLocation=PLACE)),
    partialFingerprints={"type": "object", "additionalProperties": {"type": "string"}},
    properties={"type": "object"},
)
INVOCATION = record(
    ["executionSuccessful"],
    executionSuccessful={"type": "boolean"},
    exitCode={"type": "integer"},
    startTimeUtc=TIME,
    endTimeUtc=TIME,
    toolExecutionNotifications=several(record(["message"], level=LEVEL, message=TEXT)),
    properties={"type": "object"},
)
ARTIFACT = record(
    location=record(uri={"type": "string"}, uriBaseId={"type": "string"}),
    roles=several({"enum": ["analysisTarget"]}),
    hashes={"type": "object", "additionalProperties": {"type": "string"}},
)
RUN = record(
    ["tool"],
    tool=record(["driver"], driver=record(["name"], name={"type": "string"}, version={}, rules=several(RULE))),
    invocations=several(INVOCATION),
    artifacts=several(ARTIFACT),
    results=several(RESULT),
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
)
#: The parts of the standard's schema that goodnet uses, in our words: names, types and what must be there.
SCHEMA = record(["version", "runs"], version={"const": "2.1.0"}, runs=several(RUN), **{"$schema": {"type": "string"}})


def read(text):
    content = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    jsonschema.validate(content, SCHEMA)
    (run,) = content["runs"]
    for result in run["results"]:
        rule = run["tool"]["driver"]["rules"][result["ruleIndex"]]
        assert rule["id"] == result["ruleId"]
        assert result["locations"][0]["physicalLocation"]["artifactLocation"]["index"] == 0
    return run


@pytest.fixture
def recorder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "my net #1.h5").write_bytes(b"weights")
    return Recorder("scan", {"model": Path("models/my net #1.h5")}, "ensemble", {"alpha": 0.01}, 5)


MODEL = Path("models/my net #1.h5")


def test_a_backdoored_network(recorder):
    found = make_detection(suspected=(*make_detection().suspected, Backdoor(None, 2)))
    run = read(scan_sarif(recorder.run(), MODEL, found, exit_code=1))
    first, second = run["results"]
    assert (first["ruleId"], first["level"]) == ("backdoored-network", "error")
    assert first["message"]["text"] == (
        "Class 0 is suspected to be a backdoor's target: score 11.2, threshold 8. The trigger recovered for it covers 9.0 pixels."
    )
    assert first["properties"] == {"target": 0, "score": 11.25, "threshold": 8.0, "triggerSize": 9.0}
    assert second["properties"]["target"] == 2
    assert first["partialFingerprints"] != second["partialFingerprints"]
    place = first["locations"][0]["physicalLocation"]["artifactLocation"]
    assert (place["uri"], place["uriBaseId"]) == ("models/my%20net%20%231.h5", "%SRCROOT%")
    assert run["artifacts"][0]["hashes"]["sha-256"] == next(iter(recorder.run().inputs.values()))
    assert (run["invocations"][0]["exitCode"], run["invocations"][0]["executionSuccessful"]) == (1, True)
    assert run["invocations"][0]["properties"]["seed"] == 5


def test_a_target_that_is_reached_from_some_classes_alone(recorder):
    found = make_detection(suspected=(Backdoor(None, 2, (1, 3)),))
    (result,) = read(scan_sarif(recorder.run(), MODEL, found, exit_code=1))["results"]
    assert result["message"]["text"].endswith("threshold 8. It is reached from class 1, class 3 alone.")
    assert result["properties"]["sources"] == [1, 3]


def test_an_all_to_all_backdoor_is_one_finding(recorder):
    found = make_detection(suspected=tuple(Backdoor(None, label, ((label - 1) % 4,)) for label in range(4)))
    (result,) = read(scan_sarif(recorder.run(), MODEL, found, exit_code=1))["results"]
    assert result["message"]["text"].startswith("Every class is suspected to be a backdoor's target: score 11.2")
    assert result["properties"]["target"] == "all"


def test_a_clean_network_has_no_findings(recorder):
    clean = make_detection(verdict="clean", suspected=())
    assert read(scan_sarif(recorder.run(), MODEL, clean, exit_code=0))["results"] == []


def test_an_undecided_scan_is_a_warning(recorder):
    doubt = make_detection(verdict="inconclusive", suspected=(), reason="too few images")
    (result,) = read(scan_sarif(recorder.run(), MODEL, doubt, exit_code=3))["results"]
    assert (result["ruleId"], result["level"]) == ("inconclusive-scan", "warning")
    assert "too few images" in result["message"]["text"]


def test_a_low_accuracy_is_a_finding_of_the_policy(recorder):
    clean = make_detection(verdict="clean", suspected=())
    violations = Policy(least_clean_accuracy=0.99).violations(clean)
    (result,) = read(scan_sarif(recorder.run(), MODEL, clean, violations, exit_code=1))["results"]
    assert (result["ruleId"], result["level"]) == ("low-clean-accuracy", "error")


def test_a_scan_that_failed_says_so(recorder):
    run = read(scan_sarif(recorder.run(error=MethodFailed("no gradient")), MODEL, None, exit_code=3))
    assert run["results"] == []
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    assert invocation["toolExecutionNotifications"][0]["message"]["text"] == "MethodFailed: no gradient"


def test_a_file_elsewhere_has_its_full_address(recorder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "net.h5"
    run = read(scan_sarif(recorder.run(), elsewhere, make_detection(), exit_code=1))
    assert run["artifacts"][0]["location"] == {"uri": elsewhere.as_uri()}


@pytest.mark.parametrize(("name", "uri"), [(b"net \xff.h5", "net%20%FF.h5"), (b"a\nb\x1b[2J", "a%0Ab%1B%5B2J")])
def test_a_file_whose_name_is_no_text(name, uri, recorder):
    model = Path(os.fsdecode(name))
    model.write_bytes(b"weights")
    text = scan_sarif(recorder.run(), model, make_detection(), exit_code=1)
    assert text.isascii()
    assert read(text)["artifacts"][0]["location"]["uri"] == uri


def test_a_link_that_leads_to_itself(recorder):
    Path("round.h5").symlink_to("round.h5")
    run = read(scan_sarif(recorder.run(), Path("round.h5"), make_detection(), exit_code=2))
    assert run["artifacts"][0]["location"]["uri"] == "round.h5"


def test_numbers_that_json_does_not_know(recorder):
    endless = make_detection(scores=(math.inf, 0.0, 0.0, 0.0))
    (result,) = read(scan_sarif(recorder.run(), MODEL, endless, exit_code=1))["results"]
    assert result["properties"]["score"] is None
