// SPDX-License-Identifier: Apache-2.0
// Fake device: an executor without Torch that knows uploads, fetches and five operators on
// contiguous float tensors, so that all of a session's behaviour is tested in seconds and under
// ThreadSanitizer.
//
//   aten::add.Tensor(a, b) -> new     aten::add_.Tensor(a, b) -> a
//   test::sleep(milliseconds)         test::fail(a) -> new, whose storage gets an error
//   aten::mm(a, b) -> new: of the elements; it is there to count as a product
//
// It asserts what the Runner promises: one job at a time, and Replays that die while none runs.
// With DJINN_TEST_LATE_ANSWERS in the environment it works on its own, as a GPU does: a job's
// answers and its end come from a thread of the device, when `run` has long returned.
// Threading: as executor.h says.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <thread>
#include <vector>

#include "serialization/base/mutex.h"
#include "server/executor.h"

namespace djinn::testing {

class FakeDevice final : public server::Device {
 public:
  explicit FakeDevice(uint64_t budget_bytes = 0);
  ~FakeDevice() override;

  [[nodiscard]] std::string name() const override { return "fake"; }
  [[nodiscard]] std::string libtorch_version() const override { return "0.0.0"; }
  [[nodiscard]] std::vector<uint8_t> schema_hash() const override;
  [[nodiscard]] bool supports(std::string_view op, uint64_t schema_hash) const override;
  [[nodiscard]] Result<std::shared_ptr<server::Buffer>> stage(uint64_t bytes,
                                                              std::string_view tenant) override;
  [[nodiscard]] Result<> admit(const graph::Plan& plan) override;
  [[nodiscard]] std::unique_ptr<server::Replay> open(SessionId session,
                                                     std::string_view tenant) override;
  [[nodiscard]] server::DeviceMemory memory() const override;
  void set_reclaim(Reclaim reclaim) override;
  [[nodiscard]] bool works_on_its_own() const override { return late_; }
  [[nodiscard]] size_t lockstep_max() const override { return late_ ? 1 : 8; }
  void run_together(std::span<server::Member> jobs, server::Chunk& chunk) override;
  [[nodiscard]] uint64_t moves() const override { return bytes_moved; }

  static constexpr uint64_t kSchemaOfAll = 7;  // Every operator's schema hashes to this.

  // -- what the tests look at
  std::atomic<uint64_t> used_bytes = 0;
  std::atomic<uint64_t> peak_bytes = 0;
  std::atomic<int> replays = 0;
  std::atomic<int> running = 0;
  std::atomic<uint64_t> answer_bytes = 0;  // Of answers that are not sent yet.
  std::atomic<uint64_t> plans_admitted = 0;
  std::atomic<uint64_t> shrinks = 0;
  std::atomic<uint64_t> suspensions = 0;  // Jobs gave way so often.
  std::atomic<uint64_t> rests = 0;
  std::atomic<uint64_t> groups = 0;         // calls of run_together,
  std::atomic<uint64_t> members = 0;        // and their jobs
  std::atomic<uint64_t> resumes_at_ns = 0;  // as the last rest said

  // The sessions whose jobs began, in that order.
  [[nodiscard]] std::vector<SessionId> begun() const;
  void note_begun(SessionId session);

  // -- what the tests decide
  std::atomic<uint64_t> bytes_moved = 0;   // as `moves` says
  std::atomic<uint64_t> away_session = 0;  // whose bytes are not on the device: 0: nobody's
  std::atomic<uint64_t> shared_name = 0;   // of what every session has bound
  std::atomic<bool> restless = false;      // While it is true, sleeping takes no time.
  std::atomic<bool> asleep = false;        // While it is true, whoever sleeps does not wake up.

  // Takes so many bytes of the budget; kOutOfMemory if they are not there.
  Result<> allocate(uint64_t bytes);
  void free(uint64_t bytes) { used_bytes -= bytes; }
  // Runs it on the device's thread, in the order of the calls.
  void later(std::function<void()> what);

 private:
  void late_main();
  [[nodiscard]] bool reclaim(uint64_t bytes);

  const uint64_t budget_bytes_;
  mutable Mutex mutex_;
  Reclaim reclaim_ GUARDED_BY(mutex_);
  std::vector<SessionId> begun_ GUARDED_BY(mutex_);

  const bool late_;
  std::condition_variable_any wanted_;
  std::deque<std::function<void()>> later_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace djinn::testing
