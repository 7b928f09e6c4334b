// SPDX-License-Identifier: Apache-2.0
// Executor: what the server's Torch-free part asks of the part that runs operators.
//
// Why an interface: sessions, scheduling and memory are tested without Torch and under
// ThreadSanitizer, with a fake device; and a CUDA device is the same thing loaded at run time.
// Ownership: a Device outlives its Replays; buffers are shared. Threading: stated per function.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "serialization/base/ids.h"
#include "serialization/base/result.h"
#include "serialization/graph/numbers.h"
#include "serialization/graph/plan.h"
#include "server/chunk.h"
#include "server/memory/usage.h"

namespace djinn::server {

using Bytes = std::span<const std::byte>;

// Bytes that arrived or will: host memory that the network writes into (pinned for a GPU), which a
// storage on the device adopts without a copy where device and host memory are the same.
class Buffer {
 public:
  Buffer() = default;
  virtual ~Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  // No other buffer of this process has it, nor will.
  [[nodiscard]] uint64_t number() const { return number_; }
  [[nodiscard]] virtual std::span<std::byte> bytes() = 0;
  [[nodiscard]] virtual uint64_t length() { return bytes().size(); }
  // Nobody will ask for `bytes` again: a device that has a copy of its own may let them go, and one
  // that moves bytes between tiers may move these.
  virtual void drop_host() {}

 private:
  static inline std::atomic<uint64_t> newest_ = 0;
  const uint64_t number_ = ++newest_;
};

// Bytes for an upload entry of form kStream or kArtifact.
struct StagedUpload {
  std::shared_ptr<Buffer> buffer;  // Null: there was no memory for it, as `failure` says.
  bool shared = false;             // Others may read these bytes: whoever writes copies first.
  std::string failure;  // Becomes the kOutOfMemory of the storage that would have held the bytes.
};

// A job as the executor gets it: all of it has been checked but the numbers' geometry.
struct Work {
  JobId job;
  std::shared_ptr<const graph::Plan> plan;
  graph::SharedNumbers numbers;
  std::vector<uint64_t> inline_uploads;  // Each upload starts at a multiple of 8 bytes.
  std::vector<StagedUpload> uploads;     // In the order of the plan's uploads of form 1 and 2.
  // Not null: no operator of it runs, and this is the error of what they would have made. Set
  // before the first call of `run`.
  std::shared_ptr<const Error> refused = nullptr;
};

// The bytes of an answer; `owner` keeps them unchanged and alive until it is dropped.
struct Answer {
  std::shared_ptr<const void> owner;
  Bytes bytes;
};

// What a job says while it runs. A device that works on its own (a GPU) says it on a thread of its
// own, also after `Replay::run` has returned: a sink lives until `ended`.
class AnswerSink {
 public:
  virtual ~AnswerSink() = default;
  // Answer number `index` of the job is there: as soon as its last writer has run. In the order of
  // the plan, exactly once per answer.
  virtual void answer(uint32_t index, Result<Answer> answer) = 0;
  // The last call, in the order of the jobs.
  virtual void ended() = 0;
};

struct ReplayStats {
  uint64_t ops_executed = 0;
  uint64_t ops_failed = 0;
  uint64_t storages = 0;       // alive
  uint64_t storage_bytes = 0;  // alive, shared ones included
  uint64_t shared_bytes = 0;
  uint64_t relayouts = 0;  // results copied into the layout that the client had predicted
};

// A session's storages, random generators and instantiated plans, and the replay of its jobs.
class Replay {
 public:
  // Frees everything the session held. A job that has given way is forgotten: its sink hears
  // nothing more.
  virtual ~Replay() = default;
  // Runs the job, or has the device begin it. Whatever goes wrong becomes the error of the
  // storages concerned and of the answers that read them; never throws. One thread at a time, any
  // thread. False: it has given way, as the chunk said, and goes on with the next call, which is
  // for the same work and sink. Then nothing of it is in use, and what it has made stays.
  [[nodiscard]] virtual bool run(const Work& work, AnswerSink& sink, Chunk& chunk) = 0;
  // All of it at once.
  void run_whole(const Work& work, AnswerSink& sink) {
    Chunk whole;
    while (!run(work, sink, whole)) {
    }
  }
  // Drops what can be built again (the session is idle). Same threads as run.
  virtual void shrink() = 0;
  // All jobs so far have ended, and the next is expected at about that time of the server's clock:
  // UINT64_MAX: nobody knows when; a time that has passed: now. A device whose bytes do not move
  // has nothing to do. Same threads as run.
  virtual void rest(uint64_t /*resume_ns*/) {}
  // How long it would take to bring what the job uses and is not on the device there, in
  // nanoseconds: an estimate. 0 where bytes do not move. Same threads as run.
  [[nodiscard]] virtual uint64_t move_ns(const Work& /*work*/) { return 0; }
  // Names the longest of the bytes shared with other sessions that the last job bound: jobs of one
  // plan for which it is the same can probably share work. 0: there were none. Same threads as run.
  [[nodiscard]] virtual uint64_t shared_bytes_name() const { return 0; }
  // Any thread.
  [[nodiscard]] virtual ReplayStats stats() const = 0;
};

// One of several jobs that run together.
struct Member {
  Replay* replay = nullptr;
  const Work* work = nullptr;
  AnswerSink* sink = nullptr;
  bool whole = false;  // It has ended; false: it has given way.
};

// What `run_together` did once for several jobs.
struct SharedWork {
  uint64_t operators = 0;     // since the start
  uint64_t packed_bytes = 0;  // of weights' second copies that it multiplies by, now
};

struct DeviceMemory {
  uint64_t budget_bytes = 0;  // 0: no limit
  uint64_t used_bytes = 0;
  uint64_t peak_bytes = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  [[nodiscard]] virtual std::string name() const = 0;  // "cpu", "cuda:0"
  [[nodiscard]] virtual std::string libtorch_version() const = 0;
  // 16 bytes over the schemas of all operators on the allow-list, as the client computes them.
  [[nodiscard]] virtual std::vector<uint8_t> schema_hash() const = 0;
  // True if the operator is on the allow-list and its schema's text hashes (XXH3-64) to `hash`.
  [[nodiscard]] virtual bool supports(std::string_view op, uint64_t schema_hash) const = 0;

