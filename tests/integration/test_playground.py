"""The page and what is known of models, as files: `make ui-test` uses them in a browser."""

import re
from pathlib import Path

import pytest

from tests.integration.conftest import LiveServer, ServerFactory

STATIC = Path("service/api/static")


def test_page_and_all_its_parts_are_served_under_a_strict_policy(
    start_server: ServerFactory,
) -> None:
    server = start_server()
    page = server.client.get("/")
    assert page.text == (STATIC / "index.html").read_text()
    for file in STATIC.iterdir():
        part = server.client.get(f"/playground/{file.name}")
        assert (part.status_code, part.content) == (200, file.read_bytes())
        policy = part.headers["content-security-policy"]
        assert policy == page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert part.headers["x-content-type-options"] == "nosniff"


def test_page_names_no_foreign_host_and_only_files_that_exist() -> None:
    for file in STATIC.glob("*.*"):
        hosts = set(re.findall(r"https?://[^\s\"'`)]+", file.read_text()))
        assert hosts <= {"http://www.w3.org/2000/svg"}, file.name
        for name in re.findall(r'(?:from "\./|"playground/)([\w.]+)"', file.read_text()):
            assert (STATIC / name).is_file()


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fplayground.py", "%2e%2e%2f%2e%2e%2fapp.py"])
def test_no_other_file_is_ever_given_out(start_server: ServerFactory, name: str) -> None:
    answer = start_server().client.get(f"/playground/{name}")
    assert answer.status_code == 404


def test_page_can_be_switched_off(start_server: ServerFactory) -> None:
    server = start_server(playground=False)
    for path in ("/", "/playground/app.js"):
        answer = server.client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "page_not_found")
    assert server.client.post("/", json={"inputs": "the food"}).status_code == 200


def asked(server: LiveServer, what: str) -> tuple[int, str, str]:
    answer = server.client.get(f"/v1/models/sentiment/{what}")
    return answer.status_code, answer.headers["content-type"], answer.text


def test_cards_and_reports_are_shown_where_the_settings_say_so(
    start_server: ServerFactory, tiny_store: Path
) -> None:
    hidden = start_server()
    status, _, said = asked(hidden, "report")
    assert status == 404
    assert "ENCSERVE_SHOW_REPORTS" in said
    shown = start_server(show_reports=True)
    status, _, said = asked(shown, "card")
    assert status == 404
    assert "has no report" in said
    folder = tiny_store / "sentiment" / "1" / "report"
    folder.mkdir()
    try:
        (folder / "MODEL_CARD.md").write_text("# A card")
        (folder / "report.html").write_text("<h1>A report</h1>")
        assert asked(shown, "card") == (200, "text/markdown; charset=utf-8", "# A card")
        assert asked(shown, "report") == (200, "text/html; charset=utf-8", "<h1>A report</h1>")
        policy = shown.client.get("/v1/models/sentiment/report").headers["content-security-policy"]
        assert "script-src" not in policy
        assert "default-src 'none'" in policy
        assert "sandbox" in policy
        assert shown.client.get("/v1/models/nothing/card").status_code == 404
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
