"""`build_zoo` and `bench`: many BadNets, and what every defence is worth on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from goodnet.core.method import Progress, no_progress
from goodnet.evaluation.bench import Bench, run_bench
from goodnet.evaluation.bench_spec import BenchSpec
from goodnet.evaluation.shipped_specs import read_spec
from goodnet.evaluation.zoo import Manifest
from goodnet.evaluation.zoo import build_zoo as build
from goodnet.evaluation.zoo_spec import ZooSpec
from goodnet.execution import Execution, count_cores
from goodnet.reports.bench_tables import write_bench


def build_zoo(
    spec: str | Path,
    *,
    out: str | Path,
    data: Mapping[str, str | Path] | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> Manifest:
    """Build a zoo, or the missing part of it, and return its manifest.

    Args:
        spec: a TOML file, or the name of a spec that goodnet ships ("small", "standard").
        out: folder of the zoo; a build that was stopped goes on there.
        data: sources for data sets of the spec, by name.
        workers: processes on this machine; None: one for each core.
        cluster: "auto" or the address of a Ray cluster, which then does the work.
        device: on which each network is trained: auto (a GPU where there is one), cpu or cuda.
        progress: is told the networks that are done.

    Raises:
        InputError: something in the spec or the data cannot work; nothing has been trained.
    """
    sources = {name: str(source) for name, source in (data or {}).items()}
    where = _where(workers, cluster)
    return build(read_spec(spec, ZooSpec), out, data=sources, where=where, device=device, progress=progress)


def bench(
    spec: str | Path,
    *,
    out: str | Path,
    zoo: str | Path | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    progress: Progress = no_progress,
) -> Bench:
    """Run a bench, or the missing part of it, and write its tables.

    Args:
        spec: a TOML file, or the name of a spec that goodnet ships.
        out: folder for cells and tables; a bench that was stopped goes on there.
        zoo: folder of a zoo; more networks may be listed in the spec.
        workers, cluster: as in `build_zoo`.
        progress: is told the cells that are done.

    Raises:
        InputError: something in the spec or its files cannot work; nothing has been run.
    """
    where = _where(workers, cluster)
    result = run_bench(read_spec(spec, BenchSpec), out, zoo=zoo, where=where, progress=progress)
    write_bench(Path(out), result)
    return result


def _where(workers: int | None, cluster: str | None) -> Execution:
    return Execution(count_cores() if workers is None else workers, cluster)
