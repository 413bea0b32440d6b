"""Runs tickgen into a stream, a delivery stream and an index on this machine, and checks the documents.

Called by ./up. Ends whatever it starts, by process id, on every way out.
"""

import argparse
import collections
import json
import os
import pathlib
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
from servers import ENVIRONMENT, Failed, Servers, alive, answers, free_port, get, say, wait

import index_handler  # noqa: E402  the custom resource's own code makes the index here too

STREAM = "tickgen-stream"
SHARDS = 4

# localemu writes one document a request, on the core that also takes the records: tickgen is told to be
# patient, and to hold only that nothing is lost.
PATIENCE = ["--linger", "1s", "--max-requests", "1", "--attempt-timeout", "60s", "--record-ttl", "15m"]
PATIENCE += ["--drain-timeout", "15m", "--threshold", "achieved_rps > 0"]
STALLED = 60  # seconds without another document after which no more are waited for


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
    return kinesis, index


def offer(tickgen, aws_url, flags):
    """Runs tickgen; gives its summary."""
    command = [tickgen, "--stream", STREAM, "--endpoint-url", aws_url, "--summary", "-", *flags]
    say(f"$ {' '.join(map(str, command))}")
    done = subprocess.run(
        command, stdout=subprocess.PIPE, env={**os.environ, **ENVIRONMENT}, timeout=1800, check=False
    )
    if done.returncode:
        raise Failed(f"tickgen ended with exit code {done.returncode}")
    return json.loads(done.stdout)


def stream_records(kinesis):
    """Every record in the stream, as the multiset of its fields."""
    found = collections.Counter()
    for shard in kinesis.list_shards(StreamName=STREAM)["Shards"]:
        iterator = kinesis.get_shard_iterator(
            StreamName=STREAM, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while iterator:
            answer = kinesis.get_records(ShardIterator=iterator, Limit=10000)
            found.update(fields(json.loads(record["Data"])) for record in answer["Records"])
            # An open shard has no end: the tip is reached when there is nothing and nothing is behind.
            at_tip = not answer["Records"] and not answer.get("MillisBehindLatest")
            iterator = None if at_tip else answer.get("NextShardIterator")
    return found


def documents(search_url, index):
    """Every document of the index, as the multiset of its fields."""
    found, after = collections.Counter(), None
    while True:
        page = {"size": 5000, "sort": [{"EVENT_TIME": "asc"}, {"_id": "asc"}]}
        if after:
            page["search_after"] = after
        hits = get(f"{search_url}/{index}/_search", page)["hits"]["hits"]
        if not hits:
            return found
        found.update(fields(hit["_source"]) for hit in hits)
        after = hits[-1]["sort"]


def fields(record):
    return record["EVENT_TIME"], record["TICKER"], record["PRICE"]


def arrive(search_url, index, total):
    """Waits for `total` documents as long as more of them come; gives the seconds that took."""
    begun, count, changed = time.monotonic(), -1, time.monotonic()
    while count < total:
        time.sleep(0.5)
        found = get(f"{search_url}/{index}/_count")["count"]
        if found != count:
            if time.monotonic() - begun > 5:
                say(f"  {found} of {total} documents")
            count, changed = found, time.monotonic()
            time.sleep(4.5 if total - count > 5000 else 0)
        elif time.monotonic() - changed > STALLED:
            raise Failed(f"{count} of {total} documents arrived, and no more for {STALLED} s")
    return time.monotonic() - begun


def check(kinesis, search_url, index, total):
    """Waits for `total` documents, and holds them to be what is in the stream, each once."""
    waited = arrive(search_url, index, total)
    sent, arrived = stream_records(kinesis), documents(search_url, index)
    lost, extra = sent - arrived, arrived - sent
    if sent.total() != total or lost or extra:
        raise Failed(
            f"{total} acked, {sent.total()} in the stream, {arrived.total()} documents: "
            f"{lost.total()} without a document, {extra.total()} documents without a record"
        )
    say(f"{total} acked = {sent.total()} in the stream = {arrived.total()} documents, {waited:.1f} s after the run")


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
        kinesis, index = make_pipeline(session, aws_url, search_url)

        # The article's ten records, with its one partition key, then a load.
        ten = offer(options.tickgen, aws_url, ["--records", "10", "--rps", "10", "--keys", "fixed:partitionkey"])
        check(kinesis, search_url, index, ten["acked"])
        load = offer(options.tickgen, aws_url, ["--records", str(options.records), "--rps", str(options.rps), *PATIENCE])
        check(kinesis, search_url, index, ten["acked"] + load["acked"])
    shutil.rmtree(logs)


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(f"up: {error}")
