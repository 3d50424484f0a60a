#!/usr/bin/env python3
"""Checks an export of a trace log against the rules of its format, and against the log.

usage: check_export.py FORMAT LOG EXPORT      exit status 1, and what is wrong, when it is not right
"""
import bisect
import collections
import csv
import json
import pickle
import pickletools
import re
import sys


def records_of(log):
    """The records that can be read, as any reader of the log would see them."""
    for line in open(log, "rb"):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("kind"), str):
            yield record


def live_of(log):
    live = {}
    for record in records_of(log):
        if record["kind"] == "alloc" and isinstance(record.get("asked_bytes"), int):
            live[record["address"]] = record.get("given_bytes", record["asked_bytes"])
        elif record["kind"] == "free":
            live.pop(record.get("address"), None)
    return live


def check_folded(log, export):
    # A frame has no ';', the weight is a positive whole number after the last space.
    lines = open(export, encoding="utf-8").read().split("\n")
    assert lines.pop() == "", "the last line has no end"
    frames = [line.rpartition(" ")[0] for line in lines]
    for line in lines:
        assert re.fullmatch(r"gpu\d+;[^;]+(;[^;]+)+ [1-9]\d*", line), line
    assert len(set(frames)) == len(frames), "a stack comes twice"
    return sum(int(line.rpartition(" ")[2]) for line in lines)


# https://www.speedscope.app/file-format-schema.json, as far as sampled profiles go.
PROFILE = {
    "type": "object",
    "properties": {
        "type": {"const": "sampled"},
        "name": {"type": "string"},
        "unit": {"enum": ["bytes", "microseconds", "milliseconds", "nanoseconds", "none", "seconds"]},
        "startValue": {"type": "number"},
        "endValue": {"type": "number"},
        "samples": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
        "weights": {"type": "array", "items": {"type": "number"}},
    },
    "required": ["endValue", "name", "samples", "startValue", "type", "unit", "weights"],
}
SPEEDSCOPE = {
    "type": "object",
    "properties": {
        "$schema": {"const": "https://www.speedscope.app/file-format-schema.json"},
        "activeProfileIndex": {"type": "number"},
        "exporter": {"type": "string"},
        "name": {"type": "string"},
        "profiles": {"type": "array", "items": PROFILE},
        "shared": {
            "type": "object",
            "properties": {
                "frames": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"name": {"type": "string"}},
                        "required": ["name"],
                    },
                }
            },
            "required": ["frames"],
        },
    },
    "required": ["$schema", "profiles", "shared"],
}


def matches(value, schema, where="file"):
    """The part of JSON Schema that the schema above needs."""
    kinds = {"object": dict, "array": list, "string": str, "number": (int, float)}
    if "const" in schema:
        assert value == schema["const"], where
    if "enum" in schema:
        assert value in schema["enum"], where
    if "type" in schema:
        assert isinstance(value, kinds[schema["type"]]) and not isinstance(value, bool), where
    for name in schema.get("required", ()):
        assert name in value, f"{where}: no {name}"
    for name, part in schema.get("properties", {}).items():
        if name in value:
            matches(value[name], part, f"{where}.{name}")
    if "items" in schema:
        for i, item in enumerate(value):
            matches(item, schema["items"], f"{where}[{i}]")


def check_speedscope(log, export):
    file = json.load(open(export, encoding="utf-8"))
    matches(file, SPEEDSCOPE)
    frames = file["shared"]["frames"]
    assert 0 <= file["activeProfileIndex"] < len(file["profiles"])
    for profile in file["profiles"]:
        assert len(profile["samples"]) == len(profile["weights"]), profile["name"]
        assert all(0 <= i < len(frames) for sample in profile["samples"] for i in sample)
        assert all(sample for sample in profile["samples"]), "an empty stack"
        assert all(isinstance(w, int) and w > 0 for w in profile["weights"]), "a weight"
        assert profile["endValue"] - profile["startValue"] == sum(profile["weights"])
    live = sum(live_of(log).values())
    sums = {p["name"]: sum(p["weights"]) for p in file["profiles"]}
    assert sums.get("bytes live at the end", 0) == live, "bytes live at the end"


