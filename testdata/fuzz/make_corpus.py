#!/usr/bin/env python3
"""Makes the seed corpus of the fuzz targets in tests/fuzz, or with --check compares it.

A folder here is the corpus of one kind of input. Its files are made from the golden bytes in
testdata/wire and from short histories written down below. A file whose name begins with `found-` is
an input that broke something once; it was added by hand and stays.
"""

import json
import sys
from pathlib import Path

import msgpack
import xxhash

HERE = Path(__file__).resolve().parent
WIRE = HERE.parent / "wire"


def golden():
    """Payloads by the names of their files."""
    for path in sorted(WIRE.glob("*.hex")):
        lines = (line.split("#")[0] for line in path.read_text().splitlines())
        yield path.stem, bytes.fromhex("".join(lines))


def payload():
    yield from golden()
    # Forms that no engine sends: heads wider than they need be, and nesting.
    yield "wide", bytes.fromhex(
        "dc0003 cb3ff8000000000000 dd00000001 df00000001 da000161 db000000016b d3ffffffffffffffff")
    yield "nested", b"\x92\x00" + b"\x91" * 30 + b"\xc0"


def object_key():
    digest = "5f" * 32
    yield "vllm", f"llama@tp_rank:1@pcp0@dcp0@pp_rank:0@group:0@{digest}".encode()
    yield "vllm_prefix", f"team@org@llama@tp_rank:1@pcp0@dcp0@pp_rank:0@{digest}".encode()
    yield "ascend", f"llama@pcp0@dcp0@head_or_tp_rank:1@pp_rank:0@{digest}".encode()
    yield "ascend_layer", f"llama@dcp:0@head_or_tp_rank:1@group:0@{digest}@layer_id:3".encode()
    yield "gva", f"llama@2@{digest}@7".encode()
    yield "sglang", f"tag_{digest}_3_1_k".encode()
    yield "lmcache", f"vllm@llama@8@3@{digest}@half@tag%value".encode()
    yield "decimal", b"18446744073709551615"
    yield "hex", b"0x1d"


# An ingest step: what (0 and above 10: apply; 1: new life; 2, 3, 4: begin, commit, abandon a
# rebuild; of the pool: 6: new life; 7, 8: begin, abandon a listing; 9: list or learn tiers, by a byte
# that says which; 10: apply), by which publisher, and the payload to apply or the key to list.
def ingest_step(what, publisher, data=b"", how=b""):
    step = bytes([what << 1 | publisher]) + how
    return step + len(data).to_bytes(2, "big") + data if what in (0, 5, 9, 10) else step


def ingest_payloads():
    payloads = dict(golden())
    for name, data in payloads.items():
        # Block size 2, as in the golden bytes.
        yield name, b"\x04" + ingest_step(0, 0, data) + ingest_step(0, 1, data)
    every = b"".join(ingest_step(0, i % 2, data) for i, data in enumerate(payloads.values()))
    yield "all", b"\x00" + every
    yield "rebuild", (b"\x04" + every + ingest_step(2, 0) + every + ingest_step(3, 0) +
                      ingest_step(2, 1) + every + ingest_step(4, 1) + ingest_step(1, 0) + every)
    key = b"m@tp_rank:0@1d"
    objects = b"".join(ingest_step(10, 0, data) for data in payloads.values())
    yield "pool", (b"\x24" + every + objects + ingest_step(7, 0) + ingest_step(9, 0, key, b"\x00") +
                   ingest_step(9, 0, key, b"\x05") + ingest_step(8, 0) + every + ingest_step(6, 0))


