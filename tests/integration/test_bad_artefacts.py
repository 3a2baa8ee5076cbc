"""Artefacts that must never serve: each is refused by the loader, with its own reason."""

import asyncio
import re
import shutil
from pathlib import Path

import onnx
import pytest
from prometheus_client import CollectorRegistry

from service import loading
from service.errors import StoreError
from service.loading import load_engines
from service.metrics import Metrics
from service.settings import load_settings
from service.store.repository import ModelRepository, PublishedModel
from service.store.signing import make_key, sign
from tests.integration import artefacts as make
from tests.integration import graphs
from tests.integration.bad_artefacts import (
    CORRUPT,
    FAILED,
    FILES,
    GRAPHS,
    MANIFESTS,
    SIGNATURES,
    UNSIGNED,
    Kind,
)


def load(store: Path, name: str, **settings: object) -> None:
    """What the server does at its start; the memory and time of the trial are small."""
    configured = load_settings(
        model_store=store,
        models=name,
        workers=1,
        probe_memory_bytes=2**32,
        **{"probe_timeout_s": 20.0, **settings},
    )
    engines = load_engines(configured, Metrics(CollectorRegistry()))
    asyncio.run(engines.close())


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = tmp_path_factory.mktemp("keys") / "key.pem"
    make_key(key)
    return key


@pytest.fixture
def store(tiny_store: Path, tmp_path: Path) -> Path:
    """A store to be spoilt."""
    return Path(shutil.copytree(tiny_store, tmp_path / "store"))


def refusal(store: Path, name: str, **settings: object) -> StoreError:
    with pytest.raises(StoreError) as refused:
        load(store, name, **settings)
    return refused.value


def check(error: StoreError, code: str, reason: str) -> None:
    assert error.code == code, error.message
    assert "\n" not in error.message
    assert len(error.message) < 800
    assert re.search(reason, error.message), error.message


@pytest.mark.parametrize("kind", (FILES | MANIFESTS).values(), ids=(FILES | MANIFESTS).keys())
def test_files_that_are_not_those_of_the_manifest_are_refused(store: Path, kind: Kind) -> None:
    damage, code, reason = kind
    damage(store / "embedding" / "1")
    check(refusal(store, "embedding"), code, reason)


@pytest.mark.parametrize("kind", GRAPHS.values(), ids=GRAPHS.keys())
def test_graph_that_does_not_do_what_it_should_is_refused(store: Path, kind: Kind) -> None:
    damage, code, reason = kind
    damage(store / "embedding" / "1")
    timeout_s = 3.0 if "never ends" in reason or reason == "no answer within" else 20.0
    check(refusal(store, "embedding", probe_timeout_s=timeout_s), code, reason)


@pytest.mark.parametrize("kind", SIGNATURES.values(), ids=SIGNATURES.keys())
def test_signature_that_does_not_count_is_refused(store: Path, key: Path, kind: Kind) -> None:
    damage, code, reason = kind
    sign(ModelRepository(store).resolve("embedding"), key)
    damage(store / "embedding" / "1")
    trusted = key.with_name(key.name + ".pub")
    check(
        refusal(store, "embedding", signatures="require", trusted_keys=str(trusted)), code, reason
    )


@pytest.mark.parametrize("name", ["embedding", "sentiment"])
def test_artefact_that_nobody_spoilt_is_loaded(store: Path, key: Path, name: str) -> None:
    sign(ModelRepository(store).resolve(name), key)
    trusted = key.with_name(key.name + ".pub")
    load(store, name, signatures="require", trusted_keys=str(trusted))


def test_signature_of_another_key_or_another_version_is_refused(
    store: Path, key: Path, tmp_path: Path
) -> None:
    trusted = key.with_name(key.name + ".pub")
    make_key(tmp_path / "other.pem")
    model = ModelRepository(store).resolve("embedding")
    sign(model, tmp_path / "other.pem")
    policy = {"signatures": "require", "trusted_keys": str(trusted)}
    check(refusal(store, "embedding", **policy), UNSIGNED, "was not signed with a key")
    sign(ModelRepository(store).resolve("sentiment"), key)
    shutil.copy(store / "sentiment" / "1" / "manifest.sig", model.path)
    check(refusal(store, "embedding", **policy), UNSIGNED, "was not signed with a key")
    sign(model, key)
    load(store, "embedding", **policy)


def test_policy_warn_serves_and_says_so(
    store: Path, key: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trusted = key.with_name(key.name + ".pub")
    load(store, "embedding", signatures="warn", trusted_keys=str(trusted))
    assert "embedding@1 is not signed" in caplog.text


def test_labels_that_are_not_those_of_the_graph_are_refused(store: Path) -> None:
    make.stated(labels=["bad", "good"], width=2)(store / "sentiment" / "1")
    check(refusal(store, "sentiment"), FAILED, "3 numbers .* 2 labels")


def test_model_without_golden_texts_is_served(store: Path) -> None:
    make.listed(make.remove("golden.json"))(store / "embedding" / "1")
    load(store, "embedding")


def test_weights_in_a_listed_file_are_served(store: Path) -> None:
    folder = store / "embedding" / "1"
    model = onnx.load(folder / "model.onnx")
    (folder / "model.onnx.data").write_bytes(graphs.weights(model).raw_data)
    graphs.outside("model.onnx.data")(folder)
    load(store, "embedding")


def test_trial_knows_nothing_of_the_servers_environment(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A child that took its parent's environment would not start with this one.
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    load(store, "embedding")


def test_file_that_is_exchanged_between_hash_and_load_is_noticed(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exchange(model: PublishedModel, variant: str, **limits: object) -> None:
        path = model.file("tokenizer.json")
        path.write_bytes(path.read_bytes())

    monkeypatch.setattr(loading, "probe", exchange)
    check(refusal(store, "embedding"), CORRUPT, "tokenizer.json changed while it was loaded")


def test_each_of_many_kinds_has_its_own_reason() -> None:
    assert len(FILES | MANIFESTS | GRAPHS | SIGNATURES) > 100