def check_chrome(log, export):
    text = open(export, encoding="utf-8").read()
    assert "displayTimeUnit" not in text, "some readers rescale times by displayTimeUnit"
    file = json.loads(text)
    events = file["traceEvents"]
    assert isinstance(file["metadata"], dict)
    open_spans, ids = {}, set()
    rows, stacks = {}, {}  # names by tid; call stacks by number
    phases = collections.Counter()
    times = [r["t"] for r in records_of(log) if isinstance(r.get("t"), int)]
    length_us = (max(times) - times[0]) / 1000
    levels = {}
    for event in events:
        phase = event["ph"]
        phases[phase] += 1
        assert phase in "MCbei" and isinstance(event["pid"], int) and event["pid"] > 0, event
        assert isinstance(event["name"], str) and event["name"].isascii(), event
        if phase == "M":
            assert event["name"] in ("process_name", "thread_name") and event["args"]["name"], event
            rows[event["tid"]] = event["args"]["name"]
            continue
        assert isinstance(event["ts"], (int, float)) and 0 <= event["ts"] <= length_us + 1, event
        if phase == "C":
            assert "id" not in event and event["args"], event
            assert all(isinstance(v, (int, float)) and v >= 0 for v in event["args"].values()), event
            levels.setdefault(event["name"], []).append((event["ts"], event["args"]))
        elif phase in "be":
            assert isinstance(event["tid"], int) and "id" not in event, event
            key = event["id2"]["local"]
            assert re.fullmatch(r"0x[0-9a-f]+", key), event
            if phase == "b":
                assert key not in ids, "an id comes twice"
                if "stack_id" in event["args"]:
                    whole, short = stacks[event["args"]["stack_id"]], event["args"]["stack"]
                    assert 0 < len(short.encode()) <= 160 and whole.split(" < ")[0], event
                ids.add(key)
                open_spans[key] = event
            else:
                begin = open_spans.pop(key)
                for name in ("name", "cat", "pid", "tid"):
                    assert begin[name] == event[name], (begin, event)
                assert event["ts"] >= begin["ts"], (begin, event)
        elif phase == "i":
            assert event["s"] in "tpg", event
            if rows.get(event.get("tid")) == "call stacks":
                number = event["args"]["stack_id"]
                assert number not in stacks, "a stack comes twice"
                stacks[number] = event["args"]["stack"]
    assert len({event["pid"] for event in events}) == 1, "more than one process"
    for name, samples in levels.items():
        at = [ts for ts, _ in samples]
        assert at == sorted(at), f"{name} goes back in time"
    return {"phases": phases, "open": len(open_spans), "levels": levels}


