"""docs/images/board.png: the TensorBoard page of a run of meta-training, in Chromium or Chrome.

The module `monitor` takes a picture of another run in the same way.

The browser is driven through a pipe by the DevTools protocol, because its own `--screenshot` does
not wait for curves.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from docs.make.page import DOCS

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SERVER = "http://localhost:6099"
SHAPE = {"width": 1400, "height": 900, "deviceScaleFactor": 1, "mobile": False}
PATIENCE = 120.0
"""Seconds to wait for a server or a page."""

MORE_ROOM = """
localStorage.setItem('_tb_global_settings', JSON.stringify(
    {timeSeriesSettingsPaneOpened: false, stepSelectorEnabled: false}))
"""
LOADED = """
document.querySelectorAll("scalar-card line-chart").length > 2
    && !document.querySelector("scalar-card mat-spinner, scalar-card .loading")
"""


def make(given: Sequence[str], out: Path = DOCS / "images" / "board.png") -> None:
    """Take the picture of a folder with a run, or with several.

    Raises:
        SystemExit: if there is no such folder or no browser, or the page does not come up.
    """
    if len(given) != 1 or not Path(given[0]).is_dir():
        raise SystemExit(f"{given} is no folder of a run.\n  First: python -m meta_train train")
    take(given[0], out)


def take(folder: str, out: Path) -> None:
    """Have TensorBoard show a folder, and write a picture of its page, as PNG.

    Raises:
        SystemExit: if there is no browser, or the page does not come up.
    """
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", folder]
    port = SERVER.rpartition(":")[2]
    with subprocess.Popen([*command, "--port", port], stderr=subprocess.DEVNULL) as server:
        try:
            out.write_bytes(photograph())
        finally:
            server.terminate()


def photograph() -> bytes:
    """Open the page, wait for the curves, and return a picture, PNG."""
    wait(has_curves, "TensorBoard to find curves")
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(folder)
        browser.call("Emulation.setDeviceMetricsOverride", **SHAPE)
        browser.call("Page.enable")  # or else scripts are not run
        browser.call("Page.addScriptToEvaluateOnNewDocument", source=MORE_ROOM)
        browser.call("Page.navigate", url=f"{SERVER}/#timeseries")
        wait(lambda: browser.evaluate(LOADED), "the curves")
        time.sleep(5)  # until they are drawn, which the page does not tell
        picture = browser.call("Page.captureScreenshot", format="png")["data"]
        browser.close()
    return base64.b64decode(picture)


def wait(done: Callable[[], Any], what: str) -> Any:
    """Wait until something is there, and return it."""
    until = time.monotonic() + PATIENCE
    while not (found := done()):
        if time.monotonic() > until:
            raise SystemExit(f"waited {PATIENCE:.0f} s in vain for {what}.\n  Try again.")
        time.sleep(0.5)
    return found


def has_curves() -> bool:
    """Whether the server is there and has loaded some curves."""
    try:
        with urllib.request.urlopen(f"{SERVER}/data/plugin/scalars/tags") as answer:
            return any(json.load(answer).values())
    except OSError:
        return False


class Browser:
    """A browser without a window, and a page in it.

    Args:
        folder: of the browser's own files.
    """

    def __init__(self, folder: str) -> None:
        found = [path for name in BROWSERS if (path := shutil.which(name))]
        if not found:
            raise SystemExit(
                f"no browser found.\n  Install Chromium (tried {', '.join(BROWSERS)})."
            )
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        command = [
            *(found[0], "--headless=new", "--remote-debugging-pipe", "--hide-scrollbars"),
            *("--disable-gpu", "--enable-unsafe-swiftshader"),  # TensorBoard draws with WebGL
            *(f"--user-data-dir={folder}", *(["--no-sandbox"] if os.geteuid() == 0 else [])),
        ]
        # The browser expects its pipes to be numbers 3 and 4.
        pipes = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", pipes, *command],
            pass_fds=(theirs_in, theirs_out),
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._to, self._from = os.fdopen(ours_out, "wb"), os.fdopen(ours_in, "rb", 0)
        self._rest, self._calls, self._session = b"", 0, {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its result."""
        self._calls += 1
        message = {"id": self._calls, "method": method, "params": parameters, **self._session}
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        while (answer := self._read()).get("id") != self._calls:
            pass  # events
        if "error" in answer:
            raise SystemExit(f"the browser refuses {method}: {answer['error']['message']}")
        return answer["result"]

    def evaluate(self, script: str) -> Any:
        """Run JavaScript in the page."""
        return self.call("Runtime.evaluate", expression=script)["result"].get("value")

    def close(self) -> None:
        """Stop the browser."""
        self.call("Browser.close")
        self._process.wait()
        self._to.close()
        self._from.close()

    def _read(self) -> Any:
        while b"\0" not in self._rest:
            more = self._from.read(2**16)
            if not more:
                raise SystemExit("the browser has stopped.\n  Try again.")
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)
