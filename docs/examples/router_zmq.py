#!/usr/bin/env python3
"""A router over ZeroMQ: router_zmq.py tcp://127.0.0.1:13334 MODEL INSTANCE...

Reads prompts, a JSON array of token ids a line, and writes the instance for each.
"""
import itertools
import json
import sys

import msgpack
import zmq


class Router:
    def __init__(self, endpoint, model, instances, timeout=0.2):
        self.model, self.instances, self.turns = model, instances, itertools.cycle(instances)
        self.numbers = itertools.count(1)
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.immediate = True  # nothing waits for a conductor that is not there
        self.socket.sndtimeo = self.socket.rcvtimeo = int(timeout * 1000)
        self.socket.linger = 0
        self.socket.connect(endpoint)

    def ask(self, tokens):
        body = {"model": self.model, "token_ids": tokens, "instances": self.instances}
        number, answered = b"%d" % next(self.numbers), None
        self.socket.send_multipart([number, b"/v1/query", msgpack.packb(body)])
        while answered != number:  # but a late answer to an earlier one
            answered, status, answer = self.socket.recv_multipart()
        if status != b"200":
            raise ValueError(f"status {status.decode()}: {msgpack.unpackb(answer)}")
        return msgpack.unpackb(answer)["instances"]  # the best first

    def pick(self, tokens):
        try:
            for found in self.ask(tokens):
                trusted = found["state"] in ("live", "replaying") or found["reason"] == "incomplete"
                if trusted and found["longest_matched"] > 0:  # right, or too low at most
                    return found["instance_id"]
        except Exception as error:  # whatever it is: prompts go on
            print(f"round robin, as conductor fails: {error!r}", file=sys.stderr)
        return next(self.turns)


if __name__ == "__main__":
    router = Router(sys.argv[1], sys.argv[2], sys.argv[3:])
    for line in sys.stdin:
        print(router.pick(json.loads(line)), flush=True)
