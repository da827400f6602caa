"""The JSONL of kernels-benchmarks, as their tools read it and as their harness writes it."""

import json
import math
from dataclasses import replace

import pytest

from attnbench.codec import Unreadable
from attnbench.model import Fingerprint, Launch, Sample, Status
from attnbench.report import kbt
from attnbench.workload import Workload

H200 = Launch(
    "0123456789ab",
    "2026-01-02T03:04:05+00:00",
    Fingerprint(
        {"device": "NVIDIA H200", "capability": "sm_90"},
        {"torch": "2.11.0+cu130", "cuda": "13.0", "python": "3.12.3", "os": "Linux 6.18"},
    ),
)

#: A line as their harness writes it.
THEIRS = {
    "ts": "2026-11-28T03:06:03Z",
    "run": "d8612c3bb43d4a05b39efb52b6ca144b",
    "impl": "xformers_meff",
    "tags": {"family": "xformers", "backend": "memory_efficient", "compile": "none"},
    "wl": {
        "name": "cuda_attn_L128_bfloat16",
        "batch": 1,
        "seq_len": 4224,
        "heads": 24,
        "head_dim": 128,
        "dtype": "bfloat16",
        "device": "cuda",
        "seed": 0,
    },
    "env": {"torch": "2.8.0", "cuda": "12.8", "gpu": "NVIDIA L4", "sm": "8.9", "py": "3.12.1", "plat": "Linux"},
    "lat_ms": {
        "p10": 0.5,
        "p50": 0.75,
        "p90": 1.0,
        "mean": 0.75,
        "iqr": 0.25,
        "raw_times": [1.0, 0.5, 0.75],
        "has_warnings": True,
        "reps": 3,
        "warmup": 2,
    },
    "compile_ms": 250.0,
    "peak_bytes": 1000,
    "ok": True,
    "absmax": 0.125,
    "corr": {"ok": True, "rtol": 0.02, "atol": 0.02, "absmax": 0.125, "mae": 0.5, "mse": 0.25, "ref": "sdpa_math_fp32"},
    "err": None,
}


def written(record, launch=H200):
    (line,) = kbt.lines([record], {launch.id: launch})
    return json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def read(**changes):
    return kbt.line_from({**THEIRS, **changes}, "unnamed")


def without(part, *names):
    return {name: value for name, value in part.items() if name not in names}


def test_every_field_that_their_tools_read_is_there(record, check):
    line = written(record(checks=(check({}),), workspace_bytes=2**20, first_call_s=0.25))
    assert line.keys() == THEIRS.keys()
    for part in ("tags", "wl", "env", "lat_ms", "corr"):
        assert line[part].keys() == THEIRS[part].keys()


def test_what_a_measured_record_says(record, check):
    times = tuple(n * 1e-3 for n in (9, 1, 3, 2, 4, 5, 8, 7, 6, 10))
    checks = (check({}, max_abs=0.5, mean_abs=0.25, mse=0.125),)
    line = written(
        record(
            "torch_flash@max-autotune", checks=checks, sample=Sample(times, "t"), first_call_s=0.25, workspace_bytes=24
        )
    )
    assert line["impl"] == "torch_flash@max-autotune"
    assert line["tags"] == {"family": "pytorch", "backend": "torch_flash", "compile": "max-autotune"}
    assert line["wl"]["dtype"] == "bfloat16"
    assert line["wl"]["device"] == "cuda"
    assert line["ts"] == "2026-01-02T03:04:05Z"
    assert line["env"] == {
        "torch": "2.11.0+cu130",
        "cuda": "13.0",
        "gpu": "NVIDIA H200",
        "sm": "9.0",
        "py": "3.12.3",
        "plat": "Linux 6.18",
    }
    # their quantile: the sorted time at place ⌊q · (n − 1)⌋
    assert line["lat_ms"] == {
        "p10": 1.0,
        "p50": 5.0,
        "p90": 9.0,
        "mean": 5.5,
        "iqr": 4.0,
        "raw_times": [9.0, 1.0, 3.0, 2.0, 4.0, 5.0, 8.0, 7.0, 6.0, 10.0],
        "has_warnings": True,
        "reps": 10,
        "warmup": None,
    }
    assert line["compile_ms"] == 250
    assert line["peak_bytes"] == 24 + 3 * 2 * 384 * 24 * 128
    assert line["ok"] is True
    assert line["absmax"] == 0.5
    assert line["corr"] == {
        "ok": True,
        "rtol": None,
        "atol": None,
        "absmax": 0.5,
        "mae": 0.25,
        "mse": 0.125,
        "ref": "math_fp64",
    }
    assert line["err"] is None


@pytest.mark.parametrize("status", ["checked", "unsupported", "incorrect", "error", "not-run"])
def test_a_record_without_a_latency_has_a_message_that_their_summary_prints(record, status):
    line = written(record(status=status))
    assert line["lat_ms"] is None
    assert line["err"]["type"] == status
    assert line["err"]["msg"]
    assert line["ok"] is (status == "checked")


def test_what_was_slowed_down_on_purpose_is_left_out_as_the_form_cannot_say_so(record):
    lines = kbt.lines([record(injected=0.02), record("b@eager")], {H200.id: H200})
    assert [json.loads(line)["impl"] for line in lines] == ["b@eager"]


