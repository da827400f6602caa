"""Backends and workloads of one's own: in a conftest.py, a nested one, or another package."""

from __future__ import annotations

import dataclasses
import fnmatch
import inspect
import os

import pytest

from attnbench import Backend, Device, register

TINY = ("--attn-device=cpu", "--attn-rounds=2", "--attn-workload=1x32x2x16:fp32")

OWN_KERNEL = """
import torch
from attnbench import register

@register("mine", "my project", modes=("eager", "default"))
def load(workload):
    def attention(q, k, v):  # [batch, seq, heads, head_dim]
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * workload.head_dim**-0.5
        return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v)
    return attention
"""


def test_a_kernel_in_a_conftest_of_under_15_lines_is_selected_checked_and_timed(bench, pytester):
    assert len(OWN_KERNEL.strip().splitlines()) < 15
    pytester.makeconftest(OWN_KERNEL)
    result = bench("--attn-backend=mine", "--attn-mode=eager", "--benchmark-json=run.json", *TINY)
    result.assert_outcomes(passed=1)
    record = bench.records()["mine@eager-1x32x2x16:fp32"]
    assert record["family"] == "my project"
    assert record["status"] == "measured"
    assert len(record["checks"]) >= 2
    assert len(record["sample"]["rounds_s"]) == 2


def test_a_wrong_kernel_is_not_timed(bench, pytester):
    pytester.makeconftest(OWN_KERNEL.replace("**-0.5", "**-0.4"))
    result = bench("--attn-backend=mine", "--attn-mode=eager", "--benchmark-json=run.json", *TINY)
    result.assert_outcomes(failed=1)
    record = bench.records()["mine@eager-1x32x2x16:fp32"]
    assert (record["status"], record["sample"]) == ("incorrect", None)


#: A library that chooses by a variable, beside a kernel that must not see it; `way` says what becomes of the first.
CHOOSES = """
import contextlib, os
from attnbench import register

def sdpa(q, k, v):
    from torch.nn.functional import scaled_dot_product_attention
    with open("seen.txt", "a") as file:
        print(os.environ.get("LIBRARY_CHOICE", "unset"), file=file)
    if WAY == "fails" and "LIBRARY_CHOICE" in os.environ:
        raise ValueError("no such choice")
    return scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2).contiguous()

@register("chooses", "my project")
@contextlib.contextmanager
def load(workload):
    os.environ["LIBRARY_CHOICE"] = "fast"
    try:
        yield sdpa
    finally:
        del os.environ["LIBRARY_CHOICE"]

@register("plain", "my project")
@contextlib.contextmanager
def load_plain(workload):
    yield sdpa
"""


@pytest.mark.parametrize("way", ["works", "fails"])
def test_what_a_loader_sets_up_holds_until_its_case_is_over_and_no_longer(bench, pytester, way):
    pytester.makeconftest(CHOOSES.replace("WAY", repr(way)))
    result = bench("--attn-backend=chooses", "--attn-backend=plain", "--benchmark-json=run.json", *TINY)
    result.assert_outcomes(passed=2) if way == "works" else result.assert_outcomes(passed=1, failed=1)
    seen = (pytester.path / "seen.txt").read_text().split()
    assert list(dict.fromkeys(seen)) == ["fast", "unset"]
    assert sorted(seen) == seen, "first all calls of the one, then all of the other"


def test_a_listing_undoes_what_a_loader_sets_up(bench, pytester, monkeypatch):
    monkeypatch.delenv("LIBRARY_CHOICE", raising=False)
    pytester.makeconftest(CHOOSES.replace("WAY", "'works'"))
    bench("--attn-list", "--attn-backend=chooses", *TINY).stdout.fnmatch_lines(["  chooses  eager: ready"])
    assert "LIBRARY_CHOICE" not in os.environ


