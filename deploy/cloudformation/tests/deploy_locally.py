"""Deploys pipeline.yaml into a local CloudFormation (ministack's), as far as that goes.

Resource types that ministack refuses are left out, with stand-ins for what others take from them, and
listed. The index function runs: as there is no collection, an OpenSearch-compatible server stands in
for it (signatures are not checked there), and the index must be found in it with its mapping, and be
gone when the stack is deleted.
"""

import copy
import json
import pathlib
import re
import shutil
import sys
import tempfile
import urllib.error

import boto3
from cfnlint.decode import cfn_yaml
from osmem_server import resolve_binary

FOLDER = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(FOLDER.parent / "local"))
from servers import ENVIRONMENT, Failed, Servers, alive, answers, free_port, get, say, wait

REFUSED = re.compile(r"Unsupported resource type: (\S+)")
PARAMETERS = {
    "Image": "tickgen:local",
    "AssignPublicIp": "ENABLED",
}


def without(template, kinds, stand_ins):
    """The template less the resources of those types."""
    template = copy.deepcopy(template)
    gone = {name for name, resource in template["Resources"].items() if resource["Type"] in kinds}

    def mend(value):
        if isinstance(value, list):
            return [mend(item) for item in value]
        if not isinstance(value, dict):
            return value
        if value.get("Ref") in gone:
            return stand_ins.get(value["Ref"], value["Ref"])
        if "Fn::GetAtt" in value and value["Fn::GetAtt"][0] in gone:
            name = ".".join(value["Fn::GetAtt"])
            return stand_ins.get(name, name)
        if "Fn::Sub" in value:
            mended = json.dumps(value["Fn::Sub"])
            for name in gone:
                mended = re.sub(rf"\$\{{({name}(\.\w+)?)\}}", lambda m: stand_ins.get(m[1], m[1]), mended)
            value = {"Fn::Sub": json.loads(mended)}
        return {key: mend(item) for key, item in value.items()}

    resources = {}
    for name, resource in template["Resources"].items():
        if name in gone:
            continue
        needs = resource.get("DependsOn", [])
        needs = [need for need in ([needs] if isinstance(needs, str) else needs) if need not in gone]
        resources[name] = mend({**resource, "DependsOn": needs})
    return {**template, "Resources": resources, "Outputs": mend(template["Outputs"])}


def numbered(template):
    """The template with numbers in place of its numeric parameters: ministack calculates with the text."""
    numbers = {n: int(p["Default"]) for n, p in template["Parameters"].items() if p["Type"] == "Number"}

    def mend(value):
        if isinstance(value, list):
            return [mend(item) for item in value]
        if not isinstance(value, dict):
            return value
        return numbers[value["Ref"]] if value.get("Ref") in numbers else {k: mend(v) for k, v in value.items()}

    return {**template, "Resources": mend(template["Resources"])}


def plain(value):
    """The template without the parser's own classes."""
    return json.loads(json.dumps(value, default=str))


def deploy(client, name, template, parameters):
    """Creates the stack; gives None, or the reason of its first failure."""
    client.create_stack(
        StackName=name,
        TemplateBody=json.dumps(template),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
        OnFailure="ROLLBACK",
    )

    def settled():
        status = client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
        return not status.endswith("IN_PROGRESS") and status

    if wait("the stack", 120, settled) == "CREATE_COMPLETE":
        return None
    events = client.describe_stack_events(StackName=name)["StackEvents"]
    failed = [e for e in events if e["ResourceStatus"].endswith("FAILED")]
    return "; ".join(f"{e['LogicalResourceId']}: {e.get('ResourceStatusReason')}" for e in reversed(failed))


def main():
    template = numbered(plain(cfn_yaml.load(str(FOLDER / "pipeline.yaml"))))
    logs = pathlib.Path(tempfile.mkdtemp(prefix="tickgen-cloudformation-"))
    port, search_port = free_port(), free_port()
    url, search_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{search_port}"
    with Servers(logs) as servers:
        stack = servers.start(
            "ministack",
            [pathlib.Path(sys.executable).with_name("ministack")],
            BIND_HOST="127.0.0.1",
            GATEWAY_PORT=str(port),
            MINISTACK_HOST="127.0.0.1",
            IOT_MTLS_ENABLED="0",
        )
        search = servers.start("osmem", [resolve_binary(), "-addr", f"127.0.0.1:{search_port}", "-no-stdin-watch"])
        wait("ministack", 60, lambda: alive(stack) and answers(port))
        wait("osmem-server", 30, lambda: alive(search) and answers(search_port))
        check(template, url, search_url)
    shutil.rmtree(logs)


def check(template, url, search_url):
    """Deploys with and without public access, and lists what became of each resource."""
    session = boto3.Session(
        aws_access_key_id="local", aws_secret_access_key="local", region_name=ENVIRONMENT["AWS_REGION"]
    )
    ec2 = session.client("ec2", endpoint_url=url)
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    client = session.client("cloudformation", endpoint_url=url)
    deployed, refused = set(), set()
    for public in ("true", "false"):
        parameters = {**PARAMETERS, "VpcId": vpc, "SubnetIds": subnet, "CollectionPublicAccess": public}
        name = create(client, template, parameters, search_url, refused)
        made = client.list_stack_resources(StackName=name)["StackResourceSummaries"]
        deployed |= {r["LogicalResourceId"] for r in made if r["ResourceStatus"] == "CREATE_COMPLETE"}
        check_index(client, template, name, search_url)

    for logical, resource in template["Resources"].items():
        left_out = resource["Type"] in refused
        if left_out == (logical in deployed):
            raise Failed(f"{logical} was neither deployed nor refused")
        say(f"{'refused ' if left_out else 'deployed'} {resource['Type']:40} {logical}")
    say(f"deployed {len(deployed)} of {len(template['Resources'])} resources; the index was made and deleted")


def create(client, template, parameters, search_url, refused):
    """Creates the stack less what is refused, which is added to `refused`; gives the stack's name."""
    stand_ins = {
        "Collection.CollectionEndpoint": search_url,
        "Collection.Arn": "arn:aws:aoss:ap-northeast-1:000000000000:collection/stand-in",
    }
    while True:
        name = f"tickgen-{parameters['CollectionPublicAccess']}-{len(refused)}"
        reason = deploy(client, name, without(template, refused, stand_ins), parameters)
        if reason is None:
            return name
        found = set(REFUSED.findall(reason)) - refused
        if not found:
            raise Failed(f"the stack failed: {reason}")
        refused |= found


def check_index(client, template, stack, search_url):
    """The index must be there as the template says, and gone with the stack."""
    index = template["Parameters"]["IndexName"]["Default"]
    found = get(f"{search_url}/{index}")[index]["mappings"]
    wanted = template["Resources"]["Index"]["Properties"]["Mappings"]
    if found != wanted:
        raise Failed(f"the index has the mapping {found}, not {wanted}")
    client.delete_stack(StackName=stack)
    wait("deleting the index", 60, lambda: missing_index(f"{search_url}/{index}"))


def missing_index(url):
    try:
        get(url)
    except urllib.error.HTTPError as error:
        return error.code == 404
    return False


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(f"deploy_locally: {error}")
