"""The template: what the article and the README promise of it."""

import importlib.machinery
import importlib.util
import pathlib
import re
import subprocess

import pytest
from cfnlint.decode import cfn_yaml

FOLDER = pathlib.Path(__file__).resolve().parents[1]
ROOT = FOLDER.parents[1]
TEMPLATE = cfn_yaml.load(str(FOLDER / "pipeline.yaml"))
RESOURCES = TEMPLATE["Resources"]


def properties(name):
    return RESOURCES[name]["Properties"]


def of_type(kind):
    return [name for name, resource in RESOURCES.items() if resource["Type"] == kind]


def statements(role):
    return [s for policy in properties(role)["Policies"] for s in policy["PolicyDocument"]["Statement"]]


def listed(value):
    return value if isinstance(value, list) else [value]


def test_the_inline_code_is_the_tested_file():
    loader = importlib.machinery.SourceFileLoader("inline", str(FOLDER / "inline"))
    inline = importlib.util.module_from_spec(importlib.util.spec_from_loader("inline", loader))
    loader.exec_module(inline)
    code, template = (FOLDER / "index_handler.py").read_text(), (FOLDER / "pipeline.yaml").read_text()
    assert inline.inlined(template, code) == template, "run deploy/cloudformation/inline"
    assert properties("IndexFunction")["Code"]["ZipFile"] == code


def test_the_task_may_do_three_things_on_one_stream():
    [statement] = statements("TaskRole")
    assert statement["Resource"] == {"Fn::GetAtt": ["Stream", "Arn"]}
    assert sorted(statement["Action"]) == [
        "kinesis:DescribeStreamSummary",
        "kinesis:ListShards",
        "kinesis:PutRecords",
    ]


def test_firehose_reads_this_stream_and_writes_this_collection():
    [statement] = statements("StreamSourceRole")
    assert statement["Resource"] == {"Fn::GetAtt": ["Stream", "Arn"]}
    assert sorted(statement["Action"]) == [
        "kinesis:DescribeStream",
        "kinesis:GetRecords",
        "kinesis:GetShardIterator",
        "kinesis:ListShards",
    ]
    allowed = {action: s["Resource"] for s in statements("CollectionDestinationRole") for action in listed(s["Action"])}
    assert allowed["aoss:APIAccessAll"] == {"Fn::GetAtt": ["Collection", "Arn"]}
    assert set(allowed) == {"aoss:APIAccessAll", "logs:PutLogEvents"}


@pytest.mark.parametrize("role", sorted(of_type("AWS::IAM::Role")))
def test_services_take_roles_on_behalf_of_this_account_only(role):
    [statement] = properties(role)["AssumeRolePolicyDocument"]["Statement"]
    assert set(statement["Principal"]) == {"Service"}
    condition = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    if role == "TaskRole":
        tasks = "arn:${AWS::Partition}:ecs:${AWS::Region}:${AWS::AccountId}:*"
        condition["ArnLike"] = {"aws:SourceArn": {"Fn::Sub": tasks}}
    assert statement["Condition"] == condition


def test_records_are_stamped_so_that_their_documents_can_be_proved():
    [container] = properties("TaskDefinition")["ContainerDefinitions"]
    assert {"Name": "TICKGEN_STAMP", "Value": {"Ref": "Stamp"}} in container["Environment"]
    assert TEMPLATE["Parameters"]["Stamp"]["Default"] == "body"


def test_every_star_is_one_that_aws_asks_for():
    known = {"ecr:GetAuthorizationToken", "aoss:BatchGetCollection", "aoss:ListCollections"}
    for name in of_type("AWS::IAM::Role") + of_type("AWS::IAM::User"):
        for statement in statements(name):
            actions = listed(statement["Action"])
            assert not [action for action in actions if action.endswith("*")], name
            if statement["Resource"] == "*":
                assert set(actions) <= known, name


def test_every_choice_about_reach_is_the_users():
    for name in ("CollectionPublicAccess", "AssignPublicIp", "Image", "VpcId", "SubnetIds"):
        assert "Default" not in TEMPLATE["Parameters"][name], name
    assert TEMPLATE["Parameters"]["TaskCount"]["Default"] == 0


