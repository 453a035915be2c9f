#!/usr/bin/env python3
"""kill -9 under load: nothing confirmed is lost, order per publisher is kept.

Each round: PUBLISHERS AMQP publishers send persistent 1 KiB messages with confirms; after a moment the server is killed; it is
started again; a consumer reads everything. Every confirmed message must be there, and each publisher's in their order
(an unconfirmed one may be there or not). Arguments: rounds (default 50), seconds of load a round (default 1).
"""
import random
import sys
import threading
import time

import pika

from broker import Broker

PUBLISHERS = 8
SIZE = 1024


def publisher(port, number, round_, stop, confirmed):
    """Publishes with a window through pika's asynchronous confirms, single connection, until the server dies."""
    sent = 0
    try:
        connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port, heartbeat=0))
        channel = connection.channel()
        # Windows of 64: written at once, confirmed in any order; the channel beneath the blocking one tells of each ack.
        acked, done = set(), []
        impl = channel._impl
        impl.confirm_delivery(lambda frame: done.append((frame.method.delivery_tag, frame.method.multiple)), lambda frame: None)
        upto = 0
        while not stop.is_set():
            for _ in range(64):
                body = f"{round_} {number} {sent} ".encode().ljust(SIZE, b".")
                impl.basic_publish("", "kill9", body, pika.BasicProperties(delivery_mode=2))
                sent += 1
            while upto < sent:
                connection.process_data_events(time_limit=0.002)
                for tag, multiple in done:
                    if multiple:
                        acked.update(range(1, tag + 1))
                    else:
                        acked.add(tag)
                done.clear()
                while upto + 1 in acked:
                    upto += 1
                    acked.discard(upto)
                confirmed[number] = upto
    except pika.exceptions.AMQPError:
        pass  # The server was killed: that is the point.


def drain(port):
    """Everything that is in the queue, in the order of delivery."""
    got = []
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port, heartbeat=0))
    channel = connection.channel()
    count = channel.queue_declare("kill9", durable=True).method.message_count
    channel.basic_qos(prefetch_count=1000)
    for method, _, body in channel.consume("kill9", inactivity_timeout=5):
        if method is None:
            break
        got.append(body)
        if len(got) % 200 == 0 or len(got) == count:
            channel.basic_ack(method.delivery_tag, multiple=True)
        if len(got) == count:
            break
    channel.cancel()
    channel.queue_purge("kill9")
    connection.close()
    return got


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    load = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    seed = int(time.time()) if len(sys.argv) < 4 else int(sys.argv[3])
    print(f"seed {seed}")
    rng = random.Random(seed)
    lost = disordered = total = 0
    slowest = 0.0
    with Broker() as broker:
        setup = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.ports["amqp"]))
        setup.channel().queue_declare("kill9", durable=True)
        setup.close()
        for round_ in range(rounds):
            stop, confirmed = threading.Event(), [0] * PUBLISHERS
            threads = [
                threading.Thread(target=publisher, args=(broker.ports["amqp"], n, round_, stop, confirmed), daemon=True)
                for n in range(PUBLISHERS)
            ]
            for thread in threads:
                thread.start()
            time.sleep(load * rng.uniform(0.5, 1.5))
            broker.kill()
            stop.set()
            for thread in threads:
                thread.join(10)
            slowest = max(slowest, broker.start())
            seen = [[] for _ in range(PUBLISHERS)]
            for body in drain(broker.ports["amqp"]):
                r, n, serial, *_ = body.split()
                assert int(r) == round_, "a message of an earlier round is back"
                seen[int(n)].append(int(serial))
            for n in range(PUBLISHERS):
                total += confirmed[n]
                missing = set(range(confirmed[n])) - set(seen[n])
                lost += len(missing)
                disordered += seen[n] != sorted(set(seen[n]))
            print(f"round {round_ + 1}: {sum(confirmed)} confirmed, {sum(map(len, seen))} found, lost {lost}, out of order {disordered}", flush=True)
    ok = lost == 0 and disordered == 0 and total > 0
    print(f"{total} confirmed messages, {lost} lost, {disordered} out of order, slowest start {slowest:.2f} s")
    print("1 passed, 0 failed" if ok else "0 passed, 1 failed")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
