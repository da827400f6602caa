"""What a case changes of the process that others are measured in: put back, said, and never another case's state."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from attnbench import torch_private
from attnbench.execution import torch_settings
from attnbench.execution.local_case import process_state

TINY = ("--benchmark-only", "--benchmark-json=run.json", "--attn-device=cpu", "--attn-rounds=2", "--attn-mode=eager")
SHAPE = "1x32x2x16:fp32"
WORKLOAD = f"--attn-workload={SHAPE}"

#: `culprit("NAME", load_or_call)` registers a right kernel whose loading runs the function; every `look_…` writes down the
#: state in which it is called.
KERNELS = """
import builtins, gc, locale, logging, os, random, signal, sys, time, warnings
import torch
import torch.nn.functional as F
from attnbench import register

SDPA = F.scaled_dot_product_attention

def right(q, k, v):
    return SDPA(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2).clone()

def state():
    return {
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "filling": torch.utils.deterministic.fill_uninitialized_memory,
        "tf32": (torch.backends.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision()),
        "cudnn": (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark, torch.backends.cudnn.enabled),
        "sdpa": (torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled()),
        "modes": (torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"), torch.is_anomaly_enabled()),
        "function modes": len(torch.overrides._get_current_function_mode_stack()),
        "patched": F.scaled_dot_product_attention is SDPA,
        "clock": time.perf_counter.__name__,
        "variables": (os.environ.get("LEFT_BEHIND"), "HOME" in os.environ),
        "folder": os.getcwd(),
        "locale": locale.setlocale(locale.LC_ALL),
        "filters": [one for one in warnings.filters if one[2] is BytesWarning],
        "stdout": sys.stdout is builtins.STDOUT if hasattr(builtins, "STDOUT") else None,
        "signals": [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)],
        "logging": (logging.getLogger().level, logging.root.manager.disable),
        "gc": (gc.isenabled(), gc.get_threshold()),
        "random": (random.getstate() == builtins.RANDOM) if hasattr(builtins, "RANDOM") else None,
    }

def culprit(function):
    @register(function.__name__, f"of {function.__name__}")
    def load(workload):
        function()
        return right

def look(name):
    @register(name, "looks")
    def load(workload):
        with open("seen.txt", "a") as file:
            print(state(), file=file)
        return right
"""

LEAKS = """
@culprit
def leaks_torch():
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.enable_math_sdp(False)
    torch.autograd.set_detect_anomaly(True)
    HELD.append(torch.autocast("cpu", dtype=torch.bfloat16, enabled=False)); HELD[-1].__enter__()
    HELD.append(torch.inference_mode()); HELD[-1].__enter__()

@culprit
def leaks_defaults():
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")

@culprit
def leaks_a_patch():
    F.scaled_dot_product_attention = lambda *arguments, **named: SDPA(*arguments, **named)
    time.perf_counter = time.monotonic