def test_two_loaders_of_one_name_are_told_apart_though_both_are_context_managers(bench, pytester):
    pytester.makeconftest(CHOOSES.replace("WAY", "'works'").replace('"plain"', '"chooses"'))
    result = bench("--attn-list", *TINY)
    result.stderr.fnmatch_lines(["*backend 'chooses' is registered twice, by */conftest.py:* and */conftest.py:*"])


def test_a_nested_conftest_adds_to_what_is_known(sim, pytester):
    below = pytester.mkpydir("zz_below")
    below.joinpath("conftest.py").write_text(OWN_KERNEL)
    below.joinpath("test_below.py").write_text("from attnbench.suite import test_attention\n")
    result = sim("--collect-only", "-q", "--attn-backend=mine")
    assert [line for line in result.outlines if "::" in line] == [
        "zz_below/test_below.py::test_attention[mine@eager-flux-256px-t128]",
        "zz_below/test_below.py::test_attention[mine@default-flux-256px-t128]",
    ]


@pytest.mark.parametrize(
    ("registration", "sentence"),
    [
        ('@register("a b", "x")', "backend name 'a b': must be non-empty, without*"),
        (r'@register("a\x1b[2J", "x")', r"backend name 'a\x1b[[]2J': must be non-empty and printable"),
        (r'@register("a\u202e", "x")', r"backend name 'a\u202e': must be non-empty and printable"),
        (r'@register("a", "x\ny")', r"backend 'a': family 'x\ny': must be non-empty and printable"),
        ('@register(5, "x")', "backend name 5: must be text, found int"),
        ('@register("a", "")', "backend 'a': family '': must be non-empty and printable"),
        ('@register("a" * 201, "x")', "backend name 'aaa*'…: must be at most 200 characters, found 201"),
        ('@register("a", "x", tolerance="8-bit")', "backend 'a': unknown tolerance '8-bit'; known: 16-bit*"),
        ('@register("a", "x", layout="sbhd")', "backend 'a': unknown layout 'sbhd'; known: bshd, bhsd"),
        (
            '@register("a", "x", modes=("fast",))',
            "backend 'a': modes ('fast',): expected a tuple of one or more of eager, default, *",
        ),
        ('@register("a", "x", modes="eager")', "backend 'a': modes 'eager': expected a tuple of one or more of *"),
        ('@register("a", "x", modes=([],))', "backend 'a': modes ([[][]],): expected a tuple of one or more of *"),
        ('@register("a", "x", takes="causal")', "backend 'a': takes 'causal': expected a tuple of some of cross, *"),
        ('@register("a", "x", takes=None)', "backend 'a': takes None: expected a tuple of some of cross, *"),
        ('@register("a", "x", tolerance=[])', "backend 'a': unknown tolerance [[][]]; known: 16-bit*"),
        ('@register("a", "x", layout=None)', "backend 'a': unknown layout None; known: bshd, bhsd"),
        (
            '@register("a", "x", requires=Device("cpu"))',
            "backend 'a': requires: expected a tuple of requirements, *, found Device(types=('cpu',)) (Device)",
        ),
        (
            '@register("a", "x", requires=("cpu",))',
            "backend 'a': requires[[]0]: expected a requirement, such as Device(\"cuda\"), found 'cpu' (str)",
        ),
        (
            '@register("a", "x", requires=(Device,))',
            "backend 'a': requires[[]0]: *, found the class Device; make one of it: Device(…)",
        ),
        (
            '@register("a", "x", route="foo")',
            "backend 'a': route: expected a mapping of device type to regular expression, such as *, found 'foo' (str)",
        ),
        (
            '@register("a", "x", route={"cuda": "fwd("})',
            "backend 'a': route for cuda: 'fwd(' is not a regular expression: missing ), *",
        ),
        (
            '@register("a", "x", foreign={"cpu": ("a", "b")})',
            "backend 'a': foreign for cpu: expected a regular expression, found ('a', 'b') (tuple)",
        ),
        (
            '@register("a", "x", route={"gpu": "fwd"})',
            "backend 'a': unknown device type in route 'gpu'; known: cpu, cuda, sim",
        ),
        (
            '@register("a", "x", chooses={"cuda": "fast"})',
            "backend 'a': chooses for cuda: expected a mapping of name to regular expression, such as *, found 'fast' *",
        ),
        (
            '@register("a", "x", chooses={"cuda": {"fast": "("}})',
            "backend 'a': chooses for cuda, fast: '(' is not a regular expression: missing ), *",
        ),
        ('@register("a", "x", refuses="never")', "backend 'a': refuses must be a function, found 'never' (str)"),
        ('@register("a", "x", least_bytes=5)', "backend 'a': least_bytes must be a function, found 5 (int)"),
        ('@register("a", "x", source="1.0")', "backend 'a': source must be a function, found '1.0' (str)"),
        ('@register("a", "x", fullgraph="no")', "backend 'a': fullgraph must be True or False, found 'no' (str)"),
        (
            '@register("a", "x", own_process=True)',
            'backend \'a\': own_process must be an OwnProcess("group", "why"), found True (bool)',
        ),
        (
            '@register("a", "x", own_process=OwnProcess("a", "b", {}))',
            "OwnProcess: environment must be a function, found {} (dict)",
        ),
        ('@register("a", "x", requires=(Device("cpuu"),))', "Device: unknown device type 'cpuu'; known: cpu, *"),
        ('@register("torch_flash", "x")', "backend 'torch_flash' is registered twice, by *torch_sdpa.py:* and *"),
    ],
)
def test_a_wrong_registration_is_shown_with_its_line_and_one_sentence(sim, pytester, registration, sentence):
    names = "Device, OwnProcess, register"
    pytester.makeconftest(f"from attnbench import {names}\n{registration}\ndef load(workload): pass\n")
    result = sim()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["conftest.py:2: in <module>", f"    {registration}", f"E   ValueError: {sentence}"])
    hidden = ("registry.py:", "field_checks.py:", "requirements.py:")
    assert not [line for line in result.errlines if any(name in line for name in hidden) and not line.startswith("E ")]


