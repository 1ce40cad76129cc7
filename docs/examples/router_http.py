#!/usr/bin/env python3
"""A router over HTTP, with Python's standard library alone.

    router_http.py http://127.0.0.1:13333 MODEL INSTANCE...

Reads prompts, a JSON array of token ids a line, and writes the instance for each.
"""
import http.client
import itertools
import json
import sys
import urllib.parse


def is_trusted(instance):
    """Figures that are right, or too low at most."""
    return instance["state"] in ("live", "replaying") or instance["reason"] == "incomplete"


class Router:
    def __init__(self, url, model, instances, timeout=0.2):
        self.host = urllib.parse.urlsplit(url).netloc
        self.model, self.instances, self.timeout = model, instances, timeout
        self.turns = itertools.cycle(instances)
        self.connection = None

    def close(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def ask(self, token_ids):
        if self.connection is None:
            self.connection = http.client.HTTPConnection(self.host, timeout=self.timeout)
        body = json.dumps({"model": self.model, "token_ids": token_ids})
        self.connection.request("POST", "/v1/query", body, {"Content-Type": "application/json"})
        response = self.connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            raise ValueError(f"status {response.status}: {answer}")
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
