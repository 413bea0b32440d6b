"""Servers on 127.0.0.1 that are ended, by process id, on every way out."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

# The emulators know no accounts and check no signatures.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_REGION": "ap-northeast-1",
    "AWS_DEFAULT_REGION": "ap-northeast-1",
}


class Failed(Exception):
    """A step that did not go, in words for the terminal."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def get(url, body=None):
    """The JSON answer of a server on this machine."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def wait(what, seconds, ready):
    """Polls until ready() gives something true; gives that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := ready():
                return found
        except OSError:
            pass
        time.sleep(0.2)
    raise Failed(f"{what}: not within {seconds} s")


def answers(port):
    """Whether something listens there; OSError if not."""
    socket.create_connection(("127.0.0.1", port), 1).close()
    return True


def alive(process):
    if process.poll() is not None:
        raise Failed(f"{process.args[0]} ended with exit code {process.returncode}: see its log")
    return True


class Servers:
    """The processes started here. Leaving the `with` ends each, and those that it started itself."""

    def __init__(self, logs):
        self.logs, self.running = logs, []

    def start(self, name, command, **variables):
        with open(self.logs / f"{name}.log", "wb") as log:
            # A session of its own makes its process id the id of a group, with which it is ended.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.logs,
                env={**os.environ, **ENVIRONMENT, **variables},
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def __enter__(self):
        # SIGTERM, like Ctrl-C, unwinds, so the servers are ended.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return self

    def __exit__(self, *_):
        for process in self.running:
            for end in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(process.pid, end)
                    process.wait(10)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    pass