@culprit
def leaks_python():
    os.environ["LEFT_BEHIND"] = "secret"
    os.environ.pop("HOME", None)
    os.chdir("/")
    locale.setlocale(locale.LC_ALL, "C.UTF-8")
    warnings.simplefilter("error", BytesWarning)
    sys.stdout = open(os.devnull, "w")
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(one, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    gc.disable()
    random.seed(1)

"""


def run(bench: Any, *arguments: str) -> Any:
    """In a process of its own, for what would else be left to the tests that follow, at least where it goes wrong."""
    return bench.fresh(*TINY, *arguments)


def run_here(bench: Any, *arguments: str) -> Any:
    return bench(*TINY, *arguments)


def chosen(*names: str) -> list[str]:
    return [f"--attn-backend={name}" for name in names]


def changes(record: dict[str, Any]) -> list[str]:
    return [one["what"] for one in record["changed"]]


@pytest.fixture
def threads_as_before():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("launched", [False, True], ids=["here", "launched"])
def test_no_case_is_measured_in_the_state_that_another_one_left(bench, pytester, monkeypatch, launched):
    monkeypatch.setenv("HOME", str(pytester.path))
    culprits = ("leaks_torch", "leaks_defaults", "leaks_a_patch", "leaks_python")
    conftest, failing = f"{KERNELS}look('look_before')\n", tuple(f"{name}_and_fails" for name in culprits)
    for name in culprits:  # each is followed by one that looks: cases run in the order in which they are registered
        body = LEAKS.partition(f"def {name}():\n")[2].partition("\n\n")[0]
        conftest += f"@culprit\ndef {name}():\n{body}\nlook('look_after_{name}')\n"
        fails = f'{body}\n    raise RuntimeError("too late")'
        conftest += f"@culprit\ndef {name}_and_fails():\n{fails}\nlook('look_after_{name}_and_fails')\n"
    pytester.makeconftest(f"HELD = []\n{conftest}")
    names = ["look_before", *(name for culprit in (*culprits, *failing) for name in (culprit, f"look_after_{culprit}"))]
    # With --attn-launches only what it starts has the culprits in it.
    result = (run_here if launched else run)(bench, WORKLOAD, *chosen(*names), *["--attn-launches=1"] * launched)
    result.assert_outcomes(passed=13, failed=4)
    before, *after = (pytester.path / "seen.txt").read_text().splitlines()
    assert after == [before] * 8
    records = bench.records()
    said = {name: changes(records[f"{name}@eager-{SHAPE}"]) for name in names}
    assert [said[name] for name in names if name.startswith("look")] == [[]] * 9
    for leaks_torch, leaks_defaults, leaks_a_patch, leaks_python in (culprits, failing):
        assert {
            *("deterministic algorithms off → on, warning only", "math SDPA on → off", "cuDNN benchmark off → on")
        } <= set(said[leaks_torch])
        assert said[leaks_defaults] == ["default dtype torch.float32 → torch.float64", "default device none → meta"]
        assert said[leaks_a_patch] == [
            *("time.perf_counter replaced", "torch.nn.functional.scaled_dot_product_attention replaced")
        ]
        assert {"environment variable LEFT_BEHIND set", "environment variable HOME removed", "sys.stdout"} <= set(
            said[leaks_python]
        )
    printed = " ".join(result.stdout.str().split())
    both = "leaks_defaults, leaks_defaults_and_fails"
    assert f"{both} changed the process: default dtype torch.float32 → torch.float64;" in printed
    assert "secret" not in printed, "the value of a variable is nobody's business"


def test_the_header_has_the_threads_of_the_run_and_not_those_that_a_kernel_left(bench, pytester):
    one = "@culprit\ndef one_more_thread():\n    torch.set_num_threads(torch.get_num_threads() + 1)\nlook('looks')\n"
    pytester.makeconftest(KERNELS + one)
    run_here(bench, WORKLOAD, *chosen("one_more_thread", "looks"))
    key = bench.stored()["attnbench"]["launches"][0]["fingerprint"]["key"]
    assert f"'threads': {key['torch_threads']}," in (pytester.path / "seen.txt").read_text()


#: A kernel that changes something when it is called, and one that finds out from the next case's reference.
WHEN_CALLED = """
@register("meta_when_called", "example")
def load(workload):
    def call(q, k, v):
        out = right(q, k, v)
        torch.set_default_device("meta")
        return out
    return call
look("good")
"""


def test_a_call_that_sets_state_spoils_neither_reference_nor_next_case(bench, pytester):
    pytester.makeconftest(KERNELS + WHEN_CALLED)
    run_here(bench, WORKLOAD, *chosen("meta_when_called", "good")).assert_outcomes(passed=2)
    records = bench.records()
    assert changes(records[f"meta_when_called@eager-{SHAPE}"]) == ["default device none → meta"]
    assert changes(records[f"good@eager-{SHAPE}"]) == []


WRONG_SOFTMAX = """
SOFTMAX = torch.softmax

@culprit
def patches_softmax():
    torch.softmax = lambda *arguments, **named: SOFTMAX(*arguments, **named) * 2
    torch.exp = lambda *arguments, **named: torch.zeros_like(arguments[0])

look("looks")
"""


WRONG_OPERATORS = """
MATMUL, COPY = torch.Tensor.matmul, torch.Tensor.copy_

@culprit
def patches_operators():
    torch.Tensor.matmul = torch.Tensor.__matmul__ = lambda *arguments: MATMUL(*arguments) * 2
    torch.Tensor.copy_ = lambda one, *arguments: one

@register("looks_at_operators", "looks")
def load(workload):
    with open("seen.txt", "w") as file:
        print(torch.Tensor.matmul is MATMUL, torch.Tensor.copy_ is COPY, "copy_" in vars(torch.Tensor), file=file)
    return right
"""


@pytest.fixture
def operators_as_before() -> Iterator[None]:
    """What torch.Tensor has of its own afterwards, even where attnbench would not put it back."""
    patched = ("matmul", "__matmul__", "copy_")
    own = {name: vars(torch.Tensor)[name] for name in patched if name in vars(torch.Tensor)}
    yield
    for name in patched:
        if name in own:
            setattr(torch.Tensor, name, own[name])
        elif name in vars(torch.Tensor):
            delattr(torch.Tensor, name)


def test_operators_that_torchs_tensor_inherits_are_put_back_too(bench, pytester, operators_as_before):
    pytester.makeconftest(KERNELS + WRONG_OPERATORS)
    run_here(bench, WORKLOAD, *chosen("patches_operators", "looks_at_operators")).assert_outcomes(passed=1, failed=1)
    assert sorted(changes(bench.records()[f"patches_operators@eager-{SHAPE}"])) == [
        f"torch.Tensor.{name} replaced" for name in ("__matmul__", "copy_", "matmul")
    ]
    assert (pytester.path / "seen.txt").read_text() == "True True False\n"


OF_THE_SYSTEM = """
import resource, tempfile

@culprit
def sets_limits():
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    tempfile.tempdir = "/"
    sys.setprofile(lambda *arguments: None)
    signal.signal(signal.SIGALRM, lambda *arguments: None)
    signal.setitimer(signal.ITIMER_REAL, 300)

@register("looks_at_the_system", "looks")
def load(workload):
    found = resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 512, tempfile.gettempdir(), sys.getprofile()
    with open("seen.txt", "w") as file:
        print(*found, signal.getitimer(signal.ITIMER_REAL), file=file)
    return right
"""


def test_limits_profilers_and_alarms_are_put_back_too(bench, pytester):
    pytester.makeconftest(KERNELS + OF_THE_SYSTEM)
    launched = (WORKLOAD, "--attn-launches=1")  # only what it starts has the culprit in it
    run_here(bench, *launched, *chosen("sets_limits", "looks_at_the_system")).assert_outcomes(passed=2)
    record = bench.records()[f"sets_limits@eager-{SHAPE}"]
    said = changes(record)
    assert {"resource limit RLIMIT_NOFILE", "profiling by sys.setprofile", "alarm clock"} <= set(said)
    assert all(one["put_back"] for one in record["changed"])
    assert any(one.startswith("temporary folder ") for one in said)
    found = (pytester.path / "seen.txt").read_text().split(maxsplit=2)
    assert (found[0], found[1] != "/", found[2]) == ("False", True, "None (0.0, 0.0)\n")


HOOKS = """
from torch.autograd import graph
from torch.nn.modules import module

AUTOGRAD = torch._C._autograd

def own(*arguments):
    return None

if any(argument.startswith("--attn-child") for argument in sys.argv):  # not in the process of these tests
    module.register_module_forward_pre_hook(own)  # the project's, which stay
    if ENTERED:
        graph.saved_tensors_hooks(own, own).__enter__()

@culprit
def hooks_everything():
    module.register_module_forward_hook(lambda *arguments: time.sleep(0.005))
    module.register_module_full_backward_hook(own)
    for _ in range(2):
        graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t).__enter__()

