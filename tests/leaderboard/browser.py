"""Pages in a real browser that remembers what went wrong on them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
MISSING = "no chromium: install it, such as apt install chromium"

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

WIDE, PHONE = (1440, 900), (390, 844)


@dataclass
class Visitor:
    """Opens pages; `complaints` are errors, warnings and requests that leave the page's origin.

    Args:
        browser: of the test session.
        origin: what every request must start with.
    """

    browser: Browser
    origin: str = "file:"
    complaints: list[str] = field(default_factory=list)
    _contexts: list[BrowserContext] = field(default_factory=list)

    def open(
        self,
        page: Path | str,
        size: tuple[int, int] = WIDE,
        *,
        is_dark: bool = False,
        has_scripts: bool = True,
        is_examined: bool = False,
    ) -> Page:
        """Load a page in a context of its own.

        Args:
            page: a file, with anything after its name as text, or an address.
            size: of the window, in CSS pixels.
            is_dark: whether the person prefers dark colours.
            has_scripts: whether scripts run.
            is_examined: whether a test's own script may run beside the page's policy.
        """
        width, height = size
        context = self.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if is_dark else "light",
            java_script_enabled=has_scripts,
            bypass_csp=is_examined,
        )
        self._contexts.append(context)
        opened = context.new_page()
        opened.on("console", self._heard)
        opened.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        opened.on("request", lambda request: self._asked(request.url))
        opened.goto(page.as_uri() if isinstance(page, Path) else page)
        return opened

    def close(self) -> None:
        """Close every page."""
        for context in self._contexts:
            context.close()
        self._contexts.clear()

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.type}: {message.text}")

    def _asked(self, address: str) -> None:
        if not address.startswith((self.origin, "data:")):
            self.complaints.append(f"a request to {address}")


def pages_of(site: Path) -> list[Path]:
    """Every page of a site."""
    return sorted(site.rglob("*.html"))


def one_of_each_kind(site: Path, most: int = 2) -> Iterator[Path]:
    """All pages at the top, and the first few of each folder."""
    yield from sorted(site.glob("*.html"))
    for folder in sorted(path for path in site.iterdir() if path.is_dir()):
        yield from sorted(folder.glob("*.html"))[:most]


def sideways(page: Page) -> int:
    """By how many pixels the page itself scrolls sideways."""
    root = "document.documentElement"
    return int(page.evaluate(f"{root}.scrollWidth - {root}.clientWidth"))
