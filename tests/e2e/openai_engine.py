"""An engine behind OpenAI's API, as vLLM's server answers: whole and streamed, with tools, usage
and errors. For tests with clients that others wrote. Shares no code with what is tested.

A request may say in "simulate" what is to happen to it; what is not known there is vLLM's:

    {"status": 429, "times": 1}   an error, for so many requests with the same "user" (without
                                  `times`: always)
    {"hold": "NAME"}              after its first token a stream waits for POST /v1/release of NAME
    {"hang": true}                nothing is ever answered
    {"gap": 0.01}                 seconds between tokens
    {"error_after": 3}            so many tokens, and then an error as an event of the stream
    {"die_after": 3}              so many tokens, and then the connection is cut
"""

import asyncio
import base64
import collections
import contextlib
import itertools
import json
import struct
import threading

from pd_engine import Loop

HOST = "127.0.0.1"
CONTEXT = 8192
TOKENS = ["The", " quick", " naïve", " 狐", " 🦊", " jumps", "\n", "over", ' "lazy"', " dogs", "."]
EMBEDDING = [0.25, -1.5, 3.0]
REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found",
           429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}
KINDS = {400: "BadRequestError", 401: "AuthenticationError", 404: "NotFoundError",
         429: "RateLimitError", 500: "InternalServerError", 503: "ServiceUnavailableError"}


class Refused(Exception):
    def __init__(self, status, message, param=None):
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": KINDS[status], "param": param,
                               "code": status}}


class Seen:
    """One request that the engine got."""

    def __init__(self, method, path, headers, body):
        self.method = method
        self.path = path
        self.headers = headers  # names in lower case
        self.body = body
        self.sent = 0                    # tokens of its stream
        self.left = threading.Event()    # its client closed the connection before the answer's end
        self.done = threading.Event()    # answered to the end

    @property
    def json(self):
        return json.loads(self.body) if self.body else {}


class Engines:
    """Engines on one thread; what a test tells one of them, all know."""

    def __init__(self):
        self._loop = Loop()
        self.released = collections.defaultdict(asyncio.Event)
        self.failed = collections.Counter()  # by "user"
        self.engines = []

    def start(self, **more):
        engine = Engine(self, **more)
        self._loop.do(engine.listen())
        self.engines.append(engine)
        return engine

    def close(self):
        for engine in self.engines:
            self._loop.do(engine.stop())
        self._loop.close()


