"""Every block of the READMEs and of the book's chapters, run as it stands, from first to last."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet as parquet
import pytest

from tests.book import encserve
from tests.conftest import tiny_tokenizer
from tests.offline.folders import bert, save
from tests.offline.ready_made_folders import encoder

ROOT = Path(__file__).parents[2]
# `long`: the page with trainings of all kinds, too. `full`: with the default models and their base.
BOOK = os.environ.get("BOOK", "")
FULL = BOOK == "full"
PAGES = [
    "README.md",
    *(f"docs/{name}.md" for name in ("start", "own-data", "choosing", "encoder", "operating")),
    *(f"docs/{name}.md" for name in ("bulk", "deploy")),
    *(["docs/training.md"] if BOOK else []),
]
CHINESE = {
    "README.md": "README.zh-CN.md",
    "docs/start.md": "docs/zh/start.md",
    "docs/own-data.md": "docs/zh/own-data.md",
}
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXCERPT = re.compile(r"^```py from=(\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://)([^)#]*)(#[^)]*)?\)")
PRELUDE = f"""set -euo pipefail
curl() {{ command curl -fsS "$@"; echo; }}
# The two verbs install into a machine; what they run is run here, and by CI itself.
make() {{
    command make -C "{ROOT}" --dry-run "$@" > /dev/null
    if [ "$1" = serve ]; then .venv/bin/encserve bootstrap && .venv/bin/encserve serve; fi
}}
# What tests run in has everything; that the extra is one is looked up.
pip() {{
    [ "$1" = install ] && [[ "$2" =~ ^encserve\\[([a-z]+)\\]$ ]]
    grep -q "^${{BASH_REMATCH[1]}} = " "{ROOT}/pyproject.toml"
}}
encserve() {{ .venv/bin/encserve "$@"; }}
launched() {{ if [ -d {encserve.TINY} ]; then "$@" --base {encserve.TINY}; else "$@"; fi; }}
accelerate() {{ launched "{sys.executable}" -m accelerate.commands.accelerate_cli "$@"; }}
torchrun() {{ launched "{sys.executable}" -m torch.distributed.run "$@"; }}
"""


@pytest.fixture
def desk(tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder as a reader has it: `.venv/bin/encserve`, a store, files of their own."""
    program = tmp_path / ".venv" / "bin" / "encserve"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tests.book.encserve "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    if FULL:
        shutil.copytree(ROOT / "model_store", tmp_path / "model_store")
    else:
        shutil.copytree(tiny_store, tmp_path / "model_store")
    fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    encserve.stop()


def fill(desk: Path) -> None:
    """A base to train on, and what the README's reader brings along."""
    import transformers

    save(desk / "checkpoint", transformers.BertModel(bert()))
    if not FULL:
        shutil.copytree(desk / "checkpoint", desk / encserve.TINY)
    (desk / "onnx-folder").mkdir()
    encoder(desk / "onnx-folder")
    tiny_tokenizer().save(str(desk / "onnx-folder" / "tokenizer.json"))
    words = ("good", "bad")
    rows = [f"the {word} train leaves at {'nine ' * n},{word}" for n in range(20) for word in words]
    table = "\n".join(["text,label", *rows]) + "\n"
    for name in ("mine.csv", "other.csv"):
        (desk / name).write_text(table)
    (desk / "reviews.csv").write_text(table.replace("label", "word", 1))
    texts = [f"the {word} train leaves at {n}" for n in range(100) for word in words]
    (desk / "texts.txt").write_text("\n".join(texts) + "\n")
    bodies = {"body": [row.rpartition(",")[0] for row in rows]}
    parquet.write_table(pyarrow.table(bodies | {"number": range(40)}), articles(desk) / "a.parquet")
    parquet.write_table(pyarrow.table({"text": bodies["body"]}), desk / "more.parquet")
    labels = ("negative", "neutral", "positive")
    labelled = [
        f"train {number} is {labels[number % 3]}\t{labels[number % 3]}" for number in range(60)
    ]
    for name in ("labelled.tsv", "more.tsv"):
        (desk / name).write_text("\n".join(["text\tlabel", *labelled]) + "\n")
    pairs = [f"the train {n}\tthe food {n}\t{n % 6}" for n in range(60)]
    (desk / "pairs.tsv").write_text("\n".join(["sentence1\tsentence2\tscore", *pairs]) + "\n")


def articles(desk: Path) -> Path:
    (desk / "articles").mkdir()
    return desk / "articles"


def run(language: str, code: str) -> str:
    """What a block prints, asked of the server that a block before it has started."""
    if "127.0.0.1:8080" in code and not encserve.URL.exists():
        subprocess.run([".venv/bin/encserve", "serve"], check=True)
    if encserve.URL.exists():
        code = code.replace("http://127.0.0.1:8080", encserve.URL.read_text())
    command = ["bash", "-c", PRELUDE + code] if language == "sh" else [sys.executable, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, f"{code}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


@pytest.mark.parametrize("page", PAGES)
def test_blocks_of_the_page_run_in_their_order(page: str, desk: Path) -> None:
    blocks = BLOCK.findall((ROOT / page).read_text())
    assert blocks
    for language, code in blocks:
        said = run(language, code)
        if "curl" in code or language == "python":
            assert said.strip(), code


def test_excerpts_stand_in_the_code_as_they_are_shown() -> None:
    excerpts = EXCERPT.findall((ROOT / "docs" / "encoder.md").read_text())
    assert len(excerpts) >= 8
    for file, shown in excerpts:
        lines = [line.rstrip() for line in (ROOT / file).read_text().splitlines()]
        bare = "\n".join(line.partition("  # type: ignore")[0] for line in lines)
        wanted = "\n".join(line.partition("  # type: ignore")[0] for line in shown.splitlines())
        assert wanted in bare, f"{file} has no such lines:\n{shown}"


@pytest.mark.parametrize(
    "page",
    sorted(
        page.relative_to(ROOT).as_posix()
        for folder in ("docs", "examples", ".")
        for page in (ROOT / folder).glob("*.md" if folder == "." else "**/*.md")
    ),
)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    for target, section in LINK.findall((ROOT / page).read_text()):
        there = (ROOT / page).parent.joinpath(target) if target else ROOT / page
        assert there.exists(), target
        assert not section or section in sections_of(there), f"{target}{section}"


def sections_of(page: Path) -> set[str]:
    """The anchors that a page's headings have: lower case, no signs, dashes for spaces."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    bare = (re.sub(r"[^\w\- ]", "", one.lower()) for one in headings)
    return {"#" + one.replace(" ", "-") for one in bare}


@pytest.mark.parametrize("page", CHINESE)
def test_chinese_page_shows_the_same_code(page: str) -> None:
    """Which the English one's test has run; remarks may be in either language."""
    english, chinese = (code_of(ROOT / one) for one in (page, CHINESE[page]))
    assert english == chinese


def code_of(page: Path) -> list[list[str]]:
    """The lines of each block, without remarks."""
    return [
        [re.sub(r"#.*", "", line).strip() for line in code.splitlines()]
        for _, code in BLOCK.findall(page.read_text())
    ]
