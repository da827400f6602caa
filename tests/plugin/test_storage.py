"""Where runs are stored and what they are compared with: pytest-benchmark's options, from any directory."""

from __future__ import annotations

import json
import re
import shutil
import sys

import pytest

CASE = "numpy@eager-flux-256px-t128"
ONE = "--attn-backend=numpy"


@pytest.fixture
def stored(sim, pytester):
    """The folder of own saves, with one run in it that measured numpy."""
    sim(ONE, "--benchmark-save=first").assert_outcomes(passed=1)
    (folder,) = (pytester.path / "baselines").iterdir()
    return folder


def compared_with(result: pytest.RunResult) -> list[str]:
    """Sources that stand in pytest-benchmark's table beside NOW."""
    rows = [line for line in result.outlines if line.startswith(("test_attention[", "numpy@eager ("))]
    return [line.split(" (", 1)[1].split(")")[0] for line in rows if "(NOW)" not in line]


def test_a_saved_run_lies_in_the_folder_that_the_ini_file_names(sim, stored):
    assert [path.name for path in stored.glob("*")] == ["0001_first.json"]
    sim(ONE, "--benchmark-autosave")
    assert sorted(path.name[:5] for path in stored.glob("*")) == ["0001_", "0002_"]


def test_a_saved_run_has_the_fingerprint_as_machine_info_and_every_record(sim, stored):
    document = json.loads((stored / "0001_first.json").read_text())
    unit = document["machine_info"].pop("unit")
    assert re.fullmatch("[0-9a-f]{12}", unit)
    assert document["machine_info"] == {"device": "simulated device", "protocol": "simulated"}
    assert [bench["extra_info"]["case"] for bench in document["benchmarks"]] == [CASE]
    assert [record["case"] for record in document["attnbench"]["records"]] == [CASE]


def test_without_the_ini_key_pytest_benchmark_stores_where_it_always_does(bench, pytester):
    pytester.makeini("[pytest]\n")
    bench(ONE, "--attn-device=sim", "--attn-workload=1x64x2x16", "--benchmark-save=x").assert_outcomes(passed=1)
    assert len(list(pytester.path.glob(".benchmarks/*/0001_x.json"))) == 1
    assert not (pytester.path / "baselines").exists()


def test_a_storage_named_on_the_command_line_is_used(sim, pytester):
    sim(ONE, "--benchmark-save=x", "--benchmark-storage=file://elsewhere")
    assert len(list(pytester.path.glob("elsewhere/*/0001_x.json"))) == 1


@pytest.mark.parametrize("named", ["bare", "number", "folder and number", "path"])
@pytest.mark.parametrize("where", ["root", "below"])
def test_comparing_works_however_the_run_is_named_and_wherever_it_is_called(
    sim, pytester, monkeypatch, stored, named, where
):
    arguments = ["--rootdir", str(pytester.path), str(pytester.path / "test_suite.py"), ONE, "--benchmark-columns=mean"]
    if where == "below":
        monkeypatch.chdir(pytester.mkdir("below"))
    value = {
        "bare": "",
        "number": "=0001",
        "folder and number": f"={stored.name}/0001",
        "path": f"={stored / '0001_first.json'}",
    }
    result = sim(*arguments, f"--benchmark-compare{value[named]}")
    result.assert_outcomes(passed=1)
    assert [source.rsplit("/", 1)[-1].removesuffix(".json") for source in compared_with(result)] == ["0001_first"]
    assert "VS saved" not in result.stdout.str() + result.stderr.str()


def test_a_reviewed_session_is_found_by_the_folder_of_its_gpu_model(sim, pytester, stored):
    reviewed = pytester.mkdir("baselines/nvidia-h200")
    shutil.copy(stored / "0001_first.json", reviewed / "0001_abc.json")
    result = sim(ONE, "--benchmark-compare=nvidia-h200/0001", "--benchmark-columns=mean")
    assert [source[-8:] for source in compared_with(result)] == ["0001_abc"]