def check_torch(log, export):
    data = open(export, "rb").read()
    # The viewer's own reader knows these and little more.
    known = {"PROTO", "EMPTY_DICT", "EMPTY_LIST", "MARK", "SETITEMS", "APPENDS", "BINUNICODE",
             "BININT", "LONG1", "NEWTRUE", "STOP", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"}
    made = {"EMPTY_DICT", "EMPTY_LIST", "BINUNICODE", "BININT", "LONG1", "NEWTRUE", "BINGET",
            "LONG_BINGET"}
    marks = [0]
    for opcode, _, _ in pickletools.genops(data):
        name = opcode.name
        assert name in known, name
        if name == "MARK":
            marks.append(0)
        elif name in ("APPENDS", "SETITEMS"):
            # All of them are arguments of one call, and a browser fails beyond some 120 000.
            assert 0 < marks.pop() <= 1000, "too many at once for a reader in a browser"
        elif name in made:
            marks[-1] += 1
    assert data[:2] == b"\x80\x02", "not protocol 2"
    snapshot = pickle.loads(data)
    assert set(snapshot) >= {"segments", "device_traces"}
    places = len(snapshot["device_traces"])
    segments = [[] for _ in range(places)]
    blocks = [{} for _ in range(places)]
    for segment in snapshot["segments"]:
        assert segment["is_expandable"] is True and segment["stream"] == 0
        at, active, requested = segment["address"], 0, 0
        for block in segment["blocks"]:
            assert block["address"] == at and block["size"] > 0, "blocks do not tile their segment"
            assert block["state"] in ("active_allocated", "inactive")
            assert "category" not in block
            at += block["size"]
            if block["state"] == "active_allocated":
                assert 0 < block["requested_size"] <= block["size"] and block["frames"]
                active += block["size"]
                requested += block["requested_size"]
                blocks[segment["device"]][block["address"]] = block["requested_size"]
            for frame in block["frames"]:
                assert isinstance(frame["name"], str) and isinstance(frame["filename"], str)
                assert isinstance(frame["line"], int)
        assert at == segment["address"] + segment["total_size"], "blocks do not tile their segment"
        assert segment["allocated_size"] == segment["active_size"] == active
        assert segment["requested_size"] == requested
        segments[segment["device"]].append((segment["address"], segment["total_size"]))
    for place in range(places):
        replay_backwards(snapshot["device_traces"][place], sorted(segments[place]), blocks[place])
    return snapshot


def replay_backwards(trace, segments, blocks):
    """As the state view does it: from the end, and every block must lie in a segment all the time."""
    starts = [s for s, _ in segments]
    ends = {s: s + n for s, n in segments}

    def inside(address, size):
        i = bisect.bisect_right(starts, address) - 1
        return i >= 0 and address + size <= ends[starts[i]]

    pending = None
    for event in reversed(trace):
        action = event["action"]
        assert "category" not in event and isinstance(event["time_us"], int)
        if pending is not None:
            assert action == "free_requested" and event["addr"] == pending, "half a free"
            pending = None
            continue
        if action == "oom":
            assert "addr" not in event and event["device_free"] >= 0 and event["size"] >= 0
            assert event["frames"][0]["name"] == "a request that failed", event
            continue
        address, size = event["addr"], event["size"]
        assert size > 0 and event["frames"], "taken for memory from before the recording"
        if action == "alloc":
            assert blocks.pop(address) == size and event["frames"], "an allocation of nothing"
        elif action == "free_completed":
            assert address not in blocks and inside(address, size), "a block outside of segments"
            blocks[address] = size
            pending = address
        elif action == "segment_unmap":  # there it was, before
            assert not inside(address, 1), "mapped twice"
            i = bisect.bisect_left(starts, address)
            end = address + size
            if i < len(starts) and starts[i] == end:
                end = ends.pop(starts.pop(i))
            if i > 0 and ends[starts[i - 1]] == address:
                ends[starts[i - 1]] = end
            else:
                starts.insert(i, address)
                ends[address] = end
        elif action == "segment_map":
            assert inside(address, size), "unmapped what was not there"
            i = bisect.bisect_right(starts, address) - 1
            begin, end = starts[i], ends[starts[i]]
            if begin == address:
                del starts[i], ends[begin]
            else:
                ends[begin] = address
            if address + size < end:
                bisect.insort(starts, address + size)
                ends[address + size] = end
        else:
            raise AssertionError(action)
    assert pending is None, "half a free"
    for address, size in blocks.items():
        assert inside(address, size), "a block outside of segments at the beginning"


def check_csv(log, export):
    with open(export, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file, strict=True))
    heading, rows = rows[0], rows[1:]
    assert heading[:3] == ["time_s", "kind", "device"] and len(set(heading)) == len(heading)
    assert all(len(row) == len(heading) for row in rows), "a row of another length"
    shown = collections.Counter(row[1] for row in rows)
    known = {"request", "alloc", "free", "spill", "map", "unmap", "promote", "demote", "gave_up",
             "out_of_memory", "warning", "end"}
    there = collections.Counter(r["kind"] for r in records_of(log) if r["kind"] in known)
    assert shown == there, (shown, there)
    for row in rows:
        entry = dict(zip(heading, row))
        assert float(entry["time_s"]) >= 0
        for name in heading:
            if name.endswith("_bytes") and entry[name]:
                assert int(entry[name]) >= 0, entry
    return rows


CHECKS = {"folded": check_folded, "speedscope": check_speedscope, "chrome": check_chrome,
          "torch": check_torch, "csv": check_csv}

if __name__ == "__main__":
    CHECKS[sys.argv[1]](sys.argv[2], sys.argv[3])