def ingest_events():
    """Steps of tests/fuzz/ingest_events.cc by two publishers: options, then bytes as decided there."""
    def stored(publisher, shape, *rest):
        return bytes([10 | publisher, 0, 6, shape, *rest])

    def removed(publisher, name):
        return bytes([10 | publisher, 0, 1, 0, name, 0])

    chain = stored(0, 1, 0, 1, 0, 0b1010) + stored(0, 4, 2, 1, 0, 0b11)
    orphan = stored(0, 4, 2, 1, 0, 0b11) + stored(0, 1, 0, 1, 0, 0b1010)
    host = stored(1, 224, 0, 2)
    yield "chain", b"\x00" + chain + removed(0, 2)
    yield "orphan", b"\x00" + orphan + removed(0, 1)
    yield "two_publishers", b"\x00" + chain + stored(1, 1, 0, 1, 0, 0b1010) + host + removed(0, 0)
    yield "rebuild", b"\x00" + chain + b"\x02" + orphan + b"\x04" + b"\x02" + chain + b"\x06\x00"
    yield "learnt", b"\x05" + stored(0, 192, 3, 0, 0b0110) + chain + b"\x08" + chain
    yield "adapters", b"\x00" + stored(0, 8 + 32, 0, 0, 1) + stored(0, 32, 1, 0, 1) + chain


# What tests/fuzz/publisher_stream.cc reads; each with the bytes that it needs.
SENT, UNSENT, NEAR, ANY = b"\x00\x00", b"\x02\x00", b"\x03", b"\x04"
ANSWER, ALL, FALSE, END, LOST = b"\x05", b"\x07\xff", b"\x08", b"\x09", b"\x0a\x00\x00"
CONNECT, DISCONNECT, FAILED = b"\x0b", b"\x0c", b"\x0d"
SECOND, MINUTE = b"\x0e\x32", b"\x0f\x0c"
RESYNC, RESTART_KNOWN, RESTART = b"\x10\x01", b"\x10\x00", b"\x11\x00"
CLEAR, LOST_STORES, LOST_REMOVALS = b"\x00\x07", b"\x00\x05", b"\x00\x06"
LISTED, LISTING_FAILED, FALSE_LISTING = b"\x12\x00", b"\x12\x02", b"\x12\x01"
CLEARED, DROPPED = b"\x13", b"\x14\x00"
REPLAY, FROM_ONE, RESUMED, SHORT_WINDOW, SHORT_QUEUE, LISTING = 1, 2, 4, 8, 16, 32