def test_a_decorator_without_its_arguments_is_refused(sim, pytester):
    pytester.makeconftest("from attnbench import register\n@register\ndef load(workload): pass\n")
    result = sim()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = 'register: expected a name and a family, @register("my_kernel", "my project"), found a function'
    result.stderr.fnmatch_lines(["conftest.py:2: in <module>", f"E   ValueError: {said}"])


def test_an_unknown_field_is_shown_with_its_line(sim, pytester):
    pytester.makeconftest(
        'from attnbench import register\n@register("a", "x", laoyut="bhsd")\ndef load(workload): pass\n'
    )
    result = sim()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["conftest.py:2: in <module>", "E   TypeError: *unexpected keyword argument 'laoyut'"])


def test_lists_and_sets_will_do_where_tuples_are_meant():
    device = Device("cpu")
    several = Backend(lambda workload: None, "a", "x", takes={"gqa", "causal"}, modes={"eager"})
    assert (several.takes, several.modes) == (("causal", "gqa"), ("eager",))
    backend = Backend(lambda workload: None, "a", "x", requires=[device], modes=["eager"], takes=["causal"])
    assert (backend.requires, backend.modes, backend.takes) == ((device,), ("eager",), ("causal",))


LOADS = {
    "def load(workload): pass": "`load` must return a function (q, k, v) -> output, found NoneType",
    "def load(workload): return 'fwd'": "`load` must return a function (q, k, v) -> output, found str",
    "@contextlib.contextmanager\ndef load(workload): yield": (
        "`load` must yield a function (q, k, v) -> output, found NoneType"
    ),
    "def load(workload): yield len": (
        "`load` must return a function (q, k, v) -> output, found generator (decorate `load` with contextlib.contextmanager)"
    ),
}


