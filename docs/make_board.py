"""Take docs/images/board.png: the TensorBoard page of a run of meta-training, in a real browser.

Run it as `python docs/make_board.py FOLDER`, with the folder of a run, or of several. It needs
Chromium or Chrome, which it drives through a pipe.
"""

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent / "images" / "board.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PINNED = (
    "1 inner curves",
    "2 progress/speed-up over adam, all tasks",
    "2 progress/final loss over adam's, all tasks",
    "2 progress/meta-loss",
    "7 learned scale/",
    "8 angle to Adam/all parameters",
)
"""What the tags of the curves at the top of the page begin with."""

PATIENCE = 120.0
"""Seconds to wait for a server or a page."""

SETTINGS = {"timeSeriesSettingsPaneOpened": False, "stepSelectorEnabled": False}
"""More room for curves."""

LOADED = """
document.querySelectorAll("scalar-card line-chart").length > 2
    && !document.querySelector("scalar-card mat-spinner, scalar-card .loading")
"""


class Browser:
    """A browser without a window, told what to do by the DevTools protocol."""

    def __init__(self) -> None:
        found = [path for name in BROWSERS if (path := shutil.which(name))]
        if not found:
            sys.exit(f"No browser found. Install Chromium (tried: {', '.join(BROWSERS)}).")
        self._folder = tempfile.TemporaryDirectory()
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        command = [
            found[0],
            "--headless=new",
            "--remote-debugging-pipe",
            "--hide-scrollbars",
            "--disable-gpu",
            "--enable-unsafe-swiftshader",  # TensorBoard draws with WebGL
            f"--user-data-dir={self._folder.name}",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
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
        self._to, self._from = os.fdopen(ours_out, "wb"), os.fdopen(ours_in, "rb")
        self._rest, self._calls, self._session = b"", 0, ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its result."""
        self._calls += 1
        message: dict[str, Any] = {"id": self._calls, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        while (answer := self._read()).get("id") != self._calls:
            pass  # events
        if "error" in answer:
            sys.exit(f"The browser refuses {method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def evaluate(self, script: str) -> Any:
        """Run JavaScript in the page."""
        return self.call("Runtime.evaluate", expression=script)["result"].get("value")

    def close(self) -> None:
        """Stop the browser."""
        self.call("Browser.close")
        self._process.wait()
        self._folder.cleanup()

    def _read(self) -> Any:
        while b"\0" not in self._rest:
            more = os.read(self._from.fileno(), 2**16)
            if not more:
                sys.exit("The browser has stopped.")
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


def wait(done: Callable[[], Any], what: str) -> Any:
    """Wait until something is there, and return it."""
    until = time.monotonic() + PATIENCE
    while not (found := done()):
        if time.monotonic() > until:
            sys.exit(f"Waited {PATIENCE:.0f} s in vain for {what}.")
        time.sleep(0.5)
    return found


def tags(server: str) -> set[str]:
    """Tags of all curves that a server has loaded; none while it is not there yet."""
    try:
        with urllib.request.urlopen(f"{server}/data/plugin/scalars/tags") as answer:
            runs = json.load(answer)
    except OSError:
        return set()
    return {tag for run in runs.values() for tag in run}


def address(server: str, known: set[str]) -> str:
    """Of the page with the most important curves on top."""
    firsts = [min((t for t in known if t.startswith(start)), default="") for start in PINNED]
    pinned = json.dumps([{"plugin": "scalars", "tag": tag} for tag in firsts if tag])
    return f"{server}/?pinnedCards={urllib.parse.quote(pinned)}#timeseries"


def photograph(server: str, width: int, height: int) -> bytes:
    """Open the page of a server, wait for the curves, and return a picture, PNG."""
    known = wait(lambda: tags(server), "TensorBoard to find curves")
    browser = Browser()
    shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.call("Emulation.setDeviceMetricsOverride", **shape)
    browser.call("Page.navigate", url=f"{server}/data/environment")
    wait(lambda: browser.evaluate("location.pathname") == "/data/environment", "the server")
    settings = json.dumps(json.dumps(SETTINGS))
    browser.evaluate(f"localStorage.setItem('_tb_global_settings', {settings})")
    browser.call("Page.navigate", url=address(server, known))
    wait(lambda: browser.evaluate(LOADED), "the curves")
    time.sleep(5)  # until they are drawn, which the page does not tell
    picture = browser.call("Page.captureScreenshot", format="png")["data"]
    browser.close()
    return base64.b64decode(picture)


def main() -> None:
    """Take the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of a run, or of several")
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument("--width", type=int, default=1400)
    parser.add_argument("--height", type=int, default=1000)
    parser.add_argument("--port", type=int, default=6099, help="for TensorBoard")
    options = parser.parse_args()
    if not options.folder.is_dir():
        sys.exit(f"There is no folder {options.folder}. First: python -m meta_train train")
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(options.folder)]
    with subprocess.Popen(
        [*command, "--port", str(options.port)], stderr=subprocess.DEVNULL
    ) as server:
        try:
            picture = photograph(f"http://localhost:{options.port}", options.width, options.height)
        finally:
            server.terminate()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(picture)
    print(f"Wrote {options.out}, {len(picture) / 1000:.0f} kB.")


if __name__ == "__main__":
    main()
