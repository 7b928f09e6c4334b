#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a program and prints every frame between it and its server. docs/protocol.md was made with it.

    scripts/dump_frames.py --server tcp://127.0.0.1:7000 [--last N] [--bytes MAX] -- PROGRAM ARGS...

The program finds a proxy in DJINN_SERVER. A frame is one line, then its message in 8-byte words (little-endian, as on
the wire), at most MAX bytes of it.
"""
import argparse
import collections
import os
import socket
import struct
import subprocess
import sys
import threading
import time

KINDS = {1: "Hello", 2: "Operators", 3: "Step", 4: "Job", 5: "Upload", 6: "Offer", 7: "Fetched", 8: "Failed", 9: "Ack",
         10: "Resync", 11: "Heartbeat", 12: "Goodbye", 13: "Stats", 14: "Hint", 15: "Refused"}
HEADER = struct.Struct("<HBBIQ")


def read(peer, count):
    data = b""
    while len(data) < count:
        some = peer.recv(min(count - len(data), 1 << 20))
        if not some:
            raise EOFError
        data += some
    return data


def pump(source, sink, arrow, note):
    """Passes frames on, whole, and notes each."""
    try:
        while True:
            header = read(source, HEADER.size)
            _, kind, _, words, payload = HEADER.unpack(header)
            message = read(source, words * 8)
            sink.sendall(header + message)
            left, begin = payload + -payload % 8, b""
            while left > 0:
                some = read(source, min(left, 1 << 18))
                sink.sendall(some)
                left -= len(some)
                begin = begin or some
            note(arrow, kind, header, message, begin[:payload], payload)
    except (EOFError, OSError):
        try:
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def words(data, size, most):
    lines = [data[i:i + 8].hex(" ") for i in range(0, min(len(data), most), 8)]
    return lines + ([f"... {size - most} more bytes"] if size > most else [])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="tcp://host:port")
    parser.add_argument("--last", type=int, default=0, help="only the last N frames of each direction together")
    parser.add_argument("--bytes", type=int, default=64, help="of a message or a payload, at most")
    parser.add_argument("program", nargs="+")
    args = parser.parse_args()
    host, _, port = args.server.removeprefix("tcp://").rpartition(":")
    frames = collections.deque(maxlen=args.last or None)
    lock, start = threading.Lock(), time.monotonic()

    def note(arrow, kind, header, message, payload, payload_bytes):
        size = len(header) + len(message) + payload_bytes + -payload_bytes % 8
        lines = [f"{(time.monotonic() - start) * 1e3:9.2f} ms  {arrow} {KINDS.get(kind, kind)}, {size} bytes",
                 f"    header   {header[:8].hex(' ')}", f"             {header[8:].hex(' ')}"]
        for name, data, count in (("message", message, len(message)), ("payload", payload, payload_bytes)):
            for i, line in enumerate(words(data, count, args.bytes)):
                lines.append(f"    {name if i == 0 else '':<8} {line}")
        with lock:
            frames.append("\n".join(lines))

    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        client, _ = listener.accept()
        server = socket.create_connection((host, int(port)))
        for peer in (client, server):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=pump, args=(server, client, "<-", note), daemon=True).start()
        pump(client, server, "->", note)

    threading.Thread(target=serve, daemon=True).start()
    address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    status = subprocess.run(args.program, env={**os.environ, "DJINN_SERVER": address}).returncode
    time.sleep(0.2)
    with lock:
        print("\n".join(frames))
    return status


if __name__ == "__main__":
    sys.exit(main())