@culprit
def leaves_hooks():
    AUTOGRAD._pop_saved_tensors_default_hooks()

@culprit
def refuses_hooks():
    AUTOGRAD._saved_tensors_hooks_disable("no hooks, please")

@register("is_a_module", "modules")
def load(workload):
    class Attention(torch.nn.Module):
        def forward(self, q, k, v):
            return right(q, k, v)
    module.register_module_backward_hook(own).remove()  # torch refuses it beside the full one
    with open("seen.txt", "w") as file:
        mine = list(module._global_forward_pre_hooks.values()), AUTOGRAD._top_saved_tensors_default_hooks(True)
        print(len(module._global_forward_hooks), mine == ([own], (own, own) if ENTERED else None), file=file)
    return Attention()
"""


@pytest.mark.parametrize(
    ("culprit", "said"),
    [
        ("hooks_everything", ["hooks of every torch.nn.Module", "hooks of saved tensors"]),
        ("leaves_hooks", ["hooks of saved tensors"]),
        ("refuses_hooks", ["refusal of hooks of saved tensors"]),
    ],
)
def test_hooks_of_every_module_and_of_saved_tensors_are_taken_back(bench, pytester, culprit, said):
    entered = culprit != "refuses_hooks"  # which would refuse the project's own
    pytester.makeconftest(f"{KERNELS}\nENTERED = {entered}\n{HOOKS}")
    launched = (WORKLOAD, "--attn-launches=1")  # only what it starts has the culprit in it
    run_here(bench, *launched, *chosen(culprit, "is_a_module")).assert_outcomes(passed=2)
    records = bench.records()
    first, then = (records[f"{name}@eager-{SHAPE}"] for name in (culprit, "is_a_module"))
    assert changes(first) == said
    assert all(one["put_back"] for one in first["changed"])
    assert changes(then) in ([], ["hooks of every torch.nn.Module"])  # which kind of backward hooks there were
    assert then["launch"] == first["launch"]
    assert (pytester.path / "seen.txt").read_text() == "0 True\n"


def test_the_reference_is_not_made_in_the_state_of_the_first_case(bench, pytester, monkeypatch):
    for name in ("softmax", "exp"):  # put back, even where attnbench would not
        monkeypatch.setattr(torch, name, getattr(torch, name))
    pytester.makeconftest(KERNELS + WRONG_SOFTMAX)
    run_here(bench, WORKLOAD, *chosen("patches_softmax", "looks")).assert_outcomes(passed=2)
    said = {name: changes(record) for name, record in bench.records().items()}
    assert said == {
        f"patches_softmax@eager-{SHAPE}": ["torch.exp replaced", "torch.softmax replaced"],
        f"looks@eager-{SHAPE}": [],
    }


def test_a_default_dtype_and_device_of_the_users_own_changes_no_inputs(bench, pytester):
    pytester.makeconftest(KERNELS + 'look("looks")\n')
    run_here(bench, WORKLOAD, *chosen("looks")).assert_outcomes(passed=1)
    usual = bench.records()[f"looks@eager-{SHAPE}"]
    pytester.makeconftest(
        KERNELS + 'torch.set_default_dtype(torch.float16)\ntorch.set_default_device("meta")\nlook("looks")\n'
    )
    try:
        run_here(bench, WORKLOAD, *chosen("looks")).assert_outcomes(passed=1)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    own = bench.records()[f"looks@eager-{SHAPE}"]
    assert own["input_sha256"] == usual["input_sha256"]
    assert [check["allowed"] for check in own["checks"]] == [
        pytest.approx(check["allowed"], rel=0.1) for check in usual["checks"]
    ]
    assert own["changed"] == []


ONCE = """
import os, torch, warnings
os.environ["LIBRARY_FOUND"] = "/usr/lib"
warnings.filterwarnings("ignore", category=BytesWarning)
torch.set_num_threads(torch.get_num_threads() + 1)
"""

USES_IT = """
@register("a_library", "its family")
def load_a(workload):
    import library_that_sets_things
    print(os.environ["LIBRARY_FOUND"], torch.get_num_threads(), file=open("used.txt", "a"))
    return right