class Engine:
    """`role`: "both", or "prefill" or "decode" of vLLM's NixlConnector."""

    def __init__(self, engines, model="test-model", key="sk-test", role="both"):
        self.model = model
        self.key = key
        self.role = role
        self.seen = []
        self.problems = []  # what a proxy must never do
        self.server = None
        self.port = None
        self._engines = engines
        self._numbers = itertools.count(1)

    @property
    def address(self):
        return f"{HOST}:{self.port}"

    def asked(self, path):
        """The requests to `path`, oldest first."""
        return [request for request in self.seen if request.path == path]

    async def listen(self):
        self.server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self):
        self.server.close()

    # HTTP.

    async def _serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                request = await read_request(reader)
                self.seen.append(request)
                answer = asyncio.ensure_future(self._answer(request, writer))
                # One request at a time: what comes meanwhile is only that the client leaves.
                leaves = asyncio.ensure_future(reader.read(1))
                try:
                    await asyncio.wait([answer, leaves], return_when=asyncio.FIRST_COMPLETED)
                    # Whichever notices it first, who reads or who writes.
                    if not answer.done() or isinstance(answer.exception(), ConnectionError):
                        request.left.set()
                        if not answer.done() and not leaves.exception() and leaves.result():
                            self.problems.append("a request before the last one was answered")
                        break
                finally:
                    answer.cancel()
                    leaves.cancel()
                    await asyncio.gather(answer, leaves, return_exceptions=True)
                if not answer.result():
                    break
                request.done.set()
        writer.close()

    async def _answer(self, request, writer):
        """Whether the connection is kept."""
        try:
            if request.path.startswith("/v1/") and self.key and (
                    request.headers.get("authorization") != f"Bearer {self.key}"):
                return await send(writer, 401, {"error": "Unauthorized"})
            handler = {
                ("GET", "/health"): self._health,
                ("GET", "/v1/models"): self._models,
                ("POST", "/tokenize"): self._tokenize,
                ("POST", "/v1/release"): self._release,
                ("POST", "/v1/embeddings"): self._embeddings,
                ("POST", "/v1/completions"): self._generate,
                ("POST", "/v1/chat/completions"): self._generate,
            }.get((request.method, request.path))
            if handler is None:
                return await send(writer, 404, {"detail": "Not Found"})
            return await handler(request, writer)
        except Refused as refused:
            more = {"retry-after": "0"} if refused.status == 429 else {}
            return await send(writer, refused.status, refused.body, **more)

    # What is no generation.

    async def _health(self, _request, writer):
        return await send(writer, 200, None)

    async def _models(self, _request, writer):
        return await send(writer, 200, {"object": "list", "data": [
            {"id": self.model, "object": "model", "created": 1764000000, "owned_by": "vllm",
             "root": self.model, "parent": None, "max_model_len": CONTEXT, "permission": []}]})

    async def _tokenize(self, request, writer):
        tokens = list(range(prompt_tokens(request.json)))
        return await send(writer, 200, {"count": len(tokens), "max_model_len": CONTEXT,
                                        "tokens": tokens, "token_strs": None})

    async def _release(self, request, writer):
        self._engines.released[request.json["name"]].set()
        return await send(writer, 200, {"released": request.json["name"]})

    async def _embeddings(self, request, writer):
        asked = request.json
        self._check_model(asked)
        vector = EMBEDDING
        if asked.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        return await send(writer, 200, {
            "id": "embd-1", "object": "list", "created": 1764000000, "model": self.model,
            "data": [{"index": 0, "object": "embedding", "embedding": vector}],
            "usage": {"prompt_tokens": 3, "total_tokens": 3, "completion_tokens": 0,
                      "prompt_tokens_details": None}})

    # Generation.

    def _check_model(self, asked):
        if asked.get("model") != self.model:
            raise Refused(404, f"The model `{asked.get('model')}` does not exist.", "model")

    def _check(self, asked):
        self._check_model(asked)
        most = limit(asked)
        if most is not None and most < 1:
            raise Refused(400, f"max_tokens must be at least 1, got {most}.", "max_tokens")
        if most is not None and prompt_tokens(asked) + most > CONTEXT:
            raise Refused(400, f"This model's maximum context length is {CONTEXT} tokens. However, "
                               f"you requested {most} output tokens.", "max_tokens")
        if not 0 <= asked.get("temperature", 1) <= 2:
            raise Refused(400, "temperature must be in [0, 2]", "temperature")
        simulate = asked.get("simulate", {})
        if "status" in simulate:
            user = asked.get("user", "")
            self._engines.failed[user] += 1
            if self._engines.failed[user] <= simulate.get("times", 1 << 30):
                raise Refused(simulate["status"], f"simulated {simulate['status']}")

    def _check_transfer(self, asked):
        """What its role in NixlConnector's choreography wants. Its answer's kv_transfer_params."""
        params = asked.get("kv_transfer_params") or {}
        if self.role == "prefill":
            if not params.get("do_remote_decode") or asked.get("stream") or limit(asked) != 1:
                self.problems.append(f"no prefill: {asked}")
            return {"do_remote_prefill": True, "do_remote_decode": False,
                    "remote_engine_id": "engine-1", "remote_block_ids": [[1, 2, 3]],
                    "remote_request_id": f"cmpl-{next(self._numbers)}", "remote_host": HOST,
                    "remote_port": 5600, "tp_size": 1}
        if self.role == "decode" and params.get("remote_block_ids") != [[1, 2, 3]]:
            self.problems.append(f"no prefilled blocks: {asked}")
        return None

    async def _generate(self, request, writer):
        try:
            asked = request.json
        except ValueError as error:
            raise Refused(400, f"JSON decode error: {error}") from None
        is_chat = request.path == "/v1/chat/completions"
        self._check(asked)
        params = self._check_transfer(asked)
        if asked.get("simulate", {}).get("hang") and self.role != "prefill":
            await asyncio.Event().wait()
        answer = (Chat if is_chat else Completion)(self, asked, next(self._numbers))
        if asked.get("stream"):
            return await self._stream(request, asked, answer, writer)
        whole = answer.whole()
        if params is not None:
            whole["kv_transfer_params"] = params
        return await send(writer, 200, whole)

    async def _stream(self, request, asked, answer, writer):
        simulate = asked.get("simulate", {})
        writer.write(b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\n"
                     b"content-type: text/event-stream; charset=utf-8\r\n"
                     b"transfer-encoding: chunked\r\n\r\n")
        for number, chunk in enumerate(answer.chunks(), 1):
            await send_event(writer, chunk)
            request.sent = number
            if number == simulate.get("die_after"):
                writer.transport.abort()
                return False
            if number == simulate.get("error_after"):
                await send_event(writer, Refused(500, "EngineCore died").body)
                break
            if number == 1 and "hold" in simulate:
                await self._engines.released[simulate["hold"]].wait()
            await asyncio.sleep(simulate.get("gap", 0))
        await send_event(writer, "[DONE]")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


