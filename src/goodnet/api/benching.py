"""`build_zoo` and `bench`: many BadNets, and what every defence is worth on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from goodnet.core.given import refuse_given
from goodnet.core.method import Progress, no_progress
from goodnet.evaluation.bench import Bench, run_bench
from goodnet.evaluation.bench_spec import BenchSpec
from goodnet.evaluation.shipped_specs import read_spec
from goodnet.evaluation.zoo import Manifest
from goodnet.evaluation.zoo import build_zoo as build
from goodnet.evaluation.zoo_spec import ZooSpec
from goodnet.execution import Execution
from goodnet.reports.bench_tables import write_bench


def build_zoo(
    spec: str | Path,
    *,
    out: str | Path,
    data: Mapping[str, str | Path] | None = None,
    where: Execution = Execution(),
    progress: Progress = no_progress,
) -> Manifest:
    """Build a zoo, or the missing part of it, and return its manifest.

    Args:
        spec: a TOML file, or the name of a spec that goodnet ships ("small", "standard").
        out: folder of the zoo; a build that was stopped goes on there.
        data: sources for data sets of the spec, by name.
        where: workers, by default one for each core, or a cluster, and the device on which each trains; no budget.
        progress: called with the number of networks that are done.

    Raises:
        InputError: something in the spec or the data cannot work; nothing has been trained.
    """
    refuse_given(where, "zoo build", "budget")
    sources = {name: str(source) for name, source in (data or {}).items()}
    return build(read_spec(spec, ZooSpec), out, data=sources, where=where, progress=progress)


def bench(
    spec: str | Path,
    *,
    out: str | Path,
    zoo: str | Path | None = None,
    where: Execution = Execution(),
    progress: Progress = no_progress,
) -> Bench:
    """Run a bench, or the missing part of it, and write its tables.

    Args:
        spec: a TOML file, or the name of a spec that goodnet ships.
        out: folder for cells and tables; a bench that was stopped goes on there.
        zoo: folder of a zoo; more networks may be listed in the spec.
        where: as in `build_zoo`.
        progress: called with the number of cells that are done.

    Raises:
        InputError: something in the spec or its files cannot work; nothing has been run.
    """
    refuse_given(where, "bench", "budget")
    result = run_bench(read_spec(spec, BenchSpec), out, zoo=zoo, where=where, progress=progress)
    write_bench(Path(out), result)
    return result
