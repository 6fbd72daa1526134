"""Each block of Python in the pages for readers runs."""

import os

import pytest

from tests.docs.pages import PAGES, Block, MissingPackageError, Reader, blocks
from tests.docs.settings import SETTINGS, SHORTER, setting

BLOCKS = [block for page in PAGES for block in blocks(page, "python")]

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:lightning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:lightning"),
]


@pytest.fixture(scope="module")
def reader(request, tmp_path_factory):
    """Of one page, in a folder of its own; the blocks before one are run before it."""
    page, before = request.param, os.getcwd()
    os.chdir(tmp_path_factory.mktemp(page.stem))
    try:
        with setting(page) as given:
            yield Reader(blocks(page, "python"), given, SHORTER.get(page.name, {}))
    finally:
        os.chdir(before)


# Also where it is a trainer that takes the step.
@pytest.mark.filterwarnings("error:a step comes before the first forward pass")
@pytest.mark.parametrize(
    ("reader", "block"), [(b.page, b) for b in BLOCKS], ids=map(str, BLOCKS), indirect=["reader"]
)
def test_runs(reader, block):
    try:
        output = reader.read(block)
    except MissingPackageError as reason:
        pytest.skip(str(reason))
    assert block.output in (None, output)


def test_settings_are_of_pages_and_what_is_made_shorter_is_in_them():
    pages = {page.name: page.read_text() for page in PAGES}
    assert pages.keys() >= SETTINGS.keys() | SHORTER.keys()
    assert all(text in pages[name] for name, texts in SHORTER.items() for text in texts)


def read(folder, text):
    page = folder / "page.md"
    page.write_text(text)
    found = blocks(page, "python")
    reader = Reader(found, {"one": 1}, {"1000": "10"})
    for block in found:
        reader.read(block)
    return reader.console


def test_blocks_share_their_names_and_are_shortened(tmp_path):
    console = read(tmp_path, "```python\nx = one + 1000\n```\n\n```python\ny = x + 1\n```\n")
    assert (console.x, console.y) == (11, 12)


def test_output_is_found_and_is_what_is_printed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1)\n```\n\n```text\n1\n```\n```python\nx = 1\n```\n")
    found = blocks(page, "python")
    assert [block.output for block in found] == ["1\n", None]
    reader = Reader(found)
    assert [reader.read(block) for block in found] == ["1\n", ""]


def test_an_error_tells_the_line_of_the_page(tmp_path):
    with pytest.raises(ZeroDivisionError) as caught:
        read(tmp_path, "Text.\n\n```python\nx = 1\n1 / 0\n```\n")
    assert (caught.traceback[-1].path.name, caught.traceback[-1].lineno + 1) == ("page.md", 5)


def test_a_package_must_be_optional_to_be_missing(tmp_path):
    with pytest.raises(ModuleNotFoundError):
        read(tmp_path, "```python\nimport no_such_package\n```\n")


def test_a_block_that_needs_a_missing_package_is_no_harm_to_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.docs.pages.OPTIONAL", {"no_such_package"})
    page = tmp_path / "page.md"
    page.write_text("```python\nimport no_such_package.part\n```\n```python\nx = 1\n```\n")
    needy, plain = blocks(page, "python")
    reader = Reader([needy, plain])
    reader.read(plain)
    assert reader.console.x == 1
    with pytest.raises(MissingPackageError, match="no_such_package is not installed"):
        Reader([needy]).read(needy)


def test_blocks_are_found_in_their_language_and_in_lists(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```bash\nls\n```\n* text\n  ```python\n  ```\n")
    assert blocks(page, "bash") == [Block(page, 1, "ls\n")]
    assert [block.line for block in blocks(page, "python")] == [5]
