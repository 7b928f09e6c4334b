#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""clang-tidy on every file that changed since it was last found clean.

    scripts/tidy.py [--all] --build DIR [--build DIR] [PATH ...]        (./dev lint calls it)

A file is taken from the first build folder whose compile_commands.json names it, so the Torch-free half is checked with
clang's own commands and only the rest with those of the release preset. What was found clean is remembered under
~/.cache/djinn/tidy by content: the file, all of our headers below it, its command and the checks. So a second run, or one
in another clone, looks only at what is new.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "djinn" / "tidy"
TIDY = "clang-tidy-14"
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


def commands(build_dirs):
    """{file: (its folder, its arguments)}, ours only; the first build folder that knows a file wins."""
    found = {}
    for build in build_dirs:
        for entry in json.loads((pathlib.Path(build) / "compile_commands.json").read_text()):
            path = pathlib.Path(entry["directory"], entry["file"]).resolve()
            ours = path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] not in ("build", ".venv")
            if ours and path.suffix == ".cc":
                found.setdefault(path, (entry["directory"], for_clang(shlex.split(entry["command"]))))
    return found


def for_clang(arguments):
    """Without gcc's precompiled header, which clang cannot read."""
    result = []
    skip = False
    for argument, following in zip(arguments, arguments[1:] + [""]):
        if skip:
            skip = False
        elif argument == "-include" and "cmake_pch" in following:
            skip = True
        elif argument != "-Winvalid-pch":
            result.append(argument)
    return result


def with_headers(path, seen):
    """The file and all of our headers that it includes, directly or not."""
    if path in seen or not path.is_file():
        return
    seen.add(path)
    for name in INCLUDE.findall(path.read_text(errors="replace")):
        with_headers(ROOT / name, seen)


def key_of(path, arguments, checks):
    files = set()
    with_headers(path, files)
    digest = hashlib.sha256(checks)
    digest.update("\0".join(arguments).replace(str(ROOT), ".").encode())
    for file in sorted(files):
        digest.update(f"\0{file.relative_to(ROOT)}\0".encode())
        digest.update(file.read_bytes())
    if any("torch" in argument for argument in arguments):
        digest.update((ROOT / "requirements.txt").read_bytes())
    return digest.hexdigest()


def check(path, folder):
    started = time.monotonic()
    done = subprocess.run([TIDY, "--quiet", "-p", folder, str(path)], capture_output=True, text=True, cwd=ROOT)
    # On stderr clang-tidy counts what it suppressed in foreign headers; only a failure makes that worth reading.
    return done.returncode, done.stdout + (done.stderr if done.returncode else ""), time.monotonic() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="also what is known to be clean")
    parser.add_argument("--build", action="append", required=True, metavar="DIR", help="has a compile_commands.json")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="only files below these")
    options = parser.parse_args()
    only = [pathlib.Path(path).resolve() for path in options.paths] or [ROOT]
    wanted = {path: how for path, how in commands(options.build).items() if any(path.is_relative_to(o) for o in only)}
    checks = (ROOT / ".clang-tidy").read_bytes() + subprocess.run([TIDY, "--version"], capture_output=True).stdout
    keys = {path: key_of(path, command, checks) for path, (_, command) in wanted.items()}
    todo = [path for path in sorted(wanted) if options.all or not (CACHE / keys[path]).exists()]
    # The longest first: two files of LibTorch at the end would leave one core idle.
    todo.sort(key=lambda path: not any("torch" in argument for argument in wanted[path][1]))
    CACHE.mkdir(parents=True, exist_ok=True)
    failed = []
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        entries = [{"directory": d, "file": str(p), "arguments": a} for p, (d, a) in wanted.items()]
        pathlib.Path(folder, "compile_commands.json").write_text(json.dumps(entries))
        futures = {pool.submit(check, path, folder): path for path in todo}
        for number, future in enumerate(concurrent.futures.as_completed(futures), 1):
            path = futures[future]
            status, output, seconds = future.result()
            name = path.relative_to(ROOT)
            print(f"[{number}/{len(todo)}] {name} {seconds:.1f} s", flush=True)
            if status == 0:
                (CACHE / keys[path]).touch()
            else:
                failed.append(str(name))
                print(output.rstrip(), flush=True)
    print(f"clang-tidy: {len(wanted)} files, {len(wanted) - len(todo)} known to be clean, {len(failed)} with findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
