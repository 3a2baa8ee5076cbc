"""`make pictures`: the page as its tests see it, with the default models, for the READMEs."""

import shutil
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.integration.conftest import live_server
from tests.ui.test_playground import compare, explain

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
TEXT = "The room was lovely and quiet, but breakfast was cold and nobody said sorry."
TEXTS = """How do I change my password?
I cannot sign in any more.
Where is my parcel?
The package has not arrived yet.
Can I pay by bank transfer?
Bake the bread at 180 degrees."""
QUERY = "my order never came"


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright, live_server(ROOT / "model_store") as server:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        draw(browser, server.url)
        browser.close()


def draw(browser: Browser, url: str) -> None:
    """One picture by day, one by night, one on a phone and in Chinese."""
    page = browser.new_page(locale="en-GB", viewport={"width": 1000, "height": 760})
    page.goto(url)
    explain(page, TEXT)
    page.screenshot(path=IMAGES / "playground.png")
    page = browser.new_page(
        locale="en-GB", color_scheme="dark", viewport={"width": 1000, "height": 900}
    )
    page.goto(url)
    compare(page, TEXTS, QUERY)
    page.screenshot(path=IMAGES / "playground-similarity.png")
    page = browser.new_page(locale="zh-CN", viewport={"width": 390, "height": 760})
    page.goto(url)
    explain(page, TEXT)
    page.screenshot(path=IMAGES / "playground-phone.png")


if __name__ == "__main__":
    main()
