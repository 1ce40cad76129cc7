"""docs/openapi.json as tests read it: what a schema says of a body, what of the file was ever shown
by a real answer, and bodies that break a schema in one place."""

import base64
import copy
import json
import os
import urllib.parse

import jsonschema

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "openapi.json")
JSON, MSGPACK = "application/json", "application/msgpack"
METHODS = ("get", "post", "put", "delete")
# Schemas whose alternatives a value may or may not be of.
BRANCHES = ("oneOf", "anyOf")
TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool,
         "array": list, "object": dict, "null": type(None)}
LEAST, GREATEST = -(1 << 63), (1 << 64) - 1
# One of each type and of each way to be out of bounds. What of them is wrong, a schema says.
VALUES = (True, 7, -3, 1.5, 1e30, 1 << 63, "word", "x" * 5000, "a|b", [], ["word"], [1.5], [[]],
          [{}], [None], [{"unknown": 1}], {}, {"unknown": 1}, {"gpu": []}, {"word": {"unknown": 1}})


class OpenApi:
    """The file. Its schemas are told by where they stand, as JSON pointers."""

    def __init__(self, path=PATH):
        with open(path, encoding="utf-8") as file:
            self.document = json.load(file)
        self._resolver = jsonschema.RefResolver("", self.document)
        self._validators = {}

    def operations(self):
        """(method, path, operation) of each."""
        for path, item in self.document["paths"].items():
            for method in METHODS:
                if method in item:
                    yield method.upper(), path, item[method]

    def operation(self, method, path):
        return self.document["paths"][path][method.lower()]

    # Schemas.

    def at(self, pointer):
        """(pointer, value) behind all references."""
        while True:
            value = self.document
            for step in pointer.split("/")[1:]:
                step = step.replace("~1", "/").replace("~0", "~")
                value = value[int(step) if isinstance(value, list) else step]
            if not isinstance(value, dict) or "$ref" not in value:
                return pointer, value
            pointer = value["$ref"][1:]

    def below(self, pointer, *steps):
        escaped = (str(step).replace("~", "~0").replace("/", "~1") for step in steps)
        return "/".join([pointer, *escaped])

    def errors(self, pointer, value):
        """What is wrong with the value, a line each."""
        if pointer not in self._validators:
            schema = {"$ref": "#" + pointer}
            self._validators[pointer] = jsonschema.Draft202012Validator(
                schema, resolver=self._resolver)
        return [f"{error.json_path}: {error.message[:300]}"
                for error in self._validators[pointer].iter_errors(value)]

    def holds(self, pointer, value):
        return not self.errors(pointer, value)

    def parts(self, pointer, value):
        """Where the schemas stand that say something of this value: the one at `pointer`, and of
        those that it is put together from the ones that hold."""
        pointer, schema = self.at(pointer)
        if not isinstance(schema, dict):
            return
        yield pointer, schema
        for index, _ in enumerate(schema.get("allOf", ())):
            yield from self.parts(self.below(pointer, "allOf", index), value)
        for branch in BRANCHES:
            for index, _ in enumerate(schema.get(branch, ())):
                of_branch = self.below(pointer, branch, index)
                if self.holds(of_branch, value):
                    yield from self.parts(of_branch, value)

    def children(self, pointer, value):
        """(pointer, key) of the schema of each member or item of the value."""
        for part, schema in self.parts(pointer, value):
            if isinstance(value, dict):
                for key in value:
                    if key in schema.get("properties", {}):
                        yield self.below(part, "properties", key), key
                    elif isinstance(schema.get("additionalProperties"), dict):
                        yield self.below(part, "additionalProperties"), key
            elif isinstance(value, list) and isinstance(schema.get("items"), dict):
                for index, _ in enumerate(value):
                    yield self.below(part, "items"), index

    def packed(self, pointer, value):
        """The value for MessagePack: bytes where the schema says that a text is base64."""
        if isinstance(value, str):
            is_bytes = any(schema.get("contentEncoding") == "base64"
                           for _, schema in self.parts(pointer, value))
            return base64.b64decode(value) if is_bytes else value
        whole = copy.copy(value)
        for child, key in self.children(pointer, value) if isinstance(value, (dict, list)) else ():
            whole[key] = self.packed(child, whole[key])
        return whole

    def properties(self, pointer, value):
        """Name -> pointer of the schema of each property that an object in place of this one may
        have."""
        return {name: self.below(part, "properties", name)
                for part, schema in self.parts(pointer, value)
                for name in schema.get("properties", {})
                if schema["properties"][name] is not False}

    def places(self, pointer, value, path=()):
        """(pointer, path) of each object in the value that has named properties, itself first."""
        if isinstance(value, dict) and self.properties(pointer, value):
            yield pointer, path
        if isinstance(value, (dict, list)):
            for child, key in self.children(pointer, value):
                yield from self.places(child, value[key], (*path, key))

    # Requests.

    def request(self, method, path):
        """Pointer of the schema of the body; None: there is none."""
        operation = self.operation(method, path)
        if "requestBody" not in operation:
            return None
        return self.at(self.below("/paths", path, method.lower(), "requestBody", "content", JSON,
                                  "schema"))[0]

    def example_path(self, method, path):
        """The path with the example of its parameter."""
        for parameter in self.operation(method, path).get("parameters", ()):
            if parameter["in"] == "path":
                path = path_of(path, parameter["example"])
        return path

    def examples(self, method, path):
        """Name -> body."""
        body = self.operation(method, path)["requestBody"]["content"][JSON]
        return {name: example["value"] for name, example in body["examples"].items()}

    def broken(self, pointer, body):
        """(path, body) of bodies that differ from this one in one place and that the schema does
        not allow. Null in place of a field that may be absent, and an empty text of one that is a
        text, are as good as nothing."""
        for part, path in self.places(pointer, body):
            here = at_path(body, path)
            for name, schema in self.properties(part, here).items():
                where = (*path, name)
                is_text = "string" in types_of(self.at(schema)[1])
                without = replaced(here, (name,)) if name in here else here
                needed = not self.holds(pointer, put(body, path, without))
                values = (*VALUES, *self._beyond(schema))
                values += (None,) * needed + ("",) * (needed or not is_text)
                for value in values:
                    changed = replaced(body, where, value)
                    if value is None or not self.holds(pointer, changed):
                        yield where, changed
                if needed:
                    yield where, put(body, path, without)
            yield (*path, "unknown"), replaced(body, (*path, "unknown"), 1)

    def variants(self, pointer, body):
        """(path, body) of bodies with one property as the examples of its own schema have it, or at
        its bounds."""
        for part, path in self.places(pointer, body):
            for name, schema in self.properties(part, at_path(body, path)).items():
                told = self.at(schema)[1]
                bounds = [told[bound] for bound in ("minimum", "maximum") if bound in told]
                for value in (*told.get("examples", ()), *bounds):
                    yield (*path, name), replaced(body, (*path, name), value)

    def _beyond(self, schema):
        """The numbers next to a property's bounds, as far as MessagePack has them."""
        schema = self.at(schema)[1]
        if schema.get("minimum", LEAST) > LEAST:
            yield schema["minimum"] - 1
        if schema.get("maximum", GREATEST) < GREATEST:
            yield schema["maximum"] + 1

    # Answers.

    def response(self, method, path, status):
        """(status or "default", pointer) of what answers so; None: nothing does."""
        operation = self.operation(method, path)
        known = str(status) if str(status) in operation["responses"] else "default"
        if known not in operation["responses"]:
            return known, None
        return known, self.at(self.below("/paths", path, method.lower(), "responses", known))[0]


