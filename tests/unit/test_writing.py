"""Files that are written whole or not at all, wherever a path leads and whoever writes at the same time."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from attnbench.storage.writing import write_new, write_whole

ROOT = Path(__file__).resolve().parents[2]
OLD, NEW = b'{"measured": "last week"}', b'{"measured": "now"}'


def program(text: str, *arguments: str | Path, user: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    """`text` as Python in a process of its own."""
    command = [*user, sys.executable, "-c", f"import sys\nfrom pathlib import Path\n{text}", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture
def user() -> tuple[str, ...]:
    """What a command starts with so that the modes of files hold for it, which they do not for root."""
    if os.geteuid():
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and there is no setpriv here that takes that right away")
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Where a path leads


def test_a_new_file_has_the_mode_that_open_would_give_it(tmp_path):
    write_whole(tmp_path / "run.json", NEW)
    (tmp_path / "other.json").touch()
    assert (tmp_path / "run.json").stat().st_mode == (tmp_path / "other.json").stat().st_mode
    assert (tmp_path / "run.json").read_bytes() == NEW


def test_a_file_that_is_there_keeps_its_mode_and_its_neighbours_are_left_alone(tmp_path):
    path = tmp_path / "run.json"
    mine = [f"run.json{suffix}" for suffix in ("", ".before", ".new", ".tmp", ".bak", "~")] + [".run.json.tmp"]
    for name in mine:
        (tmp_path / name).write_bytes(OLD)
    path.chmod(0o640)
    write_whole(path, NEW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.read_bytes() == NEW
    assert names(tmp_path) == sorted(mine)
    assert {(tmp_path / name).read_bytes() for name in mine[1:]} == {OLD}


@pytest.mark.parametrize("there", [True, False], ids=["to a file", "dangling"])
@pytest.mark.parametrize("target", ["below/target.json", "{tmp_path}/below/target.json"], ids=["relative", "absolute"])
def test_a_link_stays_and_its_target_is_written(tmp_path, there, target):
    (tmp_path / "below").mkdir()
    written = tmp_path / "below" / "target.json"
    if there:
        written.write_bytes(OLD)
    (tmp_path / "link").symlink_to(target.format(tmp_path=tmp_path))
    (tmp_path / "run.json").symlink_to("link")
    write_whole(tmp_path / "run.json", NEW)
    assert (tmp_path / "run.json").readlink() == Path("link")
    assert (tmp_path / "link").is_symlink()
    assert written.read_bytes() == NEW
    assert names(tmp_path / "below") == ["target.json"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: path.symlink_to("no/where"), "No such file or directory"),
        (os.mkfifo, "it is a FIFO that nothing reads from"),
        (lambda path: path.symlink_to("/dev/full"), "No space left on device"),
    ],
    ids=["folder", "link to itself", "link to no folder", "fifo", "full device"],
)
def test_a_place_that_cannot_be_written_is_an_error_of_the_system(tmp_path, make, said):
    make(tmp_path / "run.json")
    with pytest.raises(OSError, match=said):
        write_whole(tmp_path / "run.json", NEW)
    assert names(tmp_path) == ["run.json"]


def test_a_fifo_with_a_reader_and_a_device_are_written_to(tmp_path):
    os.mkfifo(tmp_path / "run.json")
    content = NEW * 20_000  # more than a pipe holds
    with subprocess.Popen(["cat", tmp_path / "run.json"], stdout=subprocess.PIPE) as reader:
        writer = threading.Thread(target=_write_when_read, args=(tmp_path / "run.json", content))
        writer.start()
        assert reader.communicate(timeout=30)[0] == content
        writer.join()
    write_whole(Path("/dev/null"), content)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def _write_when_read(path: Path, content: bytes) -> None:
    with contextlib.suppress(OSError):  # nothing reads from it yet
        return write_whole(path, content)
    return _write_when_read(path, content)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "{tmp_path}/link"])
def test_standard_output_is_written_to_where_it_stands_though_it_is_a_file(tmp_path, name):
    (tmp_path / "link").symlink_to("/dev/stdout")
    text = "from attnbench.storage.writing import write_whole\n"
    text += "print('before')\nwrite_whole(Path(sys.argv[1]), b'run')\nprint('after')"
    with (tmp_path / "log").open("wb") as log:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [
            sys.executable,
            "-c",
            f"import sys\nfrom pathlib import Path\n{text}",
            name.format(tmp_path=tmp_path),
        ]
        subprocess.run(command, env=environment, stdout=log, check=True, timeout=30)
    assert (tmp_path / "log").read_text() == "before\nrunafter\n"


# What may not be written


WRITE = "from attnbench.storage.writing import write_whole\nwrite_whole(Path(sys.argv[1]), sys.argv[2].encode())"


def test_a_file_that_may_not_be_written_is_not_replaced(tmp_path, user):
    path = tmp_path / "run.json"
    path.write_bytes(OLD)
    path.chmod(0o444)
    ended = program(WRITE, path, NEW.decode(), user=user)
    assert b"PermissionError: [Errno 13] Permission denied" in ended.communicate(timeout=30)[1]
    assert path.read_bytes() == OLD
    assert names(tmp_path) == ["run.json"]


def test_a_file_in_a_folder_that_takes_no_second_one_is_written_itself(tmp_path, user):
    path = tmp_path / "folder" / "run.json"
    path.parent.mkdir()
    path.write_bytes(OLD + NEW)
    path.parent.chmod(0o555)
    try:
        ended = program(WRITE, path, NEW.decode(), user=user)
        assert ended.communicate(timeout=30)[1] == b""
        assert path.read_bytes() == NEW
        broken = (
            "import os, attnbench.storage.writing as writing\nwrite = os.write\n"
            "def full(fd, data):\n    os.write = write\n    write(fd, data[:5]); raise OSError(28, 'No space left')\n"
            "os.write = full\nwriting.write_whole(Path(sys.argv[1]), b'{}' * 99)"
        )
        assert b"No space left" in program(broken, path, user=user).communicate(timeout=30)[1]
        assert path.read_bytes() == NEW
        ended = program(WRITE, path.with_name("new.json"), NEW.decode(), user=user)
        assert b"Permission denied" in ended.communicate(timeout=30)[1]
    finally:
        path.parent.chmod(0o755)
    assert names(path.parent) == ["run.json"]


# Whoever writes, whatever happens


def test_a_write_that_is_killed_leaves_what_stood_there(tmp_path):
    path = tmp_path / "run.json"
    path.write_bytes(OLD)
    kill = "import os, signal\nos.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)\n"
    ended = program(kill + WRITE, path, NEW.decode())
    ended.communicate(timeout=30)
    assert ended.returncode == -signal.SIGKILL
    assert path.read_bytes() == OLD
    (left,) = [name for name in names(tmp_path) if name != "run.json"]
    assert left.startswith(".attnbench-")
    assert left.endswith(".tmp")


@pytest.mark.parametrize("ends", [KeyboardInterrupt, OSError])
def test_a_write_that_ends_early_leaves_nothing_of_its_own(tmp_path, monkeypatch, ends):
    path = tmp_path / "run.json"
    path.write_bytes(OLD)

    def fails(descriptor):
        raise ends

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(ends):
        write_whole(path, NEW)
    assert path.read_bytes() == OLD
    assert names(tmp_path) == ["run.json"]


MANY = """
from attnbench.storage.writing import write_new, write_whole
for at in range(25):
    write_whole(Path(sys.argv[1]), (sys.argv[2] * 50_000).encode())
