#!/usr/bin/env python3
"""Every ordered pair of protocols, for topics, queues and streams, through real clients.

Each receiver subscribes once to a topic, once to a queue and once to a stream; then each sender publishes a text, all 256
byte values, an empty body and 200 kB, with a string property where its protocol has properties. Amazon's three services are one
door: SNS for the topic, SQS for the queue, Kinesis for the stream. The last line is `N passed, N failed`.
"""
import base64
import queue
import sys
import threading
import time

import boto3
import paho.mqtt.client as paho
import pika
import stomp
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from botocore.config import Config

from broker import Broker

WAIT = 20.0
# The partition key of what is put into streams.
KEY = "key"
BODIES = {
    "text": "Grüße, Welt ✓".encode(),
    "binary": bytes(range(256)),
    "empty": b"",
    "200kB": bytes((i * 7) % 251 for i in range(200_000)),
}


class Mqtt:
    def __init__(self, broker, name, version, transport="tcp"):
        self.five = version == 5
        self.has_properties = self.five
        self.inbox = queue.Queue()
        protocol = paho.MQTTv5 if self.five else paho.MQTTv311
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=name, protocol=protocol, transport=transport)
        self.client.username_pw_set("guest", "guest")
        if transport == "websockets":
            self.client.ws_set_options(path="/mqtt")
        connected, self.acked = threading.Event(), {}
        self.subscribed = threading.Semaphore(0)
        self.client.on_connect = lambda c, u, f, rc, p: connected.set()
        self.client.on_message = self.on_message
        self.client.on_subscribe = lambda *a: self.subscribed.release()
        port = broker.ports["http" if transport == "websockets" else "mqtt"]
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        if not connected.wait(WAIT):
            raise TimeoutError(f"{name}: no CONNACK")

    def on_message(self, client, userdata, message):
        properties = dict(getattr(message.properties, "UserProperty", [])) if self.five and message.properties else {}
        self.inbox.put((bytes(message.payload), properties))

    def address(self, kind, name):
        return {"topic": f"cross/{name}", "queue": f"$queue/cross-{name}", "stream": f"$stream/cross-{name}/{KEY}"}[kind]

    def subscribe(self, kind, name):
        self.client.subscribe(f"$stream/cross-{name}/#" if kind == "stream" else self.address(kind, name), qos=1)
        if not self.subscribed.acquire(timeout=WAIT):
            raise TimeoutError("no SUBACK")

    def publish(self, kind, name, body, properties):
        extra = None
        if self.five and properties:
            extra = Properties(PacketTypes.PUBLISH)
            extra.UserProperty = list(properties.items())
        self.client.publish(self.address(kind, name), body, qos=1, properties=extra).wait_for_publish(WAIT)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


class Amqp:
    has_properties = True

    def __init__(self, broker, name):
        self.inbox = queue.Queue()
        parameters = pika.ConnectionParameters("127.0.0.1", broker.ports["amqp"], heartbeat=60)
        self.connection = pika.BlockingConnection(parameters)
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()
        self.reader = None
        self.parameters = parameters

    def subscribe(self, kind, name):
        ready = threading.Event()

        def read():
            connection = pika.BlockingConnection(self.parameters)
            channel = connection.channel()
            if kind == "topic":
                q = channel.queue_declare("", exclusive=True).method.queue
                channel.queue_bind(q, "amq.topic", f"cross.{name}")
                channel.basic_consume(q, self.on_message)
            elif kind == "queue":
                q = f"cross-{name}"
                channel.queue_declare(q, durable=True)
                channel.basic_consume(q, self.on_message)
            else:
                channel.basic_qos(prefetch_count=10)
                channel.basic_consume(f"cross-{name}", self.on_message, arguments={"x-stream-offset": "first"})
            self.reader_connection = connection
            connection.add_callback_threadsafe(ready.set)
            channel.start_consuming()

        self.reader = threading.Thread(target=read, daemon=True)
        self.reader.start()
        if not ready.wait(WAIT):
            raise TimeoutError("no basic.consume-ok")

    def on_message(self, channel, method, properties, body):
        channel.basic_ack(method.delivery_tag)
        self.inbox.put((body, dict(properties.headers or {})))

    def publish(self, kind, name, body, properties):
        exchange, key = ("amq.topic", f"cross.{name}") if kind == "topic" else ("", f"cross-{name}")
        self.channel.basic_publish(exchange, key, body, pika.BasicProperties(headers=properties or None, delivery_mode=2), mandatory=True)

    def close(self):
        if self.reader:
            self.reader_connection.add_callback_threadsafe(self.reader_connection.close)
            self.reader.join(5)
        self.connection.close()


