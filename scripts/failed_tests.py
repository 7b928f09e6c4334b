#!/usr/bin/env python3
"""The tests that failed in a ctest run, from its JUnit file: their names, or the end of what each printed."""
import argparse
import sys
import xml.etree.ElementTree as ElementTree

LINES = 30  # Of each test's output; a test says last what was wrong.


def failed_tests(path):
    """(name, output) of each failed test of the JUnit file; none if there is no such file."""
    try:
        cases = ElementTree.parse(path).getroot().iter("testcase")
    except (OSError, ElementTree.ParseError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        return
    for case in cases:
        if case.get("status") == "fail" or case.find("failure") is not None:
            yield case.get("name"), case.findtext("system-out") or ""


def telling_lines(output):
    """What of a test's output tells why it failed: the failures that GoogleTest names with what follows them, else the end."""
    lines = output.splitlines()
    kept = [
        line
        for i, line in enumerate(lines)
        if any("Failure" in near for near in lines[max(0, i - 6) : i + 1]) or "ERROR" in line or "[  FAILED" in line
    ]
    return (kept or lines)[-LINES:]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--names", action="store_true", help="the names alone, on one line")
    parser.add_argument("junit", help="what ctest --output-junit wrote")
    arguments = parser.parse_args()
    failed = list(failed_tests(arguments.junit))
    if arguments.names:
        print(", ".join(name for name, _ in failed) or "ctest named no test")
        return
    for name, output in failed:
        print(f"-- {name}")
        print("\n".join(telling_lines(output)))


if __name__ == "__main__":
    main()
