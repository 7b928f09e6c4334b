#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plants defects in the product, one at a time, and asks which test finds each: proof that the tests look.

    tests/planted_defects.py              all of them, in a copy of the tree (build/planted); a table at the end
    tests/planted_defects.py --list       what would be planted
    tests/planted_defects.py NUMBER ...   only these

./dev test --planted calls it. A defect that no test finds, or that does not compile, or whose place is gone, is a failure.
The copy is built with the preset dev (no LibTorch) and kept, so a second run compiles only what changed.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
COPY = ROOT / "build" / "planted"
SERIALIZATION, TRANSPORT, SERVER = "^serialization/", "^(serialization|conformance/transport)/", "^(server|client)/"

# What is wrong then, the file, the text, what stands there instead, which tests are asked.
DEFECTS = [
    ("A frame may announce a payload of any length.",
     "serialization/transport/frame.cc", "if (layout.payload > kPayloadBytesMax)", "if (layout.payload == 0 && layout.flags != 0)",
     TRANSPORT),
    ("The reader forgets the padding behind a payload.",
     "serialization/transport/frame_reader.cc", "skip_bytes_ = padding(header_.payload_bytes);", "skip_bytes_ = 0;",
     TRANSPORT),
    ("A connection goes on delivering while reading is paused.",
     "serialization/transport/frame_reader.h", "return !stopped_ && !(paused_ && between_frames());", "return !stopped_;",
     TRANSPORT),
    ("Memory of a zero-copy send goes back to its owner before the kernel is done with it.",
     "serialization/transport/send_queue.cc", "held_.push_back(std::move(frames_.front()));",
     "finish(front);\n      held_.push_back(std::move(frames_.front()));", TRANSPORT),
    ("The decoder of jobs takes one flag for the other.",
     "serialization/codec/messages.cc", ".patch_packed = in.getPatchPacked(),", ".patch_packed = in.getPlanPacked(),",
     SERIALIZATION),
    ("An offer may have fewer names than uploads.",
     "serialization/codec/messages.cc", "out->names.size() != count * kArtifactNameBytes", "out->names.size() > count * kArtifactNameBytes",
     SERIALIZATION),
    ("A plan may use slots that were never introduced.",
     "serialization/graph/plan_reader.cc", 'if (index > plan_.slots.size()) return fail("a slot out of order");', "",
     SERIALIZATION),
    ("An operator's index may be one behind the names.",
     "serialization/graph/plan_reader.cc", "each.op >= plan_.ops.size()", "each.op > plan_.ops.size()", SERIALIZATION),
    ("Integers are predicted to stay, not to go on as they went.",
     "serialization/graph/numbers.cc", "out[i] = add(last[i], subtract(last[i], before[i]));", "out[i] = last[i];",
     SERIALIZATION),
    ("A patch may write behind the numbers of its plan.",
     "serialization/graph/numbers.cc", "if (gap >= out->size() - std::min<uint64_t>(next, out->size()))",
     "if (gap > 100)", SERIALIZATION),
    ("What an idle session packed comes back without its last but one vector.",
     "serialization/graph/numbers.cc", "packed_vectors_ = 2;", "packed_vectors_ = 1;", SERIALIZATION),
    ("Packed bytes may unpack to any length.",
     "serialization/graph/packing.cc", "if (length > length_max) {", "if (length > length_max && length_max == 1) {",
     SERIALIZATION),
    ("Numbers with a wrong checksum are believed.",
     "server/session/plan_slots.cc", "if (graph::checksum(*numbers) != checksum) return std::optional<Decoded>();",
     "static_cast<void>(checksum);", SERVER),
    ("A job may be replayed.",
     "server/session_jobs.cc", "if (message.job != wire(progress_.next())) {", "if (message.job > wire(progress_.next())) {", SERVER),
    ("A client may have any number of jobs in flight.",
     "server/session_jobs.cc", "if (progress_.in_flight() >= kJobsInFlightMax) {", "if (progress_.in_flight() >= UINT32_MAX) {", SERVER),
    ("A client that reads slowly makes the server buffer without bound.",
     "server/session.cc", "const bool slow = connection_->unsent_bytes() > unsent_max;",
     "const bool slow = connection_->unsent_bytes() > unsent_max * 1024;", SERVER),
    ("A client whose jobs wait may send inline uploads without bound.",
     "server/session.cc", "inline_bytes_queued_ > kInlineBytesQueuedMax;", "inline_bytes_queued_ == UINT64_MAX;", SERVER),
    ("Frames that were sent before the client read of a resync end its session.",
     "server/session_jobs.cc", "if (ahead < 0) {", "if (ahead < INT16_MIN) {", SERVER),
    ("An upload may be shorter than its job expects.",
     "server/session/uploads.cc", "if (at->second.length_bytes != expected) {", "if (at->second.length_bytes > expected) {", SERVER),
    ("Artifacts are shared whatever their bytes hash to.",
     "server/memory/artifact_store.cc", "shelf_->judge(check.item, good);", "shelf_->judge(check.item, true);", SERVER),
    ("What a disk gives back is what its name says, without a look.",
     "server/memory/disk_cache.cc", "artifact_name(key_, to) != name", "false", SERVER),
    ("A key that others may read is as good as any.",
     "server/memory/disk_cache.cc", "(info.st_mode & 077) != 0", "(info.st_mode & 077) == 1", SERVER),
    ("Any token names a tenant.",
     "server/settings/access.cc", "CRYPTO_memcmp(entry.token.data(), wanted.data(), wanted.size())",
     "CRYPTO_memcmp(entry.token.data(), wanted.data(), 0)", SERVER),
    ("Strangers need no token, wherever they are.",
     "server/settings/access.cc", "if (local || anonymous_everywhere_)", "if (local || token.empty())", SERVER),
    ("A session gets a second turn while its job runs.",
     "scheduler/scheduler.cc", "if (lane.candidate || lane.running ||", "if (lane.candidate ||", "^scheduler/"),
    ("Jobs that wait are forgotten when the policy is exchanged.",
     "scheduler/scheduler.cc", "for (Lane* const lane : candidates) offer(*lane, now_ns);", "", "^scheduler/"),
    ("A server that drains takes new sessions.",
     "server/server.cc", "if (stage_ != Stage::kServing) {", "if (stage_ == Stage::kStopping) {", SERVER),
    ("A tenant may use more per second than it may.",
     "server/session/admission.cc", "if (!full && wait.ns == 0) return std::nullopt;", "if (!full) return std::nullopt;",
     SERVER),
    ("Who has no time to wait need not keep to a rate.",
     "server/session/admission.cc", "const bool may_be_late = wait.ns == 0 ||", "const bool may_be_late = wait.ns > 0 ||", SERVER),
    ("A body may have two lengths.",
     "server/admin/http.cc", "if (out.body_bytes || value.empty() ||", "if (value.empty() ||", SERVER),
    ("The client puts a plan into a slot that another one holds.",
     "client/session/plan_cache.cc", "bytes_ -= oldest.bytes;\n  free_.push_back(oldest.slot);",
     "bytes_ -= oldest.bytes;\n  free_.push_back(0);", SERVER),
]


