"""The service keeps what its OpenAPI promises, whatever is sent: requests made from the schema by schemathesis."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.served import SMALL, Served, serving

pytestmark = pytest.mark.slow
CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
STREAM = "/api/v1/sweeps/{ref}/events"  # has no end while its sweep runs


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("schema") / "home") as served:
        served.wait(served.submit("bob", SMALL | {"name": "ended"}), "complete")
        yield served


def test_every_answer_is_one_that_the_schema_knows(served: Served) -> None:
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json").exclude(path=STREAM)
    wrong, count = {}, 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=8,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        )
        @given(case=operation.as_strategy())
        def ask(case: schemathesis.Case) -> None:
            nonlocal count
            count += 1
            if "ref" in (case.path_parameters or {}) and count % 2:
                case.path_parameters["ref"] = "ended"  # so that not every answer is 404
            token = {"Authorization": f"Bearer {served.tokens['bob']}"}
            case.call_and_validate(base_url=served.url, headers=token, checks=CHECKS, timeout=60)

        try:
            ask()
        except (Exception, BaseExceptionGroup) as error:
            wrong[operation.label] = "; ".join(map(str, getattr(error, "exceptions", [error])))
    assert not wrong, "\n\n".join(f"{label}: {text}" for label, text in wrong.items())
    assert count > 100


def test_every_example_of_the_schema_is_accepted(served: Served) -> None:
    paths = httpx.get(f"{served.url}/openapi.json").json()["paths"]
    for kind, content in paths["/api/v1/sweeps"]["post"]["requestBody"]["content"].items():
        example = content["example"]
        client = served.client("cat", **{"Content-Type": kind})
        options = {"json": example} if kind == "application/json" else {"content": example}
        answer = client.post("/sweeps", **options)
        assert answer.status_code == 201, answer.text
        stopped = client.post(f"/sweeps/{answer.json()['sweep']}/stop")
        assert stopped.status_code == 202, stopped.text
