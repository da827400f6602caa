"""`attnbench noise` on sessions of the simulated device, and on what is none."""

from __future__ import annotations

import json
import re

import pytest

from attnbench.cli.command import main
from attnbench.report.table import GAP

CASES = ("--attn-mode=eager", "--attn-backend=torch_flash", "--attn-backend=numpy")


def rows(printed: str) -> list[list[str]]:
    """The cells of the first table."""
    _, _, table = printed.partition("\n\n")
    header, _, *lines = table.partition("\n\n")[0].splitlines()
    assert header.split(GAP)[0].strip() == "family"
    return [re.split(r" {2,}", line) for line in lines]


def noise(capsys, *arguments: str) -> str:
    capsys.readouterr()
    assert main(["noise", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_one_session_carries_an_assumed_limit_and_names_how_many_are_missing(baseline, capsys):
    baseline(*CASES)
    printed = noise(capsys)
    assert printed.startswith("simulated device · unit ")
    assert "\n  simulated-device/0001_recorded.json\n" in printed
    found = rows(printed)
    assert [row[:3] for row in found] == [["torch", "1", "1"], ["numpy", "1", "1"]]
    for row in found:
        assert row[4] == "0.24 assumed"
        assert 2 < float(row[5]) < 4
        assert re.fullmatch(r"\d more", row[6])
    assert re.search(r"^limit .* %: 1 session .*", printed, re.M)
    assert "(attnbench record --sessions=" in " ".join(printed.split())


def test_sessions_that_agree_carry_less_than_one(baseline, capsys):
    limits = []
    for seed in (1, 2, 3, 4):
        baseline(*CASES, f"--attn-sim=seed={seed}")
        limits.append(float(rows(noise(capsys, baseline.folder))[0][5]))
    assert limits[3] < limits[0]
    assert rows(noise(capsys, baseline.folder))[0][2] == "4"


def test_units_stand_apart_and_verbose_adds_every_case(baseline, capsys):
    baseline(*CASES)
    baseline(*CASES, "--attn-sim=unit=other")
    printed = noise(capsys, "-v")
    assert len(re.findall(r"^simulated device · unit \w+ · .* · 1 session$", printed, re.M)) == 2
    (row, _) = re.findall(r"^torch_flash@eager-flux-256px-t128 +3 +(\d\.\d\d) +", printed, re.M)
    assert 0 < float(row) < 2


def test_a_file_is_read_wherever_it_lies(baseline, capsys, tmp_path):
    path = baseline(*CASES)
    path = path.rename(tmp_path / "any.json")
    assert "/any.json\n" in noise(capsys, path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "baselines holds no session (NNNN_NAME.json): record one with `attnbench record`"),
        ("{", "baselines/simulated-device/0001_cut.json is not JSON"),
    ],
)
def test_no_session_and_a_damaged_one_are_a_sentence_and_exit_code_four(sim, pytester, capsys, content, said):
    folder = pytester.path / "baselines/simulated-device"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "0001_cut.json").write_text(content)
    assert main(["noise"]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"attnbench: {said}")


def test_a_path_that_does_not_exist_is_named(pytester, capsys):
    assert main(["noise"]) == 4
    said = "attnbench: baselines does not exist: name a file or a folder of stored sessions\n"
    assert capsys.readouterr().err == said


def test_timings_of_a_cpu_have_no_known_noise(bench, capsys):
    tiny = ("--attn-device=cpu", "--attn-rounds=3", "--attn-workload=1x64x2x64:bf16", "--attn-backend=torch_math")
    bench("--benchmark-only", "--benchmark-json=run.json", "--attn-mode=eager", "-o", "attn_baselines=", *tiny)
    capsys.readouterr()
    assert main(["noise", "run.json"]) == 4
    assert capsys.readouterr().err.startswith("attnbench: no session holds timings of a GPU whose noise is known")


def test_a_session_that_is_a_loop_of_links_is_a_sentence(pytester, capsys):
    folder = pytester.mkdir("loop")
    (folder / "0001_x.json").symlink_to("0001_x.json")
    assert main(["noise", "loop"]) == 4
    assert capsys.readouterr().err == "attnbench: loop/0001_x.json cannot be read: Too many levels of symbolic links\n"


def test_a_path_that_cannot_be_looked_at_is_a_sentence(pytester, capsys):
    path = "x" * 300
    assert main(["noise", path]) == 4
    assert capsys.readouterr().err == f"attnbench: {path} cannot be read: File name too long\n"


def test_what_a_session_holds_and_is_called_reaches_no_terminal_raw(baseline, capsys):
    path = baseline(*CASES)
    document = json.loads(path.read_text())
    for launch in document["attnbench"]["launches"]:
        launch["fingerprint"]["key"]["device"] += "\x1b[2J\n::error::x"
    for record in document["attnbench"]["records"]:
        record["family"] = record.get("family", "torch") + "\x1b]0;own\x07"
    hostile = path.with_name("0002_a\x1b[2J\n::error::b.json")
    hostile.write_text(json.dumps(document))
    printed = noise(capsys, "-v", hostile)
    assert not set("\x1b\x07") & set(printed)
    assert not any(line.lstrip().startswith("::") for line in printed.splitlines())
    assert "simulated device\\x1b[2J" in printed


def test_an_ini_file_that_pytest_refuses_is_a_sentence(pytester, capsys):
    pytester.makefile(".ini", pytest="[pytest\n")
    assert main(["noise"]) == 4
    said = capsys.readouterr().err
    assert said.startswith("attnbench: pytest cannot tell which folder the ini key attn_baselines names: ")
    assert "pytest.ini:1" in said


def test_another_plugin_that_prints_does_not_name_the_folder(pytester, capsys, monkeypatch):
    pytester.makepyfile(noisy="print('hello')")
    pytester.makefile(".ini", pytest="[pytest]\nattn_baselines = stored\n")
    monkeypatch.setenv("PYTEST_PLUGINS", "noisy")
    assert main(["noise"]) == 4
    assert capsys.readouterr().err.startswith("attnbench: stored does not exist: ")
