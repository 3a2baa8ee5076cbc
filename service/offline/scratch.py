"""An encoder from nothing but texts: its tokenizer, its weights, its folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tokenizers import Tokenizer

from service.errors import DatasetInvalid, WorkshopError
from service.offline.encoder import EncoderConfig
from service.offline.pretrain import PretrainConfig, pretrain
from service.offline.progress import Progress
from service.offline.reading import read_texts
from service.offline.saving import save_checkpoint
from service.offline.training.processes import (
    end_processes,
    from_main_process,
    is_main_process,
)
from service.offline.training.state import clear_state, fingerprint_of, has_state
from service.offline.wordpiece import (
    MASK,
    encode_in_portions,
    read_tokenizer,
    special_id_of,
    special_ids_of,
    train_wordpiece,
    vocabulary_size_of,
)
from service.store.files import write_synced
from service.store.repository import check_name

STATE_FOLDER = ".training"
MIN_TEXTS = 100
FINETUNING_DROPOUT = 0.1


def make_encoder(
    output: Path,
    name: str,
    progress: Progress,
    *,
    sources: Sequence[str],
    columns: Sequence[str],
    exclude: Sequence[str],
    size: EncoderConfig,
    config: PretrainConfig,
    tokenizer_file: Path | None = None,
    save_every_s: float = 60.0,
) -> Path:
    """Train an encoder of `size` on the texts of `sources` and save it as `output`/`name`.

    Args:
        columns: a file needs at least one of them; all that it has are read.
        exclude: files whose texts are left out wherever they stand.
        size: its `vocabulary_size` is an upper bound.
        tokenizer_file: a `tokenizer.json` to use instead of learning one. With it the same seed
            gives the same weights; learned anew, pieces that are as frequent as each other are
            chosen between by chance.

    Raises:
        InvalidField: `name` cannot be a folder's name beside others.
        WorkshopError: the folder is there already, and no killed run is gone on with.
        DatasetInvalid: a file cannot be read, there are fewer than `MIN_TEXTS` texts, or
            `tokenizer_file` knows no word of them.
        CheckpointInvalid: `tokenizer_file` is none, or lacks a special token.
    """
    check_name(name)
    state_folder = output / STATE_FOLDER / name
    refuse_finished(output / name, state_folder)
    main = is_main_process()
    progress = progress if main else Progress.silent()
    texts = _texts(sources, columns, exclude)
    progress.say(f"{name}: {len(texts):,} different texts")
    kept = _kept(state_folder, texts, size)
    # Learned in each process, it would give the same piece another id.
    content = from_main_process(lambda: _tokenizer(tokenizer_file, kept, texts, size).to_str())
    tokenizer = Tokenizer.from_str(content)
    ids = encode_in_portions(tokenizer, texts, size.max_positions)
    tokens = sum(map(len, ids))
    progress.say(f"{name}: {tokenizer.get_vocab_size():,} pieces of words, {tokens:,} tokens")
    # A run of a few epochs sees nothing often enough to learn it by heart.
    size = replace(size, vocabulary_size=vocabulary_size_of(tokenizer), dropout=0.0)
    trained = pretrain(
        ids,
        size,
        config,
        progress,
        name,
        mask_id=special_id_of(tokenizer, MASK),
        special_ids=special_ids_of(tokenizer),
        state_folder=state_folder,
        save_every_s=save_every_s,
    )
    end_processes()
    if main:
        save_checkpoint(
            output / name,
            trained.encoder,
            tokenizer,
            config.pooling,
            size.max_positions,
            dropout=FINETUNING_DROPOUT,
        )
        clear_state(state_folder)
        kept.unlink(missing_ok=True)
        measured = ", ".join(f"{key} {value:.3f}" for key, value in trained.metrics.items())
        progress.say(f"{name}: {measured}; saved to {output / name}")
    return output / name


def refuse_finished(folder: Path, state_folder: Path) -> None:
    """Hours of training are not written over; a run that was killed while it saved goes on."""
    if folder.exists() and not has_state(state_folder):
        raise WorkshopError(f"{folder} is there already: choose another name, or remove it first")


def _kept(state_folder: Path, texts: Sequence[str], size: EncoderConfig) -> Path:
    """Where the tokenizer of these texts is kept, for a run that is killed and started again."""
    digest = fingerprint_of(texts, size.vocabulary_size)[:16]
    return state_folder.with_name(f"{state_folder.name}.{digest}.tokenizer.json")


def _tokenizer(
    given: Path | None, kept: Path, texts: Sequence[str], size: EncoderConfig
) -> Tokenizer:
    """The tokenizer that the user names, or that was kept; else one is learned, and kept."""
    if given is not None or kept.is_file():
        return read_tokenizer(given or kept)
    tokenizer = train_wordpiece(texts, size.vocabulary_size)
    kept.parent.mkdir(parents=True, exist_ok=True)
    # Killed while it is written, half a tokenizer would be kept.
    draft = kept.with_name(f"{kept.name}.writing")
    write_synced(draft, tokenizer.to_str().encode())
    draft.replace(kept)
    return tokenizer


def _texts(sources: Sequence[str], columns: Sequence[str], exclude: Sequence[str]) -> list[str]:
    """Each text once, in the order of the files."""
    left_out = {text for source in exclude for text in read_texts(source, columns)}
    found = dict.fromkeys(text for source in sources for text in read_texts(source, columns))
    texts = [text for text in found if text not in left_out]
    if len(texts) < MIN_TEXTS:
        raise DatasetInvalid(
            f"{len(texts)} different texts are too few to learn a language from: "
            f"at least {MIN_TEXTS} are needed, and many thousands to learn it well"
        )
    return texts
