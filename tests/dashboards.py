"""The dashboard in Debian's Chromium, for tests: pages that complain of nothing, and what people do on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, expect

PATIENCE = 20_000  #: milliseconds

# Told to the console, which is watched: what the policy of the page forbids.
SAY_VIOLATIONS = """document.addEventListener("securitypolicyviolation",
    (event) => console.error(`forbidden by the policy: ${event.violatedDirective} ${event.blockedURI}`))"""


@contextmanager
def watched(browser: BrowserContext) -> Iterator[Page]:
    """A page that has to complain of nothing, and to ask for nothing but of the engine."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.add_init_script(SAY_VIOLATIONS)
    trouble: list[str] = []

    def note(message: ConsoleMessage) -> None:
        # Refusals, and an engine that is away, are told to whoever looks at the page.
        if message.type == "error" and "Failed to load resource" not in message.text:
            trouble.append(message.text)

    def check(request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("blob", "data") and address.hostname not in ("127.0.0.1", "localhost"):
            trouble.append(f"it asked for {request.url}")

    page.on("console", note)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", check)
    try:
        yield page
    finally:
        page.close()
    assert not trouble, trouble


def address_of(told: dict[str, Any]) -> str:
    """Return the address of an engine without its token."""
    return str(told["url"]).partition("?")[0]


def open_at(page: Page, told: dict[str, Any], where: str = "", *, token: str | None = None) -> None:
    """Open the page *where* of the dashboard, as a printed address leads there, and wait until it is drawn."""
    page.goto(f"{address_of(told)}?token={told['token'] if token is None else token}#/{where}")
    drawn(page)


def drawn(page: Page) -> None:
    """Wait until the page is there and follows the engine."""
    page.locator("main:not([aria-busy]) h1").first.wait_for()
    expect(page.locator("#state")).to_have_text("live")