class Answer:
    """What is the same in both forms."""

    PREFIX = WHOLE = CHUNK = ""

    def __init__(self, engine, asked, number):
        self.asked = asked
        self.number = number
        self.model = engine.model
        self.prompts = asked.get("prompt") if isinstance(asked.get("prompt"), list) else [None]
        self.count = asked.get("n", 1) * len(self.prompts)
        most = limit(asked)
        most = len(TOKENS) if most is None else most
        endless = "gap" in asked.get("simulate", {})
        self.tokens = ([TOKENS[i % len(TOKENS)] for i in range(most)] if endless
                       else TOKENS[:most])
        self.finish = "length" if endless or most < len(TOKENS) else "stop"

    def head(self, kind):
        return {"id": f"{self.PREFIX}-{self.number}", "object": kind, "created": 1764000000,
                "model": self.model}

    def usage(self):
        asked, made = prompt_tokens(self.asked), len(self.tokens) * self.count
        return {"prompt_tokens": asked, "total_tokens": asked + made, "completion_tokens": made,
                "prompt_tokens_details": {"cached_tokens": asked // 2}}

    def whole(self):
        more = {key: self.asked[key] for key in ("echo_back",) if key in self.asked}
        return {**self.head(self.WHOLE), "choices": self.choices(), "usage": self.usage(), **more}

    def chunks(self):
        wants_usage = (self.asked.get("stream_options") or {}).get("include_usage")
        for choices in self.parts():
            yield {**self.head(self.CHUNK), "choices": choices}
        if wants_usage:
            yield {**self.head(self.CHUNK), "choices": [], "usage": self.usage()}

    def choices(self):
        raise NotImplementedError

    def parts(self):
        raise NotImplementedError


class Completion(Answer):
    PREFIX, WHOLE, CHUNK = "cmpl", "text_completion", "text_completion"

    def choices(self):
        return [{"index": index, "text": "".join(self.tokens), "logprobs": None,
                 "finish_reason": self.finish, "stop_reason": None, "prompt_logprobs": None}
                for index in range(self.count)]

    def parts(self):
        for at, token in enumerate(self.tokens):
            for index in range(self.count):
                last = at == len(self.tokens) - 1
                yield [{"index": index, "text": token, "logprobs": None,
                        "finish_reason": self.finish if last else None, "stop_reason": None}]


class Chat(Answer):
    """Calls each of its tools once, until their results are among the messages."""

    PREFIX, WHOLE, CHUNK = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def calls(self):
        answered = any(message["role"] == "tool" for message in self.asked["messages"])
        if answered or self.asked.get("tool_choice") == "none":
            return []
        return [{"id": f"chatcmpl-tool-{self.number}-{index}", "type": "function",
                 "function": {"name": tool["function"]["name"],
                              "arguments": json.dumps({"city": "Zürich", "number": index},
                                                      ensure_ascii=False)}}
                for index, tool in enumerate(self.asked.get("tools") or [])]

    def choices(self):
        calls = self.calls()
        message = {"role": "assistant", "content": None if calls else "".join(self.tokens),
                   "reasoning_content": None, "tool_calls": calls}
        return [{"index": index, "message": message, "logprobs": None,
                 "finish_reason": "tool_calls" if calls else self.finish, "stop_reason": None}
                for index in range(self.count)]

    def parts(self):
        for index in range(self.count):
            yield [self.part(index, {"role": "assistant", "content": ""})]
        calls = self.calls()
        for at, call in enumerate(calls):
            function = call["function"]
            yield [self.part(0, {"tool_calls": [{"index": at, "id": call["id"], "type": "function",
                                                 "function": {"name": function["name"]}}]})]
            text = function["arguments"]
            for begin in range(0, len(text), 7):
                yield [self.part(0, {"tool_calls": [
                    {"index": at, "function": {"arguments": text[begin:begin + 7]}}]})]
        if calls:
            yield [self.part(0, {"content": ""}, "tool_calls")]
            return
        for at, token in enumerate(self.tokens):
            for index in range(self.count):
                last = at == len(self.tokens) - 1
                yield [self.part(index, {"content": token}, self.finish if last else None)]

    @staticmethod
    def part(index, delta, finish=None):
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


def limit(asked):
    """The most tokens that are to be made; None: no limit was named."""
    return asked.get("max_completion_tokens", asked.get("max_tokens"))


def prompt_tokens(asked):
    """One token a word."""
    if "messages" in asked:
        return len(" ".join(str(message.get("content")) for message in asked["messages"]).split())
    prompt = asked.get("prompt", "")
    return sum(len(text.split()) for text in (prompt if isinstance(prompt, list) else [prompt]))


async def read_request(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    method, path, _ = line.split(" ")
    headers = {name.lower(): value.strip()
               for name, value in (field.split(":", 1) for field in fields if field)}
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Seen(method, path, headers, body)


async def send(writer, status, value, **headers):
    body = b"" if value is None else json.dumps(value, ensure_ascii=False).encode()
    fields = {"server": "uvicorn", "content-type": "application/json",
              "content-length": str(len(body)), **{name.replace("_", "-"): text
                                                   for name, text in headers.items()}}
    head = "".join(f"{name}: {text}\r\n" for name, text in fields.items())
    writer.write(f"HTTP/1.1 {status} {REASONS[status]}\r\n{head}\r\n".encode() + body)
    await writer.drain()
    return True


async def send_event(writer, value):
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    event = f"data: {text}\n\n".encode()
    writer.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
    await writer.drain()