@pytest.mark.parametrize(("load", "sentence"), LOADS.items())
def test_a_load_that_gives_no_function_is_an_error_row_that_says_so(bench, pytester, load, sentence):
    head = 'import contextlib\nfrom attnbench import register\n@register("mine", "me")'
    pytester.makeconftest(f"{head}\n{load}\n")
    bench("--attn-backend=mine", "--benchmark-json=run.json", *TINY).assert_outcomes(failed=1)
    [record] = bench.records().values()
    assert record["status"] == "error"
    assert record["reasons"] == [{"code": "load", "text": f"cannot be loaded: TypeError: {sentence}"}]
    listed = bench("--attn-list", "--attn-backend=mine", *TINY)
    assert f"cannot be loaded: TypeError: {sentence}" in " ".join(listed.stdout.str().split())


#: Backends whose answer to whether they run fails, one by its requirement and one in a process of its own.
CANNOT_SAY = """
from attnbench import HeadDim, OwnProcess, register

BROKEN = HeadDim(lambda d: d // 0, "none")

@register("broken", "me", requires=(BROKEN,))
def broken(workload): pass

@register("broken_apart", "me", requires=(BROKEN,), own_process=OwnProcess("apart", "why"))
def broken_apart(workload): pass

class Mine:
    needed = "mine"
    def unmet(self, facts, workload):
        return False

@register("unclear", "me", requires=(Mine(),))
def unclear(workload): pass

@register("silent", "me", refuses=lambda workload, device: None)
def silent(workload): pass
"""
WHY_NOT = {
    "broken": "its requirement HeadDim cannot say whether it holds: ZeroDivisionError: *",
    "broken_apart": "its requirement HeadDim cannot say whether it holds: ZeroDivisionError: *",
    "unclear": (
        "its requirement Mine cannot say whether it holds: TypeError: `unmet` must return text or None, found False (bool)"
    ),
    "silent": (
        "cannot say whether it runs here: TypeError: `refuses` must return a tuple of sentences, found None (NoneType)"
    ),
}


def test_a_backend_that_cannot_say_whether_it_runs_costs_its_own_case(bench, pytester):
    pytester.makeconftest(CANNOT_SAY)
    backends = [f"--attn-backend={name}" for name in (*WHY_NOT, "numpy")]
    result = bench(*backends, "--benchmark-json=run.json", *TINY)
    result.assert_outcomes(passed=1, failed=len(WHY_NOT))
    records = {record["backend"]: record for record in bench.records().values()}
    listed = " ".join(bench("--attn-list", *backends, *TINY).stdout.str().split())
    for name, sentence in WHY_NOT.items():
        [reason] = records[name]["reasons"]
        assert records[name]["status"] == "error"
        assert fnmatch.fnmatchcase(reason["text"], sentence)
        assert f"{name} eager: {reason['text']}" in listed
    assert records["numpy"]["status"] == "measured"


@pytest.mark.parametrize("feature", ["backward", "dropout"])
def test_a_quantised_kernel_cannot_take_what_its_tolerance_does_not_judge(feature):
    with pytest.raises(
        ValueError, match=f"takes {feature}, of which tolerance 'fp8' states nothing; those that do: 16-bit, "
    ):
        Backend(lambda workload: None, "quantised", "mine", tolerance="fp8", takes=("causal", feature))
    Backend(lambda workload: None, "exact", "mine", takes=("causal", feature))


def test_register_takes_the_fields_of_a_backend():
    fields = [field.name for field in dataclasses.fields(Backend) if field.name != "load"]
    assert list(inspect.signature(register).parameters) == fields


def test_the_same_file_may_register_again(sim, pytester):
    pytester.makeconftest(OWN_KERNEL)
    sim("--attn-backend=mine").assert_outcomes(passed=2)
    sim("--attn-backend=mine").assert_outcomes(passed=2)


WORKLOAD = """
from attnbench import Workload, register_workload

register_workload(Workload("llama-8k", batch=1, seq=8192, heads=32, head_dim=128, why="a long prompt"))
"""


