"""Engines as proxies see them: HTTP servers that behave as vLLM's and SGLang's do when prefill and
decode are apart, and check what they are sent. Written from the documents of the connectors; shares
no code with the proxy. One asyncio loop on a thread of its own serves all engines of a test."""

import asyncio
import contextlib
import hashlib
import itertools
import json
import re
import threading

HOST = "127.0.0.1"


UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$")


def tokens_of(text):
    """One token a word: the same text has the same tokens, and a longer one begins with them."""
    return [int.from_bytes(hashlib.sha256(word.encode()).digest()[:3], "big")
            for word in text.split()]


class Loop:
    """A thread that runs one event loop."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def close(self):
        async def end():
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.do(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Seen:
    """One request that an engine got."""

    def __init__(self, method, path, headers, body):
        self.method = method
        self.path = path
        self.headers = headers  # names in lower case
        self.body = body
        self.closed = threading.Event()  # its client closed the connection before the answer's end
        self.answered = threading.Event()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def params(self):
        return self.json.get("kv_transfer_params")


class Fault:
    """What goes wrong with the next requests: `status` (and `error_body`), `hang` (no answer),
    `hang_after` and `die_after` (pieces of the stream), `hold` (an event that is waited for before
    the answer), `slow` (seconds before it), `times` requests (None: all)."""

    def __init__(self, status=None, error_body=None, hang=False, hang_after=None, die_after=None,
                 slow=0.0, times=None, garbage=False, die=False, gap=0.0, hold=None):
        self.status = status
        self.error_body = error_body
        self.hang = hang
        self.hang_after = hang_after
        self.die_after = die_after
        self.die = die
        self.slow = slow
        self.hold = hold
        self.times = times
        self.garbage = garbage
        self.gap = gap


class PdEngine:
    """One engine. `connector`: whose rules it keeps. `kind`: "prefill", "decode" or "both"."""

    _numbers = itertools.count()

    def __init__(self, loop, kind, connector="nixl", model="test-model", port=0, host=HOST,
                 words=5):
        self.kind = kind
        self.connector = connector
        self.model = model
        self.host = host
        self.words = words  # of an answer
        self.seen = []
        self.asked_for_models = []
        self.connections = 0
        self.problems = []  # what it was sent and should not have been
        self.fault = None
        self.tokenize_fault = None
        self.engine_id = f"engine-{next(self._numbers)}"
        self.held = {}  # transfers that wait for their decoder: remote_request_id -> params
        self.fetched = []
        self.on_prompt = None  # is told (tokens, rank) of what it computes
        self.cached_tokens = 2  # of a prefiller's usage, with ascend
        self.id_suffix = ""  # behind the ids of its requests, in what it calls the metaserver with
        self.recompute_after = []  # of an ascend decoder's next answers: the words until they end
        self._loop = loop
        self._server = None
        self.port = port
        self.start()

    # Its life.

    def start(self):
        async def begin():
            self._server = await asyncio.start_server(self._serve, self.host, self.port,
                                                      backlog=4096)
            self.port = self._server.sockets[0].getsockname()[1]

        self._loop.do(begin())
        return self

    def stop(self):
        async def end():
            if self._server is not None:
                self._server.close()
                self._server = None

        self._loop.do(end())

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def completions(self):
        return [request for request in self.seen if "completions" in request.path]

    # HTTP.

    async def _serve(self, reader, writer):
        self.connections += 1
        try:
            while True:
                request = await self._read(reader)
                if request is None or not await self._answer(request, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            with contextlib.suppress(Exception):
                writer.close()

    async def _read(self, reader):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        lines = head.decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ")
        headers = {}
        for line in lines[1:]:
            if line:
                name, value = line.split(":", 1)
                headers[name.lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Seen(method, path, headers, body)

    async def _answer(self, request, reader, writer):
        """Whether the connection goes on."""
        if request.path == "/v1/models":
            self.asked_for_models.append(request)
            return self._send(writer, 200, {"object": "list", "data": [
                {"id": self.model, "object": "model", "owned_by": self.kind}]})
        if request.path == "/tokenize":
            return await self._tokenize(request, writer)
        self.seen.append(request)
        if not UUID.match(request.headers.get("x-request-id", "")):
            self._problem(request, "no request id, or one that can be guessed")
        fault = self._take_fault()
        if fault and fault.slow:
            await asyncio.sleep(fault.slow)
        while fault and fault.hold and not fault.hold.is_set():
            await asyncio.sleep(0.005)
        if fault and fault.hang:
            return await self._hang(request, reader)
        if fault and fault.die:
            return False
        if fault and fault.garbage:
            writer.write(b"this is no HTTP\r\n\r\n")
            return False
        if fault and fault.status:
            return self._send(writer, fault.status, fault.error_body or {
                "object": "error", "message": "it cannot be", "code": fault.status})
        if request.path == "/generate" and self.connector == "sglang":
            return await self._generate(request, reader, writer)
        if "completions" not in request.path:
            return self._send(writer, 200, {"path": request.path, "engine": self.address,
                                            "method": request.method,
                                            "got": request.body.decode("utf-8", "replace")})
        return await self._complete(request, fault, reader, writer)

    def _take_fault(self):
        fault = self.fault
        if fault and fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                self.fault = None
        return fault

    async def _hang(self, request, reader):
        await reader.read(1)
        request.closed.set()
        return False

    def _send(self, writer, status, body, more=""):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        writer.write(f"HTTP/1.1 {status} Whatever\r\nContent-Type: application/json\r\n{more}"
                     f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
        return True

    async def _tokenize(self, request, writer):
        self.seen.append(request)
        fault = self.tokenize_fault
        if fault and fault.slow:
            await asyncio.sleep(fault.slow)
        if fault and fault.status:
            return self._send(writer, fault.status, {"message": "no"})
        tokens = tokens_of(self._text(request.json))
        return self._send(writer, 200, {"count": len(tokens), "max_model_len": 1 << 20,
                                        "tokens": tokens})

    # Completions.

    @staticmethod
    def _text(body):
        if "prompt" not in body:
            return " ".join(f"<{message['role']}> {message['content']}"
                            for message in body["messages"])
        prompt = body["prompt"]
        return prompt if isinstance(prompt, str) else " ".join(map(str, prompt))

    def _problem(self, request, what):
        self.problems.append(f"{self.kind} {self.address} {request.path}: {what}: {request.body!r}")

    async def _complete(self, request, fault, reader, writer):
        body = request.json
        if not body.get("model"):
            return self._send(writer, 400, {"error": {"message": "model is required",
                                                      "type": "BadRequestError", "code": 400}})
        is_prefill_leg = self.kind == "prefill" and self.connector != "sglang"
        if is_prefill_leg:
            self._check_prefill(request, body)
        if self.on_prompt is not None:
            rank = int(request.headers.get("x-data-parallel-rank", 0))
            self.on_prompt(tokens_of(self._text(body)), rank)
        if self.connector == "sglang" and self.kind == "prefill":
            self.held[str(body.get("bootstrap_room"))] = body
        if self.kind == "decode":
            problem = await self._receive(request, body, reader)
            if problem == "closed":
                return False
        if self.connector == "ascend" and not is_prefill_leg:
            return await self._say(request, body, writer)
        if is_prefill_leg:
            answer = self._whole(request, body, 1)
            if self.connector == "ascend":
                answer["usage"]["prompt_tokens_details"] = {"cached_tokens": self.cached_tokens}
            params = request.prefilled = self._prefilled(request, body)
            if params is not None:
                answer["kv_transfer_params"] = params
            request.answered.set()
            return self._send(writer, 200, answer)
        if body.get("stream"):
            return await self._stream(request, body, fault, reader, writer)
        request.answered.set()
        return self._send(writer, 200, self._whole(request, body, self._length(body)))

    async def _generate(self, request, reader, writer):
        """SGLang's own form. The logprobs of a prompt are with the engine that has computed it."""
        body = request.json
        if self.kind == "prefill":
            self.held[str(body.get("bootstrap_room"))] = body
        elif await self._receive(request, body, reader) == "closed":
            return False
        is_prefill = self.kind == "prefill"
        prompts = body["text"] if isinstance(body["text"], list) else [body["text"]]

        def piece(number, prompt):
            words = prompt.split()
            logprobs = [[-0.5, token] for token in range(len(words))] if is_prefill else []
            return {"text": f"{self.kind} {number}", "index": number,
                    "meta_info": {"prompt_tokens": len(words), "input_token_logprobs": logprobs}}

        pieces = [piece(number, prompt) for number, prompt in enumerate(prompts)]
        request.answered.set()
        if not body.get("stream"):
            return self._send(writer, 200, pieces if isinstance(body["text"], list) else pieces[0])
        data = b"".join(b"data: " + json.dumps(piece).encode() + b"\n\n" for piece in pieces * 2)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                     b"Connection: close\r\n\r\n" + data + b"data: [DONE]\n\n")
        await writer.drain()
        return False

    def _length(self, body):
        return min(self.words, body.get("max_tokens", body.get("max_completion_tokens", 16)))

    def _check_prefill(self, request, body):
        if body.get("stream"):
            self._problem(request, "prefill is asked for a stream")
        if body.get("max_tokens") != 1:
            self._problem(request, "prefill is asked for more than one token")
        if body.get("max_completion_tokens", 1) != 1:
            self._problem(request, "prefill is asked for more than one token")
        if "stream_options" in body:
            self._problem(request, "stream_options without a stream")
        if body.get("min_tokens", 0) > 1 or "min_completion_tokens" in body:
            self._problem(request, "min_tokens above max_tokens")
        if self.connector in ("ascend", "layerwise") and body.get("min_tokens") != 1:
            self._problem(request, "the one token may be the end")

    # Prefill: what it says of the blocks.

    def _prefilled(self, request, body):
        params = body.get("kv_transfer_params")
        identity = request.headers.get("x-request-id", "?")
        if self.connector in ("nixl", "ascend"):
            want = {"do_remote_decode": True, "do_remote_prefill": False,
                    "remote_engine_id": None, "remote_block_ids": None, "remote_host": None,
                    "remote_port": None}
            if params != want:
                self._problem(request, "params of the prefill leg")
                return None
            answer = {"do_remote_prefill": True, "do_remote_decode": False,
                      "remote_block_ids": [[1, 2, 3]], "remote_engine_id": self.engine_id,
                      "remote_request_id": f"cmpl-{identity}-0", "remote_host": "0.0.0.0",
                      "remote_port": 5600, "tp_size": 1, "remote_num_tokens": 3,
                      "transfer_mode": "pull"}
            if self.connector == "ascend":
                answer.update(remote_pcp_size=1, remote_dcp_size=1, remote_ptp_size=None,
                              last_token_id=17, num_prompt_blocks=3, remote_block_size=128,
                              remote_multi_nodes_meta_mapping={"1": {"host": "a"}})
            self.held[answer["remote_request_id"]] = answer
            return answer
        if self.connector == "mooncake":
            if params is None or set(params) != {"do_remote_decode", "do_remote_prefill",
                                                 "transfer_id"}:
                self._problem(request, "params of the prefill leg")
            elif params["transfer_id"] != f"xfer-{identity}":
                self._problem(request, "transfer_id")
            else:
                self.held[params["transfer_id"]] = params
            return None
        if self.connector == "layerwise":
            self.held[identity] = params
            return None
        if params is not None:
            self._problem(request, "params that nobody knows")
        return None

    # Decode: whether the blocks come.

    async def _receive(self, request, body, reader):
        room = body.get("bootstrap_room")
        if self.connector == "sglang" and room is not None and self.peers:
            return await self._wait_for(
                lambda: any(str(room) in peer.held for peer in self.peers), request, reader)
        params = body.get("kv_transfer_params")
        request.received = params
        if params is None:
            return "alone"
        if self.connector in ("nixl", "ascend"):
            for key in ("remote_engine_id", "remote_block_ids", "remote_request_id", "remote_host",
                        "remote_port"):
                if params.get(key) is None:
                    self._problem(request, f"{key} is missing")
            if params.get("do_remote_prefill") is not True:
                self._problem(request, "do_remote_prefill")
            return None
        if self.connector == "mooncake":
            for key in ("remote_bootstrap_addr", "remote_engine_id", "transfer_id"):
                if not params.get(key):
                    self._problem(request, f"{key} is missing")
            # The blocks come when a prefiller of that id has them.
            return await self._wait_for(
                lambda: any(peer.engine_id == params["remote_engine_id"] and
                            params["transfer_id"] in peer.held for peer in self.peers), request,
                reader)
        if self.connector == "layerwise":
            return await self._call_back(request, params, reader)
        return None

    peers = ()

    async def _wait_for(self, check, request, reader):
        gone = asyncio.ensure_future(reader.read(1))
        try:
            while not check():
                await asyncio.wait([gone], timeout=0.005)
                if gone.done():
                    request.closed.set()
                    return "closed"
        finally:
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await gone
        return None

    async def _call_back(self, request, params, reader):
        identity = request.headers["x-request-id"]
        url = params["metaserver"]
        host, rest = url.removeprefix("http://").split(":", 1)
        port, path = rest.split("/", 1)
        is_chat = "chat" in request.path
        names = [f"chatcmpl-{identity}"] if is_chat else [
            f"cmpl-{identity}-{number}" for number in range(
                len(request.json["prompt"]) if isinstance(request.json["prompt"], list) else 1)]
        statuses = []

        async def call(name):
            body = json.dumps({"request_id": name + self.id_suffix, "remote_host": self.host, "remote_port": 9,
                               "remote_block_ids": [4, 5]}).encode()
            peer_reader, peer_writer = await asyncio.open_connection(host, int(port))
            peer_writer.write(f"POST /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                              f"Content-Type: application/json\r\n"
                              f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            answer = await peer_reader.read()
            statuses.append(int(answer.split(b" ")[1]) if answer else 0)
            peer_writer.close()

        self.callbacks = statuses
        await asyncio.gather(*(call(name) for name in names))
        if any(status != 200 for status in statuses):
            return await self._wait_for(lambda: False, request, reader)
        return None

    # The answer.

    async def _say(self, request, body, writer):
        """As vllm-ascend's decoders do: goes on behind what was said already, and where its blocks
        are taken from it ends by `recomputed`."""
        text = self._text(body)
        begin = len(re.findall(r"\bw\d+", text))
        length = min(self.words - begin, body.get("max_tokens", 16))
        limit = self.recompute_after.pop(0) if self.recompute_after else None
        is_recomputed = limit is not None and limit < length
        words = [f" w{begin + number}" for number in range(limit if is_recomputed else length)]
        end = {"finish_reason": "length"}
        if is_recomputed:
            end = {"finish_reason": "stop", "stop_reason": "recomputed"}
        prompt_tokens = len(text.split())
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": len(words),
                 "total_tokens": prompt_tokens + len(words), "prompt_tokens_details": None}
        is_chat = "chat" in request.path

        def choice(said, key, **more):
            content = {key: {"content": said}} if is_chat else {"text": said}
            return {"index": 0, **content, **more}

        request.answered.set()
        if not body.get("stream"):
            return self._send(writer, 200, {
                "id": "1", "choices": [choice("".join(words), "message", **end)], "usage": usage})
        events = [{"id": "1", "choices": [choice(word, "delta", finish_reason=None)]}
                  for word in words]
        events.append({"id": "1", "choices": [choice("", "delta", **end)]})
        if body.get("stream_options", {}).get("include_usage"):
            events.append({"id": "1", "choices": [], "usage": usage})
        data = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
        data += b"data: [DONE]\n\n"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                     b"Transfer-Encoding: chunked\r\n\r\n")
        # Pieces end anywhere.
        for at in range(0, len(data), 23):
            piece = data[at:at + 23]
            writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    def _whole(self, request, body, length):
        text = " ".join(f"w{number}" for number in range(length))
        usage = {"prompt_tokens": 3, "completion_tokens": length, "total_tokens": 3 + length}
        if "messages" in body:
            return {"id": "chatcmpl-1", "object": "chat.completion", "model": body["model"],
                    "choices": [{"index": 0, "message": {"role": "assistant", "content": text},
                                 "finish_reason": "length"}], "usage": usage}
        return {"id": "cmpl-1", "object": "text_completion", "model": body["model"],
                "choices": [{"index": 0, "text": text, "finish_reason": "length"}],
                "usage": usage}

    async def _stream(self, request, body, fault, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                     b"Transfer-Encoding: chunked\r\n\r\n")
        for number in range(self._length(body)):
            if fault and fault.die_after == number:
                await writer.drain()
                writer.transport.abort()
                return False
            if fault and fault.hang_after == number:
                await writer.drain()
                return await self._hang(request, reader)
            if fault and fault.gap:
                await asyncio.sleep(fault.gap)
            if writer.transport.is_closing():
                request.closed.set()
                return False
            event = f'data: {{"n": {number}, "text": "w{number}"}}\n\n'.encode()
            writer.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
            try:
                await writer.drain()
            except ConnectionError:
                request.closed.set()
                return False
        event = b"data: [DONE]\n\n"
        writer.write(f"{len(event):x}\r\n".encode() + event + b"\r\n0\r\n\r\n")
        await writer.drain()
        request.answered.set()
        return True


class Bootstrap:
    """A Mooncake prefiller's bootstrap server: GET /query tells the engine id of each rank."""

    def __init__(self, loop, ids, host=HOST, port=0):
        self.ids = ids  # rank -> engine id; None: it does not answer
        self.host = host
        self.port = port
        self._loop = loop
        self._server = None
        self._writers = []

        async def begin():
            self._server = await asyncio.start_server(self._serve, host, port)
            self.port = self._server.sockets[0].getsockname()[1]

        loop.do(begin())

    def stop(self):
        async def end():
            self._server.close()
            for writer in self._writers:
                writer.close()

        self._loop.do(end())

    async def _serve(self, reader, writer):
        self._writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if self.ids is None:
                    await reader.read()
                    break
                data = json.dumps({str(rank): {"engine_id": identity, "worker_addr": {}}
                                   for rank, identity in self.ids.items()}).encode()
                if not head.startswith(b"GET /query"):
                    data = b"{}"
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                             f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
        writer.close()
