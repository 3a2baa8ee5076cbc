"""The page of /docs works under its own policy."""

from playwright.sync_api import Browser

from tests.integration.conftest import LiveServer


def test_docs_show_the_routes_and_break_no_rule_of_their_policy(
    browser: Browser, server: LiveServer
) -> None:
    faults: list[str] = []
    page = browser.new_page()
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(f"{server.url}/docs")
    page.wait_for_selector(".opblock")
    page.locator(".opblock-summary-control").first.click()
    page.wait_for_selector(".opblock-body")
    assert page.locator(".opblock").count() > 30
    page.close()
    assert faults == []