def test_lines_go_workload_by_workload_from_the_shortest_on(record):
    long, short = Workload("long", 1, 512, 24, 128), Workload("short", 1, 256, 24, 128)
    records = [record(variant, workload) for variant in ("b@eager", "a@eager") for workload in (long, short)]
    lines = [json.loads(line) for line in kbt.lines(records, {H200.id: H200})]
    assert [(line["impl"], line["wl"]["name"]) for line in lines] == [
        ("b@eager", "short"),
        ("a@eager", "short"),
        ("b@eager", "long"),
        ("a@eager", "long"),
    ]


@pytest.mark.parametrize("status", ["measured", "checked", "unsupported", "incorrect", "error", "not-run"])
def test_what_was_written_is_read_as_the_same_case(record, check, status):
    ours = record("torch_flash@default", status=status, checks=(check({}),), first_call_s=0.25)
    found = kbt.line_from(written(ours), "unnamed")
    assert not found.foreign
    assert found.launch.id == H200.id
    assert found.launch.fingerprint.key == H200.fingerprint.key
    for field in ("case", "backend", "mode", "family", "status", "workload", "launch", "first_call_s"):
        assert getattr(found.record, field) == getattr(ours, field)
    assert bool(found.record.sample) == (status == "measured")
    if found.record.sample:
        assert found.record.sample.rounds_s == pytest.approx(ours.sample.rounds_s, rel=1e-6)


def test_a_line_of_theirs_is_a_record(record):
    found = read()
    assert found.foreign
    assert found.peak_bytes == 1000
    assert found.launch == Launch(
        THEIRS["run"],
        "2026-11-28T03:06:03+00:00",
        Fingerprint(
            {"device": "NVIDIA L4", "capability": "sm_89"},
            {"torch": "2.8.0", "cuda": "12.8", "python": "3.12.1", "os": "Linux"},
        ),
    )
    mine = found.record
    assert (mine.variant, mine.family, mine.status) == ("xformers_meff@eager", "xformers", Status.MEASURED)
    assert mine.workload.shape == (1, 4224, 24, 128)
    assert mine.workload.dtype == "bf16"
    assert mine.sample == Sample((1e-3, 0.5e-3, 0.75e-3), kbt.TIMER)
    assert mine.first_call_s == 0.25
    assert mine.workspace_bytes is None
    (check,) = mine.checks
    assert (check.error.max_abs, check.error.mean_abs, check.error.mse) == (0.125, 0.5, 0.25)
    assert math.isnan(check.error.rel_l2)
    assert check.allowed == {}


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"ok": False}, Status.INCORRECT, "found its output wrong: absmax 0.125, rtol 0.02"),
        ({"ok": False, "corr": {"absmax": math.nan}}, Status.INCORRECT, "absmax nan"),
        ({"ok": False, "corr": None}, Status.INCORRECT, "no figures"),
        ({"ok": False, "lat_ms": None, "err": {"type": "RuntimeError", "msg": "no kernel"}}, Status.ERROR, "no kernel"),
        ({"ok": False, "lat_ms": None, "err": {}}, Status.ERROR, "no message"),
        ({"ok": False, "lat_ms": None, "err": "out of memory"}, Status.ERROR, "out of memory"),
        ({"ok": None}, Status.ERROR, "no 'ok'"),
        ({"lat_ms": None}, Status.ERROR, "neither 'lat_ms' nor 'err'"),
    ],
)
def test_what_is_not_known_to_be_right_has_no_latency(changes, status, said):
    found = read(**changes).record
    assert found.status is status
    assert found.sample is None
    assert said in found.reasons[0].text


def test_a_line_of_the_least_that_is_needed():
    bare = {"impl": "mine", "wl": without(THEIRS["wl"], "dtype", "device", "seed"), "ok": True, "lat_ms": {"p50": 0.5}}
    found = kbt.line_from(bare, "unnamed")
    assert found.launch.id == "unnamed"
    assert found.record.sample.rounds_s == (0.5e-3,)
    assert found.record.checks == ()
    assert found.record.family == "unknown"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"impl": None}, "its impl is None, expected a name"),
        ({"wl": without(THEIRS["wl"], "heads", "head_dim")}, "lacks heads, head_dim: only attention can be read"),
        ({"wl": {**THEIRS["wl"], "seq_len": 0}}, "its seq_len is 0"),
        ({"wl": {**THEIRS["wl"], "seq_len": "4224"}}, "its seq_len is '4224'"),
        ({"wl": {**THEIRS["wl"], "batch": 2**70}}, "its batch is"),
        ({"lat_ms": {"raw_times": [0.5, math.nan]}}, "lat_ms.raw_times holds nan"),
        ({"lat_ms": {"raw_times": [0.5, -1]}}, "lat_ms.raw_times holds -1"),
        ({"lat_ms": {"raw_times": [None]}}, "lat_ms.raw_times holds None"),
        ({"lat_ms": {"p90": 1.0}}, "lat_ms.p50 holds None"),
        ({"lat_ms": {"p50": math.inf}}, "lat_ms.p50 holds inf"),
        ({"compile_ms": math.nan}, "its compile_ms is nan"),
        ({"compile_ms": "1"}, "its compile_ms is '1'"),
    ],
)
def test_a_line_that_no_report_can_use_says_why(changes, said):
    with pytest.raises(Unreadable, match=said):
        read(**changes)


def test_one_run_in_two_environments_is_two_launches():
    here, there = read(), read(env={**THEIRS["env"], "gpu": "NVIDIA A10"}, impl="other")
    first, second = kbt.by_launch([here, there, replace(here)])
    assert [line.launch.id for line in first] == [THEIRS["run"]] * 2
    assert [line.record.launch for line in second] == [f"{THEIRS['run']}-2"]
    assert kbt.run_of(second).launches[0].fingerprint.key["device"] == "NVIDIA A10"
