"""Makes the Markdown table of the results that scripts/compare_peers.sh left in a directory: medians over the rounds, and
ratios to ringkeeper."""

import collections
import datetime
import glob
import json
import os
import statistics
import sys

ORDERED = "sequential consistency: this server's own state, in this client's order, its own writes included; it may lag"
LOCAL = "this server's own state, which may lag: the like of ZooKeeper's"
# What is promised for a read, by server and way of reading.
READS = {
    "ringkeeper": ORDERED,
    "zookeeper": ORDERED,
    "etcd": "linearizable: the leader asks a majority whether it still leads, then answers (alone here, it asks itself)",
    "etcd-serializable": LOCAL,
    "consul": "the leader's state under its lease; old only for a moment while the leader changes",
    "consul-stale": LOCAL,
}
NAMES = {
    "ringkeeper": "ringkeeper",
    "zookeeper": "ZooKeeper",
    "etcd": "etcd (linearizable)",
    "etcd-serializable": "etcd (serializable)",
    "consul": "Consul (default)",
    "consul-stale": "Consul (stale)",
}
# From here on the client was the limit, not the server.
BUSY = 0.9


def values(result):
    return {
        "rate": result["per_second"],
        "p50": result["service_us"]["p50"],
        "p99": result["service_us"]["p99"],
        "cpu": result["server_cpu_us_per_op"],
        "rss": result["server_rss_bytes"] / 2**20,
        "client": result["client_cpu_us_per_op"],
        "busy": result["client_busy"],
    }


def read(directory):
    """{point: {way: {key: median}}} in the order of the points, and how many rounds there were."""
    runs = collections.defaultdict(lambda: collections.defaultdict(list))
    for path in sorted(glob.glob(os.path.join(directory, "*.*.*.json")), key=os.path.getmtime):
        name, way, _ = os.path.basename(path)[:-5].rsplit(".", 2)
        with open(path) as file:
            runs[name][way].append(values(json.load(file)))
    medians = {
        name: {way: {key: statistics.median(one[key] for one in rounds) for key in rounds[0]} for way, rounds in ways.items()}
        for name, ways in runs.items()
    }
    return medians, max((len(rounds) for ways in runs.values() for rounds in ways.values()), default=0)


def text(directory, name):
    try:
        with open(os.path.join(directory, name)) as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def time(micros):
    return f"{micros:.0f} us" if micros < 1000 else f"{micros / 1000:.2f} ms"


def main():
    directory, commit = sys.argv[1], sys.argv[2]
    medians, rounds = read(directory)
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "")
    versions = [text(directory, f"{peer}.version.txt") for peer in ("zookeeper", "etcd", "consul")]
    print(f"{datetime.date.today()}, commit {commit}, {', '.join(filter(None, versions))}; {os.cpu_count()} CPUs ({model}),"
          f" Linux {os.uname().release}, medians of {rounds} round{'' if rounds == 1 else 's'}, values of 100 B, clients in Go\n")
    print("| point | server | ops/s | p50 | p99 | server CPU/op, us | RSS, MiB | client CPU/op, us"
          " | ops/s to ringkeeper | CPU/op to ringkeeper |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    is_limited = False
    for name, ways in medians.items():
        ours = ways.get("ringkeeper", {})
        for way in filter(ways.get, NAMES):
            one = ways[way]
            label = NAMES[way] if name.startswith("get") else NAMES[way].split(" (")[0]
            mark = " *" if one["busy"] >= BUSY else ""
            is_limited = is_limited or bool(mark)
            ratios = [f"{one[key] / ours[key]:.2f}" if ours.get(key) else "" for key in ("rate", "cpu")]
            print(f"| {name} | {label} | {one['rate']:.0f}{mark} | {time(one['p50'])} | {time(one['p99'])} | {one['cpu']:.1f} |"
                  f" {one['rss']:.0f} | {one['client']:.1f} | {' | '.join(ratios)} |")
    print("\nWhat is promised:\n")
    seen = {way for ways in medians.values() for way in ways}
    for promise in dict.fromkeys(READS.values()):
        who = [NAMES[way] for way in NAMES if way in seen and READS[way] == promise]
        if who:
            print(f"- a get of {' and '.join(who)}: {promise}.")
    print("- a set or create of each: linearizable, and in the server's log and synced before the answer. ZooKeeper and"
          " ringkeeper refuse a set of no node and a create of one that is there; the others' put does not look.")
    print("- one server of each kind: none of this shows what a majority costs.")
    if is_limited:
        print(f"- *: the client used {BUSY:.0%} or more of the CPU it may have, so the server could do more.")
    for peer in ("zookeeper", "etcd", "consul"):
        why = text(directory, f"{peer}.txt")
        if why:
            print(f"- {peer} could not be had: {why}.")
    for line in text(directory, "failed.txt").splitlines():
        print(f"- failed: {line}.")


main()
