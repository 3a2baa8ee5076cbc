"""Which version answers, by which name, and until when its caller waits."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from service.store.manifest import ManifestFields
from service.store.repository import ModelRepository
from tests.integration.conftest import LiveServer, ServerFactory, live_server
from tests.integration.test_own_dialect import post, refused


@pytest.fixture(scope="module")
def two_versions(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose current embedding model is version 2, with the files of version 1."""
    store = tmp_path_factory.mktemp("versions") / "store"
    shutil.copytree(tiny_store, store)
    repository = ModelRepository(store)
    first = repository.resolve("embedding")
    with repository.draft("embedding") as draft:
        for file in first.manifest.files:
            shutil.copy(first.file(file), draft.path / file)
        fields = {name: getattr(first.manifest, name) for name in ManifestFields.model_fields}
        draft.publish(ManifestFields(**fields))
    return store


@pytest.fixture(scope="module")
def versions(two_versions: Path) -> Iterator[LiveServer]:
    with live_server(
        two_versions,
        models=("embedding@1", "embedding", "sentiment"),
        aliases="text-embedding-3-small=embedding, old=embedding@1",
    ) as running:
        yield running


@pytest.mark.parametrize(
    ("asked", "version", "told"),
    [
        (None, "2", "embedding"),
        ("embedding", "2", "embedding"),
        ("embedding@2", "2", "embedding"),
        ("text-embedding-3-small", "2", "embedding"),
        ("embedding@1", "1", "embedding@1"),
        ("old", "1", "embedding@1"),
    ],
)
def test_model_is_chosen_by_name_version_or_alias(
    versions: LiveServer, asked: str | None, version: str, told: str
) -> None:
    response = versions.client.post("/v1/embeddings", json={"input": "a", "model": asked})
    assert response.json()["model"] == told
    assert response.headers["x-model"] == "embedding"
    assert response.headers["x-model-version"] == version
    card = versions.client.get(f"/v1/models/{asked or 'embedding'}").json()
    assert response.headers["x-model-digest"] == card["digest"]
    assert (card["id"], card["version"]) == (told, version)


def test_versions_and_aliases_are_listed(versions: LiveServer) -> None:
    cards = {card["id"]: card for card in versions.client.get("/v1/models").json()["data"]}
    assert set(cards) == {"embedding", "embedding@1", "sentiment"}
    assert cards["embedding"]["aliases"] == ["text-embedding-3-small"]
    assert cards["embedding@1"]["aliases"] == ["old"]
    assert versions.client.get("/readyz").json()["models"] == dict.fromkeys(cards, True)


def test_each_version_is_counted_for_itself(versions: LiveServer) -> None:
    before = [
        versions.count("encserve_batch_texts_count", model="embedding", version=v) for v in "12"
    ]
    post(versions, "/v1/embeddings", input="never sent before", model="old")
    after = [
        versions.count("encserve_batch_texts_count", model="embedding", version=v) for v in "12"
    ]
    assert [late - early for early, late in zip(before, after, strict=True)] == [1, 0]


@pytest.mark.parametrize("place", ["body", "header"])
def test_other_version_than_expected_answers_409_and_no_retry(
    versions: LiveServer, place: str
) -> None:
    def ask(expected: str) -> httpx2.Response:
        body = {"input": "a"} | ({"expected_version": expected} if place == "body" else {})
        headers = {"X-Expected-Version": expected} if place == "header" else {}
        return versions.client.post("/v1/embeddings", json=body, headers=headers)

    assert ask("2").status_code == 200
    digest = ask("2").headers["x-model-digest"]
    assert ask(digest).status_code == ask(digest.removeprefix("sha256:")).status_code == 200
    response = ask("1")
    refused(response, 409, "version_mismatch", "expected_version")
    assert response.headers["x-should-retry"] == "false"


def test_alias_that_means_nothing_ends_the_start(
    start_server: ServerFactory,
) -> None:
    with pytest.raises(ValueError, match="name=meaning"):
        start_server(aliases="just-a-name")
    with pytest.raises(Exception, match="ENCSERVE_ALIASES"):
        start_server(aliases="other=nothing")


def test_callers_deadline_is_kept_and_its_text_not_computed(start_server: ServerFactory) -> None:
    server = start_server()
    texts = [f"train {number}" for number in range(2000)]
    response = server.client.post(
        "/v1/embeddings", json={"input": texts}, headers={"X-Request-Timeout-Ms": "1"}
    )
    refused(response, 504, "deadline_exceeded", None)
    assert server.count("encserve_batch_texts_sum", model="embedding") < 2000


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "9" * 30, "٣"])
def test_deadline_that_is_none_is_refused(server: LiveServer, value: str) -> None:
    headers = {b"X-Request-Timeout-Ms": value.encode()}
    response = server.client.post("/v1/embeddings", json={"input": "a"}, headers=headers)
    refused(response, 400, "invalid_field", "X-Request-Timeout-Ms")
