"""JupyterLab in a browser for tests: Debian's Chromium, and what a user sees and does on the page of a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import BrowserContext, Locator, Page, ViewportSize, expect, sync_playwright

from .engines import eventually
from .labs import Lab

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE = 60.0  #: seconds for anything that a page should come to show
expect.set_options(timeout=20_000)  # milliseconds; a busy machine needs more than the five seconds of the default
WINDOW = ViewportSize(width=1000, height=1130)
HEARD = """async () => {
    const context = jupyterapp.shell.currentWidget.sessionContext;
    await context.ready;
    await context.session.kernel.info;
}"""  #: before it a page takes its kernel for idle, and what is run is lost


@contextmanager
def chromium() -> Iterator[BrowserContext]:
    """Debian's Chromium without a window; its pages share what they have loaded."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            context = browser.new_context(viewport=WINDOW)
            context.set_default_timeout(1000 * PATIENCE)
            yield context
        finally:
            browser.close()


class Notebook:
    """A notebook on a page of its own, and what a user does there."""

    def __init__(self, page: Page, lab: Lab, name: str) -> None:
        self.page = page
        page.goto(lab.page_of(name))
        page.locator(".jp-Notebook .jp-Cell").first.wait_for()

    def choose_kernel(self, title: str) -> None:
        """Choose *title* in the dialog that asks for a kernel."""
        self.page.locator(".jp-Dialog select").select_option(label=title)
        self.page.locator(".jp-Dialog").get_by_role("button", name="Select Kernel").click()

    def wait_until_idle(self) -> None:
        """Wait until the kernel has been heard of and has nothing to do."""
        self.page.evaluate(HEARD)
        self.page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for()

    def run_all(self) -> None:
        """Choose *Run All Cells* from the menu."""
        self.page.locator(".lm-MenuBar-itemLabel", has_text="Run").click()
        self.page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()

    def run(self, cell: Locator) -> None:
        """Run *cell* with the keyboard."""
        cell.locator(".jp-InputArea-editor").click()
        self.page.keyboard.press("Control+Enter")

    def stop(self) -> None:
        """Press the stop button."""
        self.page.locator('[data-command="notebook:interrupt-kernel"]').click()

    def cell(self, code: str) -> Locator:
        """Return the cell with *code* in it."""
        return self.page.locator(".jp-CodeCell", has=self.page.locator(".jp-InputArea-editor", has_text=code))

    def see_grow(self, cell: Locator, width: float) -> set[float]:
        """Watch the first bar below *cell* until it is *width* pixels wide; return how wide it has been seen."""
        seen = set[float]()

        def has_grown() -> bool:
            seen.update(bars(cell)[:1])
            return bool(seen) and max(seen) >= width

        eventually(has_grown, PATIENCE)
        return seen

    def use_theme(self, name: str) -> None:
        """Switch to the theme *name*."""
        self.page.evaluate("name => jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)

    def photograph(self, cell: Locator, file: Path) -> None:
        """Take a picture of the window with what *cell* shows."""
        cell.locator(".jp-OutputArea").scroll_into_view_if_needed()
        take_picture(self.page, file)


def take_picture(page: Page, file: Path) -> None:
    """Take a picture of the window, in as few colours as a window has."""
    with Image.open(BytesIO(page.screenshot())) as picture:
        picture.convert("RGB").quantize(256).save(file, optimize=True)


def bars(cell: Locator) -> list[float]:
    """Return how wide the first piece of each bar below *cell* is, in pixels."""
    pieces = cell.locator('.jp-OutputArea [role="progressbar"] > div + div > div:first-child')
    widths: list[float] = pieces.evaluate_all("pieces => pieces.map(piece => piece.getBoundingClientRect().width)")
    return widths


def says(cell: Locator, text: str) -> None:
    """Wait until *text* stands below *cell*."""
    cell.locator(".jp-OutputArea", has_text=text).first.wait_for()


def slide(cell: Locator, number: int) -> None:
    """Move the slider below *cell* to *number*."""
    readout = cell.locator(".widget-readout")
    readout.fill(f"{number}")
    readout.press("Enter")


def errors(page: Page) -> list[str]:
    """Return the tracebacks on *page*."""
    return page.locator('.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]').all_inner_texts()
