"""`attack`: data, an attack and an architecture -> a BadNet with its truth beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from goodnet import catalog
from goodnet.core.errors import InvalidOption
from goodnet.core.given import refuse_given
from goodnet.core.method import Attack, Progress, no_progress
from goodnet.datasets.sources import read_parts, source_files
from goodnet.evaluation import planting
from goodnet.evaluation.badnet_files import TRUTH, AttackRecord, Origin, write_clean_parts, write_planted
from goodnet.evaluation.planting import Planted
from goodnet.evaluation.provenance import hash_files, hash_json
from goodnet.execution import Execution
from goodnet.formats.files import output_folder, remove
from goodnet.formats.shown_paths import show_path
from goodnet.formats.toml_files import describe_invalid
from goodnet.reports.contact_sheets import draw_difference
from goodnet.reports.runs import Recorder, remove_record
from goodnet.training import Training

#: The name of no attack: a network trained on clean data.
NONE = "none"


def attack(
    data: str | Path,
    *,
    out: str | Path,
    attack: str | Attack = "badnets",
    architecture: str = "small_cnn",
    options: Mapping[str, Any] | None = None,
    training: Training | Mapping[str, Any] | None = None,
    test: str | Path | None = None,
    file_format: str = "pt",
    contest_layout: bool = False,
    where: Execution = Execution(),
    seed: int = 0,
    progress: Progress = no_progress,
) -> Planted:
    """Make a BadNet: poison training data, train a network on it, measure it, and write it with its truth.

    Args:
        data: a path, or a word such as `faces:50x40` or `digits`, see `goodnet.datasets.sources`.
        out: folder for the network, `backdoor.json` (the truth), triggers, triggered test images and `run.json`. A
            training that was stopped goes on from the checkpoint in it.
        attack: an attack, or its name; the `options` are the fields of the one named. "none" trains on clean data: the
            BadNet's twin.
        architecture: a name, or `package.module:factory`.
        options: of the attack.
        training: of the training, see `Training`.
        test: data to test on, where `data` has none.
        file_format: pt, safetensors, h5 or keras.
        contest_layout: write the clean images too, as clean_validation_data.h5 and clean_test_data.h5.
        where: the device alone.
        seed: of data, poisoning, first weights and training.
        progress: called with the number of training steps that are done.

    Raises:
        InputError: something that came in cannot be used; nothing has been trained.
        MethodFailed: the training did not succeed.
    """
    refuse_given(where, "attack", "workers", "cluster", "budget")
    method, how, place = _make_attack(attack, options), _make_training(training), where.place()
    files = source_files(data, test)
    inputs = {f"data {number}": path for number, path in enumerate(files)}
    settings = {**(method.model_dump(mode="json") if method else {}), "training": how.model_dump(mode="json")}
    recorder = Recorder("attack", inputs, _name_of(method), settings, seed)
    parts = read_parts(data, test=test, seed=seed)
    out = output_folder(out)
    mark = hash_json([str(data), _name_of(method), settings, architecture, file_format, seed])[:16]
    checkpoint = out / f"checkpoint_{mark}.pt"
    planted = planting.plant(
        parts,
        method,
        architecture,
        how,
        seed=seed,
        file_format=file_format,
        device=place,
        checkpoint=checkpoint,
        progress=progress,
    )
    name = show_path(Path(data).name) if files else str(data)
    remove_record(out)
    truth = write_planted(out, planted, Origin(name, hash_files(files) if files else hash_json([name, seed])))
    if contest_layout:
        write_clean_parts(out, parts)
    recorder.run(AttackRecord(truth=TRUTH, metrics=truth.metrics), out=out).save(out)
    remove(checkpoint)
    return planted


def preview_attack(
    data: str | Path,
    *,
    out: str | Path,
    attack: str | Attack = "badnets",
    options: Mapping[str, Any] | None = None,
    test: str | Path | None = None,
    seed: int = 0,
    count: int = 8,
) -> Path:
    """Draw `preview.png` in `out`: test images clean, triggered, and the difference enlarged; nothing is trained.

    Args:
        data, out, attack, options, test, seed: as in `attack`.
        count: images in all.

    Raises:
        InputError: something that came in cannot be used.
    """
    method = _make_attack(attack, options)
    if method is None:
        raise InvalidOption("there is nothing to preview without an attack; choose one with --attack")
    shown = planting.preview(read_parts(data, test=test, seed=seed), method, seed=seed, count=count)
    return draw_difference(
        shown.clean,
        shown.triggered,
        output_folder(out) / "preview.png",
        labels=shown.labels,
        title=f"{method.name()} on {data}",
    )


def _name_of(attack: Attack | None) -> str:
    """Return the attack's name, "none" where there is none."""
    return NONE if attack is None else attack.name()


def _make_attack(name: str | Attack, options: Mapping[str, Any] | None) -> Attack | None:
    if name == NONE:
        if options:
            raise InvalidOption(
                f"attack none has no options, got {', '.join(options)}; leave them out, or choose another attack"
            )
        return None
    return cast(Attack, catalog.make("attacks", name, options or {}))


def _make_training(training: Training | Mapping[str, Any] | None) -> Training:
    if isinstance(training, Training):
        return training
    try:
        return Training(**(training or {}))
    except ValidationError as error:
        raise InvalidOption(f"training: {describe_invalid(error)}") from error
