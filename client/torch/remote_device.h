// SPDX-License-Identifier: Apache-2.0
// RemoteDevice: djinn:0, djinn:1 ... - the log of what the app did, and the session it goes to.
//
// The log is a PlanWriter; it is cut (sent as one job) at a fetch, at flush(), and after
// kOpsPerFlushMax entries or kUploadBytesPerFlushMax bytes of uploads: by what the program did,
// never by time, so that the same program makes the same plans.
//
// Ownership: leaked singletons - tensors may die after main. Threading: one lock for all devices
// guards the logs (`RemoteDevice::Lock`); a thread waits for the server without it.
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "client/djinn.h"
#include "client/session/session.h"
#include "client/torch/storage.h"
#include "serialization/graph/plan_writer.h"

namespace djinn::client {

// Takes an entry back if writing its arguments throws.
// The caller has the lock.
class EntryGuard {
 public:
  explicit EntryGuard(graph::PlanWriter& writer) : writer_(writer) {}
  ~EntryGuard() {
    if (!written_) writer_.abandon_entry();
  }
  EntryGuard(const EntryGuard&) = delete;
  EntryGuard& operator=(const EntryGuard&) = delete;
  void written() { written_ = true; }

 private:
  graph::PlanWriter& writer_;
  bool written_ = false;
};

class RemoteDevice {
 public:
  using Lock = std::unique_lock<std::recursive_mutex>;

  // The device of an index. Throws if there is no such server.
  static RemoteDevice& get(c10::DeviceIndex index);
  static RemoteDevice& of(const at::Tensor& tensor) { return *context_of(tensor).device; }
  static RemoteDevice& current();
  static c10::DeviceIndex current_index();
  static void set_current_index(c10::DeviceIndex index);
  static c10::DeviceIndex count() noexcept;
  static void configure(const Options& options);
  static void cancel_all();

  static Lock lock() { return Lock(mutex_); }

  [[nodiscard]] c10::Device device() const { return {c10::kPrivateUse1, index_}; }

  // -- storages
  StorageContext* new_context(size_t bytes);
  // The app dropped a storage. Never throws; does nothing in a forked child.
  static void forget(StorageContext* context) noexcept;
  void record_resize(StorageContext& context, size_t bytes);
  // Throws if the storage's session is over. The caller has the lock.
  void check_session(const StorageContext& context) const;

  // -- the log; the caller has the lock
  graph::PlanWriter& writer() { return writer_; }
  // Writes a tensor's place and geometry. Throws if its session is over.
  void write_operand(const at::Tensor& tensor);
  void write_operand(StorageContext& context, c10::ScalarType type, c10::IntArrayRef sizes,
                     c10::IntArrayRef strides, int64_t offset);
  // To be called behind each entry: cuts the log when it is long.
  void entry_done() {
    ++ops_recorded_;
    if (writer_.entries() >= entries_max_) [[unlikely]]
      cut({});
  }
  void entry_done_before_cut() { ++ops_recorded_; }
  // Sends the log as a job with these answers (in the order they were recorded).
  void cut(std::span<PendingAnswer* const> answers);
  // Emits the seed entry if the generator was seeded since it was last used.
  void before_random(const c10::GeneratorImpl& generator);

  // -- uploads; the caller has the lock
  // Room for an inline upload of so many bytes in the current flush.
  std::span<std::byte> inline_upload(size_t bytes);
  // Before an id is taken: cuts the log if it has many bytes of uploads already.
  void make_room_for_upload(size_t bytes);
  UploadId next_upload() { return {next_upload_++}; }
  void defer_upload(UploadSource source);  // sent at the next cut
  void count_staged(size_t bytes);         // may cut
  Session& session();                      // connects if need be
  [[nodiscard]] bool shares() const { return options_.share; }

  // -- waiting; without the lock
  // Records a fetch of the operand, cuts, and waits until its bytes are there.
  void fetch(const at::Tensor& tensor, std::span<std::byte> into);
  void wait(PendingAnswer& answer);

  Stats stats();
  ServerStats server_stats();
  void flush();
  void synchronize();
  // Phase, urgency and rest; the deadline stays.
  void hint(codec::Hint hint);
  void set_deadline(uint32_t deadline_ms);

  uint64_t hashed_bytes = 0;
  uint64_t shape_questions = 0;

 private:
  RemoteDevice(c10::DeviceIndex index, Options options);
  void begin_log();
  void connect();
  [[noreturn]] static void raise(const Error& error);
  static void check_usable();
  void send_hint(const codec::Hint& hint);

  static std::recursive_mutex mutex_;  // NOLINT(readability-identifier-naming): a member, too.

  const c10::DeviceIndex index_;
  Options options_;
  graph::PlanWriter writer_;
  std::shared_ptr<Session> session_;
  codec::Hint said_;  // what stays of the last hint: all but the rest
  uint32_t told_deadline_ms_ = 0;
  std::vector<uint64_t> inline_uploads_;
  std::vector<UploadSource> deferred_;
  uint64_t next_storage_ = 1;
  uint64_t next_upload_ = 1;
  uint64_t staged_bytes_ = 0;
  uint64_t deferred_bytes_ = 0;
  uint64_t ops_recorded_ = 0;
  uint64_t random_seeded_ = 0;  // The default generator's seeding that the server knows.
  uint32_t generation_ = 1;
  uint32_t entries_max_;
};

}  // namespace djinn::client
