"""A Mooncake Store master as far as it shows: a PUB socket that binds, numbers its batches from 1
and replays nothing, and an HTTP port that lists its objects. And the names that engines give to
their objects."""

import contextlib
import http.server
import json
import threading
import time
import urllib.parse

import msgpack
import zmq

from publisher import bind_patiently, free_ports

MOST_EVENTS = 64  # of a batch
MEMORY, DISK = "cpu", "disk"


class Master:
    """`objects`: key -> media that have a replica, for the default tenant. `started`: whether the
    sockets are bound at once. Methods are called from one thread."""

    replay_endpoint = ""

    def __init__(self, host="127.0.0.1", admin=True, legacy=True, started=True,
                 tells_tiers=True):
        self.host = host
        self.ports = free_ports(2, host)
        self.admin = admin
        self.tells_tiers = tells_tiers
        self.objects = {}
        self.last_sequence = 0
        self.published_events = 0
        self.dropped_events = 0
        self.before_status = None    # called when the count of events is asked for
        self.before_listing = None   # called with the keys taken, before they are sent
        self.requests = []           # paths asked for over HTTP
        self._legacy = legacy        # whether the older names stand beside RFC 1527's
        self._next_event = 1
        self._batch = None
        self._live = None
        self._http = None
        self._subscribers = 0
        if started:
            self.start()

    @property
    def endpoint(self):
        return f"tcp://{self.host}:{self.ports}"

    @property
    def admin_endpoint(self):
        return f"{self.host}:{self.ports + 1}"

    # Its life.

    def start(self):
        self.start_live()
        self.start_admin()

    def start_live(self):
        self._live = zmq.Context.instance().socket(zmq.XPUB)
        self._live.setsockopt(zmq.XPUB_VERBOSER, 1)  # each comes and goes with a message
        self._live.sndhwm = 10000
        self._live.linger = 0
        self._subscribers = 0
        bind_patiently(self._live, self.endpoint)

    def start_admin(self):
        if self.admin:
            self._http = _AdminServer((self.host, self.ports + 1), self)
            threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def die(self):
        self.stop_live()
        self.stop_admin()

    def stop_live(self):
        if self._live is not None:
            self._live.close()
            self._live = None

    def stop_admin(self):
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None

    def restart(self):
        """A new process: its objects are lost, and it counts from 1 again."""
        self.die()
        self.objects = {}
        self.last_sequence = 0
        self._next_event = 1
        self.start()

    def wait_for_subscriber(self, seconds=30):
        deadline = time.monotonic() + seconds
        # First what is there already: that the last one has left, for example.
        while self._live.poll(0) or self._subscribers <= 0:
            if not self._live.poll(max(0, deadline - time.monotonic()) * 1000):
                raise AssertionError(f"nobody subscribed to {self.endpoint}")
            self._subscribers += 1 if self._live.recv()[:1] == b"\x01" else -1

    # What it does.

    @contextlib.contextmanager
    def batch(self):
        """What happens within is announced together, in batches of at most 64 events."""
        self._batch = []
        yield
        events, self._batch = self._batch, None
        for start in range(0, len(events), MOST_EVENTS):
            self._publish(events[start:start + MOST_EVENTS])

    def put(self, *keys, medium=MEMORY, tenant="default"):
        """One more replica of each."""
        for key in keys:
            if tenant == "default":
                self.objects.setdefault(key, set()).add(medium)
            self._announce(self.event("stored", key, medium, tenant))

    def remove(self, *keys, medium=MEMORY, tenant="default", announced=True):
        """The objects are gone. `medium` is what the announcement calls them, whatever they were on.
        Some ways of eviction announce nothing."""
        for key in keys:
            if tenant == "default":
                self.objects.pop(key, None)
            if announced:
                self._announce(self.event("removed", key, medium, tenant))

    @contextlib.contextmanager
    def lost(self):
        """What is announced within is lost on the way to subscribers."""
        live, self._live = self._live, None
        try:
            yield
        finally:
            self._live = live

    def overflow(self):
        """A batch's worth of queue was dropped: a sequence is skipped."""
        self.last_sequence += 1
        self.dropped_events += 1

    # Within.

    def _announce(self, event):
        if self._batch is not None:
            self._batch.append(event)
        else:
            self._publish([event])

    def _publish(self, events):
        self.last_sequence += 1
        self.published_events += len(events)
        payload = msgpack.packb([int(time.time() * 1000), events, 0])
        if self._live is not None:
            self._live.send_multipart([b"", self.last_sequence.to_bytes(8, "big"), payload])

    def event(self, kind, key, medium, tenant):
        number = numeric(key)
        hashes = [] if number is None else [number]
        stored = kind == "stored"
        event = {"event_id": self._next_event, "timestamp": int(time.time() * 1000),
                 "event_type": kind}
        if self._legacy:
            event["type"] = "BlockStored" if stored else "BlockRemoved"
        event.update({
            "model_name": None, "block_size": None, "additional_salt": None, "lora_name": None,
            "tenant_id": tenant, "backend_id": "mc0", "group_id": None, "medium": medium,
            "dp_rank": None, "object_key": key, "seq_hashes": hashes})
        if self._legacy:
            event["block_hashes"] = [
                value - (1 << 64) if value >> 63 else value for value in hashes]
        event["base_block_idx"] = 0 if stored else None
        if stored:
            event.update({"parent_hash": None, "token_ids": None})
            if self._legacy:
                event["parent_block_hash"] = None
        self._next_event += 1
        return event


