"""`--attn-report=DIR`: a report of the run, which never fails it."""

import pytest

from attnbench.report import bundle

CASES = ("--attn-backend=torch_flash", "--attn-mode=eager", "--attn-workload=flux-1024px-t512")


def test_a_run_ends_with_the_path_of_its_report(sim, tmp_path):
    folder = tmp_path / "new" / "report"
    result = sim(*CASES, f"--attn-report={folder}")
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"report: {folder}/*"])
    assert "torch_flash@eager" in (folder / "latency.csv").read_text()
    if (folder / "index.html").is_file():  # with Jinja2
        result.stdout.fnmatch_lines([f"report: {folder}/index.html"])
        assert "torch_flash@eager" in (folder / "index.html").read_text()


def test_launched_cases_are_in_one_report(sim, tmp_path):
    result = sim(*CASES, "--attn-launches=2", f"--attn-report={tmp_path / 'report'}")
    assert result.ret == 0
    assert str(result.stdout).count("report: ") == 1
    assert len((tmp_path / "report" / "records.jsonl").read_text().splitlines()) == 2


def test_a_report_that_cannot_be_made_does_not_fail_the_run(sim, tmp_path, monkeypatch):
    def broken(*_args, **_options):
        raise RuntimeError("no figure today")

    monkeypatch.setattr(bundle, "rendered", broken)
    result = sim(*CASES, f"--attn-report={tmp_path / 'report'}")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["no report: RuntimeError: no figure today"])


def test_a_folder_that_cannot_be_written_to_any_longer_is_a_sentence(sim, tmp_path, pytester):
    above = tmp_path / "above"
    pytester.makeconftest(f"def pytest_sessionstart():\n    open({str(above)!r}, 'w').close()\n")
    result = sim(*CASES, f"--attn-report={above / 'below'}")
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"no report: {above}/below cannot be written to: Not a directory"])


@pytest.mark.parametrize(
    ("below", "said"),
    [
        ("", "expected a folder, got the file '{}'"),
        ("/below", "the folder '{}' cannot be used: Not a directory"),
    ],
)
def test_a_file_in_place_of_the_folder_or_above_it_is_wrong_usage(sim, tmp_path, below, said):
    (tmp_path / "file").write_text("")
    path = f"{tmp_path}/file{below}"
    result = sim(*CASES, f"--attn-report={path}")
    assert result.ret == 4
    assert f"--attn-report: {said.format(path)}" in result.stderr.str()


def test_a_run_without_cases_writes_none(sim, tmp_path):
    sim(*CASES, "--attn-list", f"--attn-report={tmp_path / 'report'}")
    assert not (tmp_path / "report").exists()