def test_a_bare_comparison_takes_the_newest_own_save_and_says_so_and_what_else_there_is(sim, pytester, stored):
    reviewed = pytester.mkdir("baselines/simulated-device")
    shutil.copy(stored / "0001_first.json", reviewed / "0007_abc.json")
    sim(ONE, "--benchmark-save=second")
    result = sim(ONE, "--benchmark-compare", "--benchmark-columns=mean")
    assert compared_with(result) == ["0002_second"]
    sentence = (
        f"comparing with baselines/{stored.name}/0002_second.json (latest local save); "
        "latest complete reviewed session: baselines/simulated-device/0007_abc.json"
    )
    (line,) = [line for line in result.outlines if "comparing with" in line]
    assert line.startswith("attnbench: "), "the header, and not once more at the end"
    assert line.endswith(sentence)


def test_a_bare_comparison_takes_the_reviewed_session_where_there_is_no_own_save(sim, pytester, stored):
    stored.rename(stored.parent / "simulated-device")
    result = sim(ONE, "--benchmark-compare", "--benchmark-columns=mean", "-q")
    assert [source[-10:] for source in compared_with(result)] == ["0001_first"]
    result.stdout.fnmatch_lines(
        ["comparing with baselines/simulated-device/0001_first.json (latest complete reviewed session*"]
    )


def test_a_bare_comparison_with_nothing_there_measures_and_says_how_to_save(sim):
    result = sim(ONE, "--benchmark-compare")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["nothing to compare with for simulated device in *: save a run first*"])


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("a/b/c", "--benchmark-compare=a/b/c: there is no such file; a number (0003) or a folder *"),
        ("/nosuch", "--benchmark-compare=/nosuch: there is no such file; *"),
        ("test_suite.py", "--benchmark-compare=test_suite.py names tests, not a stored run: *"),
    ],
)
def test_what_is_no_stored_run_is_a_usage_error(sim, value, sentence):
    result = sim(ONE, "--benchmark-compare", value)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {sentence}"])


def test_another_machine_is_one_sentence(sim, pytester, stored):
    path = stored / "0001_first.json"
    document = json.loads(path.read_text())
    document["machine_info"] |= {"protocol": "cuda-events/1", "flags": ["cpu"] * 200}
    path.write_text(json.dumps(document))
    result = sim(ONE, "--benchmark-compare=0001")
    said = [line for line in result.outlines if line.startswith("NOT COMPARABLE")]
    assert said == ["NOT COMPARABLE with the stored run: protocol simulated here, cuda-events/1 there"]
    assert "flags" not in result.stdout.str() + result.stderr.str()


def test_a_slow_down_beyond_compare_fail_fails_the_run_and_keeps_the_section(sim, stored):
    slow = (ONE, "--benchmark-compare", "--benchmark-compare-fail=median:5%", "--attn-sim=numpy:+20%")
    result = sim(*slow)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["failed by --benchmark-compare-fail*", "1 case: 1 measured"])
    assert "Performance has regressed" in result.stderr.str()
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert sim(*slow[:3]).ret == pytest.ExitCode.OK


def test_compare_fail_with_nothing_to_compare_with_is_refused_before_anything_runs(sim):
    result = sim(ONE, "--benchmark-compare", "--benchmark-compare-fail=mean:5%")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --benchmark-compare-fail: nothing to compare with for simulated device*"])


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        (
            "s3://bucket",
            "--benchmark-storage: expected file://FOLDER or elasticsearch+http://HOST/…, got 's3://bucket'",
        ),
        ("elasticsearch+http://localhost/", "--benchmark-storage=* needs the package elasticsearch, which is not *"),
    ],
)
def test_a_storage_that_cannot_be_used_is_one_sentence_before_anything_runs(sim, monkeypatch, storage, said):
    monkeypatch.setitem(sys.modules, "elasticsearch", None)  # as where it is not installed
    result = sim("--attn-backend=numpy", "--benchmark-save=x", f"--benchmark-storage={storage}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    result.stderr.fnmatch_lines([f"ERROR: {said}"])
