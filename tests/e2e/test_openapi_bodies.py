"""Bodies of requests: those that docs/openapi.json allows are taken, and those that differ from its
examples in one place are refused."""

import unittest

from openapi import JSON, MSGPACK, Shown, at_path, path_of, replaced
from openapi_client import API, Client, bytes_of
from suite import EndToEndTest

# What a schema allows, and no body of an example.
APART = {
    ("POST", "dp_size", "4096"): "the ports of one rank would be those of another",
    ("PUT", "dp_rank", "2147483647"): "the path says 0",
}


class Bodies(EndToEndTest):
    """Bodies that differ from the file's examples in one place."""

    def setUp(self):
        self.client = Client(self, self.daemon("--log-level", "ERROR"), Shown(API))

    def send(self, method, route, body, form):
        """The status. What it made is gone again."""
        status, headers, data = self.client.exchange(
            method, API.example_path(method, route), bytes_of(method, route, body, form),
            {"Accept": JSON, "Content-Type": form})
        value = self.client.judge(method, route, status, headers, data)
        if status < 300:
            for made in publishers_in(value):
                self.client.exchange("DELETE", path_of("/v1/publishers/{id}", made), None, {})
        return status, value

    def examples(self):
        for method, route, operation in API.operations():
            if "requestBody" in operation:
                for name, body in API.examples(method, route).items():
                    yield method, route, API.request(method, route), name, body

    def test_that_are_the_examples_are_taken(self):
        for method, route, schema, name, body in self.examples():
            self.assertEqual(API.errors(schema, body), [], name)
            for form in (JSON, MSGPACK):
                status, value = self.send(method, route, body, form)
                self.assertLess(status, 300, f"{method} {route} {name} {form}: {value}")

    def test_that_break_a_schema_are_refused(self):
        tried, taken = set(), []
        for method, route, schema, name, body in self.examples():
            for path, broken in API.broken(schema, body):
                what = (method, route, path, repr(broken_at(broken, path)))
                if what in tried:
                    continue
                tried.add(what)
                for form in (JSON, MSGPACK):
                    status, _ = self.send(method, route, broken, form)
                    if not 400 <= status < 500:
                        told = f"{method} {route} {name} {form} {path}: {status} {broken}"
                        taken.append(told[:400])
        self.assertEqual(taken, [])
        self.assertGreater(len(tried), 1000)

    def test_with_each_property_as_its_schema_shows_it_are_taken(self):
        shown, taken = set(), set()
        for method, route, schema, name, body in self.examples():
            for path, changed in API.variants(schema, body):
                shown.add((method, route, path[-1]))
                if ((method, path[-1], str(at_path(changed, path))) in APART or
                        not API.holds(schema, changed)):
                    continue  # it does not go beside what else is said
                for form in (JSON, MSGPACK):
                    status, value = self.send(method, route, changed, form)
                    self.assertLess(status, 300, f"{method} {route} {name} {form} {path}: {value}")
                taken.add((method, route, path[-1]))
        self.assertEqual(shown - taken, set(), "an example that no body can have")

    def test_with_null_for_what_may_be_absent_are_taken(self):
        for method, route, schema, name, body in self.examples():
            for part, path in API.places(schema, body):
                for field in API.properties(part, at_path(body, path)):
                    if field in at_path(body, path):
                        continue
                    for form in (JSON, MSGPACK):
                        packed = API.packed(schema, body) if form == MSGPACK else body
                        status, value = self.send(
                            method, route, replaced(packed, (*path, field), None), form)
                        self.assertLess(status, 300, f"{method} {route} {name} {field}: {value}")


def broken_at(body, path):
    """What stands there; None: nothing."""
    holder = at_path(body, path[:-1])
    return holder.get(path[-1], "nothing") if isinstance(holder, dict) else holder[path[-1]]


def publishers_in(answer):
    """Ids of publishers that an answer tells of."""
    if "publishers" in answer:
        return [entry["id"] for entry in answer["publishers"]]
    return [answer[field] for field in ("id", "publisher") if field in answer]


if __name__ == "__main__":
    unittest.main()
