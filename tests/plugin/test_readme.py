"""README and docs: what they show works, what they list is complete, and what they link to is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from attnbench.backends.registry import Backend
from attnbench.model import Check, Record, Sample, Verdict
from attnbench.plugin.options import OPTIONS

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CHANGELOG.md", "docs/adding-a-kernel.md", "docs/method.md", "docs/runners.md")
TINY = ("--attn-device=cpu", "--attn-rounds=2", "--attn-workload=1x64x2x64:bf16")


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf8")


def blocks(page: str) -> list[str]:
    """Its Python, block by block."""
    return re.findall(r"^```python\n(.*?)^```$", text(page), re.M | re.S)


def block_after(page: str, remark: str) -> str:
    """The Python block that a remark in an HTML comment announces."""
    (found,) = re.findall(rf"^<!-- {remark}:[^\n]*-->\n+```python\n(.*?)^```$", text(page), re.M | re.S)
    return found


def test_the_own_kernel_of_the_readme_is_found_correct_and_timed_in_its_own_suite(bench, pytester):
    kernel = block_after("README.md", "own kernel")
    assert len([line for line in kernel.splitlines() if line]) < 15
    pytester.makeconftest(kernel)
    pytester.makepyfile(test_suite=block_after("README.md", "own suite"))
    result = bench(
        "--benchmark-only", "--attn-backend=my_attention", "--attn-mode=eager", "--benchmark-json=run.json", *TINY
    )
    result.assert_outcomes(passed=1)
    (record,) = bench.records().values()
    assert (record["backend"], record["status"]) == ("my_attention", "measured")
    assert len(record["sample"]["rounds_s"]) == 2
    assert any(check["poisoned"] for check in record["checks"])  # which memory it gets is up to the allocator


def test_the_suite_of_the_package_takes_the_own_kernel_of_the_readme(bench, pytester):
    pytester.path.joinpath("test_suite.py").unlink()
    pytester.makeconftest(block_after("README.md", "own kernel"))
    arguments = ("--attn-backend=my_attention", "--attn-mode=eager", *TINY)
    bench("--pyargs", "attnbench.suite", *arguments).assert_outcomes(passed=1)


def test_the_kernel_that_adding_a_kernel_calls_wrong_is_wrong_as_it_says(bench, pytester):
    kernel = block_after("README.md", "own kernel")
    wrong = kernel.replace(".float()", "").replace(".to(q.dtype)", "")
    assert wrong != kernel
    pytester.makeconftest(wrong)
    arguments = ("--attn-device=cpu", "--attn-workload=1x384x2x128:bf16", "--attn-mode=eager")
    bench("--attn-backend=my_attention", "--benchmark-json=run.json", *arguments).assert_outcomes(failed=1)
    (record,) = bench.records().values()
    assert record["status"] == "incorrect"
    assert [reason["text"].split()[0] for reason in record["reasons"]] == ["rel_l2"] * 3


def test_the_own_test_of_the_readme_measures(sim, pytester):
    (own,) = (block for block in blocks("README.md") if "def test_mine" in block)
    pytester.makepyfile(test_suite=own)
    sim("--benchmark-only", "--attn-backend=numpy", "--benchmark-json=run.json").assert_outcomes(passed=1)
    (record,) = sim.records().values()
    assert record["nodeid"].startswith("test_suite.py::test_mine[")
    assert record["status"] == "measured"


def test_adding_a_kernel_shows_registrations_that_work(sim, pytester):
    pytester.makeconftest("\n".join(blocks("docs/adding-a-kernel.md")))
    result = sim("--attn-list", "--attn-backend=my_kernel", "--attn-workload=llama-8k")
    result.stdout.fnmatch_lines(["  my_kernel  eager, default: ready", "  llama-8k  1x8192x32x128:bf16  a long prompt"])


def test_adding_a_kernel_shows_the_reasons_that_its_backend_gives(bench, pytester):
    pytester.makeconftest(blocks("docs/adding-a-kernel.md")[0])
    command = next(
        line for line in text("docs/adding-a-kernel.md").splitlines() if line.startswith("$ pytest --attn-list")
    )
    said = next(line for line in text("docs/adding-a-kernel.md").splitlines() if line.startswith("  my_kernel  eager:"))
    assert said in bench(*command.split()[2:]).outlines


def test_the_table_of_options_is_that_of_the_settings():
    rows = []
    for option in OPTIONS:
        flag = f"`--attn-{option.name} {option.metavar}".rstrip() + "`"
        given = ("", "") if option.ini_only else (flag, f"`{option.variable}`")
        help_text = option.help.replace("%%", "%")
        rows.append(f"| {given[0]} | `{option.key}` | {given[1]} | {help_text} |")
    (table,) = re.findall(r"^<!-- options:.*?-->\n\n(.*?)\n\n", text("README.md"), re.M | re.S)
    assert table.splitlines()[2:] == rows


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_only_options_that_exist(page):
    known = {option.name for option in OPTIONS if not option.ini_only}
    assert set(re.findall(r"--attn-([a-z]+(?:-[a-z]+)*)", text(page))) <= known
    assert set(re.findall(r"\battn_([a-z_]+) = ", text(page))) <= {
        option.key.removeprefix("attn_") for option in OPTIONS
    }


@pytest.mark.parametrize("page", PAGES)
def test_a_page_links_only_to_what_is_there(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            linked = (ROOT / page).parent / path if path else ROOT / page
            assert linked.exists(), target
            assert not anchor or anchor in anchors(linked), target


def anchors(page: Path) -> set[str]:
    """The anchors that a forge makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_adding_a_kernel_explains_every_field_of_a_backend():
    explained = re.findall(r"^\| `(\w+)` \| [^|]", text("docs/adding-a-kernel.md"), re.M)
    assert explained == [field.name for field in fields(Backend)]


@pytest.mark.parametrize("model", [Record, Check, Sample, Verdict])
def test_the_method_names_every_field_that_is_stored(model):
    table = text("docs/method.md").partition("| field of a record |")[2].partition("\n\n")[0]
    assert [field.name for field in fields(model) if f"`{field.name}`" not in table] == []


def test_the_regression_in_the_readme_is_what_its_commands_print(tmp_path):
    (block,) = re.findall(r"^```console\n(\$ scripts/record_baseline .*?)^```$", text("README.md"), re.M | re.S)
    commands = re.findall(r"^\$ (.*?[^\\])$", block, re.M | re.S)
    shown = [line for line in block.splitlines() if line.startswith(("attnbench: recorded", "REGRESSED"))]
    program = (
        "\n".join(commands).replace("/tmp/baselines", str(tmp_path)).replace("pytest ", f"{sys.executable} -m pytest ")
    )
    done = subprocess.run(
        ["bash", "-c", program],
        capture_output=True,
        encoding="utf8",
        env={**os.environ, "ATTN_PYTHON": sys.executable},
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    printed = (done.stdout + done.stderr).replace(str(tmp_path), "/tmp/baselines").splitlines()
    without_id = {re.sub(r"0001_[0-9a-f]{12}", "0001_ID", line) for line in printed}
    assert {re.sub(r"0001_[0-9a-f]{12}", "0001_ID", line) for line in shown} <= without_id
