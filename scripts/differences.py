"""differences.py ALLOWED.json FOUND.json: judges what difftest found against the list of deliberate differences.

Prints each difference that is not on the list, each entry of the list that was met, and `N passed, N failed`.
Only the Python standard library is used.
"""
import json, re, sys

allowed = [entry for entry in json.load(open(sys.argv[1])) if "where" in entry]
found = json.load(open(sys.argv[2]))
met, bad = {}, []


def one_closed_a_moment_later(first, second):
    """Both servers gave the same reply and closed; difftest saw one close with the reply and the other with the next
    request. Such a pair is one reaction at two speeds."""
    if first["where"] != second["where"] or first["step"][0] != second["step"][0]:
        return False
    note = "[(%s, 'closed by server')]" % first["step"][0]
    a, b = first["a"], first["b"]
    same_reply = a.replace("[]]", note + "]") == b or b.replace("[]]", note + "]") == a
    return same_reply and "'closed'" in second["a"] and "'closed'" in second["b"]


pairs = []
differences = found["diffs"]
for at in range(len(differences) - 1):
    if one_closed_a_moment_later(differences[at], differences[at + 1]):
        pairs += [at, at + 1]
same = len(pairs)
found["diffs"] = [difference for at, difference in enumerate(differences) if at not in pairs]
for difference in found["diffs"]:
    where, step = difference["where"], " ".join(difference["step"])
    for entry in allowed:
        if re.search(entry["where"], where) and re.search(entry["step"], step):
            met[entry["name"]] = met.get(entry["name"], 0) + 1
            break
    else:
        bad.append(difference)
for name, count in met.items():
    print("deliberate: %s (%d)" % (name, count))
for difference in bad[:20]:
    print("DIFFERENCE %s %s" % (difference["where"], " ".join(difference["step"])[:300]))
    print("  ZooKeeper:  %s" % difference["a"][:600])
    print("  ringkeeper: %s" % difference["b"][:600])
deliberate = sum(met.values()) + same
print("%d passed, %d failed" % (found["passed"] + deliberate, found["failed"] - deliberate))
sys.exit(1 if bad or found["failed"] != deliberate else 0)