def path_of(path, parameter):
    return path.replace("{id}", urllib.parse.quote(parameter, safe=""))


def at_path(value, path):
    for key in path:
        value = value[key]
    return value


def replaced(body, path, *value):
    """A copy with another value there, or none."""
    body = copy.deepcopy(body)
    holder = at_path(body, path[:-1])
    if value:
        holder[path[-1]] = copy.deepcopy(value[0])
    else:
        del holder[path[-1]]
    return body


def put(body, path, value):
    """A copy with the value there, which may be all of it."""
    return replaced(body, path, value) if path else copy.deepcopy(value)


class Shown:
    """What of a file's answers was shown."""

    def __init__(self, api):
        self._api = api
        self._shown = set()
        self._statuses = set()

    def status(self, method, path, status):
        self._statuses.add(f"{method} {path} {status}")

    def add(self, pointer, value):
        """The value is valid."""
        for part, schema in self._api.parts(pointer, value):
            for kind in types_of(schema):
                if is_of(value, kind):
                    self._shown.add(f"{part} is {kind}")
            if not isinstance(value, (dict, list)):
                self._shown.add(f"{part} = {value}")
            self._shown.add(part)
        if isinstance(value, (dict, list)):
            for child, key in self._api.children(pointer, value):
                self._shown.add(child)
                self.add(child, value[key])

    def missing(self):
        """Properties, types of one, words and statuses of the file that no answer had."""
        said, statuses = set(), set()
        for method, path, operation in self._api.operations():
            for status in operation["responses"]:
                statuses.add(f"{method} {path} {status}")
                for schema in self._schemas(method, path, status):
                    self._say(schema, said, set())
        return sorted((said - self._shown) | (statuses - self._statuses))

    def _schemas(self, method, path, status):
        pointer, response = self._api.at(
            self._api.below("/paths", path, method.lower(), "responses", status))
        for media, content in response.get("content", {}).items():
            for schema in ("schema", "x-item-schema"):
                if schema in content:
                    yield self._api.below(pointer, "content", media, schema)

    def _say(self, pointer, said, seen):
        pointer, schema = self._api.at(pointer)
        if pointer in seen or not isinstance(schema, dict):
            return
        seen.add(pointer)
        kinds = types_of(schema)
        said.update(f"{pointer} is {kind}" for kind in kinds if len(kinds) > 1)
        said.update(f"{pointer} = {word}" for word in schema.get("enum", ()))
        for name in schema.get("properties", {}):
            property_ = self._api.below(pointer, "properties", name)
            said.add(property_)
            self._say(property_, said, seen)
        for keyword in ("items", "additionalProperties"):
            if isinstance(schema.get(keyword), dict):
                said.add(self._api.below(pointer, keyword))
                self._say(self._api.below(pointer, keyword), said, seen)
        for keyword in ("allOf", *BRANCHES):
            for index, _ in enumerate(schema.get(keyword, ())):
                branch = self._api.at(self._api.below(pointer, keyword, index))[0]
                said.add(branch)
                self._say(branch, said, seen)


def types_of(schema):
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else kinds


def is_of(value, kind):
    return isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
