"""The custom resource against servers on this machine: a collection that checks signatures, and
CloudFormation's answer address. Time is simulated."""

import hashlib
import hmac
import http.server
import json
import pathlib
import sys
import threading
import urllib.parse

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import index_handler

SECRET = "secret"
MAPPINGS = {
    "properties": {"EVENT_TIME": {"type": "date"}, "TICKER": {"type": "keyword"}, "PRICE": {"type": "double"}}
}
EXISTS = (400, json.dumps({"error": {"type": "resource_already_exists_exception"}, "status": 400}))


class Server:
    """An HTTP server on a port of its own; `respond(handler, body)` gives status and text."""

    def __init__(self, respond):
        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, text = respond(self, body)
                if status is None:  # hang up without an answer
                    self.close_connection = True
                    return
                data = text.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_PUT = do_GET = do_DELETE = answer

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=[0.01], daemon=True).start()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()


def signature(handler, body, service="aoss", region="ap-northeast-1"):
    """The SigV4 signature that the request should have, made from its parts."""

    def mac(key, text):
        return hmac.new(key, text.encode(), hashlib.sha256).digest()

    names = handler.headers["Authorization"].split("SignedHeaders=")[1].split(",")[0]
    date = handler.headers["X-Amz-Date"]
    headers = "".join(f"{name}:{handler.headers[name].strip()}\n" for name in names.split(";"))
    path = urllib.parse.urlsplit(handler.path).path
    parts = [handler.command, path, "", headers, names, hashlib.sha256(body).hexdigest()]
    scope = f"{date[:8]}/{region}/{service}/aws4_request"
    hashed = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    key = ("AWS4" + SECRET).encode()
    for part in scope.split("/"):
        key = mac(key, part)
    return hmac.new(key, f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashed}".encode(), hashlib.sha256).hexdigest()


class World:
    """A collection with scripted answers, CloudFormation's ear, and a clock."""

    def __init__(self):
        self.script, self.requests, self.answers, self.problems = [], [], [], []
        self.deaf = 0  # answers that CloudFormation's address refuses before it takes one
        self.now = 0.0
        self.collection = Server(self.respond)
        self.cloudformation = Server(self.listen)

    def respond(self, handler, body):
        if not handler.headers["Authorization"].endswith(signature(handler, body)):
            self.problems.append(f"signature of {handler.command} {handler.path}")
        if handler.headers["X-Amz-Content-SHA256"] != hashlib.sha256(body).hexdigest():
            self.problems.append("hash of the body")
        if handler.headers["X-Amz-Security-Token"] != "session":
            self.problems.append("session token")
        self.requests.append((handler.command, handler.path, body.decode()))
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def listen(self, handler, body):
        if self.deaf:
            self.deaf -= 1
            return 503, "later"
        # As the address is signed for an empty content type.
        assert not handler.headers["Content-Type"]
        assert len(body) <= 4096
        self.answers.append(json.loads(body))
        return 200, ""

    def sleep(self, seconds):
        self.now += seconds

    def monotonic(self):
        return self.now

    def get_remaining_time_in_millis(self):  # as Lambda's context, with the template's timeout
        return int((600 - self.now) * 1000)

    def call(self, kind, *script, name="test-stock-index", physical=None, **changed):
        """Calls the handler once; gives its answer to CloudFormation."""
        self.script = list(script)
        event = {
            "RequestType": kind,
            "ResponseURL": self.cloudformation.url + "/answer?X-Amz-Signature=abc",
            "StackId": "stack",
            "RequestId": "request",
            "LogicalResourceId": "Index",
            "ResourceProperties": {"Endpoint": self.collection.url, "IndexName": name, "Mappings": MAPPINGS},
            **changed,
        }
        if physical:
            event["PhysicalResourceId"] = physical
        before = len(self.answers)
        index_handler.lambda_handler(event, self)
        assert len(self.answers) == before + 1, "one answer for one request"
        answer = self.answers[-1]
        assert [answer[key] for key in ("StackId", "RequestId", "LogicalResourceId")] == ["stack", "request", "Index"]
        return answer


@pytest.fixture
def world(monkeypatch):
    for key, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": "session",
        "AWS_REGION": "ap-northeast-1",
    }.items():
        monkeypatch.setenv(key, value)
    world = World()
    monkeypatch.setattr(index_handler, "time", world)
    yield world
    world.collection.stop()
    world.cloudformation.stop()
    assert world.problems == []


def test_create_makes_the_index_with_its_mapping(world):
    answer = world.call("Create", (200, "{}"))
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", "test-stock-index")
    [(method, path, body)] = world.requests
    assert (method, path, json.loads(body)) == ("PUT", "/test-stock-index", {"mappings": MAPPINGS})


def test_create_waits_for_the_data_access_policy(world):
    answer = world.call("Create", (403, "no"), (403, "no"), (404, ""), (503, ""), (None, ""), (200, "{}"))
    assert answer["Status"] == "SUCCESS"
    assert len(world.requests) == 6
    assert world.now == 5 * index_handler.PAUSE


