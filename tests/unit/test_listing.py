"""`--attn-list`: every backend and mode, ready or with every reason why not."""

from attnbench.model import Reason
from attnbench.report.listing import Entry, listing
from attnbench.report.table import WIDTH
from attnbench.workload import Workload

SMALL, LARGE = (Workload(name, 1, seq, 2, 64, why=f"{name} is here") for name, seq in [("small", 64), ("large", 4096)])
NO_GPU = Reason("device", "needs device cuda, found cpu")


def entry(backend="torch_flash", mode="eager", workload=SMALL, *reasons):
    return Entry(backend, "pytorch", mode, workload, reasons)


def backends(*entries):
    lines = listing("cpu", entries)
    return lines[3 : lines.index("workloads") - 1]


def test_a_backend_that_is_ready_everywhere_is_one_line_with_its_modes():
    cases = [entry(mode=mode, workload=w) for w in (SMALL, LARGE) for mode in ("eager", "default")]
    assert backends(*cases) == ["  torch_flash  eager, default: ready"]


def test_all_reasons_stand_in_the_line():
    assert backends(entry("b", "eager", SMALL, NO_GPU, Reason("dtype", "needs dtype bf16, found fp32"))) == [
        "  b  eager: needs device cuda, found cpu; needs dtype bf16, found fp32"
    ]


def test_a_long_sentence_is_wrapped_below_its_beginning():
    lines = backends(entry("flash", "eager", SMALL, Reason("package", "build it from its folder " * 8), NO_GPU))
    assert max(map(len, lines)) <= WIDTH
    assert lines[0].startswith("  flash  eager: build it from its folder build it")
    assert [len(line) - len(line.lstrip()) for line in lines[1:]] == [len("  flash  ") + 2] * (len(lines) - 1)
    assert lines[-1].endswith("device cuda, found cpu")


def test_modes_and_workloads_that_fare_differently_are_told_apart():
    slow = Reason("slow", "too large")
    cases = [entry("b", mode, w) for w in (SMALL, LARGE) for mode in ("eager", "default")]
    cases[2] = entry("b", "eager", LARGE, slow)
    cases += [entry("b", "max-autotune", w, NO_GPU) for w in (SMALL, LARGE)]
    assert backends(*cases) == [
        "  b  eager on small: ready",
        "  b  default: ready",
        "  b  eager on large: too large",
        "  b  max-autotune: needs device cuda, found cpu",
    ]


def test_configurations_that_fare_as_their_backend_are_one_line_below_it():
    names = ("s", "s[a]", "s[b]")
    odd = Reason("odd", "needs c")
    assert backends(*(entry(name, "eager", SMALL, NO_GPU) for name in names), entry("s[c]", "eager", SMALL, odd)) == [
        "  s     eager: needs device cuda, found cpu",
        "        the same for [a] [b]",
        "  s[c]  eager: needs c",
    ]


def test_workloads_stand_with_their_shape_and_why_and_all_cases_are_counted():
    lines = listing("cpu · A CPU", [entry(), entry("b", "eager", LARGE, NO_GPU)])
    assert lines[0] == "device: cpu · A CPU"
    assert lines[-5:-2] == [
        "workloads",
        "  small  1x64x2x64:bf16  small is here",
        "  large  1x4096x2x64:bf16  large is here",
    ]
    assert lines[-1] == "2 cases: 1 ready, 1 not"


def test_nothing_selected_is_an_empty_list():
    assert listing("cpu", [])[-1] == "0 cases: 0 ready, 0 not"