def test_the_bucket_is_encrypted_private_and_tls_only():
    bucket = properties("Bucket")
    assert all(bucket["PublicAccessBlockConfiguration"].values())
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert bucket["BucketEncryption"]
    [statement] = properties("BucketPolicy")["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert len(statement["Resource"]) == 2


def test_the_delivery_is_the_articles():
    delivery = properties("DeliveryStream")
    assert delivery["DeliveryStreamType"] == "KinesisStreamAsSource"
    destination = delivery["AmazonOpenSearchServerlessDestinationConfiguration"]
    backup = destination["S3Configuration"]
    assert destination["S3BackupMode"] == "FailedDocumentsOnly"
    assert (backup["CompressionFormat"], backup["Prefix"]) == ("GZIP", "firehose/")
    assert destination["CloudWatchLoggingOptions"]["Enabled"]
    assert properties("Stream")["RetentionPeriodHours"] == 24
    assert (properties("Collection")["Type"], properties("Collection")["StandbyReplicas"]) == ("TIMESERIES", "DISABLED")
    assert len(of_type("AWS::OpenSearchServerless::AccessPolicy")) == 3


def test_the_index_is_the_articles():
    index = properties("Index")
    assert TEMPLATE["Parameters"]["IndexName"]["Default"] == "test-stock-index"
    assert {field: m["type"] for field, m in index["Mappings"]["properties"].items()} == {
        "EVENT_TIME": "date",
        "TICKER": "keyword",
        "PRICE": "double",
    }
    # CloudFormation waits longer than Lambda's first call, and the second after a crash, can take.
    assert int(index["ServiceTimeout"]) > 2 * properties("IndexFunction")["Timeout"]


@pytest.mark.parametrize("name", sorted(of_type("AWS::OpenSearchServerless::AccessPolicy")))
def test_data_access_policies_name_this_collection_only(name):
    text = properties(name)["Policy"]["Fn::Sub"]
    text = text if isinstance(text, str) else text[0]
    resources = re.findall(r'"Resource":\["([^"]+)"\]', text)
    assert resources
    for resource in resources:
        assert re.match(r"(index|collection)/\$\{Prefix\}-collection(/|$)", resource), resource
    assert "aoss:*" not in text


def test_tickgen_knows_every_variable_of_the_task():
    [container] = properties("TaskDefinition")["ContainerDefinitions"]
    settings = set(re.findall(r"^(?:# )?([a-z-]+) = ", (ROOT / "config.toml").read_text(), re.MULTILINE))
    for variable in container["Environment"]:
        assert variable["Name"].removeprefix("TICKGEN_").lower().replace("_", "-") in settings, variable["Name"]


def test_the_walk_through_names_every_parameter_and_output():
    for document in ("PIPELINE.md", "PIPELINE.ja.md"):
        text = (ROOT / "docs" / document).read_text()
        for name in [*TEMPLATE["Parameters"], *TEMPLATE["Outputs"]]:
            assert f"`{name}`" in text, f"{name} is not in docs/{document}"


def commands(document):
    """The shell commands of a document, without their comments."""
    text = (ROOT / "docs" / document).read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [re.sub(r"\s+# .*", "", block) for block in blocks]


def test_both_walk_throughs_give_the_same_commands():
    assert commands("PIPELINE.md") == commands("PIPELINE.ja.md")


def test_the_commands_are_shell_and_know_the_template():
    script = "\n".join(commands("PIPELINE.md"))
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert set(re.findall(r"output ([A-Z]\w+)", script)) <= set(TEMPLATE["Outputs"])
    given = set(re.findall(r"(?:^|\s)([A-Z][A-Za-z]+)=", script))
    assert {name for name, p in TEMPLATE["Parameters"].items() if "Default" not in p} <= given
    assert given <= set(TEMPLATE["Parameters"])
    # What is read of the index below needs a reader, and the summary is that of one task.
    assert "ReaderArn" in given and "aoss:APIAccessAll" in script
    prefix = properties("TaskDefinition")["ContainerDefinitions"][0]["LogConfiguration"]["Options"]
    assert f'--log-stream-names "{prefix["awslogs-stream-prefix"]}/tickgen/' in script