def numeric(key):
    """The number that a whole key is; None: it is a name."""
    try:
        return int(key, 16 if key.startswith("0x") else 10)
    except ValueError:
        return None


class _AdminServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address, master):
        self.master = master
        super().__init__(address, _AdminHandler)


class _AdminHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        master = self.server.master
        master.requests.append(self.path)
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/get_all_keys":
            keys = list(master.objects)
            if master.before_listing is not None:
                master.before_listing()
            self._answer("text/plain; version=0.0.4", "".join(key + "\n" for key in keys))
        elif url.path == "/batch_query_keys" and master.tells_tiers:
            asked = urllib.parse.parse_qs(url.query).get("keys", [""])[0].split(",")
            self._answer("application/json", json.dumps(
                {"success": True, "data": {key: self._replicas(master, key) for key in asked}}))
        elif url.path == "/kv_events/status":
            if master.before_status is not None:
                master.before_status()
            self._answer("application/json", json.dumps({
                "enabled": True, "published_batches": master.last_sequence,
                "published_events": master.published_events,
                "dropped_events": master.dropped_events, "skipped_unparsed_keys": 0}))
        elif url.path in ("/health", "/role"):
            self._answer("text/plain", "OK" if url.path == "/health" else "leader")
        else:
            self.send_error(404)

    @staticmethod
    def _replicas(master, key):
        media = master.objects.get(key)
        if not media:
            return {"ok": False, "error": "OBJECT_NOT_FOUND"}
        where = {"transport_endpoint_": "10.0.0.9:1", "buffer_address_": 4096, "size_": 1024}
        answer = {"ok": True, "values": [where] if MEMORY in media else []}
        if DISK in media:
            answer["disk_values"] = [where]
        return answer

    def _answer(self, content_type, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


# Names of objects, each the component of one block. `digest`: of the block, bytes.


def vllm_key(digest, model="test-model", tp=0, pp=0, group=0, prefix=""):
    """MooncakeStoreConnector; without a group as older ones name it."""
    parts = [model, f"tp_rank:{tp}", "pcp0", "dcp0", f"pp_rank:{pp}"]
    if group is not None:
        parts.append(f"group:{group}")
    return "@".join([prefix] * bool(prefix) + parts + [digest.hex()])


def ascend_old_key(digest, model="test-model", head=0, pp=0):
    return f"{model}@pcp0@dcp0@head_or_tp_rank:{head}@pp_rank:{pp}@{digest.hex()}"


def ascend_old_layer_key(digest, layer, model="test-model", head=0):
    return f"{model}@pcp0@dcp0@head_or_tp_rank:{head}@{digest.hex()}@{layer}"


def ascend_key(digest, model="test-model", head=0, pp=0, group=0):
    return (f"{model}@dcp:0@head_or_tp_rank:{head}@pp_rank:{pp}@group:{group}@cache_role:kv"
            f"@cache_family:default@{digest.hex()}")


def ascend_layer_key(digest, layer, model="test-model", head=0, group=0):
    return (f"{model}@dcp:0@head_or_tp_rank:{head}@group:{group}@cache_role:kv"
            f"@cache_family:default@layer_id:{layer}@{digest.hex()}")


def ascend_gva_key(digest, rank=0, model="test-model", group=None):
    parts = [model] + ([str(group)] if group is not None else []) + [digest.hex(), str(rank)]
    return "@".join(parts)


def sglang_key(digest, part, tp=0, pp=None, tag=""):
    rank = f"{tp}" if pp is None else f"{tp}_{pp}"
    return f"{tag}{digest.hex()}_{rank}_{part}"


def sglang_mla_key(digest):
    return f"{digest.hex()}_k"


def lmcache_key(digest, model="test-model", world=1, worker=0, dtype="bfloat16"):
    """LMCache's hashes are 64 bits."""
    return f"vllm@{model}@{world}@{worker}@{digest[-8:].hex()}@{dtype}"


def numeric_key(digest):
    return str(int.from_bytes(digest[-8:], "big"))
