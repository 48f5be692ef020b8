"""`AuditLog`: one line of JSON for each picture that was refused or answered unguarded."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from goodnet.core.errors import UnwritableOutput
from goodnet.serve.answers import Answer


class AuditLog:
    """Appends records to a file that its owner alone may read; the pictures themselves only if told so.

    A record holds time, request id, place of the picture in its request, SHA-256 of its bytes, SHA-256 of the network,
    class, guard, reason, opinions, top scores and whether it was guarded.

    Args:
        path: the file of JSON lines.
        model: SHA-256 of the network.
        keep_images: also write each picture to the folder `path`.images, its SHA-256 as name.

    Raises:
        UnwritableOutput: the file cannot be written.
    """

    def __init__(self, path: str | Path, model: str, *, keep_images: bool = False) -> None:
        self.path = Path(path)
        self._model = model
        self._folder = Path(f"{path}.images") if keep_images else None
        self._writer = ThreadPoolExecutor(1, "goodnet-audit")
        #: Why the last record could not be written; None where it was.
        self.trouble: str | None = None
        try:
            self._append("")
        except OSError as error:
            raise UnwritableOutput(
                f"{path}: the audit log cannot be written ({error.strerror}); choose another file"
            ) from error

    async def record(self, request_id: str, pictures: Sequence[bytes], answers: Sequence[Answer]) -> bool:
        """Write a record for each answer that was refused or not guarded; return whether all are on disk."""
        found = [place for place, answer in enumerate(answers) if answer.refused or not answer.guarded]
        if not found:
            return True
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer, self._write, request_id, pictures, answers, found)

    def close(self) -> None:
        """Write what is waiting."""
        self._writer.shutdown()

    def _write(
        self, request_id: str, pictures: Sequence[bytes], answers: Sequence[Answer], found: Sequence[int]
    ) -> bool:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        try:
            hashes = {place: self._keep(pictures[place]) for place in found}
            records = [
                {"time": now, "request_id": request_id, "picture": place, "sha256": hashes[place], "model": self._model}
                | answers[place].model_dump(by_alias=True)
                for place in found
            ]
            self._append("".join(json.dumps(record) + "\n" for record in records))
        except OSError as error:
            self.trouble = f"the audit log cannot be written: {error.strerror}"
            return False
        self.trouble = None
        return True

    def _keep(self, picture: bytes) -> str:
        """Return the picture's SHA-256, having kept the picture where that is wanted."""
        digest = hashlib.sha256(picture).hexdigest()
        if self._folder is not None:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            target = self._folder / digest
            if not target.exists():
                _write_private(target, picture, os.O_TRUNC)
        return digest

    def _append(self, lines: str) -> None:
        _write_private(self.path, lines.encode(), os.O_APPEND)


def _write_private(path: Path, content: bytes, how: int) -> None:
    """Write to a file that only its owner may read. The file is opened for each record, so the log can be moved away."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600)
    with open(descriptor, "wb", buffering=0) as stream:
        before = os.fstat(descriptor).st_size
        if stream.write(content) != len(content):
            os.ftruncate(descriptor, before)  # half a line would spoil the next one
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