def publisher_stream():
    def history(flags, *steps, sizes=0):
        return bytes([flags, sizes]) + b"".join(steps)

    begin = CONNECT + ALL
    yield "healthy", history(REPLAY, begin, SENT * 5, SECOND, ANSWER * 3, MINUTE, ALL, SENT)
    yield "idle", history(REPLAY, begin, *[MINUTE + ALL] * 20)
    yield "gap", history(REPLAY, begin, SENT * 3, UNSENT, SENT * 2, ALL, SENT)
    yield "gap_without_replay", history(0, CONNECT, SENT * 3, UNSENT, SENT * 2, CLEAR, SENT)
    yield "late_subscriber", history(REPLAY, UNSENT * 5, begin, SENT * 2)
    yield "short_ring", history(REPLAY, b"\x11\x03", UNSENT * 5, begin, SENT, SECOND, ALL)
    yield "live_during_replay", history(REPLAY, UNSENT * 3, CONNECT, ANSWER, SENT * 2, ALL, SENT)
    yield "no_answer", history(REPLAY, begin, SENT, *[MINUTE] * 20)
    yield "cut_answer", history(REPLAY, UNSENT * 5, CONNECT, ANSWER * 2, LOST, SECOND, ALL)
    yield "end_too_early", history(REPLAY, UNSENT * 5, CONNECT, ANSWER, END, SENT, ALL)
    yield "restart", history(REPLAY, begin, SENT * 4, DISCONNECT, RESTART, SENT, CONNECT, ALL, SENT)
    yield "restart_in_place", history(REPLAY, begin, SENT * 4, RESTART, SENT, ALL, SENT, ALL)
    yield "restart_during_replay", history(REPLAY, UNSENT * 4, CONNECT, ANSWER, RESTART, SENT, ALL)
    yield "restart_known", history(REPLAY, begin, SENT * 4, RESTART, RESTART_KNOWN, SENT, ALL)
    yield "reconnect", history(REPLAY, begin, SENT * 4, DISCONNECT, FAILED, CONNECT, ALL, SENT)
    yield "reconnect_without_replay", history(0, CONNECT, SENT * 4, DISCONNECT, CONNECT, SENT, MINUTE)
    yield "resync", history(REPLAY, begin, SENT * 4, RESYNC, ALL, SENT)
    yield "resumed", history(REPLAY | RESUMED, UNSENT * 8, begin, SENT, sizes=3)
    yield "pool", history(FROM_ONE, CONNECT, SENT * 4)
    pool = FROM_ONE | LISTING
    yield "listed", history(pool, CONNECT, LISTED, SENT * 4, SECOND, LISTED)
    yield "listed_late", history(pool, UNSENT * 3, CONNECT, SENT, LISTED, SENT, LISTED, SECOND)
    yield "listing_mends_a_gap", history(pool, CONNECT, LISTED, SENT, UNSENT, SENT, LISTED, SENT)
    yield "gap_during_a_listing", history(pool, CONNECT, SENT, UNSENT, SENT, LISTED, LISTED, MINUTE)
    yield "listing_fails", history(pool, CONNECT, LISTING_FAILED, SECOND, FALSE_LISTING, MINUTE, LISTED)
    yield "listed_after_reconnect", history(pool, CONNECT, LISTED, DISCONNECT, CONNECT, LISTED, SENT)
    yield "cleared", history(REPLAY, begin, SENT * 3, CLEARED, SENT, RESYNC, ALL, SENT)
    yield "cleared_pool", history(pool, CONNECT, LISTED, SENT, CLEARED, SENT, RESYNC, LISTED)
    yield "dropped", history(REPLAY, begin, SENT * 3, DROPPED, ALL, SENT)
    yield "dropped_of_a_pool", history(pool, CONNECT, LISTED, SENT, DROPPED, LISTED, SENT)
    yield "duplicates", history(REPLAY, begin, SENT * 9, NEAR + b"\x04\x01", NEAR + b"\x07\x01")
    yield "late", history(REPLAY | SHORT_WINDOW, begin, SENT * 9, NEAR + b"\x01\x01", NEAR + b"\x00\x01")
    yield "another_at_the_cursor", history(REPLAY, begin, SENT * 9, NEAR + b"\x07\x00\x03xyz", ALL)
    yield "full_queue", history(REPLAY | SHORT_QUEUE, CONNECT, SENT * 9, ALL, ALL, SENT, sizes=20)
    yield "lost", history(REPLAY, begin, LOST_STORES, SENT, LOST_REMOVALS, SENT, CLEAR, SENT)
    yield "doubtful_for_long", history(0, CONNECT, SENT, UNSENT, SENT, *[b"\x0f\xff"] * 2, SENT)
    yield "malformed", history(REPLAY, begin, ANY + b"\x02\x01t\x08\x00\x00\x00\x00\x00\x00\x00\x00",
                               ANY + b"\x03\x00\x07sevenby\x01p", ANY + b"\x00")
    yield "false_answers", history(REPLAY, UNSENT * 3, CONNECT, FALSE + b"\x00\x09\x00",
                                   FALSE + b"\x04\x03\x00\x03abc\x00", FALSE + b"\x08" + b"\xff" * 8, ALL)


def block_digest():
    tokens = bytes(range(32)) + b"\xff\xff\xff\xff\xff\xff\xff\x7f"
    keys = {"text": "a473616c74", "item": "92a3696d6705", "bytes": "c40400010203", "integer": "07"}
    yield "plain", b"\x00" + tokens
    for name, key in keys.items():
        raw = bytes.fromhex(key)
        yield name, b"\x01" + bytes([len(raw)]) + raw + tokens
    yield "three", b"\x03" + b"".join(
        bytes([len(raw)]) + raw for raw in map(bytes.fromhex, list(keys.values())[:3])) + tokens


