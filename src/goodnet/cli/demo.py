"""goodnet demo."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
from rich.console import Console

from goodnet.cli.console import output, progress_bar


@click.command("demo", short_help="Train a backdoored network on rendered faces, then scan, repair and evaluate it.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Folder for all files."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of faces, poisoning and training.")
def command(out: Path, seed: int) -> None:
    """Make a BadNet of rendered faces, then scan, repair and evaluate it with the verbs that you would use yourself.

    Nothing is downloaded. Takes four to eight minutes on two cores.
    """
    from goodnet.demo import make_badnet

    console = output()
    console.rule("[b]1  An attacker's work: a face network with a backdoor")
    console.print(
        "50 rendered people, a DeepID network, and lipstick on one training image in ten, labelled as person 0.\n"
        "You would be handed the network and some clean images; here you also get the test sets to judge by."
    )
    with progress_bar("training the BadNet") as progress:
        files = make_badnet(out, seed=seed, progress=progress)
    _run(console, "inspect", str(files.badnet), "--out", str(out / "inspect"))
    _run(console, "inspect", str(files.validation), "--out", str(out / "inspect" / "validation"))
    _run(console, "inspect", str(files.poisoned), "--out", str(out / "inspect" / "poisoned"))

    console.rule("[b]2  Yours: is it guilty?")
    scan, repair = out / "scan", out / "repair"
    defender = [str(files.badnet), "--clean", str(files.validation)]
    _run(console, "scan", *defender, "--out", str(scan))
    console.print("What is true: lipstick, target 0. The scan has seen the network and clean images, nothing else.")

    console.rule("[b]3  Repair it, with what the scan found and clean images")
    _run(console, "repair", *defender, "--suspected", str(scan), "--out", str(repair))

    console.rule("[b]4  What that bought, on images that nobody trained or chose on")
    evaluation = out / "evaluation"
    arguments = ["--repaired", str(repair), "--clean", str(files.test), "--poisoned", str(files.poisoned)]
    _run(console, "evaluate", str(files.badnet), *arguments, "--out", str(evaluation))
    console.print(
        "ASR: share of triggered images that get the attacker's class. robust accuracy: share of them that get their true\n"
        "class. A GoodNet refuses an input (class 50) where the original and the repaired network disagree."
    )

    console.rule("[b]5  Use it")
    _run(console, "predict", str(repair / "goodnet"), str(files.clean_picture), str(files.poisoned_picture))
    console.print("The same person twice, the second time with lipstick. Class 50 means: backdoored.")

    console.rule("[b]6  The report: all of it on one page")
    _run(console, "report", str(out), "--out", str(out / "report.html"))
    _list_files(console, out)


def _run(console: Console, *arguments: str) -> None:
    """Print a command as a user would type it, and run it."""
    from goodnet.cli import goodnet

    console.print(f"\n$ goodnet {shlex.join(arguments)}", style="bold cyan", markup=False, soft_wrap=True)
    # `scan` says by its exit code what it found; click returns it.
    goodnet.main(list(arguments), standalone_mode=False)


_KINDS = {
    "the report": (".html", "."),
    "networks": (".h5", "models repair"),
    "data sets and pictures": (".h5 .png", "data"),
    "figures": (".png", "inspect scan repair evaluation"),
    "tables": (".csv", "scan repair evaluation"),
    "what the scan recovered": (".npz", "scan"),
    "records of the runs": (".json", "scan repair evaluation"),
}


def _list_files(console: Console, out: Path) -> None:
    console.rule("[b]What was written")
    for kind, (suffixes, folders) in _KINDS.items():
        found = [path for folder in folders.split() for path in sorted((out / folder).rglob("*"))]
        console.print(f"[b]{kind}[/b]")
        for path in found:
            if path.suffix in suffixes.split():
                console.print(f"  {path}", markup=False, soft_wrap=True)
