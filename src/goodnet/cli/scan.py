"""goodnet scan."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from goodnet import api
from goodnet.cli.console import output, progress_bar
from goodnet.cli.last_resort import exit_code, say
from goodnet.cli.options import (
    MethodCommand,
    execution_options,
    json_option,
    out_option,
    reading_options,
    seed_option,
    take_given,
)
from goodnet.core.errors import CodeInFile, GoodnetError
from goodnet.core.results import Detection, Failure
from goodnet.formats.files import output_folder, write_text
from goodnet.formats.shown_paths import show_path
from goodnet.reports.policy import Policy, Violation
from goodnet.reports.runs import Recorder
from goodnet.reports.sarif import scan_sarif
from goodnet.reports.scans import scan_table

_EXIT_CODES = {"clean": 0, "backdoored": 1, "inconclusive": 3}


@click.command(
    "scan",
    cls=MethodCommand,
    family="scanners",
    default="ensemble",
    short_help="Decide whether a network carries a backdoor.",
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--clean", type=click.Path(path_type=Path), required=True, help="Clean images.")
@click.option("--method", default="ensemble", show_default=True, help="Scanner; each has options of its own.")
@out_option("Folder for scan.json, the scores and pictures of the recovered triggers.")
@click.option("--sarif", type=click.Path(path_type=Path), help="File for the findings as SARIF 2.1.0.")
@click.option("--policy", type=click.Path(path_type=Path), help="TOML file with the rules that make the scan fail.")
@seed_option
@click.option("--resume", is_flag=True, help="Continue an interrupted scan whose files are in OUT.")
@execution_options("device", "workers", "cluster", "budget")
@reading_options()
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: Path,
    clean: Path,
    method: str,
    as_json: bool,
    sarif: Path | None,
    policy: Path | None,
    **given: Any,
) -> None:
    """Decide whether MODEL carries a backdoor, from clean images alone.

    Exit code 0: clean (the methods that ran found nothing); 1: backdoored; 2: bad input; 3: inconclusive.

    With --policy, exit code 1 means that the network breaks a rule of the policy, and 0 that it breaks none. The keys of
    a policy are fail_on_backdoored, fail_on_inconclusive (true or false, default true), and least_clean_accuracy (the minimum
    accuracy on the clean images, a fraction).
    """
    rules = None if policy is None else Policy.read(policy)
    if sarif is not None:
        output_folder(sarif.parent)  # Better refused now than after the scan.
    options = take_given(given, ctx.obj["options"])
    recorder = Recorder("scan", {"model": model, "clean": clean}, method, seed=given["seed"])
    recorder.note(None, given["reading"], **options)
    detection: Detection | None = None
    violations: tuple[Violation, ...] = ()
    try:
        with progress_bar("looking for backdoors") as progress:
            detection = api.scan(model, clean, method=method, recorder=recorder, progress=progress, **given, **options)
        _show(detection, given["out"], as_json)
        violations = () if rules is None else rules.violations(detection)
    except Exception as error:  # Also a fault of goodnet: the pipeline reads the file, not what was printed.
        if sarif is not None:
            run = recorder.run(error=error)
            with suppress(GoodnetError):  # The first error is the one to tell.
                write_text(sarif, scan_sarif(run, model, detection, exit_code=exit_code(error)))
        if as_json and isinstance(error, CodeInFile):
            click.echo(json.dumps({"error": Failure.of(error, show_path(str(error))).model_dump()}, indent=2))
        raise
    code = _verdict_code(detection, rules, violations)
    for violation in violations:
        say("goodnet", f"policy {violation.rule}: {violation.message}")
    if sarif is not None:
        write_text(sarif, scan_sarif(recorder.run(), model, detection, violations, exit_code=code))
    ctx.exit(code)


def _verdict_code(detection: Detection, rules: Policy | None, violations: Sequence[Violation]) -> int:
    return _EXIT_CODES[detection.verdict] if rules is None else int(bool(violations))


def _show(detection: Detection, out: Path | None, as_json: bool) -> None:
    if as_json:
        click.echo(detection.to_json())
        return
    console = output()
    console.print(scan_table(detection))
    targets = detection.name_targets()
    console.print(f"verdict: [b]{detection.verdict}[/b]" + (f", {targets}" if targets else ""))
    for part in detection.reason.split("; "):
        console.print(part, style="dim", markup=False)
    if out:
        console.print(f"written to {out}", markup=False)