def recording():
    """Recordings (docs/recording-format.md). What zstd holds is not compressed, so mutations of it are
    mutations of records."""
    def number(value, size=4):
        return value.to_bytes(size, "little")

    def text(data):
        return number(len(data)) + data

    def checksum(data, size=8):
        return number(xxhash.xxh3_64_intdigest(data) & 256 ** size - 1, size)

    def record(body):
        return number(len(body)) + checksum(body, 4) + body

    def publisher(index, endpoint):
        return record(b"\x01" + number(index) + text(endpoint) + text(b"") * 2 + text(b"{}"))

    def frame(time, index, flags, *frames):
        return record(b"\x02" + number(time, 8) + number(index) + bytes([flags]) +
                      number(len(frames)) + b"".join(map(text, frames)))

    def mark(kind, index=2**32 - 1, count=0):
        return record(b"\x03" + number(1, 8) + number(index) + bytes([kind]) + number(count, 8) +
                      text(b"why"))

    def block(*records):
        raw = b"".join(records)
        zstd = (b"\x28\xb5\x2f\xfd\x60" + number(len(raw) - 256, 2) if len(raw) > 255 else
                b"\x28\xb5\x2f\xfd\x20" + number(len(raw), 1))
        stored = zstd + number(1 | len(raw) << 3, 3) + raw
        head = (b"\xc7KVB" + number(len(stored)) + number(len(raw)) + number(len(records)) +
                checksum(stored))
        return head + checksum(head, 4) + stored

    def header(major=1, writer=b"conductor"):
        head = b"\x89KVR\r\n\x1a\n" + number(major, 2) + number(0, 2) + number(5, 8) + text(writer)
        return head + checksum(head)

    payload = dict(golden())["vllm_v0_11"]
    first = publisher(0, b"tcp://a:1"), frame(7, 0, 0, b"kv", bytes(8), payload)
    second = block(frame(8, 0, 1, b"", bytes(7) + b"\x01", b"\x92\x01\x90"), mark(4, 0), mark(5))
    whole = header() + block(*first) + second
    yield "whole", whole
    yield "torn", whole[:-9]
    yield "damaged", header() + block(*first)[:-1] + b"\xff" + second
    yield "garbage", header() + b"\xc7KVB and no more" + block(*first) + bytes(40) + second
    yield "malformed", header() + block(frame(1, 9, 0), frame(2, 9, 0, b"1", b"2", b"3", b"4", b"5"),
                                        mark(77, 9, 5), record(b"\x63new"), record(b"\x02short"))
    yield "newer", header(major=2)
    yield "blocks", block(*first) + second
    bodies = [made[8:] for made in (*first, mark(1, 0), mark(3, 0, 2), mark(5), record(b"\x09new"))]
    yield "bodies", b"r" + b"".join(len(body).to_bytes(2, "big") + body for body in bodies)


def requests():
    """Bodies of every kind of request, with all of their fields."""
    prompt = {"model": "m", "token_ids": [1, 2, 4294967295], "tenant_id": "t", "lora_name": "l",
              "cache_salt": "s", "additional_salt": "a", "block_size": 16}
    yield "query", {**prompt, "instances": ["a", "b"], "top": 1}
    yield "hashes", {"model": "m", "block_size": 16, "prefix_hashes": [1, -1, "18446744073709551615"]}
    yield "batch", {"model": "m", "prompts": [{"token_ids": [1]}, {"tokens": []}]}
    yield "score", {**prompt, "load": {"a": {"waiting": 3, "kv_use": 0.5}}, "weights": {"gpu": 1}}
    yield "mooncake_query", {**prompt, "instance_id": "a", "lora_id": -1}
    yield "cache", {"instances": ["10.0.0.1"], "token_ids": [1, 2], "model_name": "m", "lora_id": -1}
    yield "register", {
        "endpoint": "tcp://h:5557", "replay_endpoint": "tcp://h:5657", "type": "vLLM",
        "modelname": "m", "instance_id": "a", "tenant_id": "t", "dp_rank": 0, "dp_size": 2,
        "incarnation": "i", "block_size": 16, "lora_id": 1, "additionalsalt": "a", "copies": "set",
        "cache_group": 0, "ttl": {"cpu": "10m", "disk": "1h"}, "topic": "kv",
        "hash_profile": {"algorithm": "sha256", "python_hash_seed": "0", "hash_block_size": 16}}
    yield "register_first", {"ip": "127.0.0.1", "port": 5557, "type": "vLLM", "modelname": "m",
                             "instance_id": "a", "mode": "bind", "peer": "10.0.0.1"}
    yield "register_pool", {
        "endpoint": "tcp://h:5557", "type": "Mooncake", "model": "m", "instance_id": "p",
        "pool_lookup": "continue", "tp_size": 8, "kv_heads": 4, "pp_size": 1, "layers": 2,
        "admin_endpoint": "h:9003", "key_models": {"p@M": "m"}}
    yield "unregister", {"instance_id": "a", "tenant_id": "t", "dp_rank": 1, "type": "vLLM"}
    yield "nulls", {"model": None, "token_ids": None, "instances": None, "endpoint": None}


