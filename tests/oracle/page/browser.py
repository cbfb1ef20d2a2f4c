"""A real headless browser, and runs in processes of their own that can be killed."""

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]


def missing(words):
    """Skip and say so; in the CI, which installs a browser, fail."""
    if os.environ.get("DIFFAL_REQUIRE_BROWSER") == "1":
        pytest.fail(f"{words}, but DIFFAL_REQUIRE_BROWSER=1 says that these tests must run.")
    pytest.skip(f"{words}: the page is not tested in a browser here.")


@pytest.fixture(scope="module")
def chromium():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed")
    path = next((found for found in map(shutil.which, NAMES) if found), None)
    if path is None:
        missing("There is no chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


class Run:
    """A script or command that serves a page; started again after it was killed."""

    def __init__(self, *arguments, log):
        self.arguments, self.log = arguments, log
        self.process = None

    def start(self):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        before = len(self.output)
        with self.log.open("a") as file:
            self.process = subprocess.Popen(
                [sys.executable, *self.arguments],
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                # what runs in the background of a shell would pass on that interrupts are ignored
                preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
            )
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            found = re.search(r"^http://127\.0\.0\.1:\d+/\?token=\S+$", self.output[before:], re.MULTILINE)
            if found:
                return found[0]
            assert self.process.poll() is None, self.output[before:]
            time.sleep(0.1)
        raise AssertionError(f"no address was printed: {self.output[before:]}")

    @property
    def output(self):
        return self.log.read_text() if self.log.exists() else ""

    def kill(self, sign=signal.SIGKILL):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(sign)
            self.process.wait(30)

    def result(self, timeout=120):
        assert self.process.wait(timeout) == 0, self.output
        return json.loads(self.output.strip().splitlines()[-1])


class Page:
    """What a person sees, and the keys that they press."""

    def __init__(self, page):
        self.page = page
        self.problems = []
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: self.problems.append(str(error)))

    def open(self, address):
        self.page.goto(address)
        return self

    def item(self, other_than=None):
        """The id of the item on the screen, once there is another one than this."""
        self.page.wait_for_function(
            "id => { const l = document.getElementById('item').getAttribute('aria-label'); return l && l !== id; }",
            arg=None if other_than is None else f"Item {other_than}",
        )
        return self.page.get_attribute("#item", "aria-label").removeprefix("Item ")

    def waits(self, id_):
        """The item stays as it is until something else comes; `None` where nothing is to be labelled."""
        self.page.wait_for_timeout(300)
        return self.page.get_attribute("#item", "aria-label") == f"Item {id_}"

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def wait_text(self, selector, words):
        self.page.wait_for_function(
            "([s, w]) => document.querySelector(s).innerText.includes(w)", arg=[selector, words]
        )

    def text(self, selector):
        return self.page.inner_text(selector)


def events(run_dir):
    return [json.loads(line) for line in (Path(run_dir) / "label" / "answers.jsonl").read_text().splitlines()]
