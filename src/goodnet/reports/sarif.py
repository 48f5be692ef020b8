"""A scan as SARIF 2.1.0, the format in which code hosts and pipelines take findings."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from goodnet.core.backdoor import Backdoor, Patch
from goodnet.core.results import Detection, Run
from goodnet.reports.policy import Violation

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"

#: Rule -> (name, what it says, what to do).
_RULES = {
    "backdoored-network": (
        "BackdooredNetwork",
        "The network is suspected of a backdoor.",
        "Do not use the network as it is: repair it (goodnet repair), guard it, or take one from a source that you trust.",
    ),
    "inconclusive-scan": (
        "InconclusiveScan",
        "The scan could not decide whether the network carries a backdoor.",
        "Scan again with more clean images of more classes; until then the network is not known to be clean.",
    ),
    "code-in-model": (
        "CodeInModel",
        "The model file names what could run as code when it is loaded.",
        "Do not load the file. Have the weights alone saved where it was made: torch.save(net.state_dict(), path).",
    ),
    "low-clean-accuracy": (
        "LowCleanAccuracy",
        "The accuracy of the network on the clean images is lower than the policy allows.",
        "Check that network and images belong together, and the input range.",
    ),
}


def scan_sarif(
    run: Run, model: Path, detection: Detection | None, violations: Sequence[Violation] = (), *, exit_code: int
) -> str:
    """Return a scan as SARIF text.

    A suspected target and an accuracy that a policy does not allow are results of level "error", an undecided scan is
    one of level "warning". A clean network has no results; a scan that failed (`detection` is None) says so in its
    invocation, and has no results but where the model file was refused for code in it.

    Args:
        run: the record of the scan, with its error where it failed.
        model: path of the network's file, which results point at.
        detection: what the scan found.
        violations: what a policy forbids of it.
        exit_code: with which the command ends.
    """
    results = _refusals(run, model) if detection is None else _results(detection, violations, model)
    content = {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": _driver(run)},
                "invocations": [_invocation(run, exit_code)],
                "artifacts": [_artifact(run, model)],
                "results": results,
                "columnKind": "utf16CodeUnits",
            }
        ],
    }
    return json.dumps(content, indent=2) + "\n"


def _driver(run: Run) -> dict[str, Any]:
    return {
        "name": "goodnet",
        "version": run.versions["goodnet"],
        "rules": [
            {
                "id": rule,
                "name": name,
                "shortDescription": {"text": says},
                "help": {"text": advice},
                "properties": {"tags": ["security", "machine-learning", "backdoor"]},
            }
            for rule, (name, says, advice) in _RULES.items()
        ],
    }


def _invocation(run: Run, exit_code: int) -> dict[str, Any]:
    started = datetime.fromisoformat(run.started)
    told: dict[str, Any] = {
        "executionSuccessful": run.error is None,
        "exitCode": exit_code,
        "startTimeUtc": _utc(started),
        "endTimeUtc": _utc(started + timedelta(seconds=run.seconds)),
        "properties": {"method": run.method, "options": run.options, "seed": run.seed, "inputs": run.inputs},
    }
    if run.error is not None:
        text = f"{run.error.kind}: {run.error.message}"
        told["toolExecutionNotifications"] = [{"level": "error", "message": {"text": text}}]
    return told


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}Z"


def _artifact(run: Run, model: Path) -> dict[str, Any]:
    artifact: dict[str, Any] = {"location": _location(model), "roles": ["analysisTarget"]}
    digests = [digest for name, digest in run.inputs.items() if name.startswith("model: ")]
    return artifact | ({"hashes": {"sha-256": digests[0]}} if digests else {})


def _location(model: Path) -> dict[str, str]:
    """Return the file relative to the working folder, a repository's root in a pipeline; elsewhere its full address."""
    path = Path(os.path.realpath(model))  # `Path.resolve` raises on a link that leads to itself.
    if not path.is_relative_to(Path.cwd()):
        return {"uri": path.as_uri()}
    # `as_uri` escapes what a path may hold and an address may not.
    uri = path.as_uri().removeprefix(Path.cwd().as_uri()).lstrip("/")
    return {"uri": uri, "uriBaseId": "%SRCROOT%"}


def _refusals(run: Run, model: Path) -> list[dict[str, Any]]:
    if run.error is None or not run.error.names:
        return []
    message = f"The file names what could run as code on loading: {', '.join(run.error.names)}."
    return [_result("code-in-model", "error", message, model, {"names": list(run.error.names)})]


def _results(detection: Detection, violations: Sequence[Violation], model: Path) -> list[dict[str, Any]]:
    # A person looks into one backdoor, however many targets it has.
    shown = detection.suspected[:1] if detection.all_to_all else detection.suspected
    results = [_suspicion(backdoor, detection, model) for backdoor in shown]
    if detection.verdict == "inconclusive":
        message = f"The scan could not decide: {detection.reason or 'no reason was given'}."
        results.append(_result("inconclusive-scan", "warning", message, model, {}))
    for violation in violations:
        if violation.rule == "least_clean_accuracy":
            message = f"{violation.message[:1].upper()}{violation.message[1:]}."
            results.append(_result("low-clean-accuracy", "error", message, model, {}))
    return results


def _suspicion(backdoor: Backdoor, detection: Detection, model: Path) -> dict[str, Any]:
    target, score = backdoor.target, detection.scores[backdoor.target]
    facts: dict[str, Any] = {"target": target, "threshold": detection.threshold}
    facts["score"] = score if math.isfinite(score) else None
    what = "Every class" if detection.all_to_all else f"Class {target}"
    message = f"{what} is suspected to be a backdoor's target: score {score:.1f}, threshold {detection.threshold:.3g}."
    if detection.all_to_all:
        message += " One trigger sends each class to another: all to all."
        facts["target"] = "all"
    elif backdoor.sources is not None:
        facts["sources"] = list(backdoor.sources)
        message += f" It is reached from {', '.join(f'class {label}' for label in backdoor.sources)} alone."
    if isinstance(backdoor.trigger, Patch):
        facts["triggerSize"] = backdoor.trigger.size
        message += f" The trigger recovered for it covers {backdoor.trigger.size:.1f} pixels."
    return _result("backdoored-network", "error", message, model, facts)


def _result(rule: str, level: str, message: str, model: Path, facts: dict[str, Any]) -> dict[str, Any]:
    # A network has no lines; GitHub shows only results that name one.
    place = {"artifactLocation": _location(model) | {"index": 0}, "region": {"startLine": 1}}
    return {
        "ruleId": rule,
        "ruleIndex": list(_RULES).index(rule),
        "level": level,
        "message": {"text": message},
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {"goodnetFinding/v1": f"{rule}/{facts.get('target', '')}"},
        "properties": facts,
    }
