"""An answer is a safetensors file: the library reads it, and another program could."""

import io
import json

import numpy as np
import pytest
from safetensors.numpy import load

from goodnet.confinement import answers
from goodnet.confinement.answers import Answer, Blob, write_answer


def test_arrays_and_record_are_what_safetensors_reads() -> None:
    values, stream = np.arange(6, dtype="<f4").reshape(2, 3), io.BytesIO()
    write_answer(Answer({"kind": "torch"}, {"a": Blob("F32", (2, 3), values), "b": Blob("U8", (3,), b"xyz")}), stream)
    found = load(stream.getvalue())
    assert np.array_equal(found["a"], values)
    assert found["b"].tobytes() == b"xyz"
    length = int.from_bytes(stream.getvalue()[:8], "little")
    header = json.loads(stream.getvalue()[8 : 8 + length])
    assert json.loads(header["__metadata__"]["record"]) == {"kind": "torch"}


def test_a_record_that_safetensors_would_not_read_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_LONGEST_HEADER", 1000)
    with pytest.raises(ValueError, match="expected at most 1000"):
        write_answer(Answer({"names": ["x" * 2000]}), io.BytesIO())
