"""CloudFormation custom resource: one index in an OpenSearch Serverless collection.

Properties: Endpoint (https://...), IndexName, Mappings (an index mapping). The physical resource id
is the index name, so a renamed index is made anew and CloudFormation then deletes the old one, with
its documents. CloudFormation gets an answer on every path that leaves Lambda a second to give it.

Only the standard library and botocore are used: the Lambda runtime has both. pipeline.yaml carries
this file inline; tests/test_template.py holds the two equal, `./inline` copies.
"""

import http.client
import json
import os
import time
import urllib.error
import urllib.request

# A new data access policy takes up to some minutes to apply (until then: 403), and a new collection's
# name as long to resolve. What passes is tried again until RESERVE is left of the Lambda's time.
PAUSE = 5.0  # seconds between two attempts
ATTEMPT = 10.0  # seconds one attempt may take, at most
MOST = 4096  # bytes of an answer that CloudFormation reads; it takes a longer one for none
RESERVE = 20.0  # seconds kept for the answer to CloudFormation
PASSING = (403, 404, 408, 429, 500, 502, 503, 504)

# The physical id of an index that was never made: there is nothing to delete for it.
NOT_MADE = "index-not-made"


class Failed(Exception):
    """What went wrong, in words for the stack's events."""


def lambda_handler(event, context):
    """Carries the request out, and tells CloudFormation how that went."""
    physical_id = event.get("PhysicalResourceId", NOT_MADE)
    try:
        deadline = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - RESERVE
        physical_id = settle(event, deadline)
        status, reason = "SUCCESS", "done"
    except Exception as error:  # any: an error without an answer blocks the stack until it times out
        status, reason = "FAILED", f"{type(error).__name__}: {error}"
    answer(event, status, reason, physical_id)


def settle(event, deadline):
    """Carries one request out by `deadline` (monotonic seconds); gives the physical resource id."""
    properties = event["ResourceProperties"]
    if event["RequestType"] == "Delete":
        if event["PhysicalResourceId"] != NOT_MADE:
            delete(properties["Endpoint"], event["PhysicalResourceId"], deadline)
        return event["PhysicalResourceId"]
    # An update comes here too: same name, and the index is there; another name or collection, and it is made.
    create(properties["Endpoint"], properties["IndexName"], properties["Mappings"], deadline)
    return properties["IndexName"]


def create(endpoint, index, mappings, deadline):
    """Makes the index; one that is there already will do if its fields have the wanted types."""
    status, body = insist("PUT", f"{endpoint}/{index}", deadline, {"mappings": mappings})
    if status == 400 and "resource_already_exists_exception" in body:
        status, body = insist("GET", f"{endpoint}/{index}/_mapping", deadline)
        if status == 200:
            there = json.loads(body)[index]["mappings"].get("properties", {})
            for field, wanted in mappings["properties"].items():
                if there.get(field, {}).get("type") != wanted["type"]:
                    raise Failed(f"index {index} exists and its {field} is not {wanted['type']}: delete it")
    if status != 200:
        raise Failed(f"creating index {index}: HTTP {status}: {body}")


def delete(endpoint, index, deadline):
    """Deletes the index; one that is not there is deleted."""
    status, body = insist("DELETE", f"{endpoint}/{index}", deadline, final=(404,))
    if status not in (200, 404):
        raise Failed(f"deleting index {index}: HTTP {status}: {body}")


def insist(method, url, deadline, body=None, final=()):
    """Attempts until the answer is one that does not pass, or the deadline; gives status and body."""
    while True:
        try:
            status, text = attempt(method, url, body, min(ATTEMPT, max(1.0, deadline - time.monotonic())))
        except (OSError, http.client.HTTPException) as error:  # no connection, no name, no whole answer
            status, text = 503, f"{type(error).__name__}: {error}"
        print(f"{method} {url}: {status} {text[:500]}")
        passes = status in PASSING and status not in final
        if not passes or time.monotonic() + PAUSE > deadline:
            return status, text[:1000] if passes else text
        time.sleep(PAUSE)


def attempt(method, url, body, timeout):
    """One signed request; gives status and body of the answer. An error if there is none."""
    data = b"" if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data or None, signed(method, url, data), method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def signed(method, url, data):
    """The headers of a request to a collection, with SigV4 for the service `aoss`."""
    # Here and not above: CloudFormation is told of a failure here, and not of one while loading.
    import hashlib

    import botocore.auth
    import botocore.awsrequest
    import botocore.credentials

    # Lambda gives the credentials of its role, and the region, as variables.
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    credentials = botocore.credentials.Credentials(*(os.environ.get(name) for name in names))
    request = botocore.awsrequest.AWSRequest(method, url, data=data)
    request.headers["Content-Type"] = "application/json"
    # OpenSearch Serverless wants the hash of the body as a header, signed like the others.
    request.headers["X-Amz-Content-SHA256"] = hashlib.sha256(data).hexdigest()
    botocore.auth.SigV4Auth(credentials, "aoss", os.environ["AWS_REGION"]).add_auth(request)
    return dict(request.headers)


def answer(event, status, reason, physical_id):
    """Puts the answer where CloudFormation waits for it."""
    print(f"{event.get('RequestType')} {physical_id}: {status}: {reason}")
    body = {
        "Status": status,
        "Reason": reason[:1000],
        "PhysicalResourceId": physical_id,
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
    }
    # Bytes count, and a character can be six (as an escape of JSON) or twelve of them.
    while body["Reason"] and len(json.dumps(body)) > MOST:
        body["Reason"] = body["Reason"][:-10]
    # The address is signed for an empty content type.
    request = urllib.request.Request(
        event["ResponseURL"], json.dumps(body).encode(), {"Content-Type": ""}, method="PUT"
    )
    for last in (False, False, True):
        try:
            urllib.request.urlopen(request, timeout=5).close()
            return
        except (OSError, http.client.HTTPException) as error:
            print(f"answering CloudFormation: {error}")
            if last:
                raise  # Lambda then calls again, as CloudFormation called it asynchronously
            time.sleep(1)
