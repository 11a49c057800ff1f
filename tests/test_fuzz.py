"""Files that were damaged at random: some here, and as many as wanted with tests/fuzz.py."""

import pytest
from hypothesis import HealthCheck, given, settings

from tests import fuzz_targets


@pytest.mark.parametrize("name", fuzz_targets.TARGETS)
def test_a_result_or_one_line(name, tmp_path):
    inputs, read = fuzz_targets.TARGETS[name]

    @settings(
        max_examples=40,
        derandomize=True,
        database=None,
        deadline=None,  # `check` has its own
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs())
    def run(data):
        fuzz_targets.check(read, data, tmp_path)

    run()
