"""Output that appears whole or not at all, alone, and without what killed commands left."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from features.atomic_files import atomic_file, atomic_folder, replaced_file
from features.errors import InputError, RecsysError

KILLED = """
import os, signal, sys
from pathlib import Path
from features.atomic_files import atomic_folder
with atomic_folder(Path(sys.argv[1])) as partial:
    (partial / "part").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_one(out: Path) -> Path:
    """What a command that is killed while it writes `out` leaves."""
    root = str(Path(__file__).resolve().parents[1])
    subprocess.run([sys.executable, "-c", KILLED, str(out)], env=os.environ | {"PYTHONPATH": root}, check=False)
    (left,) = out.parent.glob(f".{out.name}.*.partial")
    assert (left / "part").read_text() == "half"
    return left


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_command_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    out = tmp_path / "scored"
    kill_one(out)
    with atomic_folder(out) as partial:
        (partial / "part").write_text("whole")
        assert names(tmp_path) == sorted([".scored.lock", partial.name])
    assert names(tmp_path) == ["scored"]
    assert (out / "part").read_text() == "whole"


def test_what_a_killed_command_left_of_another_output_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left = kill_one(tmp_path / "monday")
    with caplog.at_level(logging.INFO), atomic_folder(tmp_path / "tuesday"):
        pass
    assert f"{str(left)!r} was left by a killed command; remove it" in caplog.text
    assert left.is_dir()


def test_two_commands_into_one_output_are_told_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "scored"
    with atomic_folder(out) as partial:
        with (
            pytest.raises(InputError, match=r"scored': another command is writing it at this moment"),
            atomic_folder(out),
        ):
            pass
        with atomic_folder(tmp_path / "other"):
            pass
        (partial / "part").write_text("first")
    assert caplog.text == ""
    assert names(tmp_path) == ["other", "scored"]
    assert names(out) == ["part"]


def test_an_output_that_appears_meanwhile_stays_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "scored"
    with pytest.raises(InputError, match="something else was put there meanwhile"), atomic_folder(out) as partial:
        (partial / "part").write_text("mine")
        out.mkdir()
        (out / "part").write_text("theirs")
    assert names(tmp_path) == ["scored"]
    assert (out / "part").read_text() == "theirs"


def test_what_may_be_replaced_does_not_count_as_files(tmp_path: Path) -> None:
    out = tmp_path / "scored"
    (out / "rejects").mkdir(parents=True)
    (out / "rejects" / "old").write_text("x")
    with pytest.raises(InputError, match="expected a new or empty folder"), atomic_folder(out):
        pass
    with atomic_folder(out, replaceable=("rejects",)) as partial:
        (partial / "part").write_text("new")
    assert names(out) == ["part"]
    (out / "rejects").mkdir()
    with pytest.raises(InputError, match="got files"), atomic_folder(out, replaceable=("rejects",)):
        pass


def test_an_input_that_is_not_there_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "scored"):
        (tmp_path / "absent").read_text()
    full = OSError(errno.ENOSPC, "No space left on device")
    told = pytest.raises(RecsysError, match=r"scored' cannot be written: No space.*free some space")
    with told, atomic_folder(tmp_path / "scored"):
        raise full
    assert names(tmp_path) == []


def test_a_file_that_is_replaced_stays_when_its_writer_fails(tmp_path: Path) -> None:
    out = tmp_path / "new" / "report.json"
    with replaced_file(out) as partial:
        partial.write_text("first")
    with pytest.raises(KeyError), replaced_file(out) as partial:
        partial.write_text("second")
        raise KeyError
    assert names(out.parent) == ["report.json"]
    assert out.read_text() == "first"


def test_a_file_that_is_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lists").write_text("mine")
    with pytest.raises(InputError, match="expected no such file yet"), atomic_file(tmp_path / "lists"):
        pass
    assert names(tmp_path) == ["lists"]
