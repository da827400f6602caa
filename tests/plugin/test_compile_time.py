"""A case that waits for a compiler of its library says so: nvcc and ptxas are child processes, as this one is."""

from __future__ import annotations

BACKENDS = """
import subprocess
import sys
from attnbench import register
from torch.nn.functional import scaled_dot_product_attention

COMPILER = "import time; until = time.process_time() + 0.3\\nwhile time.process_time() < until: pass"
cache = []

@register("compiles", "mine", layout="bhsd")
def compiles(workload):
    def attention(q, k, v):
        if not cache:
            cache.append(subprocess.run([sys.executable, "-c", COMPILER], check=True))
        return scaled_dot_product_attention(q, k, v)
    return attention

@register("cached", "mine", layout="bhsd")
def cached(workload):
    return compiles(workload)

@register("compiles_in_load", "mine", layout="bhsd")
def compiles_in_load(workload):
    subprocess.run([sys.executable, "-c", COMPILER], check=True)
    return compiles(workload)
"""


def test_the_compilers_that_loading_and_first_call_wait_for_are_in_its_record_and_said(bench, pytester):
    pytester.makeconftest(BACKENDS)
    backends = ("--attn-backend=compile*", "--attn-backend=cached")
    result = bench("--benchmark-json=run.json", "--benchmark-only", *backends, "--attn-workload=1x64x2x64:fp32")
    result.assert_outcomes(passed=3)
    spent_s = {record["backend"]: record["compilers_s"] for record in bench.records().values()}
    assert spent_s["compiles"] >= 0.3
    assert spent_s["compiles_in_load"] >= 0.3
    assert spent_s["cached"] == 0
    (said,) = [line for line in result.outlines if line.startswith("compiler CPU time in eager cases")]
    assert said.rpartition(": ")[2].split()[::3] == ["compiles@eager", "compiles_in_load@eager"]
