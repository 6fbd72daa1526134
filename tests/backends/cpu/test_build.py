import os
import sys
from functools import partial

import pytest

from ngopt.backends.cpu import build
from ngopt.backends.cpu.build import load
from ngopt.backends.kernel import CompileError

loaded = partial(load, sizes=2, pointers=2)
SOURCE = "void run(long rows, long columns, void **arguments, void **results) {}"


@pytest.fixture(autouse=True)
def kernels(tmp_path, monkeypatch):
    place = tmp_path / "kernels"
    monkeypatch.setenv("NGOPT_KERNELS", str(place))
    return place


def test_compiled_once_and_kept_for_this_user(kernels, monkeypatch):
    loaded(SOURCE)(0, 0, None, None)
    (made,) = kernels.iterdir()
    assert made.suffix == ".so"
    assert os.stat(kernels).st_mode & 0o777 == 0o700
    monkeypatch.setattr(build, "_compile", None)
    loaded(SOURCE)


def test_another_source_or_another_processor_is_compiled_anew(kernels, monkeypatch):
    loaded(SOURCE)
    loaded(SOURCE + "\n")
    assert len(list(kernels.iterdir())) == 2
    monkeypatch.setattr(build, "_processor", lambda: "another")
    loaded(SOURCE)
    assert len(list(kernels.iterdir())) == 3


def test_what_does_not_compile_leaves_nothing(kernels):
    with pytest.raises(CompileError, match="failed"):
        loaded("this is not C")
    assert not list(kernels.iterdir())


def test_without_a_compiler(monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    with pytest.raises(CompileError, match="no C compiler"):
        loaded(SOURCE)
    monkeypatch.setenv("CC", "/nonexistent/compiler")
    with pytest.raises(CompileError, match="nonexistent"):
        loaded(SOURCE)


def test_a_folder_that_cannot_be_made(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NGOPT_KERNELS", str(tmp_path / "file" / "below"))
    with pytest.raises(CompileError):
        loaded(SOURCE)


@pytest.mark.skipif(sys.platform == "win32", reason="needs permissions of POSIX")
def test_code_that_others_may_have_written_is_not_run(kernels):
    kernels.mkdir()
    kernels.chmod(0o777)
    with pytest.raises(CompileError, match="others may write"):
        loaded(SOURCE)
