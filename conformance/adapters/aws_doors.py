"""A pytest plugin: boto3 clients of SQS, SNS and Kinesis lead to our server, those of every other service to a server of moto's.

moto's tests, in server mode, have `http://localhost:5000` written into them: `sitecustomize.py` leads that port to our server,
and what is not ours goes to a moto server that this plugin starts beside it and ends. Between tests everything that a test
may have made is deleted through the API, in each account and region that it used: there is no way behind the API.
"""
import os
import subprocess
import sys
import urllib.request

OURS = {"sqs", "sns", "kinesis"}
TARGET = os.environ.get("TEST_SERVER_MODE_ENDPOINT", "http://localhost:5000")
# How often a list is asked for and emptied before it is given up: a page is at most a thousand names.
PAGES = 20

os.environ.setdefault("AWS_ACCESS_KEY_ID", "test")
os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "test")
os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
os.environ["TEST_SERVER_MODE"] = "true"
os.environ["TESTS_SKIP_REQUIRES_DOCKER"] = "true"

import botocore.session  # noqa: E402  the variables above are read when it is loaded
from botocore.config import Config  # noqa: E402
from botocore.exceptions import BotoCoreError, ClientError  # noqa: E402

ordinary = botocore.session.Session.create_client
used = set()  # (service, region, access key) since the last reset
cleaners = {}  # a client each, for making one takes longer than what it is asked
side = {"process": None, "url": None}


def create_client(session, service_name, region_name=None, api_version=None, use_ssl=True, verify=None, endpoint_url=None, aws_access_key_id=None, *rest, **more):
    """Every client of every test comes through here, boto3's resources too."""
    if service_name in OURS:
        endpoint_url = TARGET
        region = region_name or session.get_config_variable("region") or "us-east-1"
        used.add((service_name, region, aws_access_key_id or os.environ["AWS_ACCESS_KEY_ID"]))
    elif side["url"]:
        endpoint_url = side["url"]
    return ordinary(session, service_name, region_name, api_version, use_ssl, verify, endpoint_url, aws_access_key_id, *rest, **more)


def cleaner(service, region, key):
    if (service, region, key) not in cleaners:
        once = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20, parameter_validation=False)
        cleaners[service, region, key] = ordinary(botocore.session.get_session(), service, region, endpoint_url=TARGET, aws_access_key_id=key, aws_secret_access_key="test", config=once)
    return cleaners[service, region, key]


def emptied(listed, delete):
    """Deletes what is listed until nothing is."""
    for _ in range(PAGES):
        names = listed()
        if not names:
            return
        for name in names:
            try:
                delete(name)
            except ClientError:
                pass  # It is deleted already, or not this account's.


def empty(service, region, key):
    client = cleaner(service, region, key)
    if service == "sqs":
        emptied(lambda: client.list_queues(MaxResults=1000).get("QueueUrls"), lambda url: client.delete_queue(QueueUrl=url))
    elif service == "sns":
        emptied(
            lambda: [s["SubscriptionArn"] for s in client.list_subscriptions()["Subscriptions"] if s["SubscriptionArn"].startswith("arn:")],
            lambda arn: client.unsubscribe(SubscriptionArn=arn),
        )
        emptied(lambda: [t["TopicArn"] for t in client.list_topics()["Topics"]], lambda arn: client.delete_topic(TopicArn=arn))
        emptied(
            lambda: [a["PlatformApplicationArn"] for a in client.list_platform_applications()["PlatformApplications"]],
            lambda arn: client.delete_platform_application(PlatformApplicationArn=arn),
        )
    elif service == "kinesis":
        emptied(lambda: client.list_streams(Limit=100)["StreamNames"], lambda name: client.delete_stream(StreamName=name, EnforceConsumerDeletion=True))


def reset():
    for place in sorted(used):
        try:
            empty(*place)
        except (BotoCoreError, ClientError):
            pass  # What is left over shows in the test that it disturbs.
    used.clear()
    if side["url"]:
        urllib.request.urlopen(urllib.request.Request(f"{side['url']}/moto-api/reset", method="POST"), timeout=20).close()


# The server beside ours. It ends when its standard input does, however this process ends.
SIDE = """
import sys
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


def pytest_configure(config):
    botocore.session.Session.create_client = create_client
    try:
        from moto.core import models
    except ImportError:
        return  # A suite that is not moto's cleans up by itself.
    plain = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TEST_SERVER_MODE")}
    side["process"] = subprocess.Popen([sys.executable, "-c", SIDE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=plain)
    side["url"] = f"http://127.0.0.1:{int(side['process'].stdout.readline())}"
    models.ServerModeMockAWS.reset = lambda mock: reset()


def pytest_unconfigure(config):
    if side["process"]:
        side["process"].stdin.close()
        side["process"].wait(20)