def our_files():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True)
    return [name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def bring_up_to_date():
    """The copy, file by file: what did not change keeps its time, so that nothing is compiled for it."""
    names = our_files()
    for name in names:
        source, target = ROOT / name, COPY / name
        if not target.is_file() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    known = set(names)
    for path in sorted(COPY.rglob("*")):
        name = path.relative_to(COPY).as_posix()
        if path.is_file() and name not in known and not name.startswith("build/"):
            path.unlink()


def run(log, *command):
    with log.open("a") as out:
        print("$", *command, file=out, flush=True)
        return subprocess.run(command, cwd=COPY, stdout=out, stderr=subprocess.STDOUT).returncode == 0


def build(log):
    ninja = COPY / "build" / "dev" / "build.ninja"
    return (ninja.exists() or run(log, "cmake", "--preset", "dev")) and run(
        log, "cmake", "--build", "build/dev", "--target", "all")


def failing_tests(log, tests):
    """The first that fail; None if ctest ran nothing."""
    report = COPY / "build" / "report.xml"
    report.unlink(missing_ok=True)
    run(log, "ctest", "--preset", "dev", "-j", str(os.cpu_count()), "-R", tests, "--stop-on-failure",
        "--output-junit", str(report))
    if not report.exists():
        return None
    cases = xml.etree.ElementTree.parse(report).getroot().iter("testcase")
    status = {case.get("name"): case.get("status") for case in cases}
    return [name for name, how in status.items() if how == "fail"] if status else None


def plant(file, text, instead):
    path = COPY / file
    whole = path.read_text()
    if whole.count(text) != 1:
        return False
    path.write_text(whole.replace(text, instead))
    return True


def verdict(log, defect):
    """Whether a test found it, and what to say."""
    _, file, text, instead, tests = defect
    if not plant(file, text, instead):
        return False, f"GONE: its place in {file} is not there, or not once"
    try:
        if not build(log):
            return False, f"DOES NOT COMPILE: {log}"
        failing = failing_tests(log, tests)
    finally:
        shutil.copy(ROOT / file, COPY / file)
    if failing is None:
        return False, f"NO TEST RAN: {log}"
    if not failing:
        return False, "NOT FOUND"
    return True, failing[0].split("  #")[0]  # Without the value of its parameter.


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print the defects and plant none")
    parser.add_argument("numbers", nargs="*", type=int, metavar="NUMBER", help="only these, as --list numbers them")
    options = parser.parse_args()
    chosen = [(number, defect) for number, defect in enumerate(DEFECTS, 1) if not options.numbers or number in options.numbers]
    if options.list:
        for number, (sentence, file, *_) in chosen:
            print(f"{number:3}  {sentence}  ({file})")
        return 0
    log = COPY / "build" / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    bring_up_to_date()
    everything = "|".join(sorted({defect[4] for _, defect in chosen}))
    failing = failing_tests(log, everything) if build(log) else None
    if failing is None or failing:
        print(f"without a defect, this fails: {failing or 'the build'}; see {log}")
        return 1
    found = 0
    for number, defect in chosen:
        start = time.monotonic()
        good, text = verdict(log, defect)
        found += good
        print(f"{number:3}  {defect[0]:84}  {text}   ({time.monotonic() - start:.0f} s)", flush=True)
    print(f"{found} of {len(chosen)} planted defects were found")
    return 0 if found == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
