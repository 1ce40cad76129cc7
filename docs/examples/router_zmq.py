#!/usr/bin/env python3
"""A router over ZeroMQ, with python3-zmq and python3-msgpack.

    router_zmq.py tcp://127.0.0.1:13334 MODEL INSTANCE...

Reads prompts, a JSON array of token ids a line, and writes the instance for each.
"""
import itertools
import json
import sys
import time

import msgpack
import zmq


def is_trusted(instance):
    """Figures that are right, or too low at most."""
    return instance["state"] in ("live", "replaying") or instance["reason"] == "incomplete"


class Router:
    def __init__(self, endpoint, model, instances, timeout=0.2):
        self.endpoint, self.model, self.instances, self.timeout = endpoint, model, instances, timeout
        self.turns = itertools.cycle(instances)
        self.ids = itertools.count(1)
        self.socket = None

    def close(self):
        if self.socket is not None:
            self.socket.close()
        self.socket = None

    def ask(self, token_ids):
        if self.socket is None:
            self.socket = zmq.Context.instance().socket(zmq.DEALER)
            self.socket.linger = 0
            self.socket.connect(self.endpoint)
        request = b"%d" % next(self.ids)
        body = msgpack.packb({"model": self.model, "token_ids": token_ids})
        self.socket.send_multipart([request, b"/v1/query", body], zmq.DONTWAIT)
        deadline = time.monotonic() + self.timeout
        while self.socket.poll(max(0, deadline - time.monotonic()) * 1000):
            answered, status, body = self.socket.recv_multipart()
            if answered == request:  # not a late answer to an earlier one
                break
        else:
            raise TimeoutError(f"no answer within {self.timeout} s")
        answer = msgpack.unpackb(body)
        if status != b"200":
            raise ValueError(f"status {status.decode()}: {answer}")
        return answer["instances"]

    def pick(self, token_ids):
        try:
            for instance in self.ask(token_ids):  # the best first
                if (instance["longest_matched"] > 0 and is_trusted(instance)
                        and instance["instance_id"] in self.instances):
                    return instance["instance_id"]
        except Exception as error:  # whatever it is: prompts go on
            print(f"round robin, as conductor fails: {error!r}", file=sys.stderr)
            self.close()
        return next(self.turns)


if __name__ == "__main__":
    router = Router(sys.argv[1], sys.argv[2], sys.argv[3:])
    for line in sys.stdin:
        print(router.pick(json.loads(line)), flush=True)
