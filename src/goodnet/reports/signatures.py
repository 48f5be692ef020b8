"""Signatures of run folders.

`SHA256SUMS` names every file of the folder with its hash, as `sha256sum --check` reads it; `SHA256SUMS.sig` is the Ed25519
signature (RFC 8032) of its bytes. Keys are PEM files, as OpenSSL reads and writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from goodnet.core.errors import InvalidOption, UnreadableData, UnwritableOutput
from goodnet.formats.files import replacing, require_file, require_inside, sha256, write_bytes
from goodnet.formats.shown_paths import show_path

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_RECORD = "run.json"
_SUMS, _SIGNATURE = SIGNATURE_FILES = ("SHA256SUMS", "SHA256SUMS.sig")
#: More than any key file or list of files has.
_LARGEST = 1 << 20


def make_keys(path: str | Path) -> tuple[Path, Path]:
    """Write a new private key to `path`, which only its owner may read, and its public key to `path`.pub; return both.

    Raises:
        InvalidOption: the package cryptography is missing.
        UnwritableOutput: one of the files is there already, or cannot be written.
    """
    library = _library()
    serialization = library.serialization
    private, public = Path(path), Path(f"{path}.pub")
    for file in (private, public):
        if file.exists():
            raise UnwritableOutput(
                f"{show_path(file)}: it is there already; a key is never overwritten, choose another name"
            )
    key = library.Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with replacing(private) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_bytes(pem)
    write_bytes(
        public,
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    )
    return private, public


def sign_run(folder: str | Path, key: str | Path) -> tuple[str, ...]:
    """Write the hashes of all files of a run and their signature into its folder; return the names of the files.

    Raises:
        InvalidOption: the package cryptography is missing.
        UnreadableData: there is no `run.json`, so that the run is not whole, or `key` is no private key.
        UnwritableOutput: the folder cannot be written to.
    """
    folder, private = Path(folder), _read_private(Path(key))
    require_inside(folder / _RECORD, folder)
    names = _files(folder)
    sums = "".join(f"{sha256(folder / name)}  {name}\n" for name in names).encode()
    write_bytes(folder / _SUMS, sums)
    write_bytes(folder / _SIGNATURE, private.sign(sums))
    return names


def check_signature(folder: str | Path, public: str | Path) -> tuple[str, ...]:
    """Return the names of the files of a run, if all of them are as the owner of the key signed them.

    Raises:
        InvalidOption: the package cryptography is missing.
        UnreadableData: there is no signature, it is not of this key, or a file was changed, added or removed since.
    """
    folder, key = Path(folder), _read_public(Path(public))
    if not (folder / _SIGNATURE).exists():
        raise UnreadableData(
            f"{show_path(folder)}: expected a signed run, found no {_SIGNATURE}; sign it: goodnet sign"
        )
    sums, signature = (_read(require_inside(folder / name, folder)) for name in (_SUMS, _SIGNATURE))
    try:
        key.verify(signature, sums)
    except _library().InvalidSignature:
        raise UnreadableData(
            f"{show_path(folder)}: the signature is not of {show_path(public)}, or {_SUMS} was changed; do not trust this run"
        ) from None
    lines = [line.partition("  ") for line in sums.decode().splitlines()]
    signed = {name: digest for digest, _, name in lines}
    _require_same(folder, signed)
    return tuple(signed)


def _require_same(folder: Path, signed: Mapping[str, str]) -> None:
    """Check the hashes of a folder's files.

    Raises:
        UnreadableData: a file was changed, added or removed.
    """
    found = {name: sha256(require_inside(folder / name, folder)) for name in _files(folder)}
    for name in sorted(signed.keys() | found.keys()):
        if signed.get(name) != found.get(name):
            what = "is missing" if name not in found else "was changed" if name in signed else "is not signed"
            raise UnreadableData(f"{show_path(folder / name)}: {what}; do not trust this run")


def _files(folder: Path) -> tuple[str, ...]:
    """Return the names of a run's files, below the folder, in order, without those of the signature.

    Raises:
        UnreadableData: a name cannot stand in a list of one name a line.
    """
    below = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if not path.is_dir() or path.is_symlink())
    names = [name for path in below if (name := path.as_posix()) not in SIGNATURE_FILES]
    for name in names:
        if not name.isprintable() or "\\" in name:
            raise UnreadableData(
                f"{show_path(folder / name)}: a file of this name cannot be signed; rename or remove it"
            )
    return tuple(names)


@dataclass(frozen=True)
class _Library:
    """What is used of the package cryptography."""

    serialization: ModuleType
    Ed25519PrivateKey: Any
    Ed25519PublicKey: Any
    InvalidSignature: type[Exception]


def _library() -> _Library:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    except ImportError as error:
        raise InvalidOption(
            "signatures need the package cryptography, which is not installed: pip install 'goodnet[sign]'"
        ) from error
    return _Library(serialization, Ed25519PrivateKey, Ed25519PublicKey, InvalidSignature)


def _read_private(path: Path) -> Ed25519PrivateKey:
    content = _read(require_file(path))
    try:
        key = _library().serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as error:
        raise _no_key(path, "private") from error
    if not isinstance(key, _library().Ed25519PrivateKey):
        raise _no_key(path, "private")
    return cast("Ed25519PrivateKey", key)


def _read_public(path: Path) -> Ed25519PublicKey:
    content = _read(require_file(path))
    try:
        key = _library().serialization.load_pem_public_key(content)
    except ValueError as error:
        raise _no_key(path, "public") from error
    if not isinstance(key, _library().Ed25519PublicKey):
        raise _no_key(path, "public")
    return cast("Ed25519PublicKey", key)


def _no_key(path: Path, kind: str) -> UnreadableData:
    return UnreadableData(
        f"{show_path(path)}: expected a {kind} Ed25519 key in PEM without a password, as `goodnet keys` writes it, found none"
    )


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_LARGEST)
