"""README and docs: commands work, what they list is complete, and links lead somewhere.

Every command in a block of a document is one of these, and `test_every_command_is_accounted_for` fails for any other:

- run: its block stands below a comment that names the test which executes it;
- collected: a pytest command; all of them run with --collect-only, in one process, so that options and names are checked;
- on a GPU: its block says `# on a GPU`; its options and files exist;
- of a tool: a script of this repository or the command `attnbench`; the file or the subcommand exists;
- of the shell: `pip` and `export`, which are not run.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from processes import environment

from attnbench import model
from attnbench.backends.registry import Backend
from attnbench.codec import run_from
from attnbench.plugin.options import OPTIONS
from attnbench.storage.benchmark_json import load_document

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("baselines/*.md"))
)
TINY = ("--attn-device=cpu", "--attn-rounds=2", "--attn-workload=1x64x2x64:bf16")
ON_A_GPU = "# on a GPU"
OF_THE_SHELL = ("pip", "export")
SUBCOMMANDS = ("list", "record", "report", "summary", "noise")
LONGEST = {"README.md": 200, "docs/method.md": 350}  # lines


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf8")


def tokens(page: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text(page))


@dataclass(frozen=True)
class Block:
    """A fenced block. remark: the HTML comment right above it; where: page and line."""

    language: str
    content: str
    remark: str
    where: str


def blocks(page: str, language: str = "") -> list[Block]:
    found, remark = [], ""
    for token in MarkdownIt("commonmark").disable("inline").parse(text(page)):
        if token.type == "fence" and language in ("", token.info):
            found.append(Block(token.info, token.content, remark, f"{page}:{token.map[0] + 1}"))
        if token.type != "inline":
            remark = token.content if token.type == "html_block" else ""
    return found


def block_after(page: str, remark: str) -> str:
    """The content of the block that a remark in an HTML comment announces."""
    (found,) = (block.content for block in blocks(page) if block.remark.startswith(f"<!-- {remark}:"))
    return found


def python(page: str) -> list[str]:
    return [block.content for block in blocks(page, "python")]


@dataclass(frozen=True)
class Command:
    """One command of a block, without variables that are set before it. words: of "pytest -x": pytest, -x."""

    words: tuple[str, ...]
    block: Block

    @property
    def program(self) -> str:
        return self.words[0]

    @property
    def kind(self) -> str:
        if "executed by tests/plugin/" in self.block.remark:
            return "run"
        if ON_A_GPU in self.block.content:
            return "on a GPU"
        if self.program == "pytest":
            return "collected"
        if self.program in OF_THE_SHELL:
            return "of the shell"
        return (
            "of a tool" if self.program in ("attnbench", "python") or self.program.startswith("scripts/") else "unknown"
        )

    @property
    def pytest_arguments(self) -> tuple[str, ...] | None:
        """What pytest gets; None for another program."""
        if self.program in ("pytest", "scripts/bench"):
            return self.words[1:]
        return self.words[3:] if self.words[1:3] == ("-m", "pytest") else None

    def __str__(self) -> str:
        return f"{self.block.where}: {shlex.join(self.words)}"


def commands() -> list[Command]:
    """Of all blocks: every line of sh, and what follows `$ ` in console."""
    found = []
    for block in (block for page in PAGES for block in blocks(page)):
        lines = block.content.replace("\\\n", " ").splitlines()
        if block.language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        elif block.language != "sh":
            continue
        for line in lines:
            words = shlex.split(line, comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                words = words[1:]
            if words:
                found.append(Command(tuple(words), block))
    return found


COMMANDS = commands()


# Commands


def test_every_command_is_accounted_for():
    assert len(COMMANDS) > 30
    assert [str(command) for command in COMMANDS if command.kind == "unknown"] == []


def test_the_blocks_that_name_a_test_are_those_that_one_runs():
    named = {
        (command.block.where.partition(":")[0], command.block.remark.split()[1])
        for command in COMMANDS
        if command.kind == "run"
    }
    assert named == {
        ("README.md", "regression:"),
        ("docs/developing.md", "run:"),
        ("docs/processes.md", "run:"),
        ("docs/runners.md", "example:"),  # test_job_summary.py
        ("docs/sustained.md", "run:"),
    }


@pytest.fixture(scope="module")
def options_of_pytest() -> set[str]:
    """All that `pytest --help` knows, with the plugins that are installed here."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "attnbench.plugin", "--help"],
        capture_output=True,
        encoding="utf8",
        env=environment(),
        cwd=ROOT / "tests",
        timeout=60,
        check=True,
    )
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", done.stdout))


