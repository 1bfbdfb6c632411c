"""What no schema knows of the manifests: that their parts fit each other.

Reads the files that it is given, prints a line for each thing that does not fit, and exits with 1 then. With
--configuration it prints the configuration in the ConfigMap instead.
"""

import re
import sys

import yaml


def documents(paths):
    """All objects of the files, by kind and name."""
    found = {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for document in yaml.safe_load_all(file):
                if document:
                    found[document["kind"], document["metadata"]["name"]] = document
    return found


def selects(selector, labels):
    return bool(selector) and selector.items() <= labels.items()


def seconds(duration):
    """A duration of failsoft's configuration, such as 1m30s."""
    units = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
    return sum(float(n) * units[unit] for n, unit in re.findall(r"([\d.]+)(ms|h|m|s)", str(duration)))


def named(node, key):
    """The values of a key, wherever in a configuration it is."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from named(value, key)
    elif isinstance(node, list):
        for item in node:
            yield from named(item, key)


def port_of(address):
    return int(str(address).rsplit(":", 1)[1])


def problems(objects):
    deployment = objects["Deployment", "failsoft"]["spec"]
    template = deployment["template"]
    labels = template["metadata"]["labels"]
    pod = template["spec"]
    (container,) = pod["containers"]
    configuration = yaml.safe_load(objects["ConfigMap", "failsoft"]["data"]["failsoft.yaml"])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}

    if not selects(deployment["selector"]["matchLabels"], labels):
        yield "the Deployment does not select its own pods"
    for spread in pod["topologySpreadConstraints"]:
        if not selects(spread["labelSelector"]["matchLabels"], labels):
            yield "the pods are spread with others than themselves"
    for (kind, name), document in objects.items():
        spec = document.get("spec", {})
        if kind == "PodDisruptionBudget":
            if not selects(spec["selector"]["matchLabels"], labels):
                yield f"{kind} {name} selects no pod of failsoft"
            if spec["minAvailable"] >= deployment["replicas"]:
                yield f"{kind} {name} lets no pod go"
        if kind == "Service":
            if not selects(spec["selector"], labels):
                yield f"{kind} {name} selects no pod of failsoft"
            for port in spec["ports"]:
                if port["targetPort"] not in ports:
                    yield f"{kind} {name} leads to port {port['targetPort']}, which the container does not have"
        if kind == "ServiceMonitor":
            services = [
                service
                for (of, _), service in objects.items()
                if of == "Service" and selects(spec["selector"]["matchLabels"], service["metadata"]["labels"])
            ]
            offered = [port["name"] for service in services for port in service["spec"]["ports"]]
            if len(services) != 1 or any(endpoint["port"] not in offered for endpoint in spec["endpoints"]):
                yield f"{kind} {name} selects {len(services)} Services with ports {offered}"

    for probe in ("readinessProbe", "livenessProbe"):
        if container[probe]["httpGet"]["port"] not in ports:
            yield f"{probe} asks a port that the container does not have"
    if port_of(configuration["listen"]) != ports["mysql"]:
        yield "failsoft listens on another port than the container's"
    if configuration["admin"]["http"] != f"0.0.0.0:{ports['admin']}":
        yield "the console is not where probes look for it"

    pause = float(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    drain = seconds(configuration["drain_timeout"])
    if pause + drain >= pod["terminationGracePeriodSeconds"]:
        yield f"preStop ({pause} s) and drain_timeout ({drain} s) take the whole terminationGracePeriodSeconds"

    variables = {variable["name"]: variable["valueFrom"]["secretKeyRef"] for variable in container["env"]}
    wanted = {*named(configuration, "pass_env"), *named(configuration, "token_env")}
    if wanted != set(variables):
        yield f"the configuration names the variables {sorted(wanted)}, and the container has {sorted(variables)}"
    for name, reference in variables.items():
        secret = objects.get(("Secret", reference["name"]), {}).get("stringData", {})
        if reference["key"] not in secret:
            yield f"{name} comes from a key {reference['key']} that the Secret does not have"

    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    for mount in mounts.values():
        if mount["name"] not in volumes:
            yield f"no volume is called {mount['name']}"
    if volumes[mounts["/etc/failsoft"]["name"]].get("configMap", {}).get("name") != "failsoft":
        yield "the ConfigMap is not where failsoft looks for its configuration"
    if configuration["ledger"].rsplit("/", 1)[0] not in mounts:
        yield "the ledger is in a folder that nothing is mounted at"


def main(arguments):
    if arguments[0] == "--configuration":
        print(documents(arguments[1:])["ConfigMap", "failsoft"]["data"]["failsoft.yaml"], end="")
        return 0
    found = list(problems(documents(arguments)))
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
