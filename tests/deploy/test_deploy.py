"""What can be said of the manifests without Docker and Kubernetes: their form, names, users and secrets."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
ROOT = DEPLOY.parent
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())
MANIFESTS: list[dict[str, Any]] = [
    document
    for path in sorted((DEPLOY / "kuberay").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
OWN_VARIABLES = {str(field.validation_alias) for field in Settings.model_fields.values()}
BY_FILE = {"DATABASE_URL_FILE", "FSSPEC_S3_KEY_FILE", "FSSPEC_S3_SECRET_FILE"}
OTHERS = re.compile(r"RAY_AUTH_\w+|FSSPEC_S3_\w+|POSTGRES_\w+|MINIO_\w+")


def pods() -> Iterator[dict[str, Any]]:
    for manifest in MANIFESTS:
        if manifest["kind"] == "Deployment":
            yield manifest["spec"]["template"]["spec"]
        if manifest["kind"] == "RayCluster":
            yield manifest["spec"]["headGroupSpec"]["template"]["spec"]
            yield from (group["template"]["spec"] for group in manifest["spec"]["workerGroupSpecs"])


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_has_a_pinned_image_a_health_check_and_only_known_secrets(name: str) -> None:
    service = COMPOSE["services"][name]

    assert service["image"].startswith("tightfit:") or not service["image"].endswith(":latest")
    assert "healthcheck" in service or name == "service"  # its image has one
    assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])
    assert {volume.partition(":")[0] for volume in service.get("volumes", ())} <= set(COMPOSE["volumes"])
    for other, about in service.get("depends_on", {}).items():
        assert (
            about["condition"] != "service_healthy" or "healthcheck" in COMPOSE["services"][other] or other == "service"
        )


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_variables_are_ones_that_somebody_reads_and_hold_no_secret(name: str) -> None:
    for variable, value in COMPOSE["services"][name].get("environment", {}).items():
        assert variable in OWN_VARIABLES | BY_FILE or OTHERS.fullmatch(variable), variable
        if re.search("KEY|SECRET|PASSWORD|DATABASE_URL|TOKEN", variable):
            assert variable.endswith(("_FILE", "_PATH")), variable
            assert str(value).removeprefix("/run/secrets/") in COMPOSE["services"][name]["secrets"]


def test_nothing_is_published_beyond_this_machine() -> None:
    for service in COMPOSE["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


@pytest.mark.parametrize("pod", list(pods()), ids=lambda pod: pod["containers"][0]["name"])
def test_pods_run_without_root_and_take_secrets_from_files(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["resources"]["limits"]["memory"]
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        for entry in container["env"]:
            assert entry["name"] in OWN_VARIABLES | BY_FILE or OTHERS.fullmatch(entry["name"])


def test_selectors_find_their_pods() -> None:
    labels = [row["spec"]["template"]["metadata"]["labels"] for row in MANIFESTS if row["kind"] == "Deployment"]
    for row in MANIFESTS:
        if row["kind"] == "Deployment":
            assert row["spec"]["selector"]["matchLabels"] == row["spec"]["template"]["metadata"]["labels"]
        if row["kind"] == "Service":
            assert row["spec"]["selector"] in labels


def test_the_image_runs_as_nobody_in_particular_and_holds_every_package() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()

    assert [line for line in lines if line.startswith("USER")] == ["USER 10001:10001"]
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    copied = {line.split()[1] for line in lines if line.startswith("COPY ") and "--" not in line}
    assert {"hwmodels", "compress", "search", "workers", "service", "migrations", "tightfit"} <= copied
    assert all((ROOT / name).exists() for name in copied)


def test_the_entry_point_reads_secrets_from_files(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("postgresql://u:p a$s@h/d\n")
    command = [str(DEPLOY / "entrypoint.sh"), "sh", "-c", 'printf %s "$DATABASE_URL|${DATABASE_URL_FILE:-none}"']

    done = subprocess.run(
        command,
        env={"PATH": "/usr/bin:/bin", "DATABASE_URL_FILE": str(secret)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "postgresql://u:p a$s@h/d|none"
