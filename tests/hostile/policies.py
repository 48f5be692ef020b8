"""Policies that are no TOML or no policy."""

from __future__ import annotations

import os
from pathlib import Path

from tests.hostile.corpus import Family, Place

FAMILY = Family("policies")
TEXTS: dict[str, tuple[bytes, str]] = {
    "nested without end": (b"a = " + b"[" * 100_000, "expected TOML"),
    "a number of ten thousand digits": (b"least_clean_accuracy = " + b"9" * 10_000, "expected TOML"),
    "a duplicate key": (b"fail_on_backdoored = false\nfail_on_backdoored = true\n", "expected TOML"),
    "a misspelt key": (b"fail_on_backdored = true\n", "unknown key"),
    "escapes in a key": (b'"\\u001b]0;x\\u0007\\r\\n" = 1\n', "unknown key"),
    "an accuracy above one": (b"least_clean_accuracy = 1e300\n", "less than or equal to 1"),
    "an accuracy that is no number": (b"least_clean_accuracy = nan\n", ""),
    "a value of a megabyte": (b'fail_on_backdoored = "' + b"x" * (1 << 20) + b'"\n', "expected TOML, of at most"),
    "no text": (b"\xff\xfe\0\0", "expected TOML"),
}
for _name, (_content, _says) in TEXTS.items():

    def _written(place: Place, content: bytes = _content) -> Path:
        (place.folder / "policy.toml").write_bytes(content)
        return place.folder / "policy.toml"

    FAMILY.add("no policy", "policy", _says, _written, f"a policy with {_name}")


@FAMILY.file("not a file", "policy", "expected a file")
def a_pipe_for_a_policy(place: Place) -> Path:
    os.mkfifo(place.folder / "policy.toml")
    return place.folder / "policy.toml"


@FAMILY.file("not a file", "policy", "expected a file")
def a_device_for_a_policy(place: Place) -> Path:
    (place.folder / "policy.toml").symlink_to("/dev/zero")
    return place.folder / "policy.toml"
