#!/usr/bin/env python3
"""kill -9 under load of SQS and Kinesis clients: nothing confirmed is lost, receipts stay valid, order and deduplication hold.

Each round, on one server: batches to a standard queue, single messages to the groups of a FIFO queue, and batches of records to
a stream, while some messages of another queue are in flight; after a moment the server is killed and started again. Then

- every confirmed message of the standard queue is there (an unconfirmed one may be, and not twice);
- each group of the FIFO queue has its messages in order and once, also the one that nobody confirmed and that was sent again
  under the same deduplication id after the restart;
- messages that were in flight are deleted, or shown again, by receipt handles of before;
- every confirmed record is in its shard under the sequence number that was told, in the order of those.

Arguments: rounds (default 20), seconds of load a round (default 1), seed.
"""
import random
import sys
import threading
import time

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from broker import Broker

SENDERS = 3
GROUPS = 3
PUTTERS = 2
SHARDS = 2
IN_FLIGHT = 40
RECORDS = 50
HOURS = "43200"


def client(broker, service):
    once = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20)
    return boto3.client(service, region_name="us-east-1", endpoint_url=f"http://127.0.0.1:{broker.ports['aws']}", aws_access_key_id="guest", aws_secret_access_key="guest", config=once)


class Load:
    """What one round sends, and what of it was confirmed."""

    def __init__(self, broker, round_, urls, stream):
        self.broker, self.round, self.urls, self.stream = broker, round_, urls, stream
        self.stop = threading.Event()
        self.sent = [[] for _ in range(SENDERS)]
        # Of each group: how many were confirmed. The next one may have been taken or not.
        self.grouped = [0] * GROUPS
        self.put = []
        self.unexpected = []
        work = [(self.send, n) for n in range(SENDERS)] + [(self.send_grouped, n) for n in range(GROUPS)] + [(self.put_records, n) for n in range(PUTTERS)]
        self.threads = [threading.Thread(target=self.until_killed, args=each, daemon=True) for each in work]

    def until_killed(self, step, number):
        clients = {service: client(self.broker, service) for service in ("sqs", "kinesis")}
        serial = 0
        while not self.stop.is_set():
            try:
                step(clients, number, serial)
            except ClientError as error:
                self.unexpected.append(str(error))
                return
            except BotoCoreError:
                return  # The server was killed: that is the point.
            serial += 1

    def send(self, clients, number, serial):
        bodies = [f"{self.round} {number} {serial * 10 + n}" for n in range(10)]
        answer = clients["sqs"].send_message_batch(QueueUrl=self.urls["standard"], Entries=[{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies)])
        self.sent[number] += [bodies[int(entry["Id"])] for entry in answer["Successful"]]

    def send_grouped(self, clients, number, serial):
        grouped(clients["sqs"], self.urls["fifo"], self.round, number, serial)
        self.grouped[number] = serial + 1

    def put_records(self, clients, number, serial):
        datas = [f"{self.round} {number} {serial * RECORDS + n}".encode() for n in range(RECORDS)]
        answer = clients["kinesis"].put_records(StreamName=self.stream, Records=[{"PartitionKey": data.decode(), "Data": data} for data in datas])
        self.put += [(record["ShardId"], int(record["SequenceNumber"]), data) for record, data in zip(answer["Records"], datas) if "SequenceNumber" in record]


def grouped(sqs, url, round_, group, serial):
    sqs.send_message(QueueUrl=url, MessageBody=f"{round_} {group} {serial}", MessageGroupId=str(group), MessageDeduplicationId=f"{round_}-{group}-{serial}")


def drain(sqs, url):
    """Everything that a queue has, in the order of the receives; deleted."""
    got, empty = [], 0
    while empty < 2:
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", [])
        empty = 0 if messages else empty + 1
        got += [message["Body"] for message in messages]
        if messages:
            answer = sqs.delete_message_batch(QueueUrl=url, Entries=[{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(messages)])
            assert not answer.get("Failed"), answer["Failed"]
    return got


def in_flight(sqs, url):
    for first in range(0, IN_FLIGHT, 10):
        sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": str(first + n)} for n in range(10)])
    handles = {}
    while len(handles) < IN_FLIGHT:
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=5).get("Messages", [])
        assert messages, f"{len(handles)} of {IN_FLIGHT} came"
        handles.update((int(message["Body"]), message["ReceiptHandle"]) for message in messages)
    return handles


def read(kinesis, stream, shard, after):
    """The records of a shard after a sequence number, as far as there are any."""
    position = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": after} if after else {"ShardIteratorType": "TRIM_HORIZON"}
    iterator = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard, **position)["ShardIterator"]
    got = []
    while True:
        answer = kinesis.get_records(ShardIterator=iterator)
        got += [(shard, int(record["SequenceNumber"]), record["Data"]) for record in answer["Records"]]
        iterator = answer["NextShardIterator"]
        if not answer["Records"] and answer["MillisBehindLatest"] == 0:
            return got


