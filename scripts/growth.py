"""Makes the Markdown tables and the picture of the results that scripts/growth.sh left in a directory."""

import datetime
import glob
import json
import os
import re
import statistics
import sys

directory, commit = sys.argv[1:3]


def read(name):
    path = os.path.join(directory, name + ".json")
    if not os.path.exists(path):
        return None
    with open(path) as file:
        return json.load(file)


def names(kind):
    """{operation: [(size, result)]} of a kind, sizes ascending."""
    found = {}
    for path in glob.glob(os.path.join(directory, kind + "-*-*.json")):
        match = re.fullmatch(kind + r"-(\d+)-(\w+)\.json", os.path.basename(path))
        if match:
            found.setdefault(match[2], []).append((int(match[1]), read(os.path.basename(path)[:-5])))
    return {operation: sorted(points, key=lambda point: point[0]) for operation, points in sorted(found.items())}


def figure(result, name):
    return next((one["value"] for one in result.get("figures", []) if one["name"].startswith(name)), None)


def cost(result):
    """CPU an operation, and the part of it outside the kernel, in microseconds."""
    servers = result["servers"]
    return sum(one["cpu_us_per_op"] for one in servers), sum(one["cpu_us_per_op"] * one["user_share"] for one in servers)


def operations(kind, label, curves):
    found = {op: points for op, points in names(kind).items() if points[0][1].get("servers")}
    if not found:
        return
    print(f"\n| {label} | operation | ops/s | CPU/op, us | outside the kernel, us | to the first: whole | own |")
    print("|---|---|---|---|---|---|---|")
    for op, points in found.items():
        first = cost(points[0][1])
        for size, result in points:
            whole, own = cost(result)
            print(f"| {size:,} | {op} | {result['all']['per_second']:,.0f} | {whole:.2f} | {own:.2f} "
                  f"| {whole / first[0]:.2f} | {own / max(first[1], 1e-9):.2f} |")
        curves.append((kind, op, [(size, cost(result)[0]) for size, result in points]))


def trees():
    fills = names("tree").get("fill", [])
    if not fills:
        return
    print("\n| znodes of 100 B | RSS, MB | RSS a znode, B | CPU a create, snapshots included, us | kill -9 to serving, ms |")
    print("|---|---|---|---|---|")
    for size, result in fills:
        start = read(f"tree-{size}-start") or {}
        print(f"| {size:,} | {figure(result, 'RSS') and next(f['value'] for f in result['figures'] if f['name'] == 'RSS'):.0f} "
              f"| {figure(result, 'RSS a znode'):.0f} | {figure(result, 'server CPU a create'):.2f} | {start.get('started_in_ms', '?')} |")


def snapshots():
    none, with_one = ([read(f"snapshot-{kind}-{n}") for n in (1, 2, 3)] for kind in ("none", "on"))
    if not all(none + with_one):
        return
    print("\n| 5,000 sets a second, medians of 3 | p50, ms | p99, ms | p99.9, ms | max, ms |")
    print("|---|---|---|---|---|")
    rows = []
    for label, results in (("without a snapshot", none), ("snapshots all the time", with_one)):
        rows.append([statistics.median(one["all"]["intended"][key] for one in results) / 1e3 for key in ("p50", "p99", "p999", "max")])
        print(f"| {label} | " + " | ".join(f"{value:.2f}" for value in rows[-1]) + " |")
    print("| ratio | " + " | ".join(f"{b / a:.2f}" for a, b in zip(*rows)) + " |")
    counts = [open(path).read().strip() for path in sorted(glob.glob(os.path.join(directory, "snapshot-on-*.count")))]
    print(f"\nSnapshots written in each run: {', '.join(counts)}.")


def idle():
    none, held = read("idle-none"), read("idle-sessions")
    if none:
        print(f"\nA server with nobody: {none['rss'] / 1e6:.1f} MB of RSS, {none['percent_of_a_core']} % of a core over 10 s.")
    if held:
        for one in held["figures"]:
            print(f"- {one['name']}: {one['value']:,.1f} {one['unit']}")


def picture(curves, path):
    """Cost against size: one panel a kind, both axes logarithmic."""
    import math

    kinds = sorted({kind for kind, _, _ in curves})
    colours = ["#0b6e4f", "#c84630", "#3d5a98", "#b8860b", "#6a4c93"]
    width, height, left, top = 380, 300, 60, 40
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width * len(kinds)} {height + 60}" '
           'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/>']
    values = [value for _, _, points in curves for _, value in points]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    for panel, kind in enumerate(kinds):
        mine = [(op, points) for other, op, points in curves if other == kind]
        sizes = [size for _, points in mine for size, _ in points]
        small, large = math.log10(min(sizes)), max(math.log10(max(sizes)), math.log10(min(sizes)) + 0.1)
        x = lambda size: panel * width + left + (math.log10(size) - small) / (large - small) * (width - left - 80)
        y = lambda value: top + (high - math.log10(value)) / (high - low) * (height - top)
        out.append(f'<text x="{panel * width + left}" y="22" font-size="14">CPU an operation by {kind}, us</text>')
        for power in range(low, high + 1):
            at = y(10 ** power)
            out.append(f'<line x1="{panel * width + left}" x2="{(panel + 1) * width - 80}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>'
                       f'<text x="{panel * width + left - 6}" y="{at + 4:.1f}" text-anchor="end">{10.0 ** power:g}</text>')
        for size in sorted(set(sizes)):
            out.append(f'<text x="{x(size):.1f}" y="{height + 18}" text-anchor="middle">{size:,}</text>')
        for number, (op, points) in enumerate(mine):
            colour = colours[number % len(colours)]
            line = " ".join(f"{x(size):.1f},{y(value):.1f}" for size, value in points)
            out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
            out += [f'<circle cx="{x(size):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>' for size, value in points]
            out.append(f'<text x="{x(points[-1][0]) + 8:.1f}" y="{y(points[-1][1]) + 4:.1f}" fill="{colour}">{op}</text>')
    out.append("</svg>")
    with open(path, "w") as file:
        file.write("\n".join(out))


curves = []
model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
print(f"{datetime.date.today()}, commit {commit}, {os.cpu_count()} CPUs ({model}), Linux {os.uname().release}")
trees()
operations("tree", "znodes", curves)
operations("connections", "connections", curves)
operations("shards", "shards", curves)
snapshots()
idle()
if curves:
    picture(curves, os.path.join(directory, "growth.svg"))
