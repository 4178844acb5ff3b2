"""The OpenAPI schema under thousands of generated requests: no 5xx, every error in its shape."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.live_server import LiveServer, both_roles, refused

CASES = 2_000
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


def test_what_is_not_there_is_refused_in_the_same_shape() -> None:
    with LiveServer() as server:
        refused(server.http.get("/v1/nothing"), 404)
        refused(server.http.delete("/v1/chat/completions"), 405)
        refused(server.http.put("/v1/models"), 405)
        refused(server.http.get("/v1/models/%00"), 404)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_the_schema_holds_under_generated_requests(tmp_path: Path) -> None:
    schemathesis = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    assert schemathesis
    with LiveServer(both_roles()) as server:
        command = [
            *(schemathesis, "run", f"{server.url}/openapi.json", "--checks", ",".join(CHECKS)),
            *("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "400"),
            *("--seed", "1", "--no-color", "--continue-on-failure"),
        ]
        # Proxies of the environment are not for loopback.
        environment = os.environ | {"NO_PROXY": "127.0.0.1", "COLUMNS": "200"}
        run = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
        )
        assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
        found = re.search(r"([\d,]+) generated", run.stdout)
        assert found, run.stdout[-2000:]
        asked = int(found[1].replace(",", ""))
        assert asked >= CASES, run.stdout[-2000:]
        assert server.ask().status_code == 200