look("b_other")
"""


def test_what_a_library_sets_as_it_is_imported_is_kept_for_it_and_nobody_is_blamed(
    bench, pytester, monkeypatch, threads_as_before
):
    monkeypatch.setenv("LIBRARY_FOUND", "")  # as before, whatever becomes of it
    monkeypatch.delenv("LIBRARY_FOUND")
    pytester.makeconftest(KERNELS + USES_IT)
    pytester.makepyfile(library_that_sets_things=ONCE)
    pytester.syspathinsert()
    two = (WORKLOAD, "--attn-workload=1x48x2x16:fp32")
    run_here(bench, *two, *chosen("a_library", "b_other")).assert_outcomes(passed=4)
    threads = bench.stored()["attnbench"]["launches"][0]["fingerprint"]["key"]["torch_threads"]
    used = (pytester.path / "used.txt").read_text().splitlines()
    assert used == [f"/usr/lib {threads + 1}"] * 2, "it is imported once, and its second case is like its first"
    assert (pytester.path / "seen.txt").read_text().count(f"'threads': {threads},") == 2, "the other has its own"
    assert {tuple(changes(record)) for record in bench.records().values()} == {()}


def test_cases_after_a_lasting_change_run_in_processes_of_their_own(bench, pytester):
    fewer = "@culprit\ndef other_pool():\n    torch.set_num_interop_threads(torch.get_num_interop_threads() + 3)\n"
    pytester.makeconftest(KERNELS + fewer + 'look("looks")\n')
    result = run(bench, WORKLOAD, *chosen("other_pool", "looks"))
    result.assert_outcomes(passed=2)
    culprit, other = bench.records().values()
    assert [one["put_back"] for one in culprit["changed"]] == [False]
    assert culprit["launch"] != other["launch"]
    said = "other_pool changed the process: torch interop threads * (cannot be restored, so the cases after it ran in *"
    result.stdout.fnmatch_lines([said])


def test_a_listing_leaves_the_process_as_it_was(bench, pytester):
    variable = "@culprit\ndef sets_a_variable():\n    os.environ['LEFT_BEHIND'] = '1'\n    torch.set_num_threads(1)\n"
    pytester.makeconftest(KERNELS + variable)
    bench("--attn-list", "--attn-device=cpu", WORKLOAD, *chosen("sets_a_variable")).stdout.fnmatch_lines(
        ["*sets_a_variable*ready"]
    )
    assert "LEFT_BEHIND" not in os.environ


def test_ctrl_c_and_the_time_limit_leave_the_process_as_it_was(bench, pytester):
    pytester.makeconftest(
        KERNELS
        + """
