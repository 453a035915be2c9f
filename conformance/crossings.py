#!/usr/bin/env python3
"""Every ordered pair of protocols, for topics and for queues, through real clients.

Each receiver subscribes once to a topic and once to a queue; then each sender publishes a text, all 256 byte values, an
empty body and 200 kB, with a string property where its protocol has properties. The last line is `N passed, N failed`.
"""
import queue
import sys
import threading
import time

import paho.mqtt.client as paho
import pika
import stomp
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from broker import Broker

WAIT = 20.0
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
        return f"cross/{name}" if kind == "topic" else f"$queue/cross-{name}"

    def subscribe(self, kind, name):
        self.client.subscribe(self.address(kind, name), qos=1)
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
            else:
                q = f"cross-{name}"
                channel.queue_declare(q, durable=True)
            channel.basic_consume(q, self.on_message)
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
        return f"/topic/cross.{name}" if kind == "topic" else f"/queue/cross-{name}"

    def subscribe(self, kind, name):
        self.receipt(lambda r: self.connection.subscribe(self.address(kind, name), id="s1", ack="auto", receipt=r))

    def publish(self, kind, name, body, properties):
        headers = dict(properties or {})
        headers["persistent"] = "true"
        self.receipt(lambda r: self.connection.send(self.address(kind, name), body, receipt=r, **headers))

    def close(self):
        try:
            self.connection.disconnect()
        except Exception:
            pass


KINDS = {
    "mqtt311": lambda broker, name: Mqtt(broker, name, 4),
    "mqtt5": lambda broker, name: Mqtt(broker, name, 5),
    "amqp091": Amqp,
    "stomp11": lambda broker, name: Stomp(broker, name, "1.1"),
    "stomp12": lambda broker, name: Stomp(broker, name, "1.2"),
    "mqtt5-ws": lambda broker, name: Mqtt(broker, name, 5, "websockets"),
    "stomp12-ws": lambda broker, name: Stomp(broker, name, "1.2", websocket=True),
}


def main():
    wanted = sys.argv[1:] or list(KINDS)
    passed = failed = 0
    with Broker() as broker:
        senders = {name: KINDS[name](broker, f"send-{name}") for name in wanted}
        for to in wanted:
            for kind in ("topic", "queue"):
                receiver = KINDS[to](broker, f"recv-{to}-{kind}")
                place = f"{to}-{kind}"
                receiver.subscribe(kind, place)
                for source, sender in senders.items():
                    for label, body in BODIES.items():
                        case = f"{source} -> {to}, {kind}, {label}"
                        properties = {"colour": "blau"} if sender.has_properties else {}
                        try:
                            sender.publish(kind, place, body, properties)
                            got, got_properties = receiver.inbox.get(timeout=WAIT)
                            assert got == body, f"body differs: {len(got)} bytes, {got[:40]!r}"
                            if properties and receiver.has_properties:
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
