"""pipelines/deploy: manifests of KubeRay, a Slurm script and an image, checked without any of them.

The schema below says, for the fields that the manifests use, what KubeRay's and Kubernetes' API
references do; a field that it does not know is an error, so a slip of the pen is one.
"""

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pipelines.generate import parse_args
from pipelines.settings import find_config

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "pipelines" / "deploy"


def a(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def some(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


TEXT, NUMBER, YES = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}  # rayStartParams: numbers, too, as text
QUANTITY = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|[KMGT]i?)?$"}
QUANTITIES = {"type": "object", "additionalProperties": QUANTITY}
NAME = {"type": "string", "pattern": r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"}
META = a({"name": NAME}, "name")
CONTAINER = a(
    {
        "name": NAME,
        "image": TEXT,
        "ports": some(a({"name": NAME, "containerPort": NUMBER}, "containerPort")),
        "envFrom": some(a({"secretRef": a({"name": NAME, "optional": YES}, "name")})),
        "env": some(a({"name": TEXT, "value": TEXT}, "name")),
        "resources": a({"requests": QUANTITIES, "limits": QUANTITIES}, "limits"),
        "volumeMounts": some(a({"name": NAME, "mountPath": TEXT}, "name", "mountPath")),
    },
    "name",
    "image",
    "resources",
)
VOLUME = a(
    {
        "name": NAME,
        "persistentVolumeClaim": a({"claimName": NAME}, "claimName"),
        "emptyDir": a({"medium": {"enum": ["Memory"]}, "sizeLimit": QUANTITY}),
    },
    "name",
)
POD = a(
    {
        "restartPolicy": {"enum": ["Always", "OnFailure", "Never"]},
        "securityContext": a({"runAsUser": NUMBER, "runAsGroup": NUMBER, "fsGroup": NUMBER}),
        "tolerations": some(
            a({"key": TEXT, "operator": {"enum": ["Exists", "Equal"]}, "effect": TEXT})
        ),
        "containers": some(CONTAINER),
        "volumes": some(VOLUME),
    },
    "containers",
)
TEMPLATE = a({"spec": POD}, "spec")
WORKERS = a(
    {
        "groupName": NAME,
        "replicas": NUMBER,
        "minReplicas": NUMBER,
        "maxReplicas": NUMBER,
        "rayStartParams": TEXTS,
        "template": TEMPLATE,
    },
    *("groupName", "minReplicas", "maxReplicas", "template"),
)
CLUSTER = a(
    {
        "rayVersion": TEXT,
        "authOptions": a({"mode": {"enum": ["token", "disabled"]}}),
        "enableInTreeAutoscaling": YES,
        "autoscalerOptions": a(
            {
                "version": {"enum": ["v1", "v2"]},
                "upscalingMode": {"enum": ["Default", "Aggressive", "Conservative"]},
                "idleTimeoutSeconds": NUMBER,
            }
        ),
        "headGroupSpec": a({"rayStartParams": TEXTS, "template": TEMPLATE}, "template"),
        "workerGroupSpecs": some(WORKERS),
    },
    "headGroupSpec",
)
JOB = a(
    {
        "entrypoint": TEXT,
        "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"]},
        "backoffLimit": NUMBER,
        "shutdownAfterJobFinishes": YES,
        "ttlSecondsAfterFinished": NUMBER,
        "rayClusterSpec": CLUSTER,
    },
    *("entrypoint", "rayClusterSpec"),
)
CLAIM = a(
    {
        "accessModes": some({"enum": ["ReadWriteMany"]}),
        "resources": a({"requests": QUANTITIES}, "requests"),
    },
    *("accessModes", "resources"),
)
KINDS = {
    ("ray.io/v1", "RayJob"): JOB,
    ("ray.io/v1", "RayCluster"): CLUSTER,
    ("v1", "PersistentVolumeClaim"): CLAIM,
}


def manifest(name: str) -> dict[str, Any]:
    (found,) = yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8"))
    return dict(found)