def test_commands_for_a_gpu_name_options_that_exist(options_of_pytest):
    used = [
        (word.partition("=")[0], str(command))
        for command in COMMANDS
        for word in (command.pytest_arguments or ())
        if word.startswith("--")
    ]
    assert len(used) > 30
    assert [one for one in used if one[0] not in options_of_pytest] == []


def test_commands_that_record_name_options_that_exist(options_of_pytest):
    script = subprocess.run(
        [ROOT / "scripts/record_baseline", "--help"], capture_output=True, encoding="utf8", check=True
    )
    known = options_of_pytest | set(re.findall(r"--[a-z-]+", script.stdout))
    used = [
        (word.partition("=")[0], str(command))
        for command in COMMANDS
        for word in command.words
        if command.words[0] == "scripts/record_baseline" or command.words[:2] == ("attnbench", "record")
        if word.startswith("--")
    ]
    assert len(used) > 10
    assert [one for one in used if one[0] not in known] == []


def test_files_in_commands_exist():
    files = {
        (word, str(command))
        for command in COMMANDS
        for word in command.words[:2]
        if word.startswith(("scripts/", "tests/"))
    }
    assert len(files) > 5
    assert [one for one in files if not (ROOT / one[0]).exists()] == []


def test_subcommands_in_documents_exist():
    named = {command.words[1] for command in COMMANDS if command.program == "attnbench"}
    named |= {name for page in PAGES for name in re.findall(r"`attnbench ([a-z]+)\b", text(page))}
    assert named <= set(SUBCOMMANDS)


def test_the_command_has_these_subcommands():
    done = subprocess.run(
        [sys.executable, "-m", "attnbench", "--help"],
        capture_output=True,
        encoding="utf8",
        timeout=60,
        check=True,
        cwd=ROOT,
    )
    assert [name for name in SUBCOMMANDS if name not in done.stdout] == []


def test_ci_runs_the_two_commands_of_the_readme():
    (first, *_) = blocks("README.md", "sh")
    named = [command.program for command in COMMANDS if command.block.where == first.where]
    assert named == ["scripts/bench", "scripts/test"]
    assert [program for program in named if f"\n{program}" not in (ROOT / ".ci/run").read_text()] == []


#: Runs each list of arguments that stands on its standard input, and prints the exit code of each.
COLLECT = """
import contextlib, json, sys, pytest
codes = []
for arguments in json.load(sys.stdin):
    with contextlib.redirect_stdout(sys.stderr):
        command = [*arguments, "-n0", "--collect-only", "-q", "-p", "no:cacheprovider", "-p", "attnbench.plugin"]
        codes.append(int(pytest.main(command)))
print(json.dumps(codes))
"""


def test_pytest_commands_collect(tmp_path):
    """With the kernels that the documents register, in one process."""
    registered = ("\n".join(python(page)[:1]) for page in ("README.md", "docs/adding-a-kernel.md"))
    (tmp_path / "conftest.py").write_text("\n".join(registered), encoding="utf8")
    (tmp_path / "tests/suite").mkdir(parents=True)
    (tmp_path / "tests/suite/test_suite.py").write_text(block_after("docs/adding-a-kernel.md", "own suite"))
    (tmp_path / "pytest.ini").write_text("[pytest]\nattn_baselines = baselines\n", encoding="utf8")
    collected = [command for command in COMMANDS if command.kind == "collected"]
    assert len(collected) > 5
    done = subprocess.run(
        [sys.executable, "-c", COLLECT],
        input=json.dumps([command.pytest_arguments for command in collected]),
        capture_output=True,
        encoding="utf8",
        env=environment(TRITON_INTERPRET="1"),
        cwd=tmp_path,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout)
    assert [str(command) for command, code in zip(collected, codes, strict=True) if code] == [], done.stderr


