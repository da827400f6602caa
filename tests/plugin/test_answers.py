"""Only the answer of a fresh process becomes a result, and its temporary folder is its own affair."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import pytest
from printed import sentences

from attnbench.execution import launcher

MATH, FLASH = "torch_math@eager-flux-256px-t128", "torch_flash@eager-flux-256px-t128"

#: A conftest.py that knows its process's end of the answer pipe. Both cases share a process.
CHILD = """
import os, subprocess, sys, threading, time
from pathlib import Path
import pytest
PIPES = next((a.partition("=")[2] for a in sys.argv if a.startswith("--attn-child=")), None)
FD = int(PIPES.split(":")[1]) if PIPES else -1
"""


@pytest.fixture
def one_process(sim: Any) -> Any:
    """`one_process()` measures two cases in one process of the launcher."""
    chosen = ("--attn-launches=1", "--attn-backend=torch_math", "--attn-backend=torch_flash", "--attn-timeout=20")

    def run() -> Any:
        return sim("--benchmark-only", "--benchmark-json=run.json", "--attn-mode=eager", *chosen)

    return run


def first_and_second(sim: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    first, second = sim.records().values()
    assert {first["case"], second["case"]} == {MATH, FLASH}
    return first, second


@pytest.mark.parametrize(
    "written",
    [
        b"{}\n",
        b'{"record": {}}\n',
        b"done: 3 % faster\n",
        b"\xff\xfe\x00\x1b[31m\n",
        b"half a line",
        b"[" * 100_000 + b"\n",
    ],
    ids=lambda written: repr(written[:12]),
)
def test_what_a_kernel_writes_to_the_pipe_of_the_answers_is_an_error_of_its_own_case(
    sim: Any, one_process: Any, pytester: pytest.Pytester, written: bytes
) -> None:
    pytester.makeconftest(f"""{CHILD}
WRITTEN = {written!r}
def pytest_runtest_call(item):
    if PIPES and not Path("written").exists():
        Path("written").touch()
        os.write(FD, WRITTEN)
""")
    one_process().assert_outcomes(passed=1, failed=1)
    first, second = first_and_second(sim)
    [reason] = first["reasons"]
    assert (first["status"], reason["code"]) == ("error", "launch")
    assert reason["text"].startswith("its process was ended: something in it wrote to its result pipe")
    assert reason["text"].isprintable()
    assert second["status"] == "measured"
    assert "Traceback" not in str(first)


def test_a_line_without_end_is_not_waited_for(
    sim: Any, one_process: Any, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "LONGEST_ANSWER_BYTES", 2**20)
    pytester.makeconftest(f"""{CHILD}
def pytest_runtest_call(item):
    while PIPES and not Path("written").exists():
        os.write(FD, b"x" * 2**16)
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    if not PIPES and FD and list(item.session.items).index(item):
        Path("written").touch()
""")
    one_process().assert_outcomes(passed=1, failed=1)
    first, second = first_and_second(sim)
    assert "more than 1 MiB without an end of line: 'xxx" in first["reasons"][0]["text"]
    assert second["status"] == "measured"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            "plain['nodeid'] = 'test_other.py::test_other'",
            "it was asked for * and sent a record of * (test_other.py::test_other, launch *",
        ),
        ("plain['launch'] = '0123456789ab'", "it was asked for * launch 0123456789ab)*"),
        ("plain['workload']['seq'] = 12", "it was asked for *"),
        ("plain['status'] = 'fast'", "it sent no valid record: *"),
    ],
)
def test_a_record_of_something_else_is_no_answer(
    sim: Any, one_process: Any, pytester: pytest.Pytester, change: str, sentence: str
) -> None:
    pytester.makeconftest(f"""{CHILD}
from attnbench.plugin import child
original = child.to_plain
def changed(value):
    plain = original(value)
    if "nodeid" in plain and not Path("changed").exists():
        Path("changed").touch()
        {change}
    return plain
if PIPES:
    child.to_plain = changed
""")
    result = one_process()
    result.assert_outcomes(passed=1, failed=1)
    sentences(result).fnmatch_lines([f"ERROR * its process was ended: {sentence}"])
    assert first_and_second(sim)[1]["status"] == "measured"


def test_what_is_written_between_two_cases_costs_neither(sim: Any, one_process: Any, pytester: pytest.Pytester) -> None:
    """A thread of the first, say, that writes when it ends: nobody knows whose it was."""
    pytester.makeconftest(f"""{CHILD}
def late():
    while not Path("first-is-done").exists():
        time.sleep(0.01)
    os.write(FD, b"a late line\\n")
    Path("written").touch()
def pytest_runtest_call(item):
    if PIPES and not Path("first-is-done").exists():
        threading.Thread(target=late, daemon=True).start()
def pytest_runtest_setup(item):
    if not PIPES and item.session.items.index(item) == 1:
        Path("first-is-done").touch()
        until = time.monotonic() + 20
        while not Path("written").exists() and time.monotonic() < until:
            time.sleep(0.01)
""")
    one_process().assert_outcomes(passed=2)
    first, second = first_and_second(sim)
    assert first["launch"] != second["launch"]


def test_a_process_that_dies_between_two_cases_costs_neither(
    sim: Any, one_process: Any, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(f"""{CHILD}
def pytest_runtest_call(item):
    if PIPES:
        Path("pid").write_text(str(os.getpid()))
def pytest_runtest_setup(item):
    if not PIPES and item.session.items.index(item) == 1:
        pid = int(Path("pid").read_text())
        os.kill(pid, 9)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # until all of its threads have ended
