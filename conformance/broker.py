"""Starts a release or debug server on free ports, in a directory of its own, and ends it."""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Broker:
    """One server process. `kill` is SIGKILL; `start` again keeps the directory and the ports."""

    DOORS = ("mqtt", "amqp", "stomp", "http", "aws")

    def __init__(self, binary=None, data=None, settings=()):
        self.binary = binary or os.environ.get("BASCULE") or str(ROOT / "target" / "release" / "bascule")
        self.owned = data is None
        self.data = data or tempfile.mkdtemp(prefix="bascule-")
        self.ports = {door: free_port() for door in self.DOORS}
        self.settings = list(settings)
        self.process = None
        self.log = open(os.path.join(tempfile.gettempdir(), f"bascule-{os.getpid()}-{self.ports['mqtt']}.log"), "ab")

    def start(self, timeout=60.0):
        """Starts it and waits for the word `ready`. Returns the seconds that took."""
        command = [self.binary, "serve", "--data", self.data]
        for door, port in self.ports.items():
            command += ["--set", f"listeners.{door}=127.0.0.1:{port}"]
        for setting in self.settings:
            command += ["--set", setting]
        began = time.monotonic()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log)
        for line in self.process.stdout:
            if line.strip() == b"ready":
                return time.monotonic() - began
            if time.monotonic() - began > timeout:
                break
        raise RuntimeError(f"the server did not become ready: see {self.log.name}")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        """SIGTERM; returns the exit code and the seconds that took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=30)
        self.process.stdout.close()
        return code, time.monotonic() - began

    def rss(self):
        """Resident memory in bytes."""
        with open(f"/proc/{self.process.pid}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def metrics(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['http']}/metrics", timeout=10) as reply:
            return reply.read().decode()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.stop()
        self.log.close()
        if self.owned:
            shutil.rmtree(self.data, ignore_errors=True)
