"""Each command in the pages for readers is there, with its options; it is not run."""

import shlex

import pytest

from tests.docs.pages import PAGES, blocks
from tests.docs.shell import check, commands

BLOCKS = [block for page in PAGES for block in blocks(page, "bash", "sh")]


@pytest.mark.parametrize("block", BLOCKS, ids=map(str, BLOCKS))
def test_commands_are_there(block):
    given = list(commands(block.code))
    assert given
    for words in given:
        check(words)


def test_commands_are_read():
    text = 'F="a b"\npip install x && python -m y $F \\\n    --z "1 2"  # why\n# nothing\n'
    assert list(commands(text)) == [
        ["pip", "install", "x"],
        ["python", "-m", "y", "a", "b", "--z", "1 2"],
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        "make docs",
        "bash .ci/no_such_script",
        'pip install -e ".[no_such_extra]"',
        "python no_such_script.py",
        "python examples/00_quickstart.py --no-such-option",
        "python -m no_such_module",
        "python -m meta_train no_such_command",
        "python -m meta_train train --no-such-option 1",
        "python -m meta_train evaluate --suites near --screen many",
        "torchrun --nproc-per-node 2 -m meta_train train --no-such-option 1",
        "python -m benchmarks.paper --no-such-option",
        "python -m benchmarks.meta_train --no-such-option",
        "python -m benchmarks.workloads --no-such-option",
        "python -m benchmarks.workloads char_gpt --optimizers no_such_optimizer",
    ],
)
def test_what_is_not_there_is_told(wrong):
    with pytest.raises(AssertionError):
        check(shlex.split(wrong))
