"""Makes a stream, or reshards one while records come in."""

import argparse
import json
import time

from readback import connect, is_open, list_shards, read_shard


def is_active(kinesis, stream):
    summary = kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]
    return summary["StreamStatus"] == "ACTIVE"


def wait_until_active(kinesis, stream):
    while not is_active(kinesis, stream):
        time.sleep(0.1)


def create(kinesis, stream, shards):
    kinesis.create_stream(StreamName=stream, ShardCount=shards)
    wait_until_active(kinesis, stream)


def open_shards(kinesis, stream):
    """The open shards by rising hash key."""
    shards = filter(is_open, list_shards(kinesis, stream))
    return sorted(shards, key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))


def wait_for_records(kinesis, stream, shard):
    """So that a reshard falls into the run, however slow the machine is."""
    while next(read_shard(kinesis, stream, shard), None) is None:
        time.sleep(0.1)


def split(kinesis, stream, shard):
    """Cuts a shard in its middle."""
    first, last = (int(shard["HashKeyRange"][end]) for end in ("StartingHashKey", "EndingHashKey"))
    middle = (first + last + 1) // 2
    kinesis.split_shard(StreamName=stream, ShardToSplit=shard["ShardId"], NewStartingHashKey=str(middle))
    wait_until_active(kinesis, stream)


def reshard(kinesis, stream):
    """Splits the first open shard and merges the last two, each while records come in."""
    first = open_shards(kinesis, stream)[0]
    wait_for_records(kinesis, stream, first)
    split(kinesis, stream, first)
    child, *_, left, right = open_shards(kinesis, stream)
    wait_for_records(kinesis, stream, child)
    kinesis.merge_shards(
        StreamName=stream, ShardToMerge=left["ShardId"], AdjacentShardToMerge=right["ShardId"]
    )
    wait_until_active(kinesis, stream)
    wait_for_records(kinesis, stream, open_shards(kinesis, stream)[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("do", choices=["create", "reshard"])
    parser.add_argument("--endpoint-url", required=True)
    parser.add_argument("--stream", required=True)
    parser.add_argument("--shards", type=int, default=4)
    args = parser.parse_args()
    kinesis = connect(args.endpoint_url)
    if args.do == "create":
        create(kinesis, args.stream, args.shards)
    else:
        reshard(kinesis, args.stream)
    print(json.dumps([shard["ShardId"] for shard in open_shards(kinesis, args.stream)]))


if __name__ == "__main__":
    main()
