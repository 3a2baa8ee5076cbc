"""Ed25519 signatures (RFC 8032) over manifests, which hold the digests of all other files."""

import base64
import binascii
import os
import uuid
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from service.errors import InvalidField, ModelCorrupt, SignatureInvalid
from service.store.files import read_plain, sync, write_synced
from service.store.locks import LOCK_FILE, STAGING_PREFIX, locked
from service.store.manifest import MANIFEST_FILE
from service.store.published import MOST_MANIFEST_BYTES, PublishedModel

SIGNATURE_FILE = "manifest.sig"
MOST_SIGNATURE_BYTES = 1024


def make_key(path: Path) -> Path:
    """A private key in PEM at `path`, for its owner alone, and its public key beside it.

    Raises:
        InvalidField: there is a file already.
    """
    public = path.with_name(path.name + ".pub")
    if path.exists() or public.exists():
        raise InvalidField(f"{path} or {public} exists: a key is never overwritten")
    key = Ed25519PrivateKey.generate()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    public.write_bytes(pem)
    return public


def sign(model: PublishedModel, key_file: Path) -> None:
    """Write the signature beside the manifest.

    Raises:
        InvalidField: the file holds no Ed25519 private key.
    """
    try:
        key = load_pem_private_key(key_file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise InvalidField(f"{key_file} is no private key: {type(error).__name__}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidField(f"{key_file} is no Ed25519 key: make one with `encserve keygen`")
    signature = base64.b64encode(key.sign(_manifest_bytes(model)))
    folder = model.path.parent
    beside = folder / f"{STAGING_PREFIX}{SIGNATURE_FILE}-{uuid.uuid4().hex}"
    with locked(folder / LOCK_FILE):
        try:
            write_synced(beside, signature + b"\n")
            beside.rename(model.file(SIGNATURE_FILE))
        finally:
            beside.unlink(missing_ok=True)
        sync(model.path)


def load_trusted(files: Sequence[Path]) -> list[Ed25519PublicKey]:
    """Public keys in PEM, one a file.

    Raises:
        InvalidField: a file holds none.
    """
    keys = []
    for file in files:
        try:
            key = load_pem_public_key(file.read_bytes())
        except (OSError, ValueError) as error:
            raise InvalidField(
                f"{file} (ENCSERVE_TRUSTED_KEYS) is no public key: {type(error).__name__}"
            ) from error
        if not isinstance(key, Ed25519PublicKey):
            raise InvalidField(f"{file} (ENCSERVE_TRUSTED_KEYS) is no Ed25519 key")
        keys.append(key)
    return keys


def check_signature(model: PublishedModel, trusted: Sequence[Ed25519PublicKey]) -> None:
    """Prove that the manifest was signed with one of the trusted keys.

    Raises:
        SignatureInvalid: there is no signature, or it is of another key or another manifest.
    """
    name = f"{model.manifest.name}@{model.manifest.version}"
    try:
        written = read_plain(model.file(SIGNATURE_FILE), MOST_SIGNATURE_BYTES)
        signature = base64.b64decode(written.strip(), validate=True)
    except FileNotFoundError:
        raise SignatureInvalid(f"{name} is not signed: `encserve sign {name} --key FILE`") from None
    except (OSError, ModelCorrupt, binascii.Error) as error:
        raise SignatureInvalid(
            f"{name}: its signature ({SIGNATURE_FILE}) is not readable"
        ) from error
    manifest = _manifest_bytes(model)
    if not any(_signed_by(key, signature, manifest) for key in trusted):
        raise SignatureInvalid(f"{name} was not signed with a key of ENCSERVE_TRUSTED_KEYS")


def _manifest_bytes(model: PublishedModel) -> bytes:
    """The very bytes that `model.manifest` was read from."""
    data = read_plain(model.file(MANIFEST_FILE), MOST_MANIFEST_BYTES)
    if sha256(data).hexdigest() != model.manifest_sha256:
        raise ModelCorrupt(f"{model.file(MANIFEST_FILE)} changed while it was read")
    return data


def _signed_by(key: Ed25519PublicKey, signature: bytes, data: bytes) -> bool:
    try:
        key.verify(signature, data)
    except InvalidSignature:
        return False
    return True
