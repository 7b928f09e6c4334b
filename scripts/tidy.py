#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""clang-tidy on every file that changed since it was last found clean.

    scripts/tidy.py [--all] [--minutes N] --build DIR [--build DIR] [PATH ...]

./dev lint calls it: it begins with what changed last, the file itself or a header of ours below it, and
says how many files were not reached.

A file is taken from the first build folder whose compile_commands.json names it, so the Torch-free half is checked with
clang's own commands and only the rest with those of the release preset. What was found clean is remembered under
~/.cache/djinn/tidy by content: the file, all of our headers below it, its command and the checks. So a second run, or one
in another clone, looks only at what is new.

LibTorch's headers cost clang-tidy half a minute a file, six times what parsing them costs: every check visits all they
declare, only to be told that nobody wants to hear about it. So a plugin narrows what is visited to our own files
(tidy_scope.cc), and clang reads the same headers precompiled that gcc does. Some four seconds are left.
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
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "djinn" / "tidy"
TIDY = "clang-tidy-14"
CLANG = "clang++-14"
LLVM = pathlib.Path("/usr/lib/llvm-14/include")
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


class Command:
    """How one file is compiled: its folder, its arguments for clang, and gcc's precompiled header, if it has one."""

    def __init__(self, entry):
        self.folder = entry["directory"]
        self.file = pathlib.Path(self.folder, entry["file"]).resolve()
        self.header = None
        self.arguments = []
        given = shlex.split(entry["command"])[1:]
        while given:
            argument = given.pop(0)
            if argument == "-include" and "cmake_pch" in given[0]:
                self.header = given.pop(0)
            elif argument == "-o":
                given.pop(0)
            # A precompiled header serves only who names the same visibility, which no check looks at.
            elif not argument.startswith("-fvisibility") and argument not in ("-Winvalid-pch", "-c", entry["file"]):
                self.arguments.append(argument)

    def is_costly(self):
        return any("torch" in argument for argument in self.arguments)


def commands(build_dirs):
    """({our own file: Command}, {gcc's precompiled header: Command}); the first build folder that knows a file wins."""
    found, headers = {}, {}
    for build in build_dirs:
        for entry in json.loads((pathlib.Path(build) / "compile_commands.json").read_text()):
            command = Command(entry)
            if command.file.name.endswith(".hxx.cxx"):
                headers[str(command.file.with_suffix(""))] = command
            elif command.file.is_relative_to(ROOT) and command.file.suffix == ".cc":
                if command.file.relative_to(ROOT).parts[0] not in ("build", ".venv"):
                    found.setdefault(command.file, command)
    return found, headers


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


def built(target, sources, arguments, folder=None, is_usable=lambda path: True):
    """The file that clang makes of the first source; made anew when a source or an argument differs, or it is of no use."""
    digest = hashlib.sha256("\0".join(arguments).encode())
    for source in sources:
        digest.update(pathlib.Path(source).read_bytes())
    path = CACHE / f"{digest.hexdigest()[:16]}-{target}"
    if not path.exists() or not is_usable(path):
        made = path.with_suffix(f".{os.getpid()}")
        subprocess.run([CLANG, *arguments, str(sources[0]), "-o", str(made)], check=True, cwd=folder)
        made.rename(path)  # Whole or not at all, whoever else makes it now.
    return path


def plugin():
    if not LLVM.joinpath("clang-tidy/ClangTidyCheck.h").exists():
        sys.exit("scripts/tidy.py: the packages libclang-14-dev and llvm-14-dev are missing; ./dev lint installs them")
    flags = ["-std=c++17", "-O1", "-fno-rtti", "-fPIC", "-shared", "-isystem", str(LLVM)]
    return built("scope.so", [ROOT / "scripts/tidy_scope.cc"], flags)


