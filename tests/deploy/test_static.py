"""What can be said of the deployment's files without an engine: they are valid, and nothing in them stands open."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.deploy.stack import ROOT, example_environment

DEPLOY = ROOT / "deploy"
SECRETS = ("POSTGRES_PASSWORD", "SWEEPER_DATABASE_PASSWORD", "MLFLOW_DATABASE_PASSWORD", "RAY_AUTH_TOKEN")
OVERLAYS = ("base", "gpu")


def closed(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    """The schema of an object that has no other fields."""
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


# What KubeRay's API reference (ray.io/v1) says of the fields that a RayCluster of ours may have. Its schema is in no
# package; pod templates are checked by kubernetes-validate.
_WORDS = {"type": "object", "additionalProperties": {"type": "string"}}
_NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 50}
_POD = closed(("spec",), metadata={"type": "object"}, spec={"type": "object", "required": ["containers"]})
_COUNT = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
_GROUP = {"rayStartParams": _WORDS, "template": _POD}
_COUNTS = dict.fromkeys(("replicas", "minReplicas", "maxReplicas", "numOfHosts", "idleTimeoutSeconds"), _COUNT)
RAY_CLUSTER = closed(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayCluster"},
    metadata=closed(("name",), name=_NAME, namespace=_NAME, labels=_WORDS, annotations=_WORDS),
    spec=closed(
        ("headGroupSpec",),
        rayVersion={"type": "string"},
        enableInTreeAutoscaling={"type": "boolean"},
        suspend={"type": "boolean"},
        headGroupSpec=closed(("rayStartParams", "template"), **_GROUP, serviceType={"type": "string"}),
        workerGroupSpecs={
            "type": "array",
            "items": closed(("groupName", "rayStartParams", "template"), groupName=_NAME, **_GROUP, **_COUNTS),
        },
    ),
)


def tool(name: str) -> str:
    """A program beside this Python, or on the PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: make dev")
    return found


def run(*command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=env)


def compose(*words: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    if shutil.which("docker") is None or run("docker", "compose", "version").returncode != 0:
        pytest.skip("docker compose v2 is not installed")
    environment = {name: value for name, value in os.environ.items() if name not in SECRETS}
    return run("docker", "compose", "--env-file", "/dev/null", *words, env=environment | env)


def rendered(overlay: str) -> list[dict[str, Any]]:
    """The Kubernetes manifests of an overlay."""
    done = run(tool("kubectl"), "kustomize", str(DEPLOY / "kubernetes" / overlay))
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def ray_groups(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The head's group and the workers' of the RayCluster."""
    [spec] = [document["spec"] for document in documents if document["kind"] == "RayCluster"]
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The compose file's services, read as YAML: no engine, no interpolation."""
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])


def test_compose_accepts_the_files_once_there_are_secrets() -> None:
    secrets = dict.fromkeys(SECRETS, "x")
    for files in ([], ["-f", "docker-compose.yml", "-f", "deploy/compose.gpu.yml"]):
        done = compose(*files, "config", "--quiet", env=secrets)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("missing", SECRETS)
def test_compose_refuses_to_start_without_a_secret(missing: str) -> None:
    done = compose("config", "--quiet", env={name: "x" for name in SECRETS if name != missing})
    assert done.returncode != 0
    assert missing in done.stderr
    assert "make up" in done.stderr


def test_the_example_has_no_secret_and_the_made_file_has_random_ones() -> None:
    example = (DEPLOY / "env.example").read_text()
    assert [line for line in example.splitlines() if re.match(r"\w+=", line)] == [f"{name}=" for name in SECRETS]
    made = [dict(re.findall(r"^(\w+)=([0-9a-f]{64})$", example_environment(), re.M)) for _ in range(2)]
    assert [sorted(one) for one in made] == [sorted(SECRETS)] * 2
    assert len({value for one in made for value in one.values()}) == 2 * len(SECRETS)


def test_every_setting_of_the_compose_file_is_in_the_example() -> None:
    text = (ROOT / "docker-compose.yml").read_text() + (DEPLOY / "compose.gpu.yml").read_text()
    used = set(re.findall(r"\$\{(\w+)", text))
    known = set(re.findall(r"^#?(\w+)=", (DEPLOY / "env.example").read_text(), re.M))
    assert used == known


def test_the_modules_that_a_ray_node_loads_at_its_start_exist(services: dict[str, Any]) -> None:
    composed = services["ray-worker"]["environment"]["RAY_preload_python_modules"]
    manifest = (DEPLOY / "kubernetes" / "base" / "ray.yaml").read_text()
    assert f'value: "{composed}"' in manifest
    for module in composed.split(","):
        assert find_spec(module) is not None, module


