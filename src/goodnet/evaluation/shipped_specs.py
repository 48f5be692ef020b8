"""Specs of zoos and benches: files of the user's, or those that goodnet ships, by name."""

from __future__ import annotations

from pathlib import Path

from goodnet.formats.toml_files import AnySpec, read_toml

#: The specs that goodnet ships, by name.
FOLDER = Path(__file__).parent / "specs"


def read_spec(spec: str | Path, kind: type[AnySpec]) -> AnySpec:
    """Read a spec: a file, or the name of one that goodnet ships. Raises what `read_toml` does."""
    shipped = FOLDER / f"{spec}.toml"
    return read_toml(shipped if not Path(spec).exists() and shipped.exists() else spec, kind)