def test_create_gives_up_while_an_answer_is_still_possible(world):
    answer = world.call("Create", (403, "no such policy"))
    assert answer["Status"] == "FAILED"
    assert "HTTP 403: no such policy" in answer["Reason"]
    assert 600 - index_handler.RESERVE - index_handler.PAUSE <= world.now <= 600 - index_handler.RESERVE
    assert len(world.requests) < 130


def test_an_endpoint_that_cannot_be_reached_is_told(world):
    world.collection.stop()
    answer = world.call("Create", (200, ""))
    assert answer["Status"] == "FAILED" and "refused" in answer["Reason"]
    world.collection = Server(world.respond)


@pytest.mark.parametrize("there, status", [(MAPPINGS, "SUCCESS"), ({}, "FAILED")])
def test_an_index_that_is_there_must_have_the_mapping(world, there, status):
    mapping = json.dumps({"test-stock-index": {"mappings": there}})
    answer = world.call("Create", EXISTS, (200, mapping))
    assert answer["Status"] == status
    assert [request[:2] for request in world.requests][1] == ("GET", "/test-stock-index/_mapping")
    if status == "FAILED":
        assert "its EVENT_TIME is not date" in answer["Reason"]


def test_what_no_retry_mends_fails_at_once(world):
    answer = world.call("Create", (400, "mapper_parsing_exception" + "x" * 9000))
    assert answer["Status"] == "FAILED" and "mapper_parsing_exception" in answer["Reason"]
    assert (len(world.requests), world.now) == (1, 0)


def test_a_failed_create_leaves_nothing_to_delete(world):
    created = world.call("Create", (400, "no"))
    world.requests.clear()
    deleted = world.call("Delete", (403, "no"), physical=created["PhysicalResourceId"])
    assert (deleted["Status"], world.requests) == ("SUCCESS", [])
    assert deleted["PhysicalResourceId"] == created["PhysicalResourceId"]


def test_an_update_without_another_name_keeps_the_index(world):
    mapping = json.dumps({"test-stock-index": {"mappings": MAPPINGS}})
    answer = world.call("Update", EXISTS, (200, mapping), physical="test-stock-index")
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", "test-stock-index")


def test_another_name_makes_an_index_and_then_the_old_one_is_deleted(world):
    answer = world.call("Update", (200, "{}"), name="other", physical="test-stock-index")
    # Another physical id is how CloudFormation knows that it must send the Delete below.
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", "other")
    answer = world.call("Delete", (200, "{}"), physical="test-stock-index")
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", "test-stock-index")
    assert [request[:2] for request in world.requests] == [("PUT", "/other"), ("DELETE", "/test-stock-index")]


def test_a_failed_update_keeps_the_old_index(world):
    answer = world.call("Update", (400, "no"), name="other", physical="test-stock-index")
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("FAILED", "test-stock-index")


@pytest.mark.parametrize("status", [200, 404])
def test_delete_may_come_twice(world, status):
    answer = world.call("Delete", (status, "{}"), physical="test-stock-index")
    assert (answer["Status"], len(world.requests)) == ("SUCCESS", 1)


def test_delete_tries_again_and_then_says_why_not(world):
    assert world.call("Delete", (503, ""), (200, "{}"), physical="test-stock-index")["Status"] == "SUCCESS"
    answer = world.call("Delete", (403, "no"), physical="test-stock-index")
    assert answer["Status"] == "FAILED" and "deleting index test-stock-index: HTTP 403" in answer["Reason"]


@pytest.mark.parametrize("text", ["\u7d22\u5f15" * 2000, "\U0001f4a5" * 2000, "\"\\" * 2000, "plain" * 2000])
def test_what_was_said_is_cut_to_what_cloudformation_reads(world, text):
    answer = world.call("Create", (400, text))
    assert answer["Status"] == "FAILED"
    head = "Failed: creating index test-stock-index: HTTP 400: "
    assert answer["Reason"].startswith(head) and text.startswith(answer["Reason"].removeprefix(head))
    assert len(answer["Reason"]) > 300


@pytest.mark.parametrize("kind", ["Create", "Update", "Delete", "Other"])
def test_a_broken_request_is_answered(world, kind):
    answer = world.call(kind, (200, ""), physical="x", ResourceProperties={})
    assert (answer["Status"], answer["Reason"]) == ("FAILED", "KeyError: 'Endpoint'")


def test_missing_credentials_are_answered(world, monkeypatch):
    monkeypatch.delenv("AWS_REGION")
    assert world.call("Create", (200, ""))["Reason"] == "KeyError: 'AWS_REGION'"


def test_a_call_that_comes_too_late_is_answered(world):
    world.now = 590
    assert world.call("Create", (503, ""))["Status"] == "FAILED"
    assert len(world.requests) == 1


def test_the_answer_is_tried_again(world):
    world.deaf = 2
    assert world.call("Create", (200, "{}"))["Status"] == "SUCCESS"


def test_an_answer_that_nobody_takes_fails_the_call(world):
    world.deaf = 3
    with pytest.raises(OSError):  # so that Lambda calls again
        world.call("Create", (200, "{}"))
