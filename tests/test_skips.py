"""What is skipped in CI fails there, unless the machine itself lacks something."""

import pytest

pytest_plugins = ["pytester"]
FILES = {
    "package": "import pytest\npytest.importorskip('no_such_package')",
    "program": "import pytest\ndef test_it():\n    pytest.skip('no such program')",
    "parameters": (
        "import pytest\n@pytest.mark.parametrize('name', [])\ndef test_it(name):\n    assert name"
    ),
    "machine": (
        "import pytest\n@pytest.mark.skipif(True, reason='no bash on this system')\n"
        "def test_it():\n    raise AssertionError"
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_skip_fails_in_ci(kind, pytester, monkeypatch):
    pytester.makeconftest(
        "from tests.conftest import pytest_make_collect_report, pytest_runtest_makereport"
    )
    pytester.makepyfile(FILES[kind])
    found = []
    for name in ("", "1"):
        monkeypatch.setenv("CI", name)
        outcomes = pytester.runpytest_inprocess().parseoutcomes()
        found.append(set(outcomes) & {"skipped", "failed", "errors"})
    in_ci = {"program": {"failed"}, "machine": {"skipped"}}.get(kind, {"errors"})
    assert found == [{"skipped"}, in_ci]
