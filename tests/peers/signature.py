"""Prints the header Authorization that botocore makes for a request to OpenSearch or Kinesis, read as JSON from stdin."""

import base64
import datetime
import json
import sys
from unittest import mock

from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

given = json.load(sys.stdin)
headers = given["headers"]
signed = headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
# What the signer adds itself is not given to it.
own = {"x-amz-date", "x-amz-security-token", "host"}
given_headers = {name: headers[name] for name in signed if name not in own}
request = AWSRequest("POST", given["url"], given_headers, base64.b64decode(given["body"]))
credentials = Credentials("test", "test", headers.get("x-amz-security-token"))
then = datetime.datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ")
with mock.patch.object(auth, "get_current_datetime", lambda: then, create=True):
    auth.SigV4Auth(credentials, given["service"], "ap-northeast-1").add_auth(request)
assert request.headers["X-Amz-Date"] == headers["x-amz-date"], "another time was signed"
print(request.headers["Authorization"])