"""


def test_of_many_writers_at_once_one_whole_file_stands(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("0" * 50_000)
    writers = [program(MANY, path, digit) for digit in "123"]
    while any(writer.poll() is None for writer in writers):
        text = path.read_text()
        assert len(text) == 50_000
        assert len(set(text)) == 1
    assert [writer.communicate()[1] for writer in writers] == [b"", b"", b""]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert names(tmp_path) == ["run.json"]


NUMBERED = """
from attnbench.storage.writing import write_new
folder, own = Path(sys.argv[1]), sys.argv[2]
def first():
    return 1 + max((int(path.name.split("_")[0]) for path in folder.glob("[0-9]*")), default=0)
for at in range(15):
    write_new(folder, lambda number: f"{number}_{own}", first, own.encode())
"""


def test_of_many_writers_of_numbered_files_each_gets_its_own_number(tmp_path):
    writers = [program(NUMBERED, tmp_path / "folder", name) for name in "abc"]
    assert [writer.communicate(timeout=60)[1] for writer in writers] == [b"", b"", b""]
    files = sorted((tmp_path / "folder").iterdir(), key=lambda path: int(path.name.split("_")[0]))
    assert [int(path.name.split("_")[0]) for path in files] == list(range(1, 46))
    assert all(path.read_text() == path.name[-1] for path in files)


@pytest.mark.parametrize("links", [True, False], ids=["with hard links", "without"])
def test_a_numbered_file_never_takes_the_place_of_another(tmp_path, monkeypatch, links):
    (tmp_path / "1_a").write_bytes(OLD)
    (tmp_path / "2_a").symlink_to("nowhere")
    if not links:

        def refuses(*_):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(Path, "hardlink_to", refuses)
    path = write_new(tmp_path, lambda number: f"{number}_a", lambda: 1, NEW)
    assert path == tmp_path / "3_a"
    assert path.read_bytes() == NEW
    assert names(tmp_path) == ["1_a", "2_a", "3_a"]
    assert (tmp_path / "1_a").read_bytes() == OLD