def pods(cluster: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The pods' specs by group."""
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    groups["head"] = cluster["headGroupSpec"]
    return {name: group["template"]["spec"] for name, group in groups.items()}


CLUSTERS = {
    "rayjob.yaml": manifest("rayjob.yaml")["spec"]["rayClusterSpec"],
    "raycluster.yaml": manifest("raycluster.yaml")["spec"],
}


@pytest.mark.parametrize("name", sorted(path.name for path in DEPLOY.glob("*.yaml")))
def test_a_manifest_is_of_its_kind(name: str) -> None:
    found = manifest(name)
    kind = KINDS[found["apiVersion"], found["kind"]]
    whole = a({"apiVersion": TEXT, "kind": TEXT, "metadata": META, "spec": kind}, "metadata")
    jsonschema.Draft202012Validator(whole).validate(found)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("backofLimit",), 3),
        (("rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("rayClusterSpec", "autoscalerOptions", "version"), 2),
    ],
)
def test_a_slip_of_the_pen_is_seen(path: tuple[str, ...], value: Any) -> None:
    spec = manifest("rayjob.yaml")["spec"]
    place = spec
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(JOB).validate(spec)


def test_both_clusters_are_the_same() -> None:
    assert CLUSTERS["rayjob.yaml"] == CLUSTERS["raycluster.yaml"]


def test_the_cluster_is_one_that_runs_can_use() -> None:
    cluster = CLUSTERS["raycluster.yaml"]
    constraints = (ROOT / "pipelines" / "constraints.txt").read_text(encoding="utf-8")
    assert f"ray=={cluster['rayVersion']}\n" in constraints
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"]
    claim = manifest("storage.yaml")["metadata"]["name"]
    for pod in pods(cluster).values():
        (container,) = pod["containers"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert volumes[mounts["/shared"]]["persistentVolumeClaim"]["claimName"] == claim
        assert set(mounts.values()) == set(volumes)
        assert container["envFrom"] == [{"secretRef": {"name": "mbegu-keys", "optional": True}}]
        assert not any(re.search("KEY|TOKEN|SECRET", e["name"]) for e in container["env"])
    (gpu,) = pods(cluster)["gpu"]["containers"]
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == "8"


def test_the_jobs_command_is_one() -> None:
    words = shlex.split(manifest("rayjob.yaml")["spec"]["entrypoint"])
    assert words[:3] == ["python", "-m", "pipelines.generate"]
    args = parse_args(words[3:])
    assert find_config(args.config).is_file()
    assert args.set == ["runs=/shared/runs"]


def test_the_image_is_made_of_files_that_are_there() -> None:
    lines = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    assert {"sdg", "prompts", "pipelines", "embedtrain", "pyproject.toml"} <= set(copied)
    assert [name for name in copied if not (ROOT / name).exists()] == []


def run_slurm(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The script, on a node where Slurm's and Ray's commands say what they were given."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    stubs = {
        "scontrol": "printf 'node7\\nnode8\\n'",
        "srun": 'printf "%s|" "$@"; printf "\\n%s" "$RAY_AUTH_MODE $(stat -c %a "$RAY_AUTH_TOKEN_PATH")"',
    }
    for name, text in stubs.items():
        path = folder / ".venv" / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    slurm = {
        "SLURM_SUBMIT_DIR": str(folder),
        "SLURM_JOB_ID": "12345678",
        "SLURM_JOB_NUM_NODES": "2",
    }
    return subprocess.run(
        ["bash", str(DEPLOY / "slurm.sh"), *arguments],
        env={**os.environ, **slurm, "SLURM_JOB_NODELIST": "node[7-8]"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_slurm_runs_the_command_on_all_nodes(tmp_path: Path) -> None:
    done = run_slurm(tmp_path, "--lang", "sw", "--set", "corpus.text=a b")
    assert done.returncode == 0, done.stderr
    command, secret = done.stdout.split("\n")
    words = command.split("|")
    start = words.index("symmetric-run")
    assert words[start:-1] == [
        *("symmetric-run", "--address", "node7:25678", "--min-nodes", "2", "--"),
        *("env", "RAY_ADDRESS=node7:25678", "python", "-m", "pipelines.generate"),
        *("--lang", "sw", "--set", "corpus.text=a b"),
    ]
    assert secret == "token 600"
    assert not list(tmp_path.glob(".ray-token*"))


def test_slurm_without_a_command_is_refused(tmp_path: Path) -> None:
    done = run_slurm(tmp_path)
    assert done.returncode == 2
    assert "--lang sw" in done.stderr
