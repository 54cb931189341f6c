"""Makes the race's Markdown table of the results that scripts/compare.sh left in a directory: medians over the rounds,
and ratios of ringkeeper to ZooKeeper, to the null responder and to the bare writer."""

import collections
import datetime
import glob
import json
import os
import statistics
import sys


def figure(result, name):
    for one in result.get("figures", []):
        if one["name"].startswith(name):
            return one["value"]
    return None


def values(result):
    """What is compared, of one result."""
    servers = result["servers"]
    found = {
        "rate": result["all"]["per_second"],
        "p50": result["all"]["intended"]["p50"],
        "p99": result["all"]["intended"]["p99"],
        "p99.9": result["all"]["intended"]["p999"],
        "cpu": servers[0]["cpu_us_per_op"] if servers else None,
        "rss": servers[0]["rss_bytes"] if servers else None,
    }
    for key, name in (("last", "last event, median"), ("reply", "setter's reply, longest"), ("event cpu", "server CPU an event"),
                      ("opened", "sessions opened"), ("session cpu", "server CPU a session"), ("session rss", "RSS a session"),
                      ("held", "server CPU while")):
        found[key] = figure(result, name)
    return {key: value for key, value in found.items() if value is not None}


def read(directory):
    """{point: {server: {key: median}}}, and what must be said beside it."""
    runs = collections.defaultdict(lambda: collections.defaultdict(list))
    notes = []
    for path in sorted(glob.glob(os.path.join(directory, "*.*.*.json"))):
        name, server, _ = os.path.basename(path)[:-5].rsplit(".", 2)
        with open(path) as file:
            result = json.load(file)
        runs[name][server].append(values(result))
        if not result["verdict"]["is_valid"]:
            notes.append(f"{name} on {server}: {result['verdict']['reasons'][0]}")
        if result["counts"]["errors"]:
            notes.append(f"{name} on {server}: {result['counts']['errors']} errors")
    medians = {
        name: {
            server: {key: statistics.median(one[key] for one in all_rounds if key in one) for key in all_rounds[0]}
            for server, all_rounds in servers.items()
        }
        for name, servers in runs.items()
    }
    return medians, notes, max((len(one) for servers in runs.values() for one in servers.values()), default=0)


def time(micros):
    if micros is None:
        return ""
    return f"{micros:.0f} us" if micros < 1000 else f"{micros / 1000:.2f} ms"


def ratio(one, other):
    return f"{one / other:.2f}" if one is not None and other else ""


def main():
    directory, commit = sys.argv[1], sys.argv[2]
    medians, notes, rounds = read(directory)
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "")
    print(f"{datetime.date.today()}, commit {commit}, {os.cpu_count()} CPUs ({model}), Linux {os.uname().release},"
          f" medians of {rounds} rounds\n")
    print("| point | | ZooKeeper | ringkeeper | null | ratio to ZooKeeper | ratio to null |")
    print("|---|---|---|---|---|---|---|")
    for name, servers in medians.items():
        zookeeper, ours, null = (servers.get(one, {}) for one in ("zookeeper", "ringkeeper", "null"))
        if "last" in ours:
            rows = [("last event, ms", "last", "{:.2f}"), ("setter's reply, longest, ms", "reply", "{:.2f}"),
                    ("CPU an event, us", "event cpu", "{:.2f}")]
        elif "opened" in ours:
            rows = [("sessions a second", "opened", "{:.0f}"), ("CPU a session, us", "session cpu", "{:.1f}"),
                    ("RSS a session, B", "session rss", "{:.0f}")]
        else:
            rows = [("ops/s", "rate", "{:.0f}"), ("CPU/op, us", "cpu", "{:.2f}"), ("p50", "p50", None), ("p99", "p99", None),
                    ("p99.9", "p99.9", None)]
        for label, key, form in rows:
            cells = [one.get(key) for one in (zookeeper, ours, null)]
            texts = [time(cell) if form is None else (form.format(cell) if cell is not None else "") for cell in cells]
            print(f"| {name} | {label} | {texts[0]} | {texts[1]} | {texts[2]} | {ratio(cells[1], cells[0])} |"
                  f" {ratio(cells[1], cells[2])} |")
        disk = servers.get("disk")
        if disk:
            # What a server beats is no floor: the disk was another one at that moment.
            is_floor = ours.get("p99.9", 0) >= disk["p99.9"]
            to_it = f"{ratio(ours.get('p99.9'), disk['p99.9'])} (to it)" if is_floor else "slower than the server: no floor"
            print(f"| {name} | p99.9 of a bare writer | | {time(disk['p99.9'])} | | | {to_it} |")
    if notes:
        print()
        for note in sorted(set(notes)):
            print(f"- {note}")


main()
