"""Writes recordings as docs/recording-format.md has them, sharing no code with what reads them."""

import json
import struct

import xxhash

MAGIC = b"\x89KVR\r\n\x1a\n"
BLOCK = b"\xc7KVB"


def _low(data):
    return struct.pack("<I", xxhash.xxh3_64_intdigest(data) & 0xFFFFFFFF)


def _whole(data):
    return struct.pack("<Q", xxhash.xxh3_64_intdigest(data))


def _text(data):
    data = data.encode() if isinstance(data, str) else data
    return struct.pack("<I", len(data)) + data


def _uncompressed(data):
    """A zstd frame (RFC 8878) of raw blocks: a single segment with its size in eight bytes."""
    frame = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", len(data))
    pieces = [data[at:at + 65536] for at in range(0, len(data), 65536)] or [b""]
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        frame += struct.pack("<I", len(piece) << 3 | last)[:3] + piece
    return frame


class RecordingFile:
    """Records gather until finish() writes them, as one block each `records` of them."""

    def __init__(self, path, records=100):
        self.path = path
        self._records = records
        self._bodies = []
        self._publishers = 0

    def publisher(self, endpoint, facts=None):
        number = self._publishers
        self._publishers += 1
        self._bodies.append(b"\x01" + struct.pack("<I", number) + _text(endpoint) + _text("")
                            + _text("") + _text(json.dumps(facts) if facts else ""))
        return number

    def message(self, publisher, *frames, replayed=False, at=1_700_000_000):
        self._bodies.append(b"\x02" + struct.pack("<QIBI", at * 10**9, publisher, replayed,
                                                  len(frames)) + b"".join(map(_text, frames)))

    def batch(self, publisher, sequence, payload, **more):
        self.message(publisher, b"", struct.pack(">Q", sequence), payload, **more)

    def answer(self, publisher, sequence, payload):
        """A batch of a replay endpoint's answer."""
        self.message(publisher, b"", b"", struct.pack(">Q", sequence), payload, replayed=True)

    def end_of_answer(self, publisher):
        self.message(publisher, b"", b"", b"\xff" * 8, b"", replayed=True)

    def finish(self, ended=True):
        """The file's bytes, which are written, too."""
        bodies = list(self._bodies)
        if ended:
            bodies.append(b"\x03" + struct.pack("<QIBQ", 1_700_000_001 * 10**9, 0xFFFFFFFF, 5, 0)
                          + _text(""))
        header = (MAGIC + struct.pack("<HHQ", 1, 0, 1_700_000_000 * 10**9)
                  + _text("recording_file.py"))
        data = header + _whole(header)
        for at in range(0, len(bodies), self._records):
            some = bodies[at:at + self._records]
            block = b"".join(struct.pack("<I", len(body)) + _low(body) + body for body in some)
            frame = _uncompressed(block)
            head = (BLOCK + struct.pack("<III", len(frame), len(block), len(some))
                    + _whole(frame))
            data += head + _low(head) + frame
        with open(self.path, "wb") as file:
            file.write(data)
        return data