@register("hangs", "example")
def load(workload):
    os.environ["LEFT_BEHIND"] = "1"
    torch.set_grad_enabled(False)
    while True:
        time.sleep(0.01)

look("looks")

@register("interrupts", "example")
def load(workload):
    os.environ["LEFT_BEHIND"] = "1"
    raise KeyboardInterrupt

def pytest_unconfigure():
    print("AT THE END", os.environ.get("LEFT_BEHIND"), torch.is_grad_enabled())
"""
    )
    result = run(bench, WORKLOAD, "--attn-timeout=4", *chosen("hangs", "looks", "interrupts"))
    assert result.ret == pytest.ExitCode.INTERRUPTED
    records = bench.records()
    assert changes(records[f"hangs@eager-{SHAPE}"]) == ["environment variable LEFT_BEHIND set", "grad mode on → off"]
    assert records[f"looks@eager-{SHAPE}"]["status"] == "measured"
    result.stdout.fnmatch_lines(["AT THE END None True"])


def test_what_a_test_sets_for_itself_is_its_own(bench, pytester):
    pytester.makeconftest(KERNELS + 'look("looks")\n')
    pytester.makepyfile(
        test_suite="""
        import os
        def test_mine(attn_case, monkeypatch):
            monkeypatch.setenv("LEFT_BEHIND", "of the test")
            attn_case.prepare()
            attn_case.assert_accurate()
            attn_case.assert_route()
            attn_case.measure()
            assert os.environ["LEFT_BEHIND"] == "of the test"
        """
    )
    run_here(bench, WORKLOAD, *chosen("looks")).assert_outcomes(passed=1)
    assert changes(bench.records()[f"looks@eager-{SHAPE}"]) == []


def test_what_a_loader_takes_back_itself_is_no_change(bench, pytester):
    pytester.makeconftest(
        KERNELS
        + """
import contextlib
@register("tidy", "example")
@contextlib.contextmanager
def load(workload):
    os.environ["LEFT_BEHIND"] = "1"
    yield right
    del os.environ["LEFT_BEHIND"]
"""
    )
    run_here(bench, WORKLOAD, *chosen("tidy")).assert_outcomes(passed=1)
    assert changes(bench.records()[f"tidy@eager-{SHAPE}"]) == []


def test_a_loader_that_cannot_undo_what_it_set_up_fails_its_case(bench, pytester):
    pytester.makeconftest(
        KERNELS
        + """
import contextlib, pytest
@register("untidy", "example")
@contextlib.contextmanager
def load(workload):
    yield right
    pytest.skip("nothing to see here")
look("looks")
"""
    )
    result = run_here(bench, WORKLOAD, *chosen("untidy", "looks"))
    result.assert_outcomes(passed=1, failed=1)
    record = bench.records()[f"untidy@eager-{SHAPE}"]
    assert (record["status"], record["sample"]) == ("error", None)
    assert record["reasons"][0]["text"].startswith("failed to undo what its loading has set up: pytest.skip: nothing")
    assert [one["name"] for one in bench.stored()["benchmarks"]] == [f"test_attention[looks@eager-{SHAPE}]"]


COMPILES = """
def stand_in(graph, example_inputs):
    return graph.forward

