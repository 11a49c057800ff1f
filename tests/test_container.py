"""The container and its compose file are read here, and their parts are tried: no engine runs."""

import http.server
import importlib.util
import json
import re
import shlex
import subprocess
import sys
import threading

import pytest

from qad_jax import cli
from tests.commands import call
from tests.conftest import ROOT

pytestmark = pytest.mark.checkout
yaml = pytest.importorskip("yaml")
UNITS = {"m": 10**6, "g": 10**9}


def read(name):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def size(text):
    """A size such as 2g, in bytes; a unit of Docker is at least as large as this one."""
    return int(text[:-1]) * UNITS[text[-1]]


@pytest.fixture(scope="module")
def stages():
    """The instructions of each stage of the Dockerfile, as lists of (instruction, rest)."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    found = {}
    for line in filter(None, lines):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = [("FROM", base)]
        elif found:
            found[name].append((instruction, rest.strip()))
    return found


@pytest.fixture(scope="module")
def services():
    return read("deploy/compose.yaml")["services"]


def of(stage, instruction):
    return [rest for name, rest in stage if name == instruction]


def options(words):
    """The options of a command line that give a value."""
    return dict(word.removeprefix("--").split("=", 1) for word in words if "=" in word)


def test_the_service_is_built_last_and_without_root(stages):
    assert list(stages) == ["build", "base", "command", "serve"]
    for name in ("command", "serve"):
        assert of(stages[name], "FROM") == ["base"]
        assert of(stages[name], "USER") == []  # none goes back to root
        assert of(stages[name], "RUN") == []
    assert of(stages["base"], "USER")[-1] == "1000"
    assert stages["base"].index(("USER", "1000")) > max(
        i for i, (instruction, _) in enumerate(stages["base"]) if instruction in ("RUN", "COPY")
    )
    # A volume would be a place to write to, whatever --read-only says.
    assert of(stages["serve"], "VOLUME") == of(stages["base"], "VOLUME") == []
    # All that is written without a folder being named goes to /tmp.
    environment = dict(pair.split("=") for pair in shlex.split(of(stages["base"], "ENV")[0]))
    assert {environment["MPLCONFIGDIR"], environment["XDG_CACHE_HOME"]} == {
        "/tmp/matplotlib",
        "/tmp/cache",
    }


def test_every_container_has_an_init():
    """Process 1 never gets the SIGTERM of `docker stop` where it has no handler for it."""
    for name in ("Dockerfile", "docs/container.md"):
        text = re.sub(r"\\\n#? *", "", (ROOT / name).read_text(encoding="utf-8"))
        runs = re.findall(r"^#? *docker run .*", text, flags=re.MULTILINE)
        assert len(runs) == 2, name
        assert all("--init" in run.split() for run in runs), runs
    assert all(
        one.get("init")
        for one in read("deploy/compose.yaml")["services"].values()
        if "build" in one
    )


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_the_health_check(stages, status, healthy):
    """It is run as it is, but for the port, against a server that answers so, or against none."""
    (check,) = of(stages["serve"], "HEALTHCHECK")
    words = json.loads(check[check.index("[") :])
    assert words[0] == "python"
    asked = []

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
        port = server.server_address[1]
        if status is None:
            server.server_close()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        if status is not None:
            thread.start()
        tried = [sys.executable, *(word.replace("8000", str(port)) for word in words[1:])]
        done = subprocess.run(tried, capture_output=True, check=False)
        if status is not None:
            server.shutdown()
            thread.join()
    assert (done.returncode == 0) is healthy
    assert asked == ([] if status is None else ["/healthz"])
    assert of(stages["serve"], "EXPOSE") == ["8000"]
    # Podman 4.3 refuses to build where there is --start-interval, which is younger than these.
    known = {"--interval", "--timeout", "--start-period", "--retries"}
    assert {word.partition("=")[0] for word in check.partition(" CMD ")[0].split()} <= known


@pytest.mark.skipif(
    importlib.util.find_spec("qad_jax.detection.server") is None, reason="there is no service"
)
def test_the_options_are_those_of_the_command(stages, services):
    """`--no-such-flag` is complained of only where all words before it are known."""
    for words in (json.loads(of(stages["serve"], "CMD")[0]), services["qad-jax"]["command"]):
        result = call(*words, "--no-such-flag", main=cli.main)
        assert result.status == 2
        assert result.err.startswith(
            "error: command line: unrecognized arguments: --no-such-flag"
        ), result.err


def test_compose_opens_ports_to_this_machine_alone(services):
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not {"privileged", "network_mode", "cap_add", "user"} & service.keys()


def test_compose_builds_the_service(services, stages):
    service = services["qad-jax"]
    assert (ROOT / "deploy" / service["build"]["context"] / "Dockerfile").exists()
    assert service["build"]["target"] in stages
    port = options(service["command"])["port"]
    assert service["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert of(stages["serve"], "EXPOSE") == [port]


def test_files_that_wait_fit_into_memory(stages, services):
    """The file system in memory holds what may wait, and the container that and the worker."""
    service = services["qad-jax"]
    (mount,) = service["tmpfs"]
    place, _, how = mount.partition(":")
    assert place == "/tmp"
    settings = dict(one.partition("=")[::2] for one in how.split(","))
    assert {"noexec", "nosuid", "nodev"} <= settings.keys()
    for words in (json.loads(of(stages["serve"], "CMD")[0]), service["command"]):
        given = options(words)
        assert float(given["max_mb"]) <= float(given["max_disk_mb"])
        assert float(given["max_disk_mb"]) * 10**6 < size(settings["size"])
    workers = int(given["workers"]) * float(given["max_memory_mb"]) * 10**6
    assert workers + size(settings["size"]) < size(service["mem_limit"])


def test_prometheus_reads_the_service(services):
    """By a name that the service answers to, with the token that it wants."""
    compose, config = read("deploy/compose.yaml"), read("deploy/prometheus.yml")
    (job,) = config["scrape_configs"]
    given = options(services["qad-jax"]["command"])
    assert given["name"] in services
    assert job["static_configs"] == [{"targets": [f"{given['name']}:{given['port']}"]}]
    assert job["metrics_path"] == "/metrics"
    assert job["authorization"]["credentials_file"] == given["token_file"] == "/run/secrets/token"
    (secret,) = compose["secrets"]
    assert all(service["secrets"] == [secret] for service in services.values())
    told = services["prometheus"]
    file, volume = (one.split(":") for one in told["volumes"])
    assert (ROOT / "deploy" / file[0]).exists()
    assert f"--config.file={file[1]}" in told["command"]
    assert file[2] == "ro"
    assert volume[0] in compose["volumes"]
    assert f"--storage.tsdb.path={volume[1]}" in told["command"]


@pytest.mark.skipif(
    importlib.util.find_spec("prometheus_client") is None, reason="there are no metrics"
)
def test_what_prometheus_is_asked_is_there_from_the_start():
    """It counts growth alone: a number that is first seen at 1 has not grown."""
    from qad_jax.detection.server.metrics import Metrics

    numbers = Metrics()
    numbers.watch("workers", "As the service does.", lambda: 0)
    lines = [one for one in numbers.text().decode().splitlines() if not one.startswith("#")]
    page = (ROOT / "docs" / "container.md").read_text(encoding="utf-8")
    asked = re.findall(r"(qad_jax_\w+)(\{[^}]*\})?", "".join(re.findall(r"\| `(.*)` \|\n", page)))
    assert len(asked) == 4
    for name, labels in asked:
        assert any(one.startswith(name + (labels or "")) for one in lines), name + labels
    told = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    (reasons,) = re.findall(r"by reason \(([^)]*)\)", told)
    for reason in re.findall(r"`(\w+)`", reasons):
        assert f'qad_jax_worker_ends_total{{reason="{reason}"}} 0.0' in lines
    for verdict in ("real", "fake", "inconclusive", "no_face", "error", "failed", "deleted"):
        assert f'qad_jax_jobs_total{{verdict="{verdict}"}} 0.0' in lines


def test_the_token_stays_here():
    """Git leaves the file out, and the builder of images never gets it."""
    (secret,) = read("deploy/compose.yaml")["secrets"].values()
    assert secret["file"] == "./token"
    assert "/deploy/token" in (ROOT / ".gitignore").read_text().splitlines()
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in sent
    assert not [line for line in sent if line.startswith("!deploy")]


def test_the_workflow_builds_each_image(stages):
    steps = read(".github/workflows/ci.yml")["jobs"]["docker"]["steps"]
    runs = "\n".join(step.get("run", "") for step in steps)
    for target in re.findall(r"docker build .*--target (\w+)", runs):
        assert target in stages
    assert "docker build --tag qad-jax-serve ." in runs
    assert "--read-only" in runs
    assert "/healthz" in runs
    assert 'test "$state" = healthy' in runs  # a service answers, too, whose health check is broken
    assert "docker compose --file deploy/compose.yaml up" in runs