def test_the_regression_in_the_readme_is_what_its_commands_print(tmp_path):
    block = block_after("README.md", "regression")
    program = "\n".join(shlex.join(command.words) for command in COMMANDS if command.block.content == block).replace(
        "/tmp/demo", str(tmp_path)
    )
    done = subprocess.run(
        ["bash", "-c", program.replace("pytest ", f"{sys.executable} -m pytest ", 1)],
        capture_output=True,
        encoding="utf8",
        env=environment(ATTN_PYTHON=sys.executable),
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    printed = (done.stdout + done.stderr).replace(str(tmp_path), "/tmp/demo")
    shown = [
        line
        for line in block.splitlines()
        if line.startswith(("attnbench: recorded", "REGRESSED", "  baseline", "  repr"))
    ]
    assert len(shown) == 4
    assert [line for line in map(without_id, shown) if line not in without_id(printed).splitlines()] == []


def without_id(printed: str) -> str:
    return re.sub(r"0001_[0-9a-f]{12}", "0001_ID", printed)


@pytest.mark.parametrize("page", ["docs/processes.md", "docs/developing.md", "docs/sustained.md"])
def test_commands_on_the_simulated_device_print_what_is_shown(bench, page):
    (block,) = (block for block in blocks(page) if block.remark.startswith("<!-- run:"))
    ((command),) = (command for command in COMMANDS if command.block == block)
    result = bench(*command.pytest_arguments)
    shown = block.content.replace("\\\n", "").splitlines()[1:] if block.language == "console" else []
    shown = [line for line in shown if line not in ("", "…")]
    printed = iter(result.outlines)
    missing = [line for line in shown if not any(is_shown(line, other) for other in printed)]  # each, in this order
    assert missing == []
    assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)


