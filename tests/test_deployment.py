"""deploy/: the files agree with each other and with the project, and each is checked by its own tool where that needs
no engine. Nobody builds the image or starts the containers here."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from documents import ROOT, all_blocks, commands, read
from prometheus_client import CollectorRegistry
from stub_server import Says, problem, stub_server

from pipelines import cli
from recsys.serving.prometheus import Telemetry
from recsys.serving.shared_metrics import ProcessMetrics

DEPLOY = ROOT / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
UNITS = sorted(path for path in (DEPLOY / "systemd").iterdir() if path.suffix in (".service", ".timer"))
METRIC = re.compile(r"\b(recsys_\w+)(?:\{([^}]*)\})?")
VARIABLE = re.compile(r"\$\{(\w+)(:?[-?][^}]*)?\}|\$\((\w+)\)|\$\$(\w+)")


def yaml_of(path: Path) -> Any:
    return yaml.safe_load(read(path))


def check_command(words: list[str]) -> None:
    """The words after `recsys` name a command, and each option is one of its own."""
    command = cli.cli.commands[words[0]]
    assert isinstance(command, click.Command)
    options = {name for parameter in command.params for name in parameter.opts}
    named = {word.partition("=")[0] for word in words[1:] if word.startswith("--")}
    assert named <= options, words


def dockerfile() -> dict[str, list[str]]:
    """Instructions of each stage of the Dockerfile, lines that go on joined."""
    text = re.sub(r"^\s*#.*\n", "", read(DEPLOY / "Dockerfile"), flags=re.MULTILINE).replace("\\\n", " ")
    stages: dict[str, list[str]] = {"": []}
    for line in filter(None, (" ".join(line.split()) for line in text.splitlines())):
        if line.startswith("FROM "):
            stages[line.rpartition(" ")[2]] = [line]
        else:
            list(stages.values())[-1].append(line)
    return stages


def test_what_the_dockerfile_copies_exists_and_reaches_the_builder() -> None:
    kept = {line[1:] for line in read(ROOT / ".dockerignore").splitlines() if line.startswith("!")}
    copied = set()
    for line in (line for lines in dockerfile().values() for line in lines if line.startswith("COPY ")):
        words = [word for word in line.split()[1:] if not word.startswith("--")]
        if "--from=" not in line:
            copied |= set(words[:-1])
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_takes_its_versions_from_the_constraints() -> None:
    build, server = " ".join(dockerfile()["build"]), " ".join(dockerfile()["mlflow"])
    pinned = dict(line.split("==") for line in read(ROOT / "constraints.txt").splitlines() if "==" in line)
    assert "\"$(grep '^torch==' constraints.txt)\"" in build
    assert "pip install -c constraints.txt '.[redis]'" in build
    assert "pip install --no-cache-dir -c /tmp/constraints.txt mlflow" in server
    assert {"torch", "mlflow", "redis"} <= set(pinned)
    python = re.search(r"ARG PYTHON=(\S+)", read(DEPLOY / "Dockerfile"))
    assert python is not None
    assert f"| Python | {python[1]}: all tests" in read(ROOT / "README.md")
    version = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["version"]
    assert yaml_of(DEPLOY / "kubernetes" / "kustomization.yaml")["images"][0]["newTag"] == version


def test_the_delivered_images_run_without_root_and_hold_no_compiler() -> None:
    stages = dockerfile()
    for name in ("mlflow", "recsys"):
        lines = [*stages["base"], *stages[name]]
        assert [line for line in lines if line.startswith("USER ")][-1] == "USER 10001:10001"
        assert not re.search(r"gcc|g\+\+|build-essential|clang", " ".join(lines))
    assert "COPY --from=build /opt/recsys /opt/recsys" in stages["recsys"]


def test_loops_are_compiled_for_the_cpu_that_the_image_names() -> None:
    stages = dockerfile()
    found = [set(re.findall(r"NUMBA_CPU_\w+=\S*", " ".join(stages[name]))) for name in ("build", "recsys")]
    assert found[0] == found[1] == {"NUMBA_CPU_NAME=x86-64-v3", "NUMBA_CPU_FEATURES="}
    assert any("python -m pipelines.demo" in line for line in stages["build"])
    assert "COMPILED_LOOPS=/opt/recsys/numba" in " ".join(stages["recsys"])


def test_the_container_starts_with_a_copy_of_the_compiled_loops(tmp_path: Path) -> None:
    (tmp_path / "recsys").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "recsys").chmod(0o755)
    (tmp_path / "built" / "kernels").mkdir(parents=True)
    (tmp_path / "built" / "kernels" / "loop.nbi").write_text("code")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "COMPILED_LOOPS": str(tmp_path / "built")}
    for folder, loops in (("cache", True), ("no/such/folder", False)):
        place = tmp_path / folder
        done = subprocess.run(
            [DEPLOY / "entrypoint.sh", "serve", "--port", "8000"],
            env=environment | {"NUMBA_CACHE_DIR": str(place)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "serve --port 8000\n"
        assert (place / "kernels" / "loop.nbi").exists() == loops
        assert ("compiled again" in done.stderr) != loops


def test_the_health_check_of_the_image_asks_whether_the_server_is_ready() -> None:
    with stub_server(Says(200), problem(503, "not_ready", "starting")) as stub:
        port = stub.url.rpartition(":")[2]
        codes = [
            subprocess.run([sys.executable, DEPLOY / "ready.py", number], check=False).returncode
            for number in (port, port, "1")
        ]
        assert codes == [0, 1, 1]
        assert [asked.path for asked in stub.asked] == ["/health/ready"] * 2


def test_the_services_of_compose_are_healthy_before_others_need_them() -> None:
    content = yaml_of(DEPLOY / "compose.yaml")
    services = content["services"]
    assert set(services) == {"api", "valkey", "mlflow", "postgres"}
    for name, service in services.items():
        assert "healthcheck" in service or name == "api", name  # the API's is in its image
        assert "no-new-privileges:true" in service["security_opt"], name
        assert set(service.get("depends_on", {})) <= set(services)
        assert all(one["condition"] == "service_healthy" for one in service.get("depends_on", {}).values())
        assert {volume.partition(":")[0] for volume in service["volumes"]} <= set(content["volumes"])
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        if "build" in service:
            assert service["build"]["target"] in dockerfile()
    check_command(services["api"]["command"])


def test_compose_knows_no_password_and_its_example_names_all_that_is_needed() -> None:
    text = re.sub(r"^\s*#.*\n", "", read(DEPLOY / "compose.yaml"), flags=re.MULTILINE)
    needed = {match[1] for match in VARIABLE.finditer(text) if match[1] and not (match[2] or "").startswith(":-")}
    example = dict(
        line.split("=", 1) for line in read(DEPLOY / "compose.env.example").splitlines() if not line.startswith("#")
    )
    assert set(example) == needed
    assert {name: value for name, value in example.items() if name.endswith("PASSWORD")} == dict.fromkeys(
        ("VALKEY_PASSWORD", "POSTGRES_PASSWORD"), ""
    )
    assert all(f"${{{name}:?" in text for name in needed)
    assert "deploy/compose.env" in read(ROOT / ".gitignore").splitlines()


def manifests() -> dict[str, Any]:
    """The objects by kind."""
    return {content["kind"]: content for content in map(yaml_of, KUBERNETES)}


def test_the_manifests_are_complete_and_select_the_same_pods() -> None:
    objects = manifests()
    assert {kind: content["apiVersion"] for kind, content in objects.items() if kind != "Kustomization"} == {
        "ConfigMap": "v1",
        "Secret": "v1",
        "Service": "v1",
        "Deployment": "apps/v1",
        "PodDisruptionBudget": "policy/v1",
        "HorizontalPodAutoscaler": "autoscaling/v2",
    }
    listed = set(objects["Kustomization"]["resources"])
    assert listed == {path.name for path in KUBERNETES} - {"kustomization.yaml", "secret.example.yaml"}
    deployment, scaler = objects["Deployment"]["spec"], objects["HorizontalPodAutoscaler"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    for selector in (
        deployment["selector"]["matchLabels"],
        objects["Service"]["spec"]["selector"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    assert scaler["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": objects["Deployment"]["metadata"]["name"],
    }
    assert "replicas" not in deployment
    assert 2 <= scaler["minReplicas"] <= scaler["maxReplicas"]


def test_the_pod_has_no_rights_that_it_does_not_need_and_writes_to_volumes_alone() -> None:
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounts.values()) == {"/tmp", "/var/lib/recsys"}
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    assert set(container["resources"]["requests"]) == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


def test_the_pod_is_asked_whether_it_lives_and_is_ready_and_is_given_what_it_names() -> None:
    objects = manifests()
    (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    ports = {port["name"] for port in container["ports"]}
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/health/ready",
        "readiness": "/health/live",
        "liveness": "/health/live",
    }
    assert {probe["port"] for probe in probes.values()} | {
        objects["Service"]["spec"]["ports"][0]["targetPort"]
    } == ports
    given = {*objects["ConfigMap"]["data"], *objects["Secret"]["stringData"]}
    named = {match[3] for argument in container["args"] for match in VARIABLE.finditer(argument) if match[3]}
    assert named <= given
    check_command(container["args"])
    sources = {next(iter(source)): next(iter(source.values()))["name"] for source in container["envFrom"]}
    assert sources == {
        "configMapRef": objects["ConfigMap"]["metadata"]["name"],
        "secretRef": objects["Secret"]["metadata"]["name"],
    }


def test_the_units_of_systemd_run_commands_that_exist_with_variables_that_are_set() -> None:
    example = {line.partition("=")[0] for line in read(DEPLOY / "systemd" / "recsys.env.example").splitlines()}
    for name in ("recsys.service", "recsys-score.service"):
        (line,) = re.findall(r"^ExecStart=(.+)$", read(DEPLOY / "systemd" / name), re.MULTILINE)
        words = shlex.split(line)
        words = shlex.split(words[2]) if words[0] == "/bin/sh" else words
        check_command(words[words.index("/opt/recsys/bin/recsys") + 1 :])
        assert {match[1] or match[4] for match in VARIABLE.finditer(line)} <= example


def recsys_calls(text: str) -> list[list[str]]:
    """The words after `recsys` of each call in a text."""
    lines = re.findall(r"\brecsys ((?:retrain|monitor) .+)", text)
    return [shlex.split(re.split(r" > ", line)[0]) for line in lines]


def test_the_cron_table_runs_commands_that_exist_with_variables_that_it_sets() -> None:
    text = read(DEPLOY / "retraining" / "crontab")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    names = {line.partition("=")[0] for line in lines if re.match(r"\w+=", line)}
    jobs = [line for line in lines if not re.match(r"\w+=", line)]
    assert [line.split()[:5] for line in jobs] == [["15", "1", "*", "*", "*"], ["15", "5", "*", "*", "*"]]
    assert [words[0] for line in jobs for words in recsys_calls(line)] == ["retrain", "monitor"]
    for line in jobs:
        assert "%" not in line  # a line's end to cron
        assert set(re.findall(r"\$(\w+)", line)) <= names
        check_command(recsys_calls(line)[0])


def test_the_airflow_dag_compiles_and_runs_commands_that_exist_with_variables_that_it_sets() -> None:
    tree = ast.parse(read(DEPLOY / "retraining" / "airflow_dag.py"))
    values = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert compile(tree, "airflow_dag.py", "exec")
    for name, command in (("RETRAIN", "retrain"), ("MONITOR", "monitor")):
        (words,) = recsys_calls(values[name])
        assert words[0] == command
        check_command(words)
        assert set(re.findall(r"\$(\w+)", values[name])) <= set(values["SETTINGS"])


def test_the_workflow_is_yaml_and_runs_commands_that_exist_one_at_a_time() -> None:
    workflow = yaml_of(DEPLOY / "retraining" / "github-actions.yaml")
    assert workflow[True]["schedule"] == [{"cron": "15 1 * * *"}]  # YAML reads the key `on` as true
    assert workflow["concurrency"]["cancel-in-progress"] is False
    steps = workflow["jobs"]["retrain"]["steps"]
    calls = [words for step in steps for words in recsys_calls(step.get("run", ""))]
    assert [words[0] for words in calls] == ["retrain", "monitor"]
    for step in steps:
        for words in recsys_calls(step.get("run", "")):
            check_command(words)
        assert set(re.findall(r"\$(RECSYS_\w+)", step.get("run", ""))) <= set(workflow["env"])


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze on PATH: install Debian's package systemd")
    assert {unit.name for unit in UNITS} == {"recsys.service", "recsys-score.service", "recsys-score.timer"}
    for unit in UNITS:
        (tmp_path / unit.name).write_text(read(unit).replace("/opt/recsys/bin/recsys", sys.executable))
    done = subprocess.run(
        [program, "verify", *(tmp_path / unit.name for unit in UNITS)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def exposed() -> dict[str, set[str]]:
    """Every series of the server, with the names of its labels."""
    telemetry, processes = Telemetry(), CollectorRegistry()
    metrics = ProcessMetrics(processes)
    for one in (metrics.running, metrics.restarts):
        one.labels("worker")
    telemetry.requests.labels("/v1/rank", "200")
    telemetry.seconds.labels("/v1/rank")
    for counter in (
        telemetry.ranks,
        telemetry.events,
        telemetry.items,
        telemetry.users,
        telemetry.refused,
        telemetry.logged_rows,
    ):
        counter.labels("any")
    telemetry.lower_ranks.labels("any", "any")
    challengers, pair = telemetry.challengers, ("champion", "challenger")
    challengers.ranks.labels("any", "any", "any")
    challengers.failures.labels("any")
    challengers.shadow_requests.labels(*pair, "any")
    for timed, labels in ((challengers.seconds, ("any", "any")), (challengers.shadow_seconds, ("any", *pair))):
        timed.labels(*labels)
    for compared in (challengers.same_first, challengers.overlap, challengers.in_order):
        compared.labels(*pair)
    families = [*telemetry.registry.collect(), *processes.collect()]
    return {family.name: set() for family in families if not family.samples} | {
        sample.name: set(sample.labels)
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def expressions() -> Iterator[str]:
    """Every expression over metrics in the dashboard, the rules and their tests."""
    for panel in json.loads(read(DEPLOY / "grafana" / "recsys.json"))["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for group in yaml_of(DEPLOY / "prometheus" / "alerts.yaml")["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for test in yaml_of(DEPLOY / "prometheus" / "alerts.test.yaml")["tests"]:
        yield from (one["series"] for one in test["input_series"])


def test_every_metric_and_label_of_dashboard_and_rules_is_one_of_the_servers() -> None:
    series: Mapping[str, set[str]] = exposed()
    for expression in expressions():
        for name, labels in METRIC.findall(expression):
            assert name in series, expression
            used = set(re.findall(r"(\w+)\s*=", labels)) - {"instance", "job"}
            assert used <= series[name], expression


def test_the_dashboard_shows_every_metric_and_no_panel_lies_over_another() -> None:
    dashboard = json.loads(read(DEPLOY / "grafana" / "recsys.json"))
    shown = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    families = {family.name for family in Telemetry().registry.collect()}
    assert {name for name in families if name not in shown} == set()
    places = [tuple(panel["gridPos"][axis] for axis in "xy") for panel in dashboard["panels"]]
    assert len(set(places)) == len(places) == len({panel["id"] for panel in dashboard["panels"]})


def test_the_files_of_deploy_that_commands_of_the_pages_name_exist() -> None:
    words = {
        word
        for block in all_blocks(ROOT / "docs" / "deployment.md")
        for command in commands(block)
        for word in shlex.split(command, comments=True)
    }
    named = {word for word in words if word.startswith("deploy/")}
    assert {name for name in named if not (ROOT / name).exists()} <= {"deploy/compose.env"}
    assert len(named) > 5


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    for group in yaml_of(DEPLOY / "prometheus" / "alerts.yaml")["groups"]:
        for rule in group["rules"]:
            assert set(rule["annotations"]) == {"summary", "action"}, rule["alert"]
            assert rule["labels"]["severity"] in ("page", "ticket")


def test_promtool_takes_the_rules_and_they_fire_when_they_have_to() -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool on PATH: it is in Debian's package prometheus")
    for words in (("check", "rules", "alerts.yaml"), ("test", "rules", "alerts.test.yaml")):
        done = subprocess.run([program, *words], cwd=DEPLOY / "prometheus", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
