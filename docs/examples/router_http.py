#!/usr/bin/env python3
"""A router over HTTP: router_http.py http://127.0.0.1:13333 MODEL INSTANCE...

Reads prompts, a JSON array of token ids a line, and writes the instance for each.
"""
import http.client
import itertools
import json
import sys
import urllib.parse


class Router:
    def __init__(self, url, model, instances, timeout=0.2):
        self.model, self.instances, self.turns = model, instances, itertools.cycle(instances)
        host = urllib.parse.urlsplit(url).netloc
        self.connection = http.client.HTTPConnection(host, timeout=timeout)

    def ask(self, tokens):
        body = {"model": self.model, "token_ids": tokens, "instances": self.instances}
        self.connection.request("POST", "/v1/query", json.dumps(body))
        response = self.connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            raise ValueError(f"status {response.status}: {answer}")
        return answer["instances"]  # the best first

    def pick(self, tokens):
        try:
            for found in self.ask(tokens):
                trusted = found["state"] in ("live", "replaying") or found["reason"] == "incomplete"
                if trusted and found["longest_matched"] > 0:  # right, or too low at most
                    return found["instance_id"]
        except Exception as error:  # whatever it is: prompts go on
            print(f"round robin, as conductor fails: {error!r}", file=sys.stderr)
            self.connection.close()  # the next request opens it again
        return next(self.turns)


if __name__ == "__main__":
    router = Router(sys.argv[1], sys.argv[2], sys.argv[3:])
    for line in sys.stdin:
        print(router.pick(json.loads(line)), flush=True)