  // Memory for a tenant's upload, uninitialised. kOutOfMemory names what was asked and what is
  // free. Any thread.
  [[nodiscard]] virtual Result<std::shared_ptr<Buffer>> stage(uint64_t bytes,
                                                              std::string_view tenant) = 0;
  // Checks that every operator of a plan is allowed, before its first run: kUnsupported or kDenied
  // names the operator. Any thread.
  [[nodiscard]] virtual Result<> admit(const graph::Plan& plan) = 0;
  [[nodiscard]] virtual std::unique_ptr<Replay> open(SessionId session,
                                                     std::string_view tenant) = 0;
  [[nodiscard]] virtual DeviceMemory memory() const = 0;
  // The same and more, where bytes may leave the device for the host's memory. Any thread.
  [[nodiscard]] virtual TierReport tier_report() const;
  // How often bytes have moved between the tiers; 0: never yet. As long as it stays the same, so
  // does every Replay's `move_ns`. Any thread.
  [[nodiscard]] virtual uint64_t moves() const { return 0; }
  // What a tenant has of it is on the tenant's Account, so that limits hold.
  [[nodiscard]] virtual bool charges_tenants() const { return true; }
  // A job goes on after `Replay::run` has returned, and `run` may have to wait for earlier ones.
  [[nodiscard]] virtual bool works_on_its_own() const { return false; }

  // So many jobs `run_together` can take; 1: it cannot.
  [[nodiscard]] virtual size_t lockstep_max() const { return 1; }
  // As `Replay::run` of each, but operator by operator for all of them, so that those that read the
  // same bytes may share work; the bits of the results may differ from a run alone, by the order of
  // additions. The jobs have one plan and different replays. All begin, or all have given way in
  // the same call and go on. What fails for one does not concern the others.
  virtual void run_together(std::span<Member> /*members*/, Chunk& /*chunk*/) {}
  // Any thread.
  [[nodiscard]] virtual SharedWork shared_work() const { return {}; }

  // What may give memory back before an allocation fails: frees about so many bytes of buffers that
  // nobody uses, and returns how many. Called by any thread that holds no lock of the device's.
  using Reclaim = std::function<uint64_t(uint64_t bytes)>;
  // NOLINTNEXTLINE(performance-unnecessary-value-param): who overrides it keeps it.
  virtual void set_reclaim(Reclaim /*reclaim*/) {}
};

inline TierReport Device::tier_report() const {
  const DeviceMemory now = memory();
  return {.tiered = false,
          .device = {.budget = now.budget_bytes, .used = now.used_bytes, .peak = now.peak_bytes},
          .host = {},
          .moved = {}};
}

}  // namespace djinn::server
