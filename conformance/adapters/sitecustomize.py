"""Loaded by every Python process of a suite: ports on loopback that are written into its tests lead to the server under test."""
import os
import socket

PORTS = {}
if "BASCULE_REPORT" in os.environ:
    PORTS = {5672: int(os.environ["BASCULE_AMQP"]), 61613: int(os.environ["BASCULE_STOMP"]), 62613: int(os.environ["BASCULE_STOMP"]), 1883: int(os.environ["BASCULE_MQTT"]), 5000: int(os.environ["BASCULE_AWS"])}


def led(address):
    if isinstance(address, tuple) and address[0] in ("127.0.0.1", "localhost", "::1") and address[1] in PORTS:
        return (address[0], PORTS[address[1]], *address[2:])
    return address


for name in ("connect", "connect_ex"):
    def wrap(original):
        return lambda self, address: original(self, led(address))
    setattr(socket.socket, name, wrap(getattr(socket.socket, name)))
