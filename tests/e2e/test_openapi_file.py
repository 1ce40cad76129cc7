"""docs/openapi.json by itself, and beside docs/http-api.md. tests/serve/http_api_test.cc compares
its routes with the server's."""

import os
import re
import unittest

import jsonschema

from openapi import PATH
from openapi_client import API


class File(unittest.TestCase):
    def test_has_schemas_that_follow_the_rules_of_schemas(self):
        for name, schema in API.document["components"]["schemas"].items():
            with self.subTest(schema=name):
                jsonschema.Draft202012Validator.check_schema(schema)

    def test_shows_answers_that_its_schemas_allow(self):
        for method, route, operation in API.operations():
            for status in operation["responses"]:
                _, response = API.response(method, route, status)
                for media, content in API.at(response)[1].get("content", {}).items():
                    schema = API.below(response, "content", media, "schema")
                    for name, example in content.get("examples", {}).items():
                        self.assertEqual(API.errors(schema, example["value"]), [],
                                         f"{method} {route} {status} {name}")

    def test_has_the_fields_of_requests_that_the_page_has(self):
        page = Page()
        query = page.fields("POST /v1/query") | {"tokens"}
        registration = page.fields("POST /register") | {"model", "additional_salt"}
        named = {"instance_id", "tenant_id", "dp_rank"}
        for method, route, fields in (
                ("POST", "/v1/query", query),
                ("POST", "/v1/score", query | page.fields("POST /v1/score")),
                ("POST", "/v1/explain", query - {"prompts", "instances", "top"} | {"instance_id"}),
                ("POST", "/v1/publishers", registration),
                ("PUT", "/v1/publishers/{id}", registration - {"dp_size"} | named),
                ("POST", "/v1/ingest", page.fields("POST /v1/ingest"))):
            body = next(iter(API.examples(method, route).values()))
            self.assertEqual(set(API.properties(API.request(method, route), body)), fields, route)

    def test_has_the_reasons_of_refusals_that_the_page_has(self):
        said = {"queue_full"}  # beside more fields than others have
        for part in (API.document["paths"], API.document["components"]["responses"]):
            said.update(words_of("reason", part))
        # Of other paths, or of none.
        others = {"unknown_block_size", "unknown_model", "unknown_service", "unknown_path",
                  "method_not_allowed"}
        self.assertEqual(said, Page().reasons() - others)

    def test_has_the_causes_that_the_page_has(self):
        causes = API.at("/components/schemas/ExplainCause")[1]["enum"]
        self.assertEqual(set(causes), Page().causes())
        removals = API.at("/components/schemas/Removal/properties/how")[1]["enum"]
        self.assertLess(set(removals), Page().causes())


def words_of(name, value):
    """Those that properties of this name may have, in all schemas of a part of the file."""
    if isinstance(value, dict):
        yield from value.get("properties", {}).get(name, {}).get("enum", ())
    if isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from words_of(name, part)


class Page:
    """docs/http-api.md."""

    def __init__(self):
        with open(os.path.join(os.path.dirname(PATH), "http-api.md"), encoding="utf-8") as file:
            self._text = file.read()

    def fields(self, route):
        """Those of the first table below the route's heading."""
        section = self._text.partition(f"### `{route}`\n")[2]
        table = section.partition("| field |")[2].partition("\n\n")[0]
        return set(self._names(table))

    def reasons(self):
        table = self._text.partition("| status | reason | when |")[2].partition("\n\n")[0]
        rows = (line[line.find("|", 1):] for line in table.splitlines())
        return {name for row in rows for name in self._names(row)}

    def causes(self):
        table = self._text.partition("| `cause` | what it is | `field` |")[2].partition("\n\n")[0]
        return set(self._names(table))

    @staticmethod
    def _names(table):
        """What stands in quotes in the first cell of each line."""
        for line in table.splitlines():
            yield from re.findall("`([^`]+)`", line.partition("|")[2].partition("|")[0])


if __name__ == "__main__":
    unittest.main()
