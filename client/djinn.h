// SPDX-License-Identifier: Apache-2.0
// djinn: run LibTorch programs on a remote server.
//
// A program needs none of this: with DJINN_SERVER=tcp://host:port in the environment and
// libdjinn_client.so linked or preloaded, `torch::Device("djinn")` is a device like any other. This
// header is for what the environment cannot say.
//
// Errors are c10::Error. Threading: any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#define DJINN_API __attribute__((visibility("default")))

namespace djinn {

// What the program does, where the server's guess from its plans is not to stand.
enum class Phase : uint8_t { kUnknown, kPrefill, kDecode, kTraining, kInference, kLoad };
// How much a delay hurts. Never more than the tenant may have.
enum class Priority : uint8_t { kUnknown, kLatencyCritical, kInteractive, kBestEffort };

struct Options {
  std::string server{};  // tcp://host:port or unix:///path; several, separated by commas, are
                         // djinn:0, djinn:1 ...
  std::string token{};   // Names the tenant; empty: anonymous, where the server allows it.
  std::chrono::milliseconds connect_timeout{10'000};
  std::chrono::milliseconds timeout{
      30'000};        // A server silent for longer while an answer is due is gone.
  bool share = true;  // Large uploads may be shared with others that have the same bytes.
  Phase phase = Phase::kUnknown;  // Hints of each session from its start, see hint().
  Priority priority = Priority::kUnknown;
  std::chrono::milliseconds deadline{0};  // See set_deadline(); 0: there is none.
};

// Names the servers, and connects to them now (otherwise at first use). What the environment says
// (DJINN_SERVER, DJINN_TOKEN, DJINN_CONNECT_TIMEOUT_MS, DJINN_TIMEOUT_MS, DJINN_SHARE=0,
// DJINN_PHASE=decode, DJINN_PRIORITY=best-effort, DJINN_DEADLINE_MS) is the default of each field.
// Called again, it starts new sessions; tensors of the old ones are lost.
DJINN_API void connect(const Options& options = {});

// Sends what was recorded, and does not wait. Never needed for correctness: a long-running step may
// start before the program reads its result.
DJINN_API void flush(int device = 0);

// Sends what was recorded, and waits until it has run. Errors of tensors stay with their tensors.
DJINN_API void synchronize(int device = 0);

// Tells the server what the program is about to do; what was recorded is sent before it. It changes
// when things are done, and never what comes out; no answer is waited for.
//   hint(Phase::kDecode, 20s)    it pauses, and goes on in about 20 s: its private tensors (a KV
//                                cache) may leave the device first, and are back by then
//   hint(Phase::kDecode, kSomeTime)  it pauses, and nobody knows for how long
//   hint(Phase::kDecode, 0s)     it goes on now: what left is brought back at once
//   hint(Phase::kDecode)         nothing of the kind
// The next operator ends a pause, whatever was said. Phase and priority stay until the next hint.
inline constexpr std::chrono::milliseconds kSomeTime = std::chrono::milliseconds::max();
DJINN_API void hint(Phase phase,
                    std::optional<std::chrono::milliseconds> expected_resume = std::nullopt,
                    Priority priority = Priority::kUnknown, int device = 0);

// From here on results are worth nothing so long after what makes them was sent (1 ms to a day; 0:
// they always are worth something). What a busy server could not end in time it does not run, and
// says so at once: a read throws c10::Error, which says when to try again, and whatever was to be
// made or changed is an error, too; everything else of the session stays as it is. A step that is
// sent to make its results in place (a cache) is lost with its deadline: begin that request anew.
// The server hears of it with the next work that is sent; a change for each of more than 1000
// pieces of work a second ends the session.
DJINN_API void set_deadline(std::chrono::milliseconds deadline, int device = 0);

// Ends calls that wait for an answer (they throw c10::Error); sessions and tensors stay as they
// are, and the same may be asked again. Async-signal-safe: for a handler of SIGINT.
DJINN_API void cancel();

// What a session has cost so far.
struct Stats {
  std::string server;
  uint64_t session = 0;
  // On this side; bytes are payload at the socket, headers of frames included.
  uint64_t ops_recorded = 0;
  uint64_t jobs = 0;        // messages with work
  uint64_t steps = 0;       // of these, as predicted: no plan, no numbers
  uint64_t plans = 0;       // plans sent in full,
  uint64_t plan_bytes = 0;  // the bytes of them
  uint64_t plan_ops = 0;    // and their operators
  uint64_t fetches = 0;
  uint64_t bytes_sent = 0;
  uint64_t bytes_received = 0;
  uint64_t upload_bytes = 0;     // bytes of tensors that were sent
  uint64_t shared_bytes = 0;     // bytes of tensors the server had already
  uint64_t hashed_bytes = 0;     // bytes hashed to find that out
  uint64_t copied_bytes = 0;     // payload that passed through a buffer in user space
  uint64_t system_calls = 0;     // io_uring_enter or poll
  uint64_t shape_questions = 0;  // round trips because a result's shape was not known here
  uint64_t resyncs = 0;
  uint64_t refusals = 0;  // The server was too busy, so often; what it refused was sent again.
};
DJINN_API Stats stats(int device = 0);

// The same session as the server sees it, when all that was recorded has run.
struct ServerStats {
  uint64_t ops_executed = 0;
  uint64_t ops_failed = 0;
  uint64_t jobs_executed = 0;
  uint64_t storages = 0;
  uint64_t storage_bytes = 0;
  uint64_t shared_bytes = 0;
  uint64_t plans_built = 0;
  uint64_t upload_bytes = 0;
  uint64_t relayouts = 0;
  uint64_t system_calls = 0;
  uint64_t device_bytes = 0;
};
DJINN_API ServerStats server_stats(int device = 0);

}  // namespace djinn
