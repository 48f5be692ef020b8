"""Readers on a system whose kernel offers neither Landlock nor a filter: the child imports this before it closes its walls."""

from typing import BinaryIO

from goodnet.confinement import walls
from goodnet.confinement.answers import Answer
from tests.confinement import hostile_readers

walls.landlock_version = lambda: 0
walls.filter_known = lambda: False


def harmless(source: BinaryIO, copy: BinaryIO, name: str) -> Answer:
    return hostile_readers.harmless(source, copy, name)


def open_a_file(source: BinaryIO, copy: BinaryIO, name: str) -> Answer:
    return hostile_readers.open_a_file(source, copy, name)
