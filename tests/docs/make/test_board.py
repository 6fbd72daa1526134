import base64
import shutil

import pytest

from docs.make import board


@pytest.mark.skipif(not any(map(shutil.which, board.BROWSERS)), reason="needs Chromium")
def test_the_browser_does_what_it_is_told(tmp_path):
    browser = board.Browser(str(tmp_path))
    browser.call("Page.navigate", url="data:text/html,<title>here</title>")
    assert board.wait(lambda: browser.evaluate("document.title"), "the page") == "here"
    picture = browser.call("Page.captureScreenshot", format="png")["data"]
    assert base64.b64decode(picture).startswith(b"\x89PNG")
    with pytest.raises(SystemExit, match=r"refuses Page\.nothing"):
        browser.call("Page.nothing")
    browser.close()


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(SystemExit, match="is no folder of a run"):
        board.make([str(tmp_path / "none")])


def test_waiting_ends(monkeypatch):
    monkeypatch.setattr(board, "PATIENCE", 0.0)
    with pytest.raises(SystemExit, match="in vain for a miracle"):
        board.wait(lambda: False, "a miracle")


def test_no_server_has_no_curves(monkeypatch):
    monkeypatch.setattr(board, "SERVER", "http://localhost:1")
    assert not board.has_curves()
