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


def test_without_verbose_it_is_not_there(run_file, record):
    assert not any("rounds and errors" in line for line in section(run_file(record())))
