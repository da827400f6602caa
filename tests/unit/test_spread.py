"""Under -v: the spread of the rounds and the errors of every input distribution."""

from attnbench.model import Check
from attnbench.report.terminal import section


def details(run):
    return section(run, details=True)


def test_verbose_shows_quantiles_of_the_rounds_and_absmax_mae_mse(run_file, record, error):
    inputs = record().workload.distribution
    found = error(max_abs=0.06, mean_abs=0.002, mse=1e-5)
    lines = details(run_file(record(checks=(Check(inputs, found, found, found, {}, "all", True),))))
    (at,) = (number for number, line in enumerate(lines) if line.endswith(": rounds and errors"))
    assert lines[at + 1].split() == ["variant", "inputs", "p20", "median", "p80", "absmax", "mae", "mse", "cosine"]
    assert lines[at + 2].split() == ["ms", "ms", "ms"]
    row = lines[at + 4].split()
    low, median, high = map(float, row[2:5])
    assert low <= median <= high
    assert row[5:8] == ["6.00e-02", "2.00e-03", "1.00e-05"]


def test_of_accuracy_alone_there_are_errors_and_no_line_of_units(run_file, record, error):
    checks = (Check("outlier-k", error(), error(), error(), {}, "all", True),)
    lines = details(run_file(record(status="checked", checks=checks)))
    at = lines.index("flux-256px-t128: errors")
    assert lines[at + 1].split() == ["variant", "inputs", "absmax", "mae", "mse", "cosine"]
    assert set(lines[at + 2]) == {"-", " "}
    assert lines[at + 3].split()[:2] == ["torch_flash@eager", "outlier-k"]


def test_without_verbose_it_is_not_there(run_file, record):
    assert not any("rounds and errors" in line for line in section(run_file(record())))


def test_verbose_names_the_gradient_and_says_whether_it_is_within_twice_plain(run_file, record, error):
    inputs = record().workload.distribution
    plain = error(max_abs=0.01, rel_l2=0.01)
    near, far = error(max_abs=0.02, rel_l2=0.02), error(max_abs=0.021, rel_l2=0.03)
    checks = [
        Check(inputs, found, plain, plain, {}, "all", True, name)
        for name, found in (("output", near), ("dq", near), ("dk", far), ("dv", near))
    ]
    lines = details(run_file(record(checks=tuple(checks))))
    (at,) = (number for number, line in enumerate(lines) if line.endswith(": rounds and errors"))
    assert lines[at + 1].split()[:3] == ["variant", "inputs", "of"]
    rows = [line.split() for line in lines[at + 4 : at + 8]]
    assert [row[2] for row in rows[1:]] == ["dq", "dk", "dv"]
    assert [row[-1] for row in rows[1:]] == ["yes", "no", "yes"]
    assert any("3.00e-02" in line for line in section(run_file(record(checks=tuple(checks)))))  # the worst of them


def test_rounds_without_a_check_of_the_timed_inputs_have_a_row_of_their_own(run_file, record, error):
    found = error(max_abs=0.06)
    lines = details(run_file(record(checks=(Check("randn", found, found, found, {}, "all", True),))))
    (at,) = (number for number, line in enumerate(lines) if line.endswith(": rounds and errors"))
    rounds, errors = (line.split() for line in lines[at + 4 : at + 6])
    assert rounds[1] == record().workload.distribution
    assert len(rounds) == 5
    assert errors[1:3] == ["randn", "6.00e-02"]


def test_verbose_prints_errors_on_randn_in_the_flux_benchmarks_own_form(run_file, record, error):
    def checks(output="output"):
        return tuple(Check(name, one, one, one, {}, "all", True, output) for name in ("randn", "outlier-k"))

    one = error(max_abs=0.0019531, mean_abs=2e-5, mse=1e-9)
    names = ("torch_cudnn@max-autotune", "torch_flash@eager", "sage_int8_fp16_cuda@eager", "numpy@eager")
    records = [record(name, checks=checks()) for name in names]
    lines = details(run_file(*records))
    at = lines.index("===== Testing shape: (1, 384, 24, 128) =====")
    error_text = "absmax=0.001953, mae=0.000020, mse=0.000000"
    assert lines[at + 1 : at + 5] == [
        f"torch_cudnn_compile_ma        : {error_text}",
        f"torch_flash                   : {error_text}",
        f"sageattn_qk_int8_pv_fp16_cuda : {error_text}",
        f"numpy                         : {error_text}",
    ]
    assert not any("Testing shape" in line for line in section(run_file(*records)))
    assert not any("Testing shape" in line for line in details(run_file(record(checks=checks("dq")))))
