"""Requests that a machine makes up from the OpenAPI document: none is a mistake of the service."""

import hypothesis
import pytest

from qad_jax.detection.server.settings import Settings
from tests.serving import served

schemathesis = pytest.importorskip("schemathesis")

# The document cannot say that a file is refused whose content is no image.
from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402

EXAMPLES = 15


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    settings = Settings(port=0, folder=tmp_path_factory.mktemp("serve"), uploads_per_minute=10_000)
    with served(settings) as one:
        yield one


def test_no_request_is_a_mistake_of_the_service(running):
    url = str(running.client.base_url)
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    seen = set()
    for found in schema.get_all_operations():
        operation = found.ok()

        @hypothesis.settings(max_examples=EXAMPLES, database=None, deadline=None, derandomize=True)
        @hypothesis.given(case=operation.as_strategy())
        def check(case):
            answer = case.call(base_url=url)
            case.validate_response(answer, excluded_checks=[positive_data_acceptance])
            assert answer.status_code < 500
            seen.add((case.method, case.operation.path, answer.status_code))

        check()
    assert {path for _, path, _ in seen} == set(schema.raw_schema["paths"])
    assert ("GET", "/v1/jobs/{job}", 404) in seen
