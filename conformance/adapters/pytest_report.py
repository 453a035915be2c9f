"""A pytest plugin: each case as a line of JSON in $BASCULE_REPORT. It also says in the suites' own variables where our server is."""
import json
import os

os.environ.setdefault("STD_HOST", "127.0.0.1")
os.environ.setdefault("STD_PORT", os.environ["BASCULE_STOMP"])
os.environ.setdefault("STD_USER", "guest")
os.environ.setdefault("STD_PASSWORD", "guest")
os.environ.setdefault("STD_VHOST", "/")
os.environ.setdefault("RABBITMQ_HOST", "127.0.0.1")
os.environ.setdefault("RABBITMQ_PORT", os.environ["BASCULE_STOMP"])
os.environ.setdefault("RABBITMQ_5672_TCP", os.environ["BASCULE_AMQP"])


worst = {}


def pytest_runtest_logreport(report):
    """A case is its set-up, its call and its clean-up; the worst of them counts, and a repeated try replaces the last."""
    if report.when == "setup":
        worst[report.nodeid] = ("passed", "")
    if report.outcome == "failed":
        worst[report.nodeid] = ("failed", str(getattr(report.longrepr, "reprcrash", None) or report.longrepr)[-800:])
    elif report.outcome == "skipped" and worst[report.nodeid][0] == "passed":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        worst[report.nodeid] = ("skipped", str(reason))
    elif report.outcome == "rerun":
        worst[report.nodeid] = ("rerun", "")


def pytest_collectreport(report):
    if report.failed:
        worst[report.nodeid] = ("failed", str(report.longrepr)[-800:])


def pytest_sessionfinish():
    with open(os.environ["BASCULE_REPORT"], "w") as out:
        for name, (outcome, detail) in worst.items():
            out.write(json.dumps({"name": name, "outcome": outcome, "detail": detail}) + "\n")
