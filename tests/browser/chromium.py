"""Whether a page can be opened here, and with which browser."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

#: Names of the browser's command, as distributions and Google have them.
COMMANDS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PACKAGES = ("playwright", "axe_playwright_python", "jinja2", "matplotlib")


def find_browser() -> str | None:
    """A Chromium that is on the PATH, else the one that `playwright install` has put into its own folder."""
    found = next((path for command in COMMANDS if (path := shutil.which(command))), None)
    if found is None:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            found = playwright.chromium.executable_path
    return found if Path(found).exists() else None


def unavailable() -> str:
    """Why no page can be opened here; empty where one can."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        return f"Python packages are not installed: {', '.join(missing)}"
    return "" if find_browser() else f"no Chromium: none of {', '.join(COMMANDS)} is on the PATH"