def precompiled(header, command):
    """The header as clang precompiles it. LibTorch's version decides what it holds, yet clang refuses one that is older than
    any file in it, as all of them are in a new clone at the same path; so clang is asked first."""
    def is_usable(path):
        words = [CLANG, *command.arguments, "-include-pch", str(path), "-fsyntax-only", "/dev/null"]
        return subprocess.run(words, capture_output=True, cwd=command.folder).returncode == 0

    return built("torch.pch", [header, ROOT / "requirements.txt"], command.arguments, command.folder, is_usable)


def check(command, scope, header):
    started = time.monotonic()
    words = [TIDY, "--quiet", f"--load={scope}", "--checks=djinn-scope", str(command.file), "--", *command.arguments]
    if header:
        words += ["-include-pch", str(header)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=command.folder)
    # On stderr clang-tidy counts what it suppressed in foreign headers; only a failure makes that worth reading.
    return done.returncode, done.stdout + (done.stderr if done.returncode else ""), time.monotonic() - started


def ages():
    """{path below ROOT: how many commits ago it changed}, 0 for what is not committed."""
    def git(*words):
        return subprocess.run(["git", *words], capture_output=True, text=True, cwd=ROOT).stdout

    result = {line[3:]: 0 for line in git("status", "--porcelain", "-uall").splitlines()}
    age = 0
    for line in git("log", "--format=%x01", "--name-only").splitlines():
        if line == "\x01":
            age += 1
        elif line:
            result.setdefault(line, age)
    return result


def age_of(path, by_name):
    files = set()
    with_headers(path, files)
    return min(by_name.get(str(file.relative_to(ROOT)), len(by_name)) for file in files)


def check_all(todo, found, headers, minutes):
    """Yields (path, status, output, seconds) of each file that was reached."""
    CACHE.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * minutes
    scope = plugin()
    ready = {name: precompiled(name, headers[name]) for name in sorted({found[p].header for p in todo} - {None})}

    def one(path):
        if time.monotonic() >= until:
            return None
        return check(found[path], scope, ready.get(found[path].header))

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = {pool.submit(one, path): path for path in todo}
        for future in concurrent.futures.as_completed(futures):
            if future.result():
                yield (futures[future], *future.result())


def parsed_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="also what is known to be clean")
    parser.add_argument("--build", action="append", required=True, metavar="DIR", help="has a compile_commands.json")
    parser.add_argument("--minutes", type=float, default=float("inf"), metavar="N", help="begin no file after this time")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="only files below these")
    return parser.parse_args()


def main():
    options = parsed_options()
    only = [pathlib.Path(path).resolve() for path in options.paths] or [ROOT]
    found, headers = commands(options.build)
    wanted = {path: command for path, command in found.items() if any(path.is_relative_to(o) for o in only)}
    checks = b"".join((ROOT / name).read_bytes() for name in (".clang-tidy", "scripts/tidy_scope.cc"))
    checks += subprocess.run([TIDY, "--version"], capture_output=True).stdout
    keys = {path: key_of(path, command.arguments, checks) for path, command in wanted.items()}
    by_name = ages()
    todo = [path for path in wanted if options.all or not (CACHE / keys[path]).exists()]
    todo.sort(key=lambda path: (age_of(path, by_name), not wanted[path].is_costly(), path))
    failed = []
    reached = 0
    for path, status, output, seconds in check_all(todo, wanted, headers, options.minutes):
        reached += 1
        name = path.relative_to(ROOT)
        print(f"[{reached}/{len(todo)}] {name} {seconds:.1f} s", flush=True)
        if status == 0:
            (CACHE / keys[path]).touch()
        else:
            failed.append(str(name))
            print(output.rstrip(), flush=True)
    missed = len(todo) - reached
    late = f", {missed} not reached within {options.minutes:g} minutes (./dev lint has no bound)" if missed else ""
    known = len(wanted) - len(todo)
    print(f"clang-tidy: {len(wanted)} files, {known} known to be clean, {len(failed)} with findings{late}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
