"""Runs tickgen into a stream, a delivery stream and an index on this machine, and has it prove the documents.

Called by ./up. Ends whatever it starts, by process id, on every way out.
"""

import argparse
import json
import os
import pathlib
import secrets
import shutil
import subprocess
import sys
import tempfile
import time

import boto3
from cfnlint.decode import cfn_yaml
from osmem_server import resolve_binary

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "deploy/cloudformation"))
from servers import ENVIRONMENT, Failed, Servers, alive, answers, free_port, say, wait

import index_handler  # noqa: E402  the custom resource's own code makes the index here too

STREAM = "tickgen-stream"
SHARDS = 4

# localemu writes one document a request, on the core that also takes the records: tickgen is told to be
# patient, and to hold only that nothing is lost.
PATIENCE = ["--linger", "1s", "--max-requests", "1", "--attempt-timeout", "60s", "--record-ttl", "15m"]
PATIENCE += ["--drain-timeout", "15m", "--threshold", "achieved_rps > 0"]
# Documents say which records they are by a stamp in the body: Firehose delivers no partition keys.
STAMPED = ["--stamp", "body"]
SETTLE = ["--settle", "30s", "--settle-timeout", "20m"]


def make_pipeline(session, aws_url, search_url):
    """Stream, index and delivery stream; gives the Kinesis client and the index' name."""
    template = cfn_yaml.load(str(ROOT / "deploy/cloudformation/pipeline.yaml"))
    properties = template["Resources"]["Index"]["Properties"]
    index = template["Parameters"]["IndexName"]["Default"]

    kinesis = session.client("kinesis", endpoint_url=aws_url)
    kinesis.create_stream(StreamName=STREAM, ShardCount=SHARDS)
    kinesis.get_waiter("stream_exists").wait(StreamName=STREAM, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    stream_arn = kinesis.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]["StreamARN"]

    index_handler.create(search_url, index, properties["Mappings"], time.monotonic() + 30)

    role = "arn:aws:iam::000000000000:role/firehose"
    firehose = session.client("firehose", endpoint_url=aws_url)
    firehose.create_delivery_stream(
        DeliveryStreamName="tickgen-delivery-stream",
        DeliveryStreamType="KinesisStreamAsSource",
        KinesisStreamSourceConfiguration={"KinesisStreamARN": stream_arn, "RoleARN": role},
        # The stand-in: localemu makes nothing of an OpenSearch Serverless destination.
        AmazonopensearchserviceDestinationConfiguration={
            "ClusterEndpoint": search_url,
            "IndexName": index,
            "IndexRotationPeriod": "NoRotation",
            "RoleARN": role,
            "S3BackupMode": "FailedDocumentsOnly",
            # No such bucket is made: a refused document fails the check below, so nothing reads it.
            "S3Configuration": {"BucketARN": "arn:aws:s3:::tickgen-failed-documents", "RoleARN": role},
        },
    )
    active = lambda: firehose.describe_delivery_stream(DeliveryStreamName="tickgen-delivery-stream")[  # noqa: E731
        "DeliveryStreamDescription"
    ]["DeliveryStreamStatus"] == "ACTIVE"
    wait("the delivery stream", 60, active)
    return index


def start(*command):
    """Starts tickgen."""
    say(f"$ {' '.join(map(str, command))}")
    return subprocess.Popen(command, env={**os.environ, **ENVIRONMENT})


def finish(process, beside=None):
    """Waits for the end of a tickgen that was started; it has to have gone well, and what runs beside it not to have failed."""
    deadline = time.monotonic() + 1800
    while process.poll() is None:
        if time.monotonic() > deadline:
            raise Failed(f"not ended after half an hour: {' '.join(map(str, process.args))}")
        if beside and beside.poll():
            break
        time.sleep(0.1)
    for one in filter(None, (beside, process)):
        if one.poll():
            raise Failed(f"exit code {one.returncode} of: {' '.join(map(str, one.args))}")


def offer_and_prove(tickgen, aws_url, search_url, index, summary, flags):
    """Offers a load, and proves its records in the stream and its documents in the index."""
    at = ["--endpoint-url", aws_url]
    report = summary.with_suffix(".report.json")
    # The id is chosen here, so that documents are looked for from the first record on.
    run_id = secrets.token_hex(4)
    of_index = ["--run", run_id, "--opensearch", search_url, "--index", index, *SETTLE, "--summary", report]
    documents = start(tickgen, "verify", "--summary-of", summary, *of_index, "--threshold", "verify.duplicated < 1")
    started = [documents]
    try:
        for command in (
            ["--stream", STREAM, *at, *STAMPED, *flags, "--run-id", run_id, "--summary", summary],
            ["verify", "--summary-of", summary, *at, "--quiet"],
        ):
            started.append(start(tickgen, *command))
            finish(started[-1], beside=documents)
        finish(documents)
    finally:
        for process in started:
            process.kill()
    found = json.loads(report.read_text())
    proof, times = found["verify"], found["index"]
    say(f"{proof['acked']} acked = {proof['delivered']} documents, each once and whole; {times['measured_ratio']:.1%} timed")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tickgen", required=True, help="the tickgen command")
    parser.add_argument("--records", type=int, default=50_000, help="records of the second run (50000)")
    parser.add_argument("--rps", type=int, default=1_000, help="records/s of the second run (1000)")
    options = parser.parse_args()
    os.environ.update(ENVIRONMENT)

    logs = pathlib.Path(tempfile.mkdtemp(prefix="tickgen-local-"))
    say(f"logs of the servers: {logs}")
    aws_port, search_port = free_port(), free_port()
    aws_url, search_url = f"http://127.0.0.1:{aws_port}", f"http://127.0.0.1:{search_port}"
    with Servers(logs) as servers:
        localemu = [sys.executable, ROOT / "deploy/local/mended_localemu.py"]
        quiet = {"LS_LOG": "warning", "LOCALEMU_VOLUME_DIR": str(logs / "localemu")}
        aws = servers.start("localemu", [*localemu, "start", "--host", "127.0.0.1", "--port", str(aws_port)], **quiet)
        search = servers.start("osmem", [resolve_binary(), "-addr", f"127.0.0.1:{search_port}", "-no-stdin-watch"])
        session = boto3.Session()
        wait("localemu", 60, lambda: alive(aws) and answers(aws_port))
        wait("osmem-server", 30, lambda: alive(search) and answers(search_port))
        index = make_pipeline(session, aws_url, search_url)

        # The article's ten records, with its one partition key, then a load.
        ten = ["--records", "10", "--rps", "10", "--keys", "fixed:partitionkey"]
        load = ["--records", str(options.records), "--rps", str(options.rps), *PATIENCE]
        for name, flags in (("ten", ten), ("load", load)):
            offer_and_prove(options.tickgen, aws_url, search_url, index, logs / f"{name}.json", flags)
    shutil.rmtree(logs)


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(f"up: {error}")
