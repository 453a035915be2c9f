"""One of mosquitto's test/broker scripts against our server: `mosquitto_case.py SCRIPT PORT`, in the folder of the scripts.

The script is run as it is. What differs is the one function of its library that starts a broker: it starts ours, on the same
port, with a directory of its own, and waits, as the original does, until a connection is accepted.
"""
import ctypes
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

script, port = sys.argv[1:3]
sys.path.insert(0, os.path.abspath(".."))
sys.path.insert(0, os.getcwd())
import mosq_test  # noqa: E402  (the suite's library)

directories = []


def end_with_parent():
    """The server ends with the script that started it, however that ends (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def start_broker(filename, cmd=None, port=0, use_conf=False, expect_fail=False, nolog=False):
    data = tempfile.mkdtemp(prefix="bascule-mosquitto-")
    directories.append(data)
    command = [os.environ["BASCULE"], "serve", *filter(None, os.environ["BASCULE_ARGUMENTS"].split("\n")), "--data", data]
    for door in ("amqp", "stomp", "http"):
        command += ["--set", f"listeners.{door}=off"]
    command += ["--set", f"listeners.mqtt=127.0.0.1:{port}"]
    broker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=end_with_parent)
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return broker
        except ConnectionRefusedError:
            if broker.poll() is not None:
                break
            time.sleep(0.05)
    raise OSError(f"the server did not start: {broker.communicate()[1].decode()}")


mosq_test.start_broker = start_broker
sys.argv = [script, port]
code = 0
try:
    runpy.run_path(script, run_name="__main__")
except SystemExit as end:
    code = end.code
finally:
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)
sys.exit(code)