def check_grouped(load, got, faults):
    for group in range(GROUPS):
        mine = [int(body.split()[2]) for body in got if body.split()[:2] == [str(load.round), str(group)]]
        # The one after the confirmed was sent again: it is there, once.
        wanted = list(range(load.grouped[group] + 1))
        if mine != wanted:
            faults.append(f"group {group}: {len(mine)} messages, {len(wanted)} are right; the first difference at {next((n for n, pair in enumerate(zip(mine, wanted)) if pair[0] != pair[1]), min(len(mine), len(wanted)))}")


def check_records(load, got, faults):
    there = set(got)
    missing = [record for record in load.put if record not in there]
    if missing:
        faults.append(f"{len(missing)} confirmed records are lost or elsewhere, {missing[0]}")
    for shard in {shard for shard, _, _ in got}:
        numbers = [number for at, number, _ in got if at == shard]
        if numbers != sorted(set(numbers)):
            faults.append(f"{shard} is out of order")
        for putter in range(PUTTERS):
            serials = [int(data.split()[2]) for at, _, data in got if at == shard and data.split()[:2] == [str(load.round).encode(), str(putter).encode()]]
            if serials != sorted(set(serials)):
                faults.append(f"{shard}: the records of one client are out of order or twice there")


def round_of(broker, round_, seconds, urls, stream, positions):
    """One round: what was confirmed, and what is wrong."""
    sqs, kinesis = client(broker, "sqs"), client(broker, "kinesis")
    handles = in_flight(sqs, urls["flight"])
    load = Load(broker, round_, urls, stream)
    for thread in load.threads:
        thread.start()
    time.sleep(seconds)
    broker.kill()
    load.stop.set()
    for thread in load.threads:
        thread.join(30)
    took = broker.start()
    faults = [f"refused under load: {error}" for error in load.unexpected]

    sqs, kinesis = client(broker, "sqs"), client(broker, "kinesis")
    for group in range(GROUPS):
        grouped(sqs, urls["fifo"], round_, group, load.grouped[group])
    got = drain(sqs, urls["standard"])
    lost = {body for sent in load.sent for body in sent} - set(got)
    if lost or len(got) != len(set(got)):
        faults.append(f"standard queue: {len(lost)} confirmed are lost, {len(got) - len(set(got))} are there twice")
    if any(int(body.split()[0]) != round_ for body in got):
        faults.append("a message of an earlier round is back")
    check_grouped(load, drain(sqs, urls["fifo"]), faults)

    for number, handle in handles.items():
        if number % 2:
            sqs.change_message_visibility(QueueUrl=urls["flight"], ReceiptHandle=handle, VisibilityTimeout=0)
        else:
            sqs.delete_message(QueueUrl=urls["flight"], ReceiptHandle=handle)
    back = sorted(int(body) for body in drain(sqs, urls["flight"]))
    if back != list(range(1, IN_FLIGHT, 2)):
        faults.append(f"in flight: {back} came back")

    records = []
    for shard in positions:
        new = read(kinesis, stream, shard, positions[shard])
        if new:
            positions[shard] = str(new[-1][1])
        records += new
    check_records(load, records, faults)
    return sum(map(len, load.sent)), sum(load.grouped), len(load.put), took, faults


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else int(time.time())
    print(f"seed {seed}")
    rng = random.Random(seed)
    total, bad, slowest = [0, 0, 0], 0, 0.0
    with Broker(settings=["aws.shard_limits=false"]) as broker:
        sqs, kinesis = client(broker, "sqs"), client(broker, "kinesis")
        urls = {
            "standard": sqs.create_queue(QueueName="kill9-standard", Attributes={"VisibilityTimeout": HOURS})["QueueUrl"],
            "fifo": sqs.create_queue(QueueName="kill9.fifo", Attributes={"FifoQueue": "true", "VisibilityTimeout": HOURS})["QueueUrl"],
            "flight": sqs.create_queue(QueueName="kill9-flight", Attributes={"VisibilityTimeout": HOURS})["QueueUrl"],
        }
        kinesis.create_stream(StreamName="kill9", ShardCount=SHARDS)
        while kinesis.describe_stream_summary(StreamName="kill9")["StreamDescriptionSummary"]["StreamStatus"] != "ACTIVE":
            time.sleep(0.1)
        positions = {shard["ShardId"]: None for shard in kinesis.list_shards(StreamName="kill9")["Shards"]}
        for round_ in range(rounds):
            *counts, took, faults = round_of(broker, round_, seconds * rng.uniform(0.5, 1.5), urls, "kill9", positions)
            total = [sum(pair) for pair in zip(total, counts)]
            slowest = max(slowest, took)
            bad += bool(faults)
            print(f"round {round_ + 1}: confirmed {counts[0]} messages, {counts[1]} in groups, {counts[2]} records", flush=True)
            for fault in faults:
                print(f"  FAILED {fault}", flush=True)
    print(f"confirmed in all: {total[0]} messages, {total[1]} in groups, {total[2]} records; slowest start {slowest:.2f} s")
    good = bad == 0 and all(total)
    print("1 passed, 0 failed" if good else "0 passed, 1 failed")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