def request_json():
    for name, body in requests():
        yield name, json.dumps(body).encode()
    yield "twice", b'{"model": "m", "model": "n", "token_ids": [1]}'
    yield "packed", b'{"model": "m", "tokens": "AQAAAAIAAAA="}'
    yield "deep", b'{"model": "m", "token_ids": ' + b"[" * 40 + b"]" * 40 + b"}"
    # Arrays that are long enough to be read apart: compact, spaced, and with one that is too large.
    tokens = [str(i * 2654435761 % 128000) for i in range(120)]
    compact, spaced, broken = ",".join(tokens), ", ".join(tokens), " ,\n".join(tokens)
    yield "long_tokens", f'{{"model":"m","token_ids":[{compact}],"top":1}}'.encode()
    yield "long_batch", (f'{{"model":"m","prompts":[{{"token_ids":[{spaced}]}},'
                         f'{{"token_ids":[4294967295,{broken}]}},'
                         f'{{"token_ids":[{compact},4294967296]}}]}}').encode()
    yield "escapes", r'{"model": "\ud83d\ude00\n\"", "token_ids": [1e3, -0, 1.5]}'.encode()


def request_msgpack():
    for name, body in requests():
        yield name, msgpack.packb(body)
    yield "packed", msgpack.packb({"model": "m", "tokens": b"\1\0\0\0\2\0\0\0"})
    # What they claim is not there: 2^32 - 1 pairs, items, bytes.
    yield "claims_pairs", b"\xdf\xff\xff\xff\xff\xa5model\xa1m"
    yield "claims_items", b"\x82\xa5model\xa1m\xa9token_ids\xdd\xff\xff\xff\xff\x01"
    yield "claims_bytes", b"\x82\xa5model\xa1m\xa6tokens\xc6\xff\xff\xff\xff\x01"
    yield "deep", b"\x82\xa5model\xa1m\xa9token_ids" + b"\x91" * 40 + b"\xc0"
    yield "twice", b"\x83\xa5model\xa1m\xa5model\xa1n\xa9token_ids\x91\x01"


FOLDERS = (payload, object_key, ingest_payloads, ingest_events, publisher_stream, block_digest,
           recording, request_json, request_msgpack)


def main(check):
    wrong = []
    for make in FOLDERS:
        folder = HERE / make.__name__
        made = dict(make())
        there = {path.name: path for path in folder.glob("*") if not path.name.startswith("found-")}
        for name in sorted(set(made) | set(there)):
            if name in made and name in there and there[name].read_bytes() == made[name]:
                continue
            wrong.append(f"{folder.name}/{name}")
            if check:
                continue
            folder.mkdir(exist_ok=True)
            if name in made:
                (folder / name).write_bytes(made[name])
            else:
                there[name].unlink()
    if check and wrong:
        sys.exit("not what make_corpus.py makes (run it): " + ", ".join(wrong))


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__)
    main(check=bool(sys.argv[1:]))
