"""Dagster's pages as a user has them: in a headless Chromium, by what is written on them.

Importing this module skips the importing tests where there is no browser, and fails them under CI.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

__all__ = ["RUN_TIMEOUT", "Browser", "DagsterPage", "chromium", "expect"]


def lacking(reason: str) -> NoReturn:
    """Say what is missing: nothing is skipped unseen where the tests decide."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason, allow_module_level=True)


try:
    from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
except ImportError:
    lacking("Playwright is missing: pip install playwright")

CHROMIUM = shutil.which("chromium") or lacking("Chromium is missing: apt install chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECONDS = 1000  # Playwright counts in milliseconds
PAGE_TIMEOUT = 60 * SECONDS  # for a page to show what it loads, on a machine with its hands full
RUN_TIMEOUT = 90 * SECONDS  # the daemon looks for new backfills every 30 seconds, for queued runs every 5
IN_DOCUMENTATION = ("partitions", "run", "launchpad", "sensor")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser that is closed at the end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        expect.set_options(timeout=PAGE_TIMEOUT)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class DagsterPage:
    """A tab of the browser, on one webserver; its pictures go to a directory."""

    page: Page
    url: str
    pictures: Path

    def open(self, path: str) -> None:
        """Go to a page of the webserver."""
        self.page.goto(f"{self.url}{path}")

    def open_partitions(self, connection: str) -> None:
        """Go to the tab of an asset's partitions."""
        self.open(f"/assets/runtimedb/{connection}")
        self.page.get_by_role("tab", name="Partitions").click()

    def picture(self, name: str) -> None:
        """Keep what is on the screen, those of the documentation also where `RUNTIMEDB_SCREENSHOTS` says."""
        picture = self.page.screenshot(path=self.pictures / f"{name}.png", animations="disabled")
        if name in IN_DOCUMENTATION and (directory := os.environ.get("RUNTIMEDB_SCREENSHOTS")):
            (Path(directory) / f"{name}.png").write_bytes(picture)

    def materialize(self, *partitions: str, button: str) -> None:
        """Choose partitions in the dialog, and launch by the button that it then offers."""
        self.page.get_by_role("button", name="Materialize…").click()
        dialog = self.page.get_by_role("dialog").filter(has_text="Launch runs to materialize")
        dialog.get_by_text("Select a partition or create one").click()
        for partition in partitions:
            self.page.get_by_role("menuitem", name=partition).click()
        dialog.get_by_text("Launch runs to materialize").click()
        expect(self.page.get_by_role("menuitem")).to_have_count(0)
        number = "1 partition" if len(partitions) == 1 else f"{len(partitions)} partitions"
        expect(dialog.get_by_text(number, exact=True)).to_be_visible()
        self.picture(f"dialog_{len(partitions)}")
        dialog.get_by_role("button", name=button, exact=True).click()
        expect(dialog).to_have_count(0)

    def counted(self, status: str, number: int) -> None:
        """Wait until so many partitions are of a status, as the tab says without a reload."""
        expect(self.page.get_by_text(f"{status} ({number})", exact=True)).to_be_visible(timeout=RUN_TIMEOUT)

    def choose(self, partition: str) -> None:
        """Choose a partition in the tab's list."""
        # Each name is there twice, once invisible, for its width to be measured.
        self.page.get_by_text(partition, exact=True).locator("visible=true").first.click()
        self.page.wait_for_url(re.compile(rf"[?&]partition={re.escape(partition)}(&|$)"))

    def metadata(self, label: str) -> Locator:
        """The value of a metadata entry of the chosen partition."""
        named = self.page.get_by_role("cell", name=label, exact=True)
        return self.page.get_by_role("row").filter(has=named).get_by_role("cell").nth(1)

    def run_id(self) -> str:
        """The run that the page goes to."""
        self.page.wait_for_url(re.compile(r"/runs/[0-9a-f-]{36}"))
        (found,) = re.findall(r"/runs/([0-9a-f-]{36})", self.page.url)
        return str(found)

    def open_launchpad(self, job: str) -> None:
        """Go to the page where a job's config is written, and wait until it has scaffolded the defaults."""
        self.open(f"/locations/runtimedb/jobs/{job}/playground")
        expect(self.page.get_by_text("All defaults expanded")).to_be_visible()

    def write_config(self, text: str) -> None:
        """Replace what is in the launchpad's editor, and wait until Dagster has looked at it."""
        # The editor has no role: its own text box is hidden behind the lines that it draws.
        self.page.locator(".CodeMirror").first.click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(text)
        expect(self.page.get_by_role("button", name="Scaffold all default config")).to_be_enabled()

    def running(self) -> Locator:
        """The switch of a sensor's or a schedule's page."""
        return self.page.get_by_role("row", name="Running", exact=True).get_by_role("checkbox")

    def tick(self) -> Locator:
        """The dialog of the latest tick of a sensor."""
        self.page.get_by_role("button", name=re.compile(r"^\d+ runs? requested$")).first.click()
        return self.page.get_by_role("dialog").filter(has_text="Tick for")
