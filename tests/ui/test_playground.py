"""Each panel does its work, for whoever comes: by keyboard, on a phone, in the dark, in Chinese."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.integration.conftest import LiveServer, live_server
from tests.ui.conftest import OpenPage, bound_of

TEXT = "not a good train at nine"
PANELS = ("explain", "similarity", "models", "live")
PHONE = {"width": 360, "height": 720}


def explain(page: Page, text: str = TEXT) -> None:
    page.fill("#explain-text", text)
    page.click("#explain-form [type=submit]")
    page.wait_for_selector("#explain-result:not([hidden]), #panel-explain .error:not([hidden])")


def compare(page: Page, texts: str = "the food\na good train", query: str = "") -> None:
    page.click("#tab-similarity")
    page.fill("#similarity-texts", texts)
    page.fill("#similarity-query", query)
    page.click("#similarity-form [type=submit]")
    page.wait_for_selector("#similarity-result:not([hidden])")


def explained(server: LiveServer, text: str) -> Any:
    return server.client.post("/v1/explain", json={"input": text}).json()["data"][0]


def use_all(page: Page, panel: str) -> None:
    """Bring a panel to show all that it can."""
    if panel == "explain":
        explain(page)
        page.click("#panel-explain summary")
    elif panel == "similarity":
        compare(page, query="good food")
    elif panel == "models":
        page.click("#tab-models")
        page.locator("#model-list button").first.click()
        page.wait_for_selector("#model-list .note, #model-list pre")
    else:
        page.click("#tab-live")
        page.wait_for_selector("[data-gauge]")


def test_label_is_explained_as_the_server_does(open_page: OpenPage, server: LiveServer) -> None:
    page = open_page()
    explain(page)
    found = explained(server, TEXT)
    expect(page.locator("#explain-verdict")).to_contain_text(found["label"])
    expect(page.locator("#explain-words")).to_have_text(TEXT)
    marks = page.locator("#explain-words mark")
    assert marks.all_text_contents() == [word["text"] for word in found["words"]]
    strongest = max(range(len(found["words"])), key=lambda at: abs(found["words"][at]["weight"]))
    colour = marks.nth(strongest).evaluate("mark => getComputedStyle(mark).backgroundColor")
    assert colour.endswith("0.6)")
    against = found["words"][strongest]["weight"] < 0
    assert colour.startswith("rgba(214, 110, 20" if against else "rgba(31, 119, 180")
    meters = page.locator("#explain-scores meter")
    shown = [float(value) for value in meters.evaluate_all("all => all.map(m => m.value)")]
    assert shown == pytest.approx(list(found["scores"].values()), abs=1e-6)


def test_words_that_would_change_the_label_are_named(
    open_page: OpenPage, server: LiveServer
) -> None:
    found = explained(server, TEXT)
    assert found["deletion"]
    page = open_page()
    explain(page)
    removed = [word["text"] for word in found["deletion"]["removed"]]
    assert page.locator("#explain-words mark.flips").all_text_contents() == removed
    expect(page.locator("#explain-deletion")).to_contain_text(found["deletion"]["label"])


def test_another_label_is_explained_on_demand(open_page: OpenPage, server: LiveServer) -> None:
    other = min(explained(server, TEXT)["scores"].items(), key=lambda one: one[1])[0]
    page = open_page()
    page.select_option("#explain-label", other)
    explain(page)
    expect(page.locator("#explain-verdict")).to_contain_text(other)


def test_characters_beyond_the_first_plane_do_not_shift_the_words(open_page: OpenPage) -> None:
    page = open_page()
    explain(page, "😀 good 👍🏽 food 菜")
    expect(page.locator("#explain-words")).to_have_text("😀 good 👍🏽 food 菜")
    words = page.locator("#explain-words mark").all_text_contents()
    assert words == ["😀", "good", "👍🏽", "food", "菜"]


def test_markup_in_a_text_is_shown_and_not_run(open_page: OpenPage) -> None:
    page = open_page()
    hostile = "<img src=x onerror=alert(1)> good"
    explain(page, hostile)
    expect(page.locator("#explain-words")).to_have_text(hostile)
    compare(page, texts=f"{hostile}\nthe food", query=hostile)
    expect(page.locator("#heat tbody th").first).to_contain_text(hostile)


def test_similarities_are_the_cosines_of_the_servers_vectors(
    open_page: OpenPage, server: LiveServer
) -> None:
    texts, query = ["the food", "a good train", "a bad train"], "good food"
    page = open_page()
    compare(page, "\n".join(["", *texts, "  "]), query)
    body = {"input": [*texts, query]}
    data = server.client.post("/v1/embeddings", json=body).json()["data"]
    vectors = np.array([entry["embedding"] for entry in data])
    cells = [float(cell) for cell in page.locator("#heat td").all_text_contents()]
    wanted = vectors[:3] @ vectors[:3].T
    assert np.array(cells).reshape(3, 3) == pytest.approx(wanted, abs=0.0051)
    found = page.locator("#search-list li").all_text_contents()
    order = np.argsort(-(vectors[:3] @ vectors[3]))
    assert [re.sub(r"-?\d\.\d\d$", "", one) for one in found] == [texts[at] for at in order]


def test_models_are_listed_with_their_facts_and_say_when_reports_are_hidden(
    open_page: OpenPage, server: LiveServer
) -> None:
    page = open_page(fine=False)
    use_all(page, "models")
    models = server.client.get("/v1/models").json()["data"]
    names = page.locator("#model-list h3").all_text_contents()
    assert names == [model["id"] for model in models]
    for model, card in zip(models, page.locator("#model-list article").all(), strict=True):
        *facts, reads, digest = card.locator("dd").all_text_contents()
        known = [model["version"], model["task"], ", ".join(model["labels"])]
        assert facts == [fact for fact in (*known, str(model["dimensions"] or "")) if fact]
        assert re.findall(r"\d+", reads) == [str(model["max_tokens"])]
        assert digest == model["digest"][:19]
    expect(page.locator("#model-list .note")).to_contain_text("ENCSERVE_SHOW_REPORTS")


def test_live_numbers_are_those_of_known_traffic(open_page: OpenPage, tiny_store: Path) -> None:
    with live_server(tiny_store) as server:
        page = open_page(server)
        page.click("#tab-live")
        page.wait_for_selector("[data-gauge]")
        for word in ("the", "food", "train", "nine"):
            body = {"input": [f"{word} {other}" for other in ("good", "bad", "leaves")]}
            server.client.post("/v1/embeddings", json=body).raise_for_status()
        fill = page.locator("[data-gauge=fill] .big")
        expect(fill).not_to_have_text("none yet", timeout=15_000)
        runs = server.count("encserve_batch_texts_count", model="embedding")
        expect(fill).to_have_text(f"{12 / runs:.1f}")
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            bound_ms = 1000 * bound_of(server, share)
            shown = f"{bound_ms:.1f} ms" if bound_ms < 10 else f"{bound_ms:.0f} ms"
            expect(page.locator(f"[data-gauge={name}] .big")).to_have_text(shown)
        workers = f"0 / {server.count('encserve_workers'):.0f}"
        expect(page.locator("[data-gauge=workers] .big")).to_have_text(workers)
        expect(page.locator("[data-gauge=queue] .big")).to_have_text("0")


def test_error_is_shown_as_a_sentence_and_gone_after_the_next_answer(open_page: OpenPage) -> None:
    page = open_page(fine=False)
    explain(page, " ")
    error = page.locator("#panel-explain .error")
    expect(error).to_have_text("the text is empty or blank")
    explain(page)
    expect(error).to_be_hidden()


def test_server_that_is_gone_is_named_as_the_cause(open_page: OpenPage, tiny_store: Path) -> None:
    with live_server(tiny_store) as server:
        page = open_page(server, fine=False)
    explain(page)
    expect(page.locator("#panel-explain .error")).to_contain_text("does not answer")


def test_page_can_be_used_without_a_mouse(open_page: OpenPage) -> None:
    page = open_page()
    page.focus("#tab-explain")
    for key, panel in (("ArrowRight", "similarity"), ("End", "live"), ("ArrowRight", "explain")):
        page.keyboard.press(key)
        expect(page.locator(f"#tab-{panel}")).to_be_focused()
        expect(page.locator(f"#panel-{panel}")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator("#explain-text")).to_be_focused()
    page.keyboard.press("Control+Enter")
    expect(page.locator("#explain-result")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.locator("#explain-form [type=submit]")).to_be_focused()


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("panel", PANELS)
def test_contrast_and_labels_satisfy_axe(open_page: OpenPage, panel: str, colours: str) -> None:
    page = open_page(fine=False, color_scheme=colours)
    use_all(page, panel)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert len(found.response["passes"]) > 10


def test_axe_would_see_a_missing_label_and_pale_letters(open_page: OpenPage) -> None:
    page = open_page(fine=False)
    page.evaluate("document.querySelector('label[for=explain-text]').remove()")
    page.evaluate("document.querySelector('.tagline').style.color = '#ddd'")
    found = {violation["id"] for violation in Axe().run(page).response["violations"]}
    assert found == {"label", "color-contrast"}


@pytest.mark.parametrize("panel", PANELS)
def test_nothing_stands_beyond_a_phones_edge(open_page: OpenPage, panel: str) -> None:
    page = open_page(fine=False, viewport=PHONE)
    use_all(page, panel)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_colours_follow_the_system_and_the_choice_and_are_remembered(open_page: OpenPage) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    page = open_page(color_scheme="dark")
    dark = page.evaluate(ground)
    page.select_option("#theme", "light")
    light = page.evaluate(ground)
    assert dark != light
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.evaluate(ground) == light
    assert open_page(color_scheme="light").evaluate(ground) == light


def test_chinese_is_complete_chosen_by_the_browser_and_by_hand(open_page: OpenPage) -> None:
    page = open_page(locale="zh-CN")
    expect(page.locator("#tab-explain")).to_have_text("情感")
    assert page.evaluate("document.documentElement.lang") == "zh-Hans"
    explain(page)
    expect(page.locator("#explain-deletion")).to_contain_text("去掉")
    page.select_option("#language", "en")
    expect(page.locator("#explain-deletion")).to_contain_text("Without")
    source = page.evaluate("fetch('playground/texts.js').then(answer => answer.text())")
    names = [
        set(re.findall(r"(?:^|[ {])(\w+): \"", table))
        for table in re.findall(r"const (?:en|zh) = \{(.*?)\n\};", source, re.DOTALL)
    ]
    assert names[0] == names[1]
    used = set(re.findall(r'data-t(?:-label)?="(\w+)"', page.content()))
    assert used <= names[0]


def test_request_shown_can_be_copied_and_asks_the_same(
    open_page: OpenPage, server: LiveServer
) -> None:
    text = 'it\'s a "good" train\\ $HOME 菜'
    wanted = explained(server, text)["label"]
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    explain(page, text)
    code = page.locator("[data-request=explain] code")
    page.click("[data-request=explain] >> text=Copy")
    expect(page.locator("[data-request=explain] >> text=Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == code.text_content()
    by_curl = subprocess.check_output(["bash", "-c", f"{copied} -s"], text=True)
    assert f'"label":"{wanted}"' in by_curl
    assert shlex.split(copied)[0] == "curl"
    page.click("[data-request=explain] >> text=Python")
    program = code.text_content() or ""
    by_python = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert f"'label': '{wanted}'" in by_python
    page.click("[data-request=explain] >> text=JavaScript")
    script = (code.text_content() or "").replace("console.log(", "return (")
    by_javascript = page.evaluate(f"async () => {{ {script} }}")
    assert by_javascript["data"][0]["label"] == wanted


def test_key_is_sent_and_not_kept_after_the_tab(open_page: OpenPage) -> None:
    page = open_page()
    page.fill("#key", "a-key")
    page.locator("#key").blur()
    with page.expect_request("**/v1/explain") as asked:
        explain(page)
    assert asked.value.headers["authorization"] == "Bearer a-key"
    shown = page.locator("[data-request=explain] code").text_content() or ""
    assert "a-key" not in shown
    assert "$ENCSERVE_KEY" in shown
    assert page.evaluate("Object.values({...localStorage}).includes('a-key')") is False