""")
    one_process().assert_outcomes(passed=2)
    first, second = first_and_second(sim)
    assert first["launch"] != second["launch"]


def test_an_answer_that_is_repeated_is_not_taken_for_the_next_one(
    sim: Any, one_process: Any, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(f"""{CHILD}
original = os.write
def twice(fd, data):
    if fd == FD and b'"record"' in data:
        original(fd, data + data)
        Path("repeated").touch()
        return len(data)
    return original(fd, data)
if PIPES:
    os.write = twice
def pytest_runtest_setup(item):
    if not PIPES and item.session.items.index(item) == 1:
        until = time.monotonic() + 20
        while not Path("repeated").exists() and time.monotonic() < until:
            time.sleep(0.01)
""")
    one_process().assert_outcomes(passed=2)
    first, second = first_and_second(sim)
    assert first["launch"] != second["launch"]


def test_a_kernel_that_closes_files_costs_its_own_case_and_writes_into_nobody_s(
    sim: Any, one_process: Any, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(f"""{CHILD}
def pytest_runtest_call(item):
    if PIPES and not Path("mine.txt").exists():
        os.closerange(3, FD + 1)
        while os.open("mine.txt", os.O_CREAT | os.O_WRONLY) < FD:
            pass
""")
    one_process().assert_outcomes(passed=1, failed=1)
    first, second = first_and_second(sim)
    assert first["reasons"][0]["text"] == (
        "its process ended with exit code 1; its last output: "
        "attnbench: something in this process closed the pipe to the pytest that started it"
    )
    assert (pytester.path / "mine.txt").read_text() == ""
    assert second["status"] == "measured"


@pytest.mark.parametrize(
    "how", ["os.close(GO)", "os.dup2(os.open('/dev/null', os.O_RDONLY), GO)"], ids=["close", "dup2"]
)
def test_a_kernel_that_closes_the_pipe_of_the_questions_costs_its_own_case(
    sim: Any, one_process: Any, pytester: pytest.Pytester, how: str
) -> None:
    pytester.makeconftest(f"""{CHILD}
GO = int(PIPES.split(":")[0]) if PIPES else -1
def pytest_runtest_call(item):
    if PIPES and not Path("closed").exists():
        Path("closed").touch()
        {how}
""")
    one_process().assert_outcomes(passed=1, failed=1)
    first, second = first_and_second(sim)
    assert first["reasons"][0]["text"].endswith(
        "something in this process closed the pipe to the pytest that started it"
    )
    assert second["status"] == "measured"


def test_programs_that_a_kernel_starts_or_forks_do_not_have_the_pipe(
    sim: Any, one_process: Any, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(f"""{CHILD}
def pytest_runtest_call(item):
    if PIPES:
        program = f"import os; os.write({{FD}}, b'stray')"
        subprocess.run([sys.executable, "-S", "-c", program], close_fds=False, stderr=subprocess.DEVNULL)
        forked = os.fork()
        if not forked:
            try:
                os.write(FD, b"stray")
            finally:
                os._exit(0)
        os.waitpid(forked, 0)
""")
    one_process().assert_outcomes(passed=2)


def test_a_process_that_does_not_read_what_it_is_asked_is_given_up(
    sim: Any, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More node ids than a pipe holds."""
    import fcntl

    pipe = os.pipe

    def small() -> tuple[int, int]:
        ends = pipe()
        fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
        return ends

    monkeypatch.setattr(os, "pipe", small)
    pytester.makeconftest(f"{CHILD}\nif PIPES:\n    time.sleep(600)\n")
    result = sim("--benchmark-disable", "--attn-workload=flux-*", "--attn-launches=1", "--attn-timeout=2")
    result.stdout.fnmatch_lines(["*its process could not start: it gave no answer within 2 s*"])


@pytest.mark.parametrize(
    "removed", ["Path(tempfile.gettempdir()).glob('attnbench-*')", "[Path(tempfile.gettempdir())]"]
)
def test_a_kernel_that_removes_temporary_folders_costs_no_other_case(
    sim: Any, one_process: Any, pytester: pytest.Pytester, tmp_path_factory: Any, monkeypatch: Any, removed: str
) -> None:
    own = tmp_path_factory.mktemp("own")
    monkeypatch.setenv("TMPDIR", str(own))
    monkeypatch.setattr(tempfile, "tempdir", str(own))
    pytester.makeconftest(f"""{CHILD}
import shutil, tempfile
def pytest_runtest_call(item):
    if PIPES and not Path("removed").exists():
        Path("removed").touch()
        for path in {removed}:
            shutil.rmtree(path)
@pytest.fixture(autouse=True)
def _uses_it(tmp_path):
    (tmp_path / "file").touch()
""")
    one_process().assert_outcomes(passed=2)
    first, second = first_and_second(sim)
    assert first["launch"] != second["launch"]
    assert not list(own.glob("attnbench-*")), "and nothing is left of them"


def test_a_temporary_folder_that_cannot_be_made_is_said_in_a_sentence(
    sim: Any, one_process: Any, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", tempfile.gettempdir())  # and it is again, afterwards
    pytester.makeconftest("""
        import tempfile
        def pytest_runtest_call(item):
            tempfile.tempdir = "/proc/nowhere"
    """)
    one_process().assert_outcomes(failed=2)
    for record in first_and_second(sim):
        [reason] = record["reasons"]
        assert reason["text"] == (
            "its process could not start: no temporary folder can be made (/proc/nowhere: No such file or directory); "
            "set TMPDIR to a folder that can be written to"
        )