class Stomp:
    has_properties = True

    def __init__(self, broker, name, version, websocket=False):
        self.inbox = queue.Queue()
        self.errors, self.receipts = [], {}
        self.changed = threading.Condition()
        if websocket:
            self.connection = stomp.WSStompConnection([("127.0.0.1", broker.ports["http"])], ws_path="/stomp", auto_decode=False, binary_mode=True, header={"Sec-WebSocket-Protocol": "v12.stomp"})
        else:
            kind = {"1.1": stomp.StompConnection11, "1.2": stomp.StompConnection12}[version]
            self.connection = kind([("127.0.0.1", broker.ports["stomp"])], auto_decode=False)
        self.connection.set_listener("crossing", self)
        self.connection.connect("guest", "guest", wait=True)
        self.serial = 0

    def __getattr__(self, name):
        if name.startswith("on_"):
            return lambda *a: None
        raise AttributeError(name)

    def on_receipt(self, frame):
        with self.changed:
            self.receipts[frame.headers["receipt-id"]] = True
            self.changed.notify_all()

    def on_error(self, frame):
        with self.changed:
            self.errors.append((frame.headers, frame.body))
            self.changed.notify_all()

    def on_message(self, frame):
        body = frame.body
        body = body if isinstance(body, bytes) else (body or "").encode()
        self.inbox.put((body, frame.headers))

    def receipt(self, send):
        self.serial += 1
        name = f"r{self.serial}"
        send(name)
        with self.changed:
            if not self.changed.wait_for(lambda: self.errors or name in self.receipts, WAIT):
                raise TimeoutError("no RECEIPT")
        if self.errors:
            raise RuntimeError(f"ERROR frame: {self.errors}")

    def address(self, kind, name):
        return f"/topic/cross.{name}" if kind == "topic" else f"/{kind}/cross-{name}"

    def subscribe(self, kind, name):
        offset = {"x-stream-offset": "first"} if kind == "stream" else {}
        self.receipt(lambda r: self.connection.subscribe(self.address(kind, name), id="s1", ack="auto", headers={**offset, "receipt": r}))

    def publish(self, kind, name, body, properties):
        headers = dict(properties or {})
        headers["persistent"] = "true"
        self.receipt(lambda r: self.connection.send(self.address(kind, name), body, receipt=r, **headers))

    def close(self):
        try:
            self.connection.disconnect()
        except Exception:
            pass