def counted(graph, example_inputs):
    COMPILED.append(1)
    return graph.forward

COMPILED = []
compiled = torch.compile(right, backend=counted, dynamic=False)  # once per module, as is usual

@register("compiles_itself", "example")
def load(workload):
    return compiled

def once(workload, device):
    return () if workload.seq == 32 else ("one workload is enough",)

@register("compiles_on_every_call", "example", refuses=once)
def load_other(workload):
    calls = []
    @torch.compile(backend=stand_in, dynamic=False)
    def inner(q, k, v, number):
        return right(q, k, v) + 0 * number
    def call(q, k, v):
        calls.append(1)
        return inner(q, k, v, torch.Size([len(calls)])[0])
    return call

def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"COMPILED {len(COMPILED)}")
"""


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    logger, disabled = logging.getLogger("torch._dynamo.convert_frame"), logging.root.manager.disable
    yield
    logging.disable(disabled)
    logger.disabled = False
    torch._logging.set_logs()


def assert_gave_up(record: dict) -> None:
    assert (record["status"], record["sample"]) == ("error", None)
    [reason] = record["reasons"]
    assert reason["code"] == "recompile-limit"
    assert "torch.compile reached its config.recompile_limit (8) and ran the call eagerly" in reason["text"]
    assert "function: 'inner'" in reason["text"]


def test_a_self_compiling_backend_has_no_latency_where_dynamo_gave_up(bench, pytester):
    pytester.makeconftest(KERNELS + COMPILES)
    shapes = [f"1x{seq}x2x16:fp32" for seq in range(23, 33)]
    assert shapes[-1] == SHAPE
    workloads = [f"--attn-workload={shape}" for shape in shapes]
    result = run_here(bench, *workloads, "--attn-rounds=20", *chosen("compiles_itself", "compiles_on_every_call"))
    result.assert_outcomes(passed=10, failed=1, skipped=9)
    result.stdout.fnmatch_lines(["COMPILED 10"])
    records = bench.records()
    assert [records[f"compiles_itself@eager-{shape}"]["status"] for shape in shapes] == ["measured"] * 10
    assert_gave_up(records[f"compiles_on_every_call@eager-{SHAPE}"])
    measured = [entry["extra_info"]["case"] for entry in bench.stored()["benchmarks"]]
    assert sorted(measured) == sorted(f"compiles_itself@eager-{shape}" for shape in shapes)


@pytest.mark.parametrize(
    "silenced",
    [
        "logging.disable(logging.CRITICAL)",
        "logging.getLogger('torch._dynamo.convert_frame').disabled = True",
        "torch._logging.set_logs(dynamo=logging.CRITICAL)",
    ],
)
def test_a_call_that_dynamo_silently_ran_eagerly_has_no_latency(bench, pytester, logging_as_before, silenced):
    pytester.makeconftest(f"{KERNELS}{COMPILES}\n{silenced}\n")
    run_here(bench, WORKLOAD, "--attn-rounds=20", *chosen("compiles_on_every_call")).assert_outcomes(failed=1)
    assert_gave_up(bench.records()[f"compiles_on_every_call@eager-{SHAPE}"])
    assert bench.stored()["benchmarks"] == []


def test_the_order_that_torch_gives_sdpa_for_a_gpu_is_not_undone_after_the_first_case(monkeypatch):
    """torch sets it when SDPA first chooses a kernel: what was read before must not come back."""
    order = [1, 2, 0, 3, 4]

    def choose() -> None:
        order[:] = [3, 1, 2, 0, 4]

    monkeypatch.setattr(torch_settings, "type_in_use", lambda: "cuda")
    monkeypatch.setattr(torch_private, "choose_sdpa_kernel", choose)
    torch_settings._choose_once.cache_clear()
    monkeypatch.setattr(torch_private, "sdpa_priority", lambda: tuple(order))
    monkeypatch.setattr(torch_private, "set_sdpa_priority", lambda given: order.__setitem__(slice(None), given))
    state = process_state("mine")
    state.note()
    choose()  # as the first call of SDPA does
    assert state.put_back() == ()
    assert order == [3, 1, 2, 0, 4]
    state.note()
    order[:] = [0, 1, 2, 3, 4]
    (change,) = state.put_back()
    assert change.what.startswith("priority of SDPA's kernels")
    assert order == [3, 1, 2, 0, 4]