def is_shown(line: str, printed: str) -> bool:
    """Whether this line was printed; … stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, line.split("…"))), printed) is not None


# Kernels


def test_the_kernel_of_the_readme_is_correct_and_timed_in_its_own_suite(bench, pytester):
    kernel = block_after("README.md", "own kernel")
    assert len([line for line in kernel.splitlines() if line]) < 15
    pytester.makeconftest(kernel)
    pytester.makepyfile(test_suite=block_after("docs/adding-a-kernel.md", "own suite"))
    result = bench(
        "--benchmark-only", "--attn-backend=my_attention", "--attn-mode=eager", "--benchmark-json=run.json", *TINY
    )
    result.assert_outcomes(passed=1)
    (record,) = bench.records().values()
    assert (record["backend"], record["status"]) == ("my_attention", "measured")
    assert len(record["sample"]["rounds_s"]) == 2
    assert any(check["poisoned"] for check in record["checks"])  # which memory it gets is up to the allocator


def test_the_suite_of_the_package_takes_the_kernel_of_the_readme(bench, pytester):
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


def test_the_own_test_of_adding_a_kernel_measures(sim, pytester):
    (own,) = (block for block in python("docs/adding-a-kernel.md") if "def test_mine" in block)
    pytester.makepyfile(test_suite=own)
    sim("--benchmark-only", "--attn-backend=numpy", "--benchmark-json=run.json").assert_outcomes(passed=1)
    (record,) = sim.records().values()
    assert record["nodeid"].startswith("test_suite.py::test_mine[")
    assert record["status"] == "measured"


def test_registrations_in_documents_work(sim, pytester):
    shown = [*python("docs/adding-a-kernel.md"), *python("docs/processes.md")]
    pytester.makeconftest("\n".join(block for block in shown if "register" in block))
    result = sim("--attn-list", "--attn-backend=my_*", "--attn-workload=llama-8k")
    result.stdout.fnmatch_lines(
        [
            "  my_kernel *eager, default: ready",
            "  my_other_kernel *eager: ready",
            "  llama-8k  1x8192x32x128:bf16  a long prompt",
        ]
    )


def test_adding_a_kernel_shows_the_reasons_that_its_backend_gives(bench, pytester):
    pytester.makeconftest(python("docs/adding-a-kernel.md")[0])
    (block,) = blocks("docs/adding-a-kernel.md", "console")
    ((command),) = (command for command in COMMANDS if command.block == block)
    shown = block.content.partition("backends\n")[2].partition("…")[0]
    assert "package 'my_kernels' is not installed" in shown
    assert shown in bench(*command.pytest_arguments).stdout.str()


# Completeness


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_only_options_that_exist(page):
    known = {option.name for option in OPTIONS if not option.ini_only}
    assert set(re.findall(r"--attn-([a-z]+(?:-[a-z]+)*)", text(page))) <= known
    keys = {option.key.removeprefix("attn_") for option in OPTIONS}
    assert set(re.findall(r"\battn_([a-z_]+) = ", text(page))) <= keys


def test_adding_a_kernel_explains_every_field_of_a_backend():
    explained = re.findall(
        r"^\| `(\w+)` \| [^|]", text("docs/adding-a-kernel.md").partition("\n## Requirements")[0], re.M
    )
    assert explained == [field.name for field in fields(Backend)]


STORED = (
    model.RunFile,
    model.Launch,
    model.Fingerprint,
    model.Record,
    model.Reason,
    model.StateChange,
    model.Workload,
    model.Sample,
    model.Compilation,
    model.DeviceOp,
    model.Check,
    model.ErrorMetrics,
    model.Statistic,
    model.Verdict,
    model.Bearing,
)


@pytest.mark.parametrize("stored", STORED)
def test_records_names_every_stored_field(stored):
    named = set(re.findall(r"`(\w+)`", text("docs/records.md")))
    assert [field.name for field in fields(stored) if field.name not in named] == []


def test_developing_names_every_folder_of_the_code():
    folders = {path.parent.name for path in (ROOT / "attnbench").glob("*/__init__.py")}
    assert folders <= set(re.findall(r"^\| `(\w+)/` \|", text("docs/developing.md"), re.M))


@pytest.mark.parametrize("page", LONGEST)
def test_a_page_stays_short(page):
    assert len(text(page).splitlines()) <= LONGEST[page]


def test_the_readme_counts_the_reviewed_sessions_right():
    said = re.search(
        r"Reviewed sessions: (\d+) eager kernels on (\d+) \[H200s\]\S+, (\d+) on (\d+) \[H100\]",
        " ".join(text("README.md").split()),
    )
    assert said is not None
    found = []
    for folder in ("nvidia-h200", "nvidia-h100-80gb-hbm3"):
        runs = [run_from(load_document(path)) for path in sorted((ROOT / "baselines" / folder).glob("*.json"))]
        eager = {record.backend for run in runs for record in run.records if record.mode == "eager"}
        units = {launch.fingerprint.context["unit"] for run in runs for launch in run.launches}
        found += [str(len(eager)), str(len(units))]
    assert list(said.groups()) == found


# Links


@pytest.mark.parametrize("page", PAGES)
def test_a_page_links_only_to_what_is_there(page):
    for target in links(page):
        if not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            linked = (ROOT / page).parent / path if path else ROOT / page
            assert linked.exists(), target
            assert not anchor or anchor in anchors(linked), target


def test_every_document_is_linked_from_the_readme_or_an_index():
    linked = {
        str(((ROOT / page).parent / target.partition("#")[0]).resolve().relative_to(ROOT))
        for page in ("README.md", "docs/measurements/README.md", "docs/sample/README.md")
        for target in links(page)
        if not target.startswith(("https://", "#"))
    }
    assert [page for page in PAGES if page.startswith("docs/") and page not in linked] == []


def links(page: str) -> list[str]:
    inline = [child for token in tokens(page) for child in token.children or ()]
    return [str(child.attrs["href"]) for child in inline if child.type == "link_open"]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    parsed = MarkdownIt("commonmark").parse(page.read_text(encoding="utf8"))
    headings = [after.content for token, after in pairwise(parsed) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
