"""Producers in Python for the side-by-side run: `producers.py article|put-records URL SECONDS`."""

import datetime
import json
import random
import sys
import time

import boto3
from botocore.config import Config

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


def main():
    kind, url, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
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
