import pytest
from pydantic import ValidationError

from service.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("ENCSERVE_")]:
        monkeypatch.delenv(name)


def test_environment_sets_and_arguments_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCSERVE_PORT", "9000")
    monkeypatch.setenv("ENCSERVE_MODELS", "embedding, sentiment")
    assert load_settings(host=None).port == 9000
    assert load_settings(port=9001).port == 9001
    assert load_settings().models == ("embedding", "sentiment")


def test_unknown_variable_is_refused_so_that_a_typo_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCSERVE_PROT", "9000")
    with pytest.raises(ValueError, match="ENCSERVE_PROT"):
        load_settings()


def test_variables_that_kubernetes_sets_for_a_service_of_our_name_are_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ENCSERVE_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("ENCSERVE_SERVICE_PORT_HTTP", "8080")
    monkeypatch.setenv("ENCSERVE_PORT", "tcp://10.0.0.1:8080")
    monkeypatch.setenv("ENCSERVE_PORT_8080_TCP_ADDR", "10.0.0.1")
    assert load_settings().port == 8080


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", ""),
        ("cache_bytes", -1),
        ("port", 70_000),
        ("workers", -1),
        ("max_batch_tokens", -1),
        ("request_timeout_s", 0),
        ("request_timeout_s", float("nan")),
        ("max_texts_per_request", 0),
        ("log_level", "loud"),
    ],
)
def test_value_out_of_range_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        load_settings(**{name: value})


def test_queue_smaller_than_a_batch_is_refused() -> None:
    with pytest.raises(ValidationError, match="max_queue_tokens"):
        load_settings(max_queue_tokens=10, max_batch_tokens=11)


def test_settings_cannot_be_changed_after_the_start() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().port = 1  # type: ignore[misc]  # what the test is about


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())
