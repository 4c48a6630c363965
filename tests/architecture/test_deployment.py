"""The files in deploy/ agree with the command line, the server's addresses and metrics, and with each other."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from yoloship.cli.app import PROGRAM
from yoloship.serve.metrics import Metrics
from yoloship.serve.routes import ENDPOINTS

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILES = ("Dockerfile", "Dockerfile.cuda")


@cache
def instructions(name: str) -> tuple[tuple[str, str], ...]:
    """The instructions of a Dockerfile, as the tool that performs them reads them."""
    spec = spec_from_file_location("bare_root", ROOT / "tools" / "deploy" / "bare_root.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    import sys

    sys.modules["bare_root"] = module  # a dataclass looks its own module up
    spec.loader.exec_module(module)
    return tuple(module.instructions((DEPLOY / name).read_text(encoding="utf-8")))


def last(name: str, instruction: str) -> str:
    return [rest for word, rest in instructions(name) if word == instruction][-1]


def loaded(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))


def kubernetes(kind: str) -> Any:
    documents = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8"))
    return next(document for document in documents if document["kind"] == kind)


def served(words: list[str]) -> dict[str, Any]:
    """What `yoloship serve` understands by the words of a container's command."""
    assert words[:2] == ["yoloship", "serve"]
    command = PROGRAM.get_command(click.Context(PROGRAM), "serve")
    assert command is not None
    return command.make_context("serve", words[2:]).params


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_command_of_an_image_is_one_of_the_command_line(name: str) -> None:
    options = served([*json.loads(last(name, "ENTRYPOINT")), "/models/best.onnx"])
    assert options["host"] == "0.0.0.0"
    assert options["log"] == "json"
    assert options["device"] == ("cuda" if name.endswith("cuda") else None)
    assert options["models"] == ("/models/best.onnx",)
    assert json.loads(last(name, "CMD")) == ["--help"]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_port_is_the_same_everywhere(name: str) -> None:
    port = served([*json.loads(last(name, "ENTRYPOINT")), "m.onnx"])["port"]
    assert last(name, "EXPOSE") == str(port)
    assert f"'127.0.0.1', {port}" in last(name, "HEALTHCHECK")
    compose, scraped = loaded("compose.yaml"), loaded("prometheus/prometheus.yml")
    assert compose["services"]["serve"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert scraped["scrape_configs"][0]["static_configs"] == [{"targets": [f"serve:{port}"]}]
    container = kubernetes("Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert [one["containerPort"] for one in container["ports"]] == [port]


def test_each_probe_asks_an_address_that_needs_no_key() -> None:
    is_open = {endpoint.path for endpoint in ENDPOINTS if endpoint.is_open and endpoint.method == "GET"}
    container = kubernetes("Deployment")["spec"]["template"]["spec"]["containers"][0]
    probes = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert probes == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/healthz"}
    assert set(probes.values()) <= is_open
    for name in DOCKERFILES:
        assert "'GET', '/readyz'" in last(name, "HEALTHCHECK")


def test_nobody_kills_a_server_before_its_requests_have_their_answers() -> None:
    drain_s = served(["yoloship", "serve", "m.onnx"])["drain"]
    assert int(loaded("compose.yaml")["services"]["serve"]["stop_grace_period"].removesuffix("s")) > drain_s
    pod = kubernetes("Deployment")["spec"]["template"]["spec"]
    pause_s = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > pause_s + drain_s
    assert all(last(name, "STOPSIGNAL") == "SIGTERM" for name in DOCKERFILES)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_has_the_extras_that_it_asks_for_and_a_supported_python(name: str) -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = last(name, "ARG").removeprefix("EXTRAS=").split(",")
    assert "serve" in extras
    assert all(re.search(rf"^{extra} = \[", text, re.MULTILINE) for extra in extras)
    bases = {rest.split()[0] for word, rest in instructions(name) if word == "FROM"}
    assert len(bases) == 1, "the environment of the first stage needs the Python of the last"
    base = re.fullmatch(r"python:(3\.\d+)-slim-trixie", bases.pop())
    assert base is not None
    assert f'"Programming Language :: Python :: {base[1]}"' in text


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_is_built_from_files_that_are_there_and_reach_the_builder(name: str) -> None:
    wanted = {word.removeprefix("./") for word in last(name, "COPY").split()}
    assert wanted == {"--from=build", "/opt/yoloship"}
    copied = [rest.split()[:-1] for word, rest in instructions(name) if word == "COPY" and "--from" not in rest]
    sources = [source for words in copied for source in words]
    assert sources == ["pyproject.toml", "README.md", "LICENSE", "src"]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert [line[1:] for line in ignored if line.startswith("!")] == sources
    assert all((ROOT / source).exists() for source in sources)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_runs_as_a_user_without_rights_and_keeps_its_code(name: str) -> None:
    user = last(name, "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    pod = kubernetes("Deployment")["spec"]["template"]["spec"]
    security = pod["securityContext"]
    assert user == f"{security['runAsUser']}:{security['runAsGroup']}"
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"]
    for service in loaded("compose.yaml")["services"].values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert ":" in service.get("image", ":latest") or "build" in service


def test_alerts_ask_for_metrics_and_labels_that_the_server_has() -> None:
    metrics = Metrics()
    known: dict[str, set[str]] = {"up": {"job", "instance"}}
    for family in metrics._registry.collect():
        counted = getattr(
            next((one for one in vars(metrics).values() if _is_of(one, family.name)), None), "_labelnames", ()
        )
        for suffix in ("", "_total", "_sum", "_count", "_bucket"):
            known[family.name + suffix] = {*counted, "instance", "job"}
    used = set()
    for group in loaded("prometheus/alerts.yml")["groups"]:
        for rule in group["rules"]:
            for name, matchers in re.findall(r"\b(yoloship_\w+|up)\b(?:\{([^}]*)\})?", rule["expr"]):
                assert name in known, rule["alert"]
                used.add(name)
                labels = set(re.findall(r"(\w+)\s*[=!]~?", matchers or ""))
                assert labels <= known[name], rule["alert"]
    assert len(used) >= 6


def _is_of(metric: object, name: str) -> bool:
    return getattr(metric, "_name", None) == name
