#!/usr/bin/env python3
"""Acceptance of dynamic reconfiguration, local sessions and read-only mode, against a real ZooKeeper or against ringkeeper, with the same expectations.

    tests/reconfig/run.py --server zookeeper  [--home DIR]     DIR: its jars, by default what scripts/zookeeper.sh fetched
    tests/reconfig/run.py --server ringkeeper [--binary FILE]  FILE: by default target/debug/ringkeeper
                          [--only NAME]... [--keep]

One line a case, "N passed, N failed" last, exit status 1 when one failed. Needs nothing but Python; kazoo_client also pip
(or what tests/clients/python has installed), java_client also Java and ZooKeeper's jars. --keep: the servers' directories
stay. See cases.py, sessions.py and links.py for what is asked.
"""
import argparse
import glob
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

sys.dont_write_bytecode = True
import cases  # noqa: E402
import sessions  # noqa: E402
import links  # noqa: E402
from servers import Failed, Target  # noqa: E402
from wire import Gone  # noqa: E402

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


def kazoo_site():
    """Where Kazoo is installed. The suite of tests/clients/python does that, once, and here comes to run no case."""
    def found():
        done = glob.glob(os.path.join(ROOT, "tests/clients/.cache/python/*/.done"))
        return os.path.dirname(max(done, key=os.path.getmtime)) if done else None
    if not found():
        subprocess.run([os.path.join(ROOT, "tests/clients/python/run.sh"), "no-such-case"], stdout=subprocess.DEVNULL,
                       env=dict(os.environ, ZK_HOSTS="127.0.0.1:1"), timeout=300)
    site = found()
    if site is None:
        raise cases.Skip("Kazoo is not there and could not be installed")
    return site


def run(name, function, target, directory):
    """What became of the case, as a word and a reason."""
    lab = cases.Lab(target, directory, kazoo_site)
    try:
        function(lab)
        return "ok", ""
    except cases.Skip as skipped:
        return "skip", str(skipped)
    except (Failed, Gone, OSError, subprocess.SubprocessError) as failed:
        files = (cases.__file__, sessions.__file__, links.__file__)
        where = [frame.lineno for frame in traceback.extract_tb(failed.__traceback__) if frame.filename in files]
        return "FAIL", "%s (%s line %s)" % (failed, type(failed).__name__, where[0] if where else "?")
    except Exception:
        return "FAIL", traceback.format_exc()
    finally:
        lab.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=["zookeeper", "ringkeeper"], required=True)
    parser.add_argument("--binary", default=os.path.join(ROOT, "target/debug/ringkeeper"))
    parser.add_argument("--home", default=os.path.join(ROOT, "target/zookeeper/3.9.5"))
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    unknown = set(args.only) - {name for name, _ in cases.CASES}
    if unknown:
        parser.error("no case is named %s; there are %s" % (", ".join(unknown), ", ".join(name for name, _ in cases.CASES)))
    target = Target(args.server, os.path.abspath(args.binary), os.path.abspath(args.home))
    needed = target.home if target.is_zookeeper else target.binary
    if not os.path.exists(needed):
        parser.error("nothing at " + needed)
    # An end by a signal ends the servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = tempfile.mkdtemp(prefix="reconfig-")
    count = dict(ok=0, FAIL=0, skip=0)
    try:
        for name, function in cases.CASES:
            if args.only and name not in args.only:
                continue
            began = time.monotonic()
            word, why = run(name, function, target, os.path.join(directory, name))
            count[word] += 1
            print("%s %s%s (%.1f s)" % (word, name, ": " + why if why else "", time.monotonic() - began), flush=True)
    finally:
        if args.keep:
            print("the servers' directories are in " + directory)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    skipped = ", %d skipped" % count["skip"] if count["skip"] else ""
    print("%d passed, %d failed%s" % (count["ok"], count["FAIL"], skipped))
    return 1 if count["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