def test_a_workload_of_ones_own_is_selected_by_name(sim, pytester):
    pytester.makeconftest(WORKLOAD)
    sim("--attn-backend=numpy", "--attn-workload=llama-*", "--benchmark-json=run.json").assert_outcomes(passed=1)
    assert sim.records()["numpy@eager-llama-8k"]["workload"]["seq"] == 8192


def test_a_workload_under_a_taken_name_is_shown_with_its_line_and_one_sentence(sim, pytester):
    pytester.makeconftest(WORKLOAD.replace("llama-8k", "flux-256px-t128"))
    result = sim()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["E   ValueError: workload 'flux-256px-t128' is registered already, *"])
    assert not [line for line in result.errlines if "workloads/table.py:" in line]


def test_a_workload_whose_name_does_not_show_is_shown_with_its_line_and_one_sentence(sim, pytester):
    pytester.makeconftest(WORKLOAD.replace("llama-8k", r"llama\u200b"))
    result = sim()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([r"E   ValueError: workload name 'llama\u200b': must be non-empty and printable"])


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ("batch=1.5", "workload 'llama-8k': batch must be an integer, found 1.5 (float)"),
        ("batch=1, distribution='normal'", "workload 'llama-8k': unknown distribution 'normal'; known: randn*"),
    ],
)
def test_a_workload_with_a_wrong_field_is_shown_with_its_line_and_one_sentence(sim, pytester, field, sentence):
    pytester.makeconftest(WORKLOAD.replace("batch=1", field))
    result = sim()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["conftest.py:3: in <module>", f"E   ValueError: {sentence}"])
    assert not [line for line in result.errlines if "workload.py:" in line or "table.py:" in line]


def install(pytester: pytest.Pytester, name: str, entry_point: str) -> None:
    """What pip leaves of a distribution, as far as entry points go."""
    info = pytester.mkdir(f"{name}-1.0.dist-info")
    info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    info.joinpath("entry_points.txt").write_text(f"[attnbench.backends]\n{entry_point}\n")


def test_an_installed_package_offers_a_backend(bench, pytester):
    pytester.makepyfile(offered=OWN_KERNEL)
    install(pytester, "offered", "mine = offered")
    pytester.syspathinsert()
    result = bench("--attn-backend=mine", "--attn-mode=eager", *TINY)
    result.assert_outcomes(passed=1)


def test_an_installed_package_that_fails_to_import_is_an_error_row_with_the_cause(bench, pytester):
    pytester.makepyfile(offered="import libnosuch")
    install(pytester, "offered", "its kernels = offered")
    pytester.syspathinsert()
    result = bench("--attn-backend=its-*", "--attn-backend=numpy", *TINY)
    result.assert_outcomes(passed=1, failed=1)
    cause = "entry point its kernels = offered failed: ModuleNotFoundError: No module named 'libnosuch'"
    assert cause in " ".join(result.stdout.str().split())
    result.stdout.fnmatch_lines(["2 cases: 1 measured, 1 error"])
    listed = bench("--attn-list", *TINY)
    assert f" its-kernels eager: cannot be loaded: ImportError: {cause}" in " ".join(listed.stdout.str().split())


def test_an_installed_package_that_skips_as_it_is_imported_is_an_error_row(bench, pytester):
    pytester.makepyfile(offered="import pytest\npytest.skip('not today', allow_module_level=True)")
    install(pytester, "offered", "offered = offered")
    pytester.syspathinsert()
    result = bench("--attn-backend=offered", *TINY)
    result.assert_outcomes(failed=1)
    assert "entry point offered = offered failed: pytest.skip: not today" in " ".join(result.stdout.str().split())


def test_a_broken_package_under_a_taken_name_does_not_take_the_name(bench, pytester):
    pytester.makepyfile(offered="import libnosuch")
    install(pytester, "offered", "numpy = offered")
    pytester.syspathinsert()
    result = bench("--attn-backend=numpy*", *TINY)
    result.assert_outcomes(passed=1, failed=1)
    assert "numpy-entry-point@eager" in result.stdout.str()