def test_every_service_is_hardened_limited_and_watched(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["init"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["user"].partition(":")[0]) > 0, name
        assert "memory" in service["deploy"]["resources"]["limits"], name
        assert "privileged" not in service, name
        ends = name == "migrate"
        assert service["restart"] == ("on-failure:5" if ends else "unless-stopped"), name
        assert ("healthcheck" in service) is not ends, name
        if name.startswith("ray") or name == "sweeper":
            assert service["environment"]["RAY_AUTH_MODE"] == "token", name
            assert "shm_size" in service, name


def test_services_start_in_the_order_of_health(services: dict[str, Any]) -> None:
    waits = {
        (name, other): how["condition"]
        for name, service in services.items()
        for other, how in service.get("depends_on", {}).items()
    }
    assert waits == {
        ("migrate", "postgres"): "service_healthy",
        ("mlflow", "migrate"): "service_completed_successfully",
        ("ray-worker", "ray-head"): "service_healthy",
        ("sweeper", "migrate"): "service_completed_successfully",
        ("sweeper", "mlflow"): "service_healthy",
        ("sweeper", "ray-head"): "service_healthy",
    }


def test_only_mlflow_and_the_sweeper_are_published_and_on_loopback() -> None:
    done = compose("config", "--format", "json", env=dict.fromkeys(SECRETS, "x"))
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    published = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    assert sorted(published) == ["mlflow", "sweeper"]
    assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}


def test_no_file_holds_a_password(services: dict[str, Any]) -> None:
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|TOKEN|SECRET|KEY", name):
                assert re.fullmatch(r"\$\{\w+(:\?[^}]*)?\}", value), name
    for path in DEPLOY.rglob("*"):
        if path.is_file() and path.suffix in (".yml", ".yaml"):
            assert not re.search(r"://[^/\s:@]+:[^$@\s]+@", path.read_text()), f"{path} has a password in a URL"


def test_the_dockerfiles_pass_hadolint() -> None:
    files = [str(DEPLOY / "Dockerfile"), str(Path(__file__).parent / "postgres" / "Dockerfile")]
    done = run(tool("hadolint"), "--no-color", *files)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_kubernetes_manifests_are_valid(overlay: str, tmp_path: Path) -> None:
    documents = rendered(overlay)
    groups = ray_groups(documents)
    # a RayCluster is not in kubernetes-validate: what it has of pods is checked as pods, the rest below
    pods = [{"apiVersion": "v1", "kind": "Pod", **group["template"]} for group in groups]
    for pod in pods:
        pod["metadata"]["name"] = "ray"
    manifests = tmp_path / "manifests.yaml"
    manifests.write_text(yaml.safe_dump_all([d for d in documents if d["kind"] != "RayCluster"] + pods))
    done = run(tool("kubernetes-validate"), "--strict", str(manifests))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_ray_cluster_has_the_fields_that_kuberay_knows(overlay: str) -> None:
    [cluster] = [document for document in rendered(overlay) if document["kind"] == "RayCluster"]
    jsonschema.validate(cluster, RAY_CLUSTER)
    for change in (
        {"rayVersion": 2.6},
        {"headGroupSpec": {**cluster["spec"]["headGroupSpec"], "replicaz": 1}},
        {"workerGroupSpecs": [{**cluster["spec"]["workerGroupSpecs"][0], "rayStartParams": {"num-cpus": 1}}]},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**cluster, "spec": {**cluster["spec"], **change}}, RAY_CLUSTER)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_ray_cluster_starts_nodes_with_options_of_ray_start_and_the_image_s_version(overlay: str) -> None:
    from ray.scripts.scripts import start

    documents = rendered(overlay)
    options = {option for parameter in start.params for option in parameter.opts}
    for group in ray_groups(documents):
        assert {f"--{name}" for name in group["rayStartParams"]} <= options
    for group in ray_groups(documents)[1:]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    [version] = [document["spec"]["rayVersion"] for document in documents if document["kind"] == "RayCluster"]
    assert f"ray=={version}" in (ROOT / "constraints.txt").read_text().splitlines()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_is_hardened_and_uses_what_exists(overlay: str) -> None:
    documents = rendered(overlay)
    pods = [d["spec"]["template"]["spec"] for d in documents if d["kind"] in ("Deployment", "StatefulSet")]
    pods += [group["template"]["spec"] for group in ray_groups(documents)]
    claims = {d["metadata"]["name"] for d in documents if d["kind"] == "PersistentVolumeClaim"}
    assert len(pods) == 5
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        volumes = {volume["name"] for volume in pod["volumes"]}
        claimed = [volume["persistentVolumeClaim"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
        assert {claim["claimName"] for claim in claimed} <= claims
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            context = container["securityContext"]
            assert (context["readOnlyRootFilesystem"], context["capabilities"]) == (True, {"drop": ["ALL"]})
            assert "memory" in container["resources"]["limits"]
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounted - volumes <= {"data"}  # the StatefulSet's own claim
            for variable in container.get("env", []):
                if re.search(r"PASSWORD|TOKEN", variable["name"]):
                    source = variable["valueFrom"]["secretKeyRef"]
                    assert source["name"] == "sweeper-secrets"
                    assert source["key"] in SECRETS


def test_what_runs_in_the_containers_parses() -> None:
    for path in (DEPLOY / "image").iterdir():
        assert os.access(path, os.X_OK), path
        first = path.read_text().splitlines()[0]
        if "python" in first:
            compile(path.read_text(), str(path), "exec")
        else:
            subprocess.run(["bash", "-n", str(path)], check=True)
