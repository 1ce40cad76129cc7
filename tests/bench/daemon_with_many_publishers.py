#!/usr/bin/python3
"""What many publishers cost a daemon: its share of a core, and the longest registration.

  tests/bench/daemon_with_many_publishers.py build/release/conductor [PUBLISHERS] [EVENTS_A_SECOND]

Every publisher is a PUB and a ROUTER of this process and sends EVENTS_A_SECOND events of one block;
probes are answered. Counts CPU time of the daemon alone, so that what else runs matters little.
"""

import json
import os
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

import msgpack
import zmq

RING = 50
MEASURED_SECONDS = 30


class Publishers:
    def __init__(self, count):
        context = zmq.Context()
        context.max_sockets = 2 * count + 16
        self._poller = zmq.Poller()
        self._of_router = {}
        self.addresses = []
        self._pubs = []
        self._rings = [[] for _ in range(count)]
        self._sequences = [0] * count
        self._next = 0
        for number in range(count):
            pub, router = context.socket(zmq.PUB), context.socket(zmq.ROUTER)
            ports = [socket.bind_to_random_port("tcp://127.0.0.1") for socket in (pub, router)]
            self.addresses.append([f"tcp://127.0.0.1:{port}" for port in ports])
            self._pubs.append(pub)
            self._of_router[router] = number
            self._poller.register(router, zmq.POLLIN)

    def publish(self):
        """One event of the publisher whose turn it is."""
        number = self._next
        self._next = (number + 1) % len(self._pubs)
        sequence = self._sequences[number]
        self._sequences[number] += 1
        name = number << 32 | sequence
        payload = msgpack.packb([time.time(), [{
            "type": "BlockStored", "block_hashes": [name], "parent_block_hash": None,
            "token_ids": [name % 50000] * 16, "block_size": 16, "lora_id": None, "medium": "GPU",
            "lora_name": None}], 0])
        self._rings[number] = self._rings[number][-RING + 1:] + [(sequence, payload)]
        self._pubs[number].send_multipart([b"", struct.pack(">Q", sequence), payload])

    def answer(self, milliseconds):
        for router, _ in self._poller.poll(milliseconds):
            identity, _, asked = router.recv_multipart()
            begin = struct.unpack(">Q", asked)[0]
            for sequence, payload in self._rings[self._of_router[router]]:
                if sequence >= begin:
                    router.send_multipart(
                        [identity, b"", b"", struct.pack(">Q", sequence), payload])
            router.send_multipart([identity, b"", b"", b"\xff" * 8, b""])

    def run(self, seconds, rate):
        """Sends `rate` events a second, all publishers together; how many it were."""
        begin = time.monotonic()
        sent = 0
        while (passed := time.monotonic() - begin) < seconds:
            while sent < passed * rate:
                self.publish()
                sent += 1
            self.answer(1)
        return sent


def main(binary, count=500, events=2):
    publishers = Publishers(count)
    with tempfile.TemporaryDirectory() as home:
        daemon = subprocess.Popen([binary, "serve", "--port", "0", "--log-level", "ERROR"],
                                  stdout=subprocess.PIPE, text=True,
                                  env={**os.environ, "HOME": home})
        base = daemon.stdout.readline().split()[-1]
        longest = 0
        for number, (endpoint, replay) in enumerate(publishers.addresses):
            body = {"type": "vLLM", "endpoint": endpoint, "replay_endpoint": replay,
                    "modelname": "m", "instance_id": f"engine-{number}", "block_size": 16,
                    "dp_rank": 0}
            begin = time.monotonic()
            urllib.request.urlopen(base + "/register", json.dumps(body).encode()).read()
            longest = max(longest, time.monotonic() - begin)
        publishers.run(10, count * events)
        before, begin = cpu_seconds(daemon.pid), time.monotonic()
        sent = publishers.run(MEASURED_SECONDS, count * events)
        passed = time.monotonic() - begin
        share = (cpu_seconds(daemon.pid) - before) / passed
        entries = json.load(urllib.request.urlopen(base + "/v1/publishers"))["publishers"]
        live = sum(entry["state"] == "live" for entry in entries)
        daemon.terminate()
        daemon.wait()
    print(f"{count} publishers, {live} of them live, {sent / passed:.0f} events a second: "
          f"{share:.3f} of a core; the longest registration took {longest * 1000:.0f} ms")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3, 4):
        sys.exit(__doc__)
    main(sys.argv[1], *map(int, sys.argv[2:]))
