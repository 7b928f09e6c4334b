#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The fuzz targets of tests/fuzz for long: as many executions as asked for, shared equally among them.

    scripts/fuzz.py --build DIR [--runs N] [TARGET ...]        (./dev test --fuzz [RUNS] calls it)

The targets and their options are those that ctest runs for a few seconds. What a long run found interesting stays in
DIR/fuzz/corpus, and the next one starts from it. What breaks a promise is written to DIR/fuzz/<target>-crash-...; run
DIR/bin/tests/<target>_fuzz with that file to see it again. Exit status 1 if anything was found.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys

DONE = re.compile(r"#(\d+)\s+DONE\s+cov: (\d+) ft: (\d+) corp: (\d+)/")
RATE = re.compile(r"stat::average_exec_per_sec:\s+(\d+)")


def commands(build):
    """{target: its command}, from ctest."""
    listed = subprocess.run(["ctest", "--test-dir", build, "--label-regex", "^fuzz$", "--show-only=json-v1"],
                            capture_output=True, text=True, check=True)
    return {test["name"].removeprefix("fuzz/"): test["command"] for test in json.loads(listed.stdout)["tests"]
            if test["name"] != "fuzz/seeds"}


def run(build, target, command, runs):
    """Whether nothing was found, and a line that says what was done."""
    corpus = build / "fuzz" / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    log = build / "fuzz" / f"{target}.log"
    options = [option for option in command[1:] if not option.startswith(("-runs=", "-seed_inputs="))]
    with log.open("w") as out:
        status = subprocess.run([command[0], *options, f"-runs={runs}", "-print_final_stats=1", str(corpus),
                                 str(build / "fuzz" / "seeds" / target)], stdout=out, stderr=subprocess.STDOUT).returncode
    text = log.read_text(errors="replace")
    done, rate = DONE.search(text), RATE.search(text)
    if status != 0 or not done:
        return False, f"{target:8}  FOUND SOMETHING (exit {status}): {log}\n" + "\n".join(text.splitlines()[-40:])
    return True, (f"{target:8} {int(done[1]):>10} executions {int(rate[1]):>7}/s   edges {done[2]}, features {done[3]}, "
                  f"corpus {done[4]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, type=pathlib.Path, metavar="DIR", help="a build with DJINN_FUZZ=ON")
    parser.add_argument("--runs", type=int, default=10_000_000, help="executions in total (default %(default)s)")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="only these")
    options = parser.parse_args()
    build = options.build.resolve()
    found = commands(build)
    targets = {name: found[name] for name in options.targets or found}
    subprocess.run([build / "bin" / "tests" / "fuzz_seeds", build / "fuzz" / "seeds"], check=True)
    each = -(-options.runs // len(targets))
    good = True
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for future in concurrent.futures.as_completed(
                [pool.submit(run, build, name, command, each) for name, command in targets.items()]):
            passed, line = future.result()
            good &= passed
            print(line, flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
