"""Producers in Python for the side-by-side run: `producers.py article|put-records|kpl|kpl-aggregate URL SECONDS`."""

import asyncio
import datetime
import json
import random
import sys
import time

TICKERS = ["AAPL", "AMZN", "MSFT", "INTC", "TBV"]


def record():
    """The article's record, made as the article makes it."""
    return {
        "EVENT_TIME": datetime.datetime.now().isoformat(),
        "TICKER": random.choice(TICKERS),
        "PRICE": round(random.random() * 100, 2),
    }


def article(client):
    data = json.dumps(record())
    client.put_record(StreamName="null", Data=data, PartitionKey="partitionkey")
    return 1, len(data) + len("partitionkey")


def put_records(client):
    entries = [
        {"Data": json.dumps(record()), "PartitionKey": f"{random.getrandbits(64):016x}"}
        for _ in range(500)
    ]
    answer = client.put_records(StreamName="null", Records=entries)
    return 500 - answer["FailedRecordCount"], sum(len(e["Data"]) + 16 for e in entries)


async def kpl(url, seconds, aggregate):
    """aiokpl, whose limit of a shard is lifted as tickgen's is (--shard-limit none)."""
    import aiokpl

    config = aiokpl.Config(
        region="us-east-1",
        endpoint_url=url,
        aggregation_enabled=aggregate,
        rate_limit_records_per_sec_per_shard=1e9,
        rate_limit_bytes_per_sec_per_shard=1e12,
    )
    outcomes, size = [], 0
    begun = time.monotonic()
    async with aiokpl.Producer(config) as producer:
        while time.monotonic() - begun < seconds:
            data, key = json.dumps(record()).encode(), f"{random.getrandbits(64):016x}"
            outcomes.append(await producer.put_record(stream="null", partition_key=key, data=data))
            size += len(data) + len(key)
        await producer.flush()
        results = [await outcome.wait() for outcome in outcomes]
    acked = sum(result.success for result in results)
    print(json.dumps({"acked": acked, "bytes": size, "elapsed_s": time.monotonic() - begun}))


def main():
    kind, url, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    if kind.startswith("kpl"):
        asyncio.run(kpl(url, seconds, kind == "kpl-aggregate"))
        return
    import boto3
    from botocore.config import Config

    send = {"article": article, "put-records": put_records}[kind]
    client = boto3.client(
        "kinesis", endpoint_url=url, region_name="us-east-1", config=Config(retries={"total_max_attempts": 1})
    )
    acked = size = 0
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        records, length = send(client)
        acked += records
        size += length
    print(json.dumps({"acked": acked, "bytes": size, "elapsed_s": time.monotonic() - begun}))


main()
