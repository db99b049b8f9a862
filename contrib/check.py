#!/usr/bin/env python3
"""Renders the Helm chart with several values, validates all objects, and checks every gateway.yaml of contrib/."""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import helm_python as helm
import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).parent
CHART = HERE / "helm/portcullis"
KUBERNETES = ["1.29", "1.37"]
# Kubernetes has no schema for these kinds.
OTHERS = ["ServiceMonitor"]
HASH = "sha256:2RG_ZklKftARNsx6xHruEHJ3_UP79NgbwkcHFg4N8BM"
SHARED = {"shared": {"redis": {"url": "rediss://redis:6379"}}}
OAUTH = {"oauth": {"issuer": "https://api.example.com", "audiences": ["a"]}}
IN_POSTGRES = {"oauth": {**OAUTH["oauth"], "signing_keys": {"in": "postgres"}}}

# Refused values, with a part of the message.
REFUSED = [
    ({"replicas": 2}, "need config.shared.redis"),
    ({"autoscaling": {"enabled": True}}, "need config.shared.redis"),
    ({"replicas": 2, "config": SHARED, "state": {"existingClaim": "a"}}, "is for one replica"),
    ({"replicas": 2, "config": {**SHARED, **OAUTH}}, "signing_keys.in: postgres"),
    ({"config": OAUTH}, "signing_keys.in: postgres"),
    ({"migrate": True}, "needs config.shared.postgres"),
    ({"metrics": {"enabled": True}}, "needs metrics.allowFrom"),
    ({"metrics": {"serviceMonitor": {"enabled": True}}}, "needs metrics.enabled"),
    ({"config": {"listeners": []}}, "listeners"),
    ({"config": {"shared": {"instance": {"name": "a"}}}}, "instance/name"),
    ({"listener": {"believe": ["scheme"]}}, "need config.trusted_proxies"),
    ({"listener": {"proxyProtocol": True}}, "need config.trusted_proxies"),
    ({"listener": {"believe": ["path"]}}, "listener/believe/0"),
    ({"replica": 2}, "replica"),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True, type=pathlib.Path, help="the program portcullis")
    binary = parser.parse_args().binary.resolve()
    chart = helm.Chart.load(str(CHART))
    examples = sorted(CHART.glob("ci/*.yaml"))
    values = {"values.yaml": {}} | {file.name: yaml.safe_load(file.read_text()) for file in examples}
    for name, given in values.items():
        print(f"{name}: {render(chart, given, binary)} objects")
    for given, message in REFUSED:
        said = refusal(chart, given)
        assert message in said, f"{given}: {said}"
    restarts_only_where_needed(chart, values["many-replicas-values.yaml"])
    check((HERE / "docker/gateway.yaml").read_text(), binary, "?sslmode=disable")
    yaml.safe_load((HERE / "docker/compose.yaml").read_text())
    subprocess.run([str(pathlib.Path(sys.executable).parent / "hadolint"), str(HERE / "docker/Dockerfile")], check=True)
    subprocess.run(["/usr/sbin/haproxy", "-q", "-c", "-f", str(HERE / "docker/haproxy.cfg")], check=True)
    print(f"{len(values) + len(REFUSED) + 5} passed, 0 failed")


def render(chart, values, binary):
    findings = [message for message in helm.lint(str(CHART), values)["messages"] if "icon" not in message["error"]]
    assert not findings, findings
    objects = rendered(chart, values)
    for item in objects:
        for version in KUBERNETES if item["kind"] not in OTHERS else []:
            kubernetes_validate.validate(item, version, strict=True)
        if item["kind"] == "ConfigMap":
            check(item["data"]["gateway.yaml"], binary)
        if item["kind"] == "Deployment":
            grace = item["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
            shutdown = chart.merge_values(values)["shutdown"]
            assert grace > shutdown["delaySeconds"] + shutdown["drainSeconds"], grace
    return len(objects)


def rendered(chart, values):
    texts = chart.render(values, name="edge", namespace="gateways")
    found = [item for name, text in texts.items() if name.endswith(".yaml") for item in yaml.safe_load_all(text)]
    return [item for item in found if item]


def refusal(chart, values):
    try:
        chart.validate_schema(values)
        chart.render(values, name="edge")
    except helm.HelmError as error:
        return str(error)
    return "accepted"


def restarts_only_where_needed(chart, values):
    """A change that the gateway reloads does not restart the pods, and a change of the stores does."""

    def pods(config):
        objects = rendered(chart, {**values, "config": {**values["config"], **config}})
        return next(item for item in objects if item["kind"] == "Deployment")["spec"]["template"]

    assert pods({"routes": []}) == pods({})
    oauth = values["config"]["oauth"]
    assert pods({"oauth": {**oauth, "signing_keys": {**oauth["signing_keys"], "rotate_every": "7d"}}}) == pods({})
    assert pods({"shared": {**values["config"]["shared"], "on_loss": "deny"}}) != pods({})


def check(text, binary, database_options=""):
    """`portcullis check --strict` in a folder with the files that the configuration names, as a pod has them."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for part in ["certs", "secrets", "state"]:
            (folder / part).mkdir()
        # The mode of an emptyDir.
        (folder / "state").chmod(0o777)
        make_certificate(folder / "certs")
        secrets = {
            "database-url": f"postgres://portcullis:only-an-example@postgres/portcullis{database_options}",
            "redis-password": "only-an-example",
            "wrapping-key": "A" * 43,
            "demo-client-hash": HASH,
        }
        for key, value in secrets.items():
            (folder / "secrets" / key).write_text(value)
            (folder / "secrets" / key).chmod(0o600)
        (folder / "gateway.yaml").write_text(text.replace("/var/lib/portcullis", f"{folder}/state"))
        command = [str(binary), "check", "--strict", "--config", str(folder / "gateway.yaml")]
        said = subprocess.run(command, capture_output=True, text=True, env={})
        assert said.returncode == 0, said.stderr


def make_certificate(folder):
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=api.example.com", "-addext", "subjectAltName=DNS:api.example.com,DNS:localhost"]
    command += ["-days", "90", "-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "tls.key").chmod(0o600)


if __name__ == "__main__":
    main()
