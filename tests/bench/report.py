"""What the benchmarks found, as tables for docs/performance.md and as plots.

    python3 tests/bench/report.py FOLDER PLOTS

FOLDER has index.json (Google Benchmark), memory.jsonl (index_memory), fleet.json and fleet_daemon.json
(fleet_bench), queries.json (query_bench) and proxy.json (proxy_bench), as scripts/bench leaves them. The tables go to standard output, *.svg to PLOTS.
"""

import json
import math
import os
import re
import sys

INK = "#24292f"
GRID = "#d0d7de"
LEAVE_BESIDE = (100_000, 1_000_000, 10_000_000)
COLOURS = ["#0969da", "#bc4c00", "#1a7f37", "#8250df", "#cf222e", "#57606a"]


class Benchmarks:
    """The runs of one JSON of Google Benchmark, by name."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            told = json.load(file)
        self.context = told["context"]
        self.runs = {}
        for run in told["benchmarks"]:
            if run.get("run_type", "iteration") == "iteration" and "error_occurred" not in run:
                name = run["name"].replace("/manual_time", "").replace("/real_time", "")
                self.runs[re.split("/(?:min_time|iterations):", name)[0]] = run

    def ns(self, name):
        """Nanoseconds an iteration; None when it was not run."""
        run = self.runs.get(name)
        if run is None:
            return None
        return run["real_time"] * {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}[run["time_unit"]]

    def counter(self, name, counter):
        run = self.runs.get(name)
        return None if run is None else run.get(counter)


def chain_of(blocks, tokens_a_block=16):
    return f"HashChain/blocks:{blocks}/tokens_a_block:{tokens_a_block}"


def ratio(a, b):
    return "" if not a or not b else f"{a / b:.2f}"


def number(value, form="{:.1f}", scale=1.0):
    return "" if value is None else form.format(value * scale)


def table(heads, rows):
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print()


def tables(bench, memory):
    chain = bench.ns(chain_of(8192))
    print("### Lookups\n")
    rows = []
    for holders in (1, 8, 64, 512):
        found = bench.ns(f"Lookup/blocks:8192/holders:{holders}")
        rows.append([f"8,192 blocks, {holders} holders", number(found, "{:.1f} us", 1e-3),
                     ratio(found, chain)])
    table(["lookup of a held prompt, hashing included", "time", "of the hash chain alone"], rows)
    rows = [[f"{blocks} blocks", number(bench.ns(f"LookupMiss/blocks:{blocks}"), "{:.0f} ns")]
            for blocks in (64, 8192)]
    table(["a miss on the first block", "time"], rows)
    rows = []
    for blocks in (64, 256, 1024):
        name = f"LookupTopOfMany/blocks:{blocks}/holders:4096"
        rows.append([f"{blocks} blocks", number(bench.counter(name, "p50_us"), "{:.0f} us"),
                     number(bench.counter(name, "p99_us"), "{:.0f} us")])
    table(["the best 8 of 4,096 holders", "p50", "p99"], rows)
    gpu = bench.ns("LookupTier/where:0")
    rows = [[label, ratio(bench.ns(f"LookupTier/where:{i}"), gpu)]
            for i, label in enumerate(("device", "host", "disk", "all three", "a pool alone",
                                       "device and a pool", "a pool alone that continues",
                                       "device and a pool that continues"))]
    table(["2,048 blocks held by 8, on", "of the time on the device"], rows)
    one = bench.ns("LookupBlockSize/tokens_a_block:1")
    sixteen = bench.ns("LookupBlockSize/tokens_a_block:16")
    table(["32,768 tokens in blocks of", "time", "a block", "of the hash chain alone"],
          [["16 tokens", number(sixteen, "{:.1f} us", 1e-3), number(sixteen, "{:.1f} ns", 1 / 2048),
            ratio(sixteen, bench.ns(chain_of(2048)))],
           ["1 token", number(one, "{:.1f} us", 1e-3), number(one, "{:.1f} ns", 1 / 32768),
            ratio(one, bench.ns(chain_of(32768, 1)))]])
    apart, beside = (f"LookupBesideWriter/same:{same}" for same in (0, 1))
    rows = []
    for what, label in (("items_per_second", "lookups a second"), ("p50_us", "p50, us"),
                        ("p99_us", "p99, us"), ("applied_blocks", "blocks applied a second")):
        a, b = bench.counter(apart, what), bench.counter(beside, what)
        form = "{:.1f}" if what.startswith("p") else "{:,.0f}"
        rows.append([label, number(a, form), number(b, form), ratio(b, a)])
    table(["512 blocks, 64 holders, while the other core applies events", "to another index",
           "to this one", "ratio"], rows)

    print("### Events\n")
    rows = []
    for blocks in (64, 1):
        base = bench.counter(f"Apply/blocks_an_event:{blocks}/resident:100000", "blocks")
        for resident in (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000):
            rate = bench.counter(f"Apply/blocks_an_event:{blocks}/resident:{resident}", "blocks")
            if rate:
                rows.append([blocks, f"{resident:,}", f"{rate / 1e6:.2f} M", ratio(base, rate)])
    table(["blocks an event", "resident blocks", "stored and removed a second",
           "times slower than at 100,000"], rows)
    rows = []
    for i, label in enumerate(("removed by name", "cleared", "unregistered")):
        times = [bench.ns(f"Leave/how:{i}/resident:{n}") for n in LEAVE_BESIDE]
        rows.append([label] + [number(time, "{:.0f} ns", 1 / 16384) for time in times])
    table(["16,384 blocks are"] + [f"a block, beside {n:,} others" for n in LEAVE_BESIDE], rows)

    print("### Memory\n")
    rows = []
    single = {}
    for run in memory:
        if run["when"] == "filled" and run["holders"] == 1:
            single[run["runs"]] = run["bytes_per_block"]
    for run in memory:
        more = ""
        if run["holders"] > 1 and run["runs"] in single:
            each = (run["bytes_per_block"] - single[run["runs"]]) / (run["holders"] - 1)
            more = f"{each:.2f}"
        rows.append([run["runs"], run["holders"], "yes" if run["differing"] else "no", run["when"],
                     f"{run['blocks']:,}", f"{run['bytes_per_block']:.2f}", more])
    table(["runs", "holders", "names differ", "when", "blocks", "bytes a block",
           "for each further holder"], rows)


def fleet_tables(title, fleet):
    print(f"### {title}\n")
    table(["requests", "engines", "clients", "offered", "achieved", "with whole prompts", "drain",
           "matched", "planned"],
          [[f"{fleet['requests']:,}", fleet["engines"], fleet["clients"],
            f"{fleet['block_ops_per_second_offered'] / 1e6:.2f} M/s",
            f"{fleet['block_ops_per_second_achieved'] / 1e6:.2f} M/s",
            f"{fleet['block_ops_per_second_achieved_whole_prompts'] / 1e6:.2f} M/s",
            f"{fleet['seconds_drain'] * 1e3:.1f} ms",
            f"{fleet['matched_share'] * 100:.1f} %",
            f"{fleet['planned_matched_share'] * 100:.1f} %"]])
    table(["matched holders", "lookups", "p50, us", "p99, us"],
          [[row["holders"], row["lookups"], f"{row['p50_us']:.1f}", f"{row['p99_us']:.1f}"]
           for row in fleet["latency_by_matched_holders"]])


# --- Plots.

def ticks(low, high, log):
    if log:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        powers = [10.0 ** p for p in range(first, last + 1)]
        if len(powers) < 4:
            powers = [p * m for p in powers for m in (1, 2, 5)]
        return [t for t in powers if low * 0.999 <= t <= high * 1.001]
    step = 10 ** math.floor(math.log10(high / 4))
    step = next(step * m for m in (1, 2, 2.5, 5, 10) if high / (step * m) <= 6)
    return [i * step for i in range(int(high / step) + 1)]


def short(value):
    for limit, suffix in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{suffix}"
    return f"{value:g}"


def plot(path, title, x_label, y_label, series, log_x=True, log_y=True):
    """series: {name: [(x, y), ...]}"""
    series = {name: points for name, points in series.items() if points}
    if not series:
        return
    width, height, left, right, top, bottom = 720, 420, 70, 170, 40, 50
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    low_x, high_x = min(xs), max(xs)
    low_y, high_y = (min(ys), max(ys)) if log_y else (0, max(ys) * 1.1)
    if log_y:
        low_y, high_y = low_y / 1.5, high_y * 1.5

    def place(value, low, high, log, begin, end):
        if log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return begin + (end - begin) * ((value - low) / ((high - low) or 1))

    def px(x):
        return place(x, low_x, high_x, log_x, left, width - right)

    def py(y):
        return place(y, low_y, high_y, log_y, height - bottom, top)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
           f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" fill="{INK}">',
           f'<rect width="{width}" height="{height}" fill="white"/>',
           f'<text x="{left}" y="22" font-size="15">{title}</text>']
    for x in sorted(set(xs)) if len(set(xs)) <= 6 else ticks(low_x, high_x, log_x):
        out.append(f'<line x1="{px(x):.1f}" y1="{top}" x2="{px(x):.1f}" y2="{height - bottom}" '
                   f'stroke="{GRID}"/>')
        out.append(f'<text x="{px(x):.1f}" y="{height - bottom + 18}" text-anchor="middle">'
                   f'{short(x)}</text>')
    for y in ticks(low_y if log_y else 0, high_y, log_y):
        out.append(f'<line x1="{left}" y1="{py(y):.1f}" x2="{width - right}" y2="{py(y):.1f}" '
                   f'stroke="{GRID}"/>')
        out.append(f'<text x="{left - 8}" y="{py(y) + 4:.1f}" text-anchor="end">{short(y)}</text>')
    out.append(f'<text x="{(left + width - right) / 2:.0f}" y="{height - 12}" '
               f'text-anchor="middle">{x_label}</text>')
    middle = (top + height - bottom) / 2
    out.append(f'<text x="18" y="{middle:.0f}" text-anchor="middle" '
               f'transform="rotate(-90 18 {middle:.0f})">{y_label}</text>')
    for i, (name, points) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        line = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in sorted(points))
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="3" fill="{colour}"/>'
                for x, y in points]
        y = top + 10 + 20 * i
        out.append(f'<line x1="{width - right + 15}" y1="{y}" x2="{width - right + 35}" y2="{y}" '
                   f'stroke="{colour}" stroke-width="2"/>')
        out.append(f'<text x="{width - right + 42}" y="{y + 4}">{name}</text>')
    out.append("</svg>\n")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(out))


def query_tables(found):
    print("### Queries\n")
    table(("form", "instances", "body, bytes", "answer", "queries/s", "null handler/s", "of it",
           "library's/s", "of that", "server CPU, us", "null handler's", "over ZeroMQ/s", "over one socket/s"),
          [(row["form"], row["instances"], f"{row['body_bytes']:,}", f"{row['answer_bytes']:,}",
            f"{row['rate']:,.0f}", f"{row['null_rate']:,.0f}", f"{row['of_null']:.2f}",
            f"{row['library_rate']:,.0f}", f"{row['of_library']:.2f}",
            f"{row['cpu_us']:.1f}", f"{row['null_cpu_us']:.1f}",
            number(row.get("zmq_rate"), "{:,.0f}"),
            number(row.get("zmq_pipelined_rate"), "{:,.0f}")) for row in found["queries"]])
    crowd = found["crowd"]
    table((f"{crowd['connections']} connections", "peak/s", "answers to each", "offered/s",
           "p50, us", "p99, us", "p99 of p50"),
          [(name, f"{of['peak']:,.0f}", f"{of['least_answers']}-{of['most_answers']}",
            f"{of['offered']:,.0f}", f"{of['p50_us']:.0f}", f"{of['p99_us']:.0f}",
            f"{of['p99_of_p50']:.1f}")
           for name, of in (("queries", crowd["queries"]), ("null handler", crowd["null"]))])
    events = crowd["events"]
    table(("events beside these queries", "visible p50, us", "p99", "max"),
          [(events["watched"], f"{events['visible_p50_us']:.0f}",
            f"{events['visible_p99_us']:.0f}", f"{events['visible_max_us']:.0f}")])


def proxy_tables(found):
    print("### The proxy\n")
    print(f"{found['streams']:,} streams of {found['tokens']} tokens, one each {found['interval_ms']:g} ms "
          f"({found['event_bytes']} bytes); relays of {found['threads']} thread(s).\n")
    table(("load", "through", "tokens/s", "streams", "failed", "first byte p50, us", "p99",
           "added p50, us", "added p99", "CPU a token, us", "CPU a stream, us",
           "tokens/s a core", "of HAProxy's CPU"),
          [(row["load"], row["through"], f"{row['tokens_per_second']:,.0f}",
            f"{row['streams_ended']:,}", row["streams_failed"],
            f"{row['first_byte_p50_us']:,.0f}", f"{row['first_byte_p99_us']:,.0f}",
            number(row.get("added_p50_us"), "{:,.0f}"), number(row.get("added_p99_us"), "{:,.0f}"),
            number(row.get("cpu_us_per_token"), "{:.2f}"),
            number(row.get("cpu_us_per_stream"), "{:,.0f}"),
            number(row.get("tokens_per_second_per_core"), "{:,.0f}"),
            number(row.get("cpu_of_haproxy"), "{:.2f}")) for row in found["relayed"]])
    table(("memory", "streams", "RSS", "a stream"),
          [(row["through"], f"{row['streams']:,}", f"{row['resident_bytes'] / 2**20:.1f} MiB",
            f"{row['bytes_per_stream'] / 2**10:.1f} KiB") for row in found["memory"]])
    for name, reason in found["skipped"].items():
        print(f"Skipped: {name}, {reason}.\n")


def plots(bench, memory, folder):
    lengths = (32, 128, 512, 2048, 8192)
    lookups = {f"{holders} holder{'s' if holders > 1 else ''}":
               [(n, bench.ns(f"Lookup/blocks:{n}/holders:{holders}") / 1e3) for n in lengths
                if bench.ns(f"Lookup/blocks:{n}/holders:{holders}")]
               for holders in (1, 8, 64, 512)}
    lookups["hash chain alone"] = [(n, bench.ns(chain_of(n)) / 1e3) for n in lengths
                                   if bench.ns(chain_of(n))]
    plot(os.path.join(folder, "lookup.svg"), "Lookup of a prompt that is held, hashing included",
         "blocks of 16 tokens", "microseconds", lookups)

    def per_block(differing):
        return [(run["holders"], run["bytes_per_block"]) for run in memory
                if run["runs"] == "chat" and run["when"] == "filled"
                and (run["differing"] == differing or run["holders"] == 1)]

    plot(os.path.join(folder, "memory.svg"), "Resident bytes per held block, 10 million blocks",
         "holders of each block", "bytes",
         {"the same names": per_block(False), "differing names": per_block(True)}, log_y=False)
    sizes = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
    applied = {}
    for blocks in (64, 1):
        points = [(n, bench.counter(f"Apply/blocks_an_event:{blocks}/resident:{n}", "blocks"))
                  for n in sizes]
        name = f"{blocks} block{'s' if blocks > 1 else ''} an event"
        applied[name] = [(n, rate / 1e6) for n, rate in points if rate]
    plot(os.path.join(folder, "apply.svg"), "Stored and removed blocks, decoding included, one core",
         "resident blocks", "million a second", applied, log_y=False)


def main():
    folder, out = sys.argv[1:]
    bench = Benchmarks(os.path.join(folder, "index.json"))
    with open(os.path.join(folder, "memory.jsonl"), encoding="utf-8") as file:
        memory = [json.loads(line) for line in file]
    context = bench.context
    print(f"{context['num_cpus']} cores at {context['mhz_per_cpu']} MHz, load "
          f"{context['load_avg'][0]:.1f} at the start, {context['date'][:10]}.\n")
    tables(bench, memory)
    for name, title in (("fleet", "A fleet, in process"), ("fleet_daemon", "A fleet and a daemon")):
        path = os.path.join(folder, f"{name}.json")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                fleet_tables(title, json.load(file))
    path = os.path.join(folder, "queries.json")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            query_tables(json.load(file))
    path = os.path.join(folder, "proxy.json")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            proxy_tables(json.load(file))
    plots(bench, memory, out)


if __name__ == "__main__":
    main()
