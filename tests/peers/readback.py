"""Reads a whole stream back with boto3 and prints what is in it as one JSON object."""

import argparse
import base64
import collections
import datetime
import hashlib
import json

import boto3
from aws_kinesis_agg.deaggregator import iter_deaggregate_records
from botocore.config import Config

UserRecord = collections.namedtuple("UserRecord", "partition_key explicit_hash_key data")


def connect(endpoint_url):
    """A client of a server on this machine; a slow server is waited for, not asked twice."""
    return boto3.client(
        "kinesis",
        endpoint_url=endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(read_timeout=300),
    )


def list_shards(kinesis, stream):
    """Every shard, the closed ones too."""
    page = kinesis.list_shards(StreamName=stream)
    shards = page["Shards"]
    while page.get("NextToken"):
        page = kinesis.list_shards(NextToken=page["NextToken"])
        shards += page["Shards"]
    return shards


def is_open(shard):
    return "EndingSequenceNumber" not in shard["SequenceNumberRange"]


def read_shard(kinesis, stream, shard):
    """The Kinesis records of a shard: a closed one to its end, an open one until nothing is left."""
    iterator = kinesis.get_shard_iterator(
        StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    while iterator:
        page = kinesis.get_records(ShardIterator=iterator)
        yield from page["Records"]
        if is_open(shard) and page["MillisBehindLatest"] == 0 and not page["Records"]:
            return
        iterator = page.get("NextShardIterator")


def user_records(record, deaggregate):
    """What is in a Kinesis record. The de-aggregator gives base64, but for what it could not open."""
    if not deaggregate:
        yield UserRecord(record["PartitionKey"], None, record["Data"])
        return
    for one in iter_deaggregate_records([record], data_format="Boto3"):
        one = one["kinesis"]
        data = base64.b64decode(one["data"]) if one.get("aggregated") else one["data"]
        yield UserRecord(one["partitionKey"], one.get("explicitHashKey"), data)


def is_valid(data):
    """Whether a payload is the article's, byte for byte as Python would have written it."""
    try:
        value = json.loads(data)
        return (
            list(value) == ["EVENT_TIME", "TICKER", "PRICE"]
            and json.dumps(value).encode() == data
            and datetime.datetime.fromisoformat(value["EVENT_TIME"]).isoformat() == value["EVENT_TIME"]
            and isinstance(value["TICKER"], str)
            and isinstance(value["PRICE"], float)
            and round(value["PRICE"], 2) == value["PRICE"]
        )
    except (ValueError, TypeError):
        return False


def belongs(user, shard):
    """Whether a user record's hash key is among those of the shard that it was read from."""
    if user.explicit_hash_key is not None:
        hash_key = int(user.explicit_hash_key)
    else:
        hash_key = int.from_bytes(hashlib.md5(user.partition_key.encode()).digest(), "big")
    hash_keys = shard["HashKeyRange"]
    return int(hash_keys["StartingHashKey"]) <= hash_key <= int(hash_keys["EndingHashKey"])


def read_back(kinesis, stream, deaggregate):
    found = dict(kinesis_records=0, bytes=0, user_records=0, valid=0, misplaced=0)
    payloads = set()
    by_shard = {}
    for shard in list_shards(kinesis, stream):
        before = found["user_records"]
        for record in read_shard(kinesis, stream, shard):
            found["kinesis_records"] += 1
            found["bytes"] += len(record["Data"]) + len(record["PartitionKey"].encode())
            for user in user_records(record, deaggregate):
                found["user_records"] += 1
                found["valid"] += is_valid(user.data)
                found["misplaced"] += not belongs(user, shard)
                payloads.add(user.data)
        by_shard[shard["ShardId"]] = found["user_records"] - before
    return found | {"distinct_payloads": len(payloads), "shards": by_shard}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint-url", required=True)
    parser.add_argument("--stream", required=True)
    parser.add_argument("--deaggregate", action="store_true", help="open KPL aggregates with aws-kinesis-agg")
    args = parser.parse_args()
    print(json.dumps(read_back(connect(args.endpoint_url), args.stream, args.deaggregate)))


if __name__ == "__main__":
    main()
