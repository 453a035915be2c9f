#!/usr/bin/env python3
"""Everyday SQS, SNS and Kinesis through boto3: what a program does in its first week, and what it is told when it errs.

Each case makes what it needs under names of its own. Arguments: words in the names of the cases that are wanted. With
AWS_TARGET=http://HOST:PORT the server there is asked instead of one of ours. The last line is `N passed, N failed`.
"""
import contextlib
import hashlib
import itertools
import json
import os
import sys
import threading
import time
import traceback

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from broker import Broker

LIMIT = 30.0
ACCOUNT = os.environ.get("AWS_TARGET_ACCOUNT", "000000000000")
CASES = []
serial = itertools.count(1)


def case(function):
    CASES.append(function)
    return function


def client(service, endpoint, **more):
    once = Config(retries={"total_max_attempts": 1}, read_timeout=40)
    credentials = {"aws_access_key_id": "guest", "aws_secret_access_key": "guest", **more}
    return boto3.client(service, region_name="us-east-1", endpoint_url=endpoint, config=once, **credentials)


class Doors:
    """The three clients, and what a case makes with them."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.sqs, self.sns, self.kinesis = (client(name, endpoint) for name in ("sqs", "sns", "kinesis"))

    def name(self, what, suffix=""):
        return f"smoke-{what}-{next(serial)}{suffix}"

    def queue(self, fifo=False, **attributes):
        if fifo:
            attributes["FifoQueue"] = "true"
        return self.sqs.create_queue(QueueName=self.name("queue", ".fifo" if fifo else ""), Attributes=attributes)["QueueUrl"]

    def queue_arn(self, url):
        return self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    def topic(self, fifo=False, **attributes):
        if fifo:
            attributes["FifoTopic"] = "true"
        return self.sns.create_topic(Name=self.name("topic", ".fifo" if fifo else ""), Attributes=attributes)["TopicArn"]

    def stream(self, shards=1):
        name = self.name("stream")
        self.kinesis.create_stream(StreamName=name, ShardCount=shards)
        self.active(name)
        return name

    def active(self, stream):
        deadline = time.monotonic() + LIMIT
        while self.kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamStatus"] != "ACTIVE":
            assert time.monotonic() < deadline, f"{stream} did not become active"
            time.sleep(0.1)

    def receive(self, url, wanted=1, wait=2, **more):
        """Receives until so many messages have come, or none comes within `wait` seconds."""
        messages = []
        while len(messages) < wanted:
            got = self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=min(10, wanted - len(messages)), WaitTimeSeconds=wait, **more).get("Messages", [])
            if not got:
                break
            messages += got
        return messages

    def bodies(self, url, wanted=1, **more):
        return [message["Body"] for message in self.receive(url, wanted, **more)]

    def records(self, stream, shard, wanted, **position):
        position = position or {"ShardIteratorType": "TRIM_HORIZON"}
        iterator = self.kinesis.get_shard_iterator(StreamName=stream, ShardId=shard, **position)["ShardIterator"]
        got, deadline = [], time.monotonic() + LIMIT
        while len(got) < wanted and iterator and time.monotonic() < deadline:
            answer = self.kinesis.get_records(ShardIterator=iterator)
            got += answer["Records"]
            iterator = answer.get("NextShardIterator")
            if not answer["Records"]:
                time.sleep(0.1)
        return got


@contextlib.contextmanager
def refused(*codes, status=400, says=""):
    """What is done inside has to be refused with one of those codes."""
    try:
        yield
    except ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
        assert code in codes, f"refused with {code} ({message}), not {' or '.join(codes)}"
        assert says in message, f"{message!r} does not say {says!r}"
        got = error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert got == status, f"{code} came with HTTP {got}, not {status}"
    else:
        raise AssertionError(f"accepted, but {' or '.join(codes)} is right")


def md5(text):
    return hashlib.md5(text.encode()).hexdigest()


# SQS


@case
def sqs_a_message_is_sent_received_and_deleted(doors):
    url = doors.queue()
    sent = doors.sqs.send_message(QueueUrl=url, MessageBody="Grüße ✓")
    assert sent["MD5OfMessageBody"] == md5("Grüße ✓")
    [message] = doors.receive(url)
    assert (message["Body"], message["MessageId"]) == ("Grüße ✓", sent["MessageId"])
    assert doors.bodies(url, wait=0) == [], "in flight, and shown again"
    doors.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    counts = doors.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert (counts["ApproximateNumberOfMessages"], counts["ApproximateNumberOfMessagesNotVisible"]) == ("0", "0")


@case
def sqs_attributes_of_all_types_come_back_with_their_digest(doors):
    url = doors.queue()
    attributes = {
        "colour": {"DataType": "String", "StringValue": "blau"},
        "count": {"DataType": "Number", "StringValue": "42"},
        "raw": {"DataType": "Binary", "BinaryValue": bytes(range(256))},
        "own": {"DataType": "String.x", "StringValue": "y"},
    }
    sent = doors.sqs.send_message(QueueUrl=url, MessageBody="m", MessageAttributes=attributes)
    # boto3 does not check this one: the digest over names, types and values, sorted by name.
    digest = hashlib.md5()
    for name in sorted(attributes):
        value = attributes[name]
        for part in (name.encode(), value["DataType"].encode()):
            digest.update(len(part).to_bytes(4, "big") + part)
        raw = value.get("BinaryValue")
        text = raw if raw is not None else value["StringValue"].encode()
        digest.update((b"\2" if raw is not None else b"\1") + len(text).to_bytes(4, "big") + text)
    assert sent["MD5OfMessageAttributes"] == digest.hexdigest()
    [message] = doors.receive(url, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"])
    assert message["MessageAttributes"] == attributes
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    assert abs(int(message["Attributes"]["SentTimestamp"]) / 1000 - time.time()) < LIMIT


@case
def sqs_batches_answer_entry_by_entry(doors):
    url = doors.queue()
    entries = [{"Id": str(n), "MessageBody": f"b{n}"} for n in range(10)]
    answer = doors.sqs.send_message_batch(QueueUrl=url, Entries=entries)
    assert {entry["Id"]: entry["MD5OfMessageBody"] for entry in answer["Successful"]} == {str(n): md5(f"b{n}") for n in range(10)}
    messages = doors.receive(url, 10)
    assert sorted(message["Body"] for message in messages) == [f"b{n}" for n in range(10)]
    handles = [{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(messages)]
    handles[3]["ReceiptHandle"] = "not-a-handle"
    answer = doors.sqs.delete_message_batch(QueueUrl=url, Entries=handles)
    assert sorted(entry["Id"] for entry in answer["Successful"]) == sorted(str(n) for n in range(10) if n != 3)
    [failed] = answer["Failed"]
    assert (failed["Id"], failed["Code"], failed["SenderFault"]) == ("3", "ReceiptHandleIsInvalid", True)
    with refused("AWS.SimpleQueueService.TooManyEntriesInBatchRequest"):
        doors.sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": "m"} for n in range(11)])
    with refused("AWS.SimpleQueueService.BatchEntryIdsNotDistinct"):
        doors.sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": "same", "MessageBody": "m"}] * 2)


@case
def sqs_a_long_poll_wakes_when_a_message_comes(doors):
    url = doors.queue()
    woken = []

    def poll():
        got = client("sqs", doors.endpoint).receive_message(QueueUrl=url, WaitTimeSeconds=20)
        woken.append((time.monotonic(), [message["Body"] for message in got.get("Messages", [])]))

    waiting = threading.Thread(target=poll)
    waiting.start()
    time.sleep(1.0)
    assert not woken
    sent = time.monotonic()
    doors.sqs.send_message(QueueUrl=url, MessageBody="wake")
    waiting.join(LIMIT)
    [(at, bodies)] = woken
    assert bodies == ["wake"] and at - sent < 2.0, f"woken after {at - sent:.2f} s with {bodies}"


@case
def sqs_visibility_runs_out_and_is_changed(doors):
    url = doors.queue(VisibilityTimeout="1")
    doors.sqs.send_message(QueueUrl=url, MessageBody="again")
    [first] = doors.receive(url)
    [second] = doors.receive(url, wait=5, MessageSystemAttributeNames=["ApproximateReceiveCount"])
    assert second["Attributes"]["ApproximateReceiveCount"] == "2" and second["ReceiptHandle"] != first["ReceiptHandle"]
    doors.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=second["ReceiptHandle"], VisibilityTimeout=60)
    assert doors.bodies(url, wait=2) == [], "shown within its visibility timeout"
    doors.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=second["ReceiptHandle"], VisibilityTimeout=0)
    assert doors.bodies(url, wait=2) == ["again"]


@case
def sqs_a_delay_is_kept(doors):
    url = doors.queue()
    doors.sqs.send_message(QueueUrl=url, MessageBody="late", DelaySeconds=2)
    sent = time.monotonic()
    assert doors.bodies(url, wait=0) == []
    assert doors.bodies(url, wait=10) == ["late"] and time.monotonic() - sent >= 1.9


@case
def sqs_dead_letters_move_and_come_back(doors):
    dead = doors.queue()
    policy = json.dumps({"deadLetterTargetArn": doors.queue_arn(dead), "maxReceiveCount": "2"})
    url = doors.queue(VisibilityTimeout="0", RedrivePolicy=policy)
    doors.sqs.send_message(QueueUrl=url, MessageBody="poison")
    assert doors.bodies(url) == ["poison"] and doors.bodies(url) == ["poison"] and doors.bodies(url, wait=0) == []
    assert doors.bodies(dead, wait=5, VisibilityTimeout=0) == ["poison"]
    assert doors.sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [url]
    task = doors.sqs.start_message_move_task(SourceArn=doors.queue_arn(dead))["TaskHandle"]
    assert doors.bodies(url, wait=10, VisibilityTimeout=30) == ["poison"]
    [seen, *_] = doors.sqs.list_message_move_tasks(SourceArn=doors.queue_arn(dead))["Results"]
    assert seen["Status"] in ("RUNNING", "COMPLETED") and task


@case
def sqs_fifo_keeps_order_by_group_and_drops_duplicates(doors):
    url = doors.queue(fifo=True, ContentBasedDeduplication="true")
    numbers = []
    for n in range(6):
        sent = doors.sqs.send_message(QueueUrl=url, MessageBody=f"{'ab'[n % 2]}{n}", MessageGroupId="ab"[n % 2])
        numbers.append(int(sent["SequenceNumber"]))
    again = doors.sqs.send_message(QueueUrl=url, MessageBody="a0", MessageGroupId="a")
    assert int(again["SequenceNumber"]) == numbers[0], "a duplicate is answered as the first"
    assert numbers == sorted(set(numbers))
    first = doors.receive(url, 1)
    assert first[0]["Body"] == "a0"
    rest = doors.receive(url, 6, wait=0)
    assert [message["Body"] for message in rest] == ["b1", "b3", "b5"], "group a is locked while one of it is in flight"
    for message in first + rest:
        doors.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert doors.bodies(url, 2) == ["a2", "a4"]
    with refused("MissingParameter"):
        doors.sqs.send_message(QueueUrl=url, MessageBody="m")


@case
def sqs_errors_are_those_of_aws(doors):
    url = doors.queue()
    with refused("AWS.SimpleQueueService.NonExistentQueue"):
        doors.sqs.get_queue_url(QueueName="smoke-nobody-made-this")
    with refused("AWS.SimpleQueueService.NonExistentQueue"):
        doors.sqs.send_message(QueueUrl=url + "-nobody", MessageBody="m")
    with refused("ReceiptHandleIsInvalid", status=400):
        doors.sqs.delete_message(QueueUrl=url, ReceiptHandle="not-a-handle")
    with refused("InvalidParameterValue"):
        doors.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=11)
    with refused("InvalidAttributeName", "InvalidAttributeValue"):
        doors.sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "43201"})
    with refused("QueueAlreadyExists"):
        doors.sqs.create_queue(QueueName=url.rsplit("/", 1)[1], Attributes={"VisibilityTimeout": "7"})


@case
def sqs_a_mebibyte_fits_and_one_byte_more_does_not(doors):
    url = doors.queue()
    body = "x" * (1 << 20)
    doors.sqs.send_message(QueueUrl=url, MessageBody=body)
    assert doors.bodies(url) == [body]
    with refused("InvalidParameterValue"):
        doors.sqs.send_message(QueueUrl=url, MessageBody=body + "x")


@case
def sqs_queues_are_listed_tagged_and_purged(doors):
    url = doors.queue()
    name = url.rsplit("/", 1)[1]
    assert doors.sqs.list_queues(QueueNamePrefix=name)["QueueUrls"] == [url]
    assert doors.sqs.get_queue_url(QueueName=name)["QueueUrl"] == url
    doors.sqs.tag_queue(QueueUrl=url, Tags={"team": "blau", "cost": "7"})
    doors.sqs.untag_queue(QueueUrl=url, TagKeys=["cost"])
    assert doors.sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"team": "blau"}
    for n in range(5):
        doors.sqs.send_message(QueueUrl=url, MessageBody=str(n))
    doors.sqs.purge_queue(QueueUrl=url)
    assert doors.bodies(url, wait=1) == []
    doors.sqs.delete_queue(QueueUrl=url)
    assert url not in doors.sqs.list_queues(QueueNamePrefix=name).get("QueueUrls", [])


# SNS


@case
def sns_reaches_queues_in_the_envelope_and_raw(doors):
    topic, wrapped, raw = doors.topic(), doors.queue(), doors.queue()
    doors.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=doors.queue_arn(wrapped))
    subscription = doors.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=doors.queue_arn(raw), ReturnSubscriptionArn=True)["SubscriptionArn"]
    doors.sns.set_subscription_attributes(SubscriptionArn=subscription, AttributeName="RawMessageDelivery", AttributeValue="true")
    attributes = {"colour": {"DataType": "String", "StringValue": "blau"}}
    sent = doors.sns.publish(TopicArn=topic, Message="Grüße ✓", Subject="hallo", MessageAttributes=attributes)
    [message] = doors.receive(wrapped)
    envelope = json.loads(message["Body"])
    assert (envelope["Type"], envelope["TopicArn"], envelope["Message"], envelope["Subject"]) == ("Notification", topic, "Grüße ✓", "hallo")
    assert envelope["MessageId"] == sent["MessageId"]
    assert envelope["MessageAttributes"] == {"colour": {"Type": "String", "Value": "blau"}}
    [message] = doors.receive(raw, MessageAttributeNames=["All"])
    # Raw, the subject is an attribute of ours; with AWS it is lost.
    assert message["MessageAttributes"].pop("bascule.subject", None) in (None, {"DataType": "String", "StringValue": "hallo"})
    assert (message["Body"], message["MessageAttributes"]) == ("Grüße ✓", attributes)
    doors.sns.unsubscribe(SubscriptionArn=subscription)
    doors.sns.publish(TopicArn=topic, Message="two")
    assert json.loads(doors.receive(wrapped)[0]["Body"])["Message"] == "two"
    assert doors.bodies(raw, wait=0) == []


@case
def sns_filters_by_attributes_and_by_body(doors):
    topic, by_attribute, by_body = doors.topic(), doors.queue(), doors.queue()
    raw = {"RawMessageDelivery": "true"}
    doors.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=doors.queue_arn(by_attribute), Attributes={**raw, "FilterPolicy": json.dumps({"colour": ["blau", {"prefix": "grü"}]})})
    doors.sns.subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=doors.queue_arn(by_body),
        Attributes={**raw, "FilterPolicyScope": "MessageBody", "FilterPolicy": json.dumps({"order": {"sum": [{"numeric": [">", 10]}]}})},
    )
    for colour, total in (("blau", 5), ("grün", 15), ("rot", 25)):
        doors.sns.publish(TopicArn=topic, Message=json.dumps({"order": {"sum": total}}), MessageAttributes={"colour": {"DataType": "String", "StringValue": colour}})
    sums = lambda url: sorted(json.loads(body)["order"]["sum"] for body in doors.bodies(url, 3, wait=1))
    assert sums(by_attribute) == [5, 15]
    assert sums(by_body) == [15, 25]
    with refused("InvalidParameter"):
        doors.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=doors.queue_arn(doors.queue()), Attributes={"FilterPolicy": "no json"})


@case
def sns_fifo_topics_feed_fifo_queues_in_order(doors):
    topic, url = doors.topic(fifo=True, ContentBasedDeduplication="true"), doors.queue(fifo=True)
    doors.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=doors.queue_arn(url), Attributes={"RawMessageDelivery": "true"})
    for body in ("1", "2", "2", "3"):
        doors.sns.publish(TopicArn=topic, Message=body, MessageGroupId="g")
    assert doors.bodies(url, 4) == ["1", "2", "3"]


@case
def sns_batches_topics_and_tags(doors):
    topic, url = doors.topic(), doors.queue()
    doors.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=doors.queue_arn(url), Attributes={"RawMessageDelivery": "true"})
    answer = doors.sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=[{"Id": str(n), "Message": f"b{n}"} for n in range(10)])
    assert sorted(entry["Id"] for entry in answer["Successful"]) == [str(n) for n in range(10)]
    assert sorted(doors.bodies(url, 10)) == [f"b{n}" for n in range(10)]
    assert topic in [entry["TopicArn"] for page in doors.sns.get_paginator("list_topics").paginate() for entry in page["Topics"]]
    doors.sns.tag_resource(ResourceArn=topic, Tags=[{"Key": "team", "Value": "blau"}])
    assert doors.sns.list_tags_for_resource(ResourceArn=topic)["Tags"] == [{"Key": "team", "Value": "blau"}]
    doors.sns.set_topic_attributes(TopicArn=topic, AttributeName="DisplayName", AttributeValue="Anzeige")
    assert doors.sns.get_topic_attributes(TopicArn=topic)["Attributes"]["DisplayName"] == "Anzeige"
    doors.sns.delete_topic(TopicArn=topic)
    with refused("NotFound", "NotFoundException", status=404):
        doors.sns.publish(TopicArn=topic, Message="m")


# Kinesis


@case
def kinesis_records_are_read_in_shard_order(doors):
    stream = doors.stream(shards=2)
    shards = [shard["ShardId"] for shard in doors.kinesis.list_shards(StreamName=stream)["Shards"]]
    assert len(shards) == 2
    placed = {}
    for n in range(20):
        put = doors.kinesis.put_record(StreamName=stream, PartitionKey=f"k{n % 5}", Data=f"r{n}".encode())
        placed.setdefault(put["ShardId"], []).append((int(put["SequenceNumber"]), f"r{n}".encode()))
    for shard, expected in placed.items():
        got = [(int(record["SequenceNumber"]), record["Data"]) for record in doors.records(stream, shard, len(expected))]
        assert got == expected == sorted(expected)
    middle = placed[shards[0]] if shards[0] in placed else placed[shards[1]]
    shard = next(shard for shard in placed if placed[shard] is middle)
    after = doors.records(stream, shard, len(middle) - 1, ShardIteratorType="AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=str(middle[0][0]))
    assert [record["Data"] for record in after] == [data for _, data in middle[1:]]


@case
def kinesis_put_records_answers_each(doors):
    stream = doors.stream()
    answer = doors.kinesis.put_records(StreamName=stream, Records=[{"PartitionKey": "k", "Data": bytes([n]) * 100} for n in range(100)])
    assert answer["FailedRecordCount"] == 0 and len(answer["Records"]) == 100
    numbers = [int(record["SequenceNumber"]) for record in answer["Records"]]
    assert numbers == sorted(set(numbers))
    got = doors.records(stream, answer["Records"][0]["ShardId"], 100)
    assert [record["Data"] for record in got] == [bytes([n]) * 100 for n in range(100)]


@case
def kinesis_a_split_keeps_the_parent_readable(doors):
    stream = doors.stream()
    [parent] = doors.kinesis.list_shards(StreamName=stream)["Shards"]
    for n in range(5):
        doors.kinesis.put_record(StreamName=stream, PartitionKey=f"k{n}", Data=b"before")
    doors.kinesis.split_shard(StreamName=stream, ShardToSplit=parent["ShardId"], NewStartingHashKey=str(1 << 127))
    doors.active(stream)
    children = [shard for shard in doors.kinesis.list_shards(StreamName=stream)["Shards"] if shard.get("ParentShardId") == parent["ShardId"]]
    assert len(children) == 2
    assert [record["Data"] for record in doors.records(stream, parent["ShardId"], 5)] == [b"before"] * 5
    put = doors.kinesis.put_record(StreamName=stream, PartitionKey="k", ExplicitHashKey=str(1 << 127), Data=b"after")
    upper = next(shard for shard in children if shard["HashKeyRange"]["StartingHashKey"] == str(1 << 127))
    assert put["ShardId"] == upper["ShardId"]
    assert [record["Data"] for record in doors.records(stream, upper["ShardId"], 1)] == [b"after"]


@case
def kinesis_a_consumer_is_pushed_to(doors):
    stream = doors.stream()
    summary = doors.kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]
    consumer = doors.kinesis.register_stream_consumer(StreamARN=summary["StreamARN"], ConsumerName="smoke")["Consumer"]
    deadline = time.monotonic() + LIMIT
    while doors.kinesis.describe_stream_consumer(ConsumerARN=consumer["ConsumerARN"])["ConsumerDescription"]["ConsumerStatus"] != "ACTIVE":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    [shard] = doors.kinesis.list_shards(StreamName=stream)["Shards"]
    doors.kinesis.put_record(StreamName=stream, PartitionKey="k", Data=b"there before")
    events = doors.kinesis.subscribe_to_shard(ConsumerARN=consumer["ConsumerARN"], ShardId=shard["ShardId"], StartingPosition={"Type": "TRIM_HORIZON"})["EventStream"]
    threading.Timer(1.0, lambda: client("kinesis", doors.endpoint).put_record(StreamName=stream, PartitionKey="k", Data=b"comes later")).start()
    got = []
    for event in events:
        got += [record["Data"] for record in event["SubscribeToShardEvent"]["Records"]]
        if len(got) == 2:
            break
        assert time.monotonic() < deadline
    events.close()
    assert got == [b"there before", b"comes later"]


@case
def kinesis_errors_are_those_of_aws(doors):
    stream = doors.stream()
    with refused("ResourceNotFoundException"):
        doors.kinesis.describe_stream_summary(StreamName="smoke-nobody-made-this")
    with refused("ResourceInUseException"):
        doors.kinesis.create_stream(StreamName=stream, ShardCount=1)
    with refused("InvalidArgumentException"):
        doors.kinesis.get_records(ShardIterator="not-an-iterator")
    with refused("ValidationException"):
        doors.kinesis.put_record(StreamName=stream, PartitionKey="k" * 257, Data=b"d")
    doors.kinesis.delete_stream(StreamName=stream)


# The envelope


@case
def a_wrong_secret_is_refused(doors):
    if "AWS_TARGET" in os.environ:
        return
    # Services of JSON refuse it with 400, those of the query protocol with 403.
    with refused("SignatureDoesNotMatch", "InvalidSignatureException", status=400):
        client("sqs", doors.endpoint, aws_secret_access_key="wrong").list_queues()
    with refused("InvalidClientTokenId", status=403):
        client("sns", doors.endpoint, aws_access_key_id="nobody").list_topics()


def run(endpoint):
    doors = Doors(endpoint)
    passed = failed = 0
    for function in CASES:
        if sys.argv[1:] and not any(word in function.__name__ for word in sys.argv[1:]):
            continue
        try:
            function(doors)
            passed += 1
        except Exception as error:
            failed += 1
            frame = next(frame for frame in reversed(traceback.extract_tb(error.__traceback__)) if frame.filename == __file__)
            print(f"FAILED {function.__name__}, line {frame.lineno}: {type(error).__name__}: {error or frame.line}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


def main():
    if "AWS_TARGET" in os.environ:
        return run(os.environ["AWS_TARGET"])
    with Broker() as broker:
        return run(f"http://127.0.0.1:{broker.ports['aws']}")


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    print(f"aws_smoke: {time.monotonic() - began:.1f} s", file=sys.stderr)
    sys.exit(code)