class Aws:
    """SNS, SQS and Kinesis. An SNS topic is shown to SQS, which is where its messages are read.

    A record of Kinesis has no properties. What SQS and SNS cannot write in a body is base64, said in an attribute; a body
    that is empty they refuse, so none is sent.
    """

    has_properties = True

    def __init__(self, broker, name):
        self.name = name
        self.inbox = queue.Queue()
        self.reading, self.reader = True, None
        self.url = f"http://127.0.0.1:{broker.ports['aws']}"
        self.sns, self.sqs, self.kinesis = (self.client(service) for service in ("sns", "sqs", "kinesis"))

    def client(self, service):
        once = Config(retries={"total_max_attempts": 1})
        return boto3.client(service, region_name="us-east-1", endpoint_url=self.url, aws_access_key_id="guest", aws_secret_access_key="guest", config=once)

    def topic(self, name):
        return self.sns.create_topic(Name=f"cross-{name}", Attributes={"bascule.address": f"cross/{name}"})["TopicArn"]

    def subscribe(self, kind, name):
        if kind == "stream":
            [shard] = self.kinesis.list_shards(StreamName=f"cross-{name}")["Shards"]
            iterator = self.kinesis.get_shard_iterator(StreamName=f"cross-{name}", ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
            self.reader = threading.Thread(target=self.read_stream, args=(iterator,), daemon=True)
        else:
            url = self.sqs.create_queue(QueueName=f"cross-{name}" if kind == "queue" else f"{self.name}-reads")["QueueUrl"]
            if kind == "topic":
                arn = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
                self.sns.subscribe(TopicArn=self.topic(name), Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
            self.reader = threading.Thread(target=self.read_queue, args=(url,), daemon=True)
        self.reader.start()

    def read_queue(self, url):
        sqs = self.client("sqs")
        while self.reading:
            for message in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1, MaxNumberOfMessages=10, MessageAttributeNames=["All"]).get("Messages", []):
                attributes = {name: value.get("StringValue", value.get("BinaryValue")) for name, value in message.get("MessageAttributes", {}).items()}
                body = message.get("Body", "").encode()
                if attributes.get("bascule.body") == "base64":
                    body = base64.b64decode(body, validate=True)
                self.inbox.put((body, attributes))
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    def read_stream(self, iterator):
        kinesis = self.client("kinesis")
        while self.reading:
            answer = kinesis.get_records(ShardIterator=iterator)
            iterator = answer["NextShardIterator"]
            for record in answer["Records"]:
                self.inbox.put((record["Data"], {}))
            if not answer["Records"]:
                time.sleep(0.02)

    def publish(self, kind, name, body, properties):
        if kind == "stream":
            self.kinesis.put_record(StreamName=f"cross-{name}", PartitionKey=KEY, Data=body)
            return
        attributes = {key: {"DataType": "String", "StringValue": value} for key, value in properties.items()}
        try:
            text = body.decode()
        except UnicodeDecodeError:
            text = base64.b64encode(body).decode()
            attributes["bascule.body"] = {"DataType": "String", "StringValue": "base64"}
        if kind == "topic":
            self.sns.publish(TopicArn=self.topic(name), Message=text, MessageAttributes=attributes)
        else:
            self.sqs.send_message(QueueUrl=self.sqs.get_queue_url(QueueName=f"cross-{name}")["QueueUrl"], MessageBody=text, MessageAttributes=attributes)

    def close(self):
        self.reading = False
        if self.reader:
            self.reader.join(WAIT)


KINDS = {
    "mqtt311": lambda broker, name: Mqtt(broker, name, 4),
    "mqtt5": lambda broker, name: Mqtt(broker, name, 5),
    "amqp091": Amqp,
    "stomp11": lambda broker, name: Stomp(broker, name, "1.1"),
    "stomp12": lambda broker, name: Stomp(broker, name, "1.2"),
    "mqtt5-ws": lambda broker, name: Mqtt(broker, name, 5, "websockets"),
    "stomp12-ws": lambda broker, name: Stomp(broker, name, "1.2", websocket=True),
    "aws": Aws,
}


def applies(source, kind, label):
    """Whether there is such a case: SQS and SNS take no empty body, and SNS 256 KiB at most, which 200 kB are beyond in base64."""
    if source != "aws" or kind == "stream":
        return True
    return label != "empty" and not (kind == "topic" and label == "200kB")


def carried(source, to, kind):
    """Whether a property is: a record of Kinesis has none."""
    return not (kind == "stream" and "aws" in (source, to))


def make_stream(broker, place):
    kinesis = Aws(broker, "maker").kinesis
    kinesis.create_stream(StreamName=f"cross-{place}", ShardCount=1)
    while kinesis.describe_stream_summary(StreamName=f"cross-{place}")["StreamDescriptionSummary"]["StreamStatus"] != "ACTIVE":
        time.sleep(0.02)


def main():
    wanted = sys.argv[1:] or list(KINDS)
    passed = failed = 0
    with Broker(settings=["aws.shard_limits=false"]) as broker:
        senders = {name: KINDS[name](broker, f"send-{name}") for name in wanted}
        for to in wanted:
            for kind in ("topic", "queue", "stream"):
                receiver = KINDS[to](broker, f"recv-{to}-{kind}")
                place = f"{to}-{kind}"
                if kind == "stream":
                    make_stream(broker, place)
                receiver.subscribe(kind, place)
                for source, sender in senders.items():
                    for label, body in BODIES.items():
                        if not applies(source, kind, label):
                            continue
                        case = f"{source} -> {to}, {kind}, {label}"
                        properties = {"colour": "blau"} if sender.has_properties else {}
                        try:
                            sender.publish(kind, place, body, properties)
                            got, got_properties = receiver.inbox.get(timeout=WAIT)
                            assert got == body, f"body differs: {len(got)} bytes, {got[:40]!r}"
                            if properties and receiver.has_properties and carried(source, to, kind):
                                value = got_properties.get("colour")
                                value = value.decode() if isinstance(value, bytes) else value
                                assert value == "blau", f"property lost: {got_properties}"
                            passed += 1
                        except Exception as error:
                            failed += 1
                            print(f"FAILED {case}: {type(error).__name__}: {error}")
                receiver.close()
        for sender in senders.values():
            sender.close()
        code, seconds = broker.stop()
        if code != 0 or seconds > 5:
            failed += 1
            print(f"FAILED the server ended with {code} after {seconds:.1f} s")
        else:
            passed += 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    print(f"crossings: {time.monotonic() - began:.1f} s", file=sys.stderr)
    sys.exit(code)
