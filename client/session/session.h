// SPDX-License-Identifier: Apache-2.0
// Session: the client's end of the conversation with one server.
//
// It sends flushes as jobs (plan_cache.h, numbers.h), uploads bytes from where they lie, and lets a
// thread wait for an answer by moving the connection itself: handing over between threads costs
// more than a round trip. Nothing here knows Torch.
//
// Errors: once the connection is lost, every call returns kUnavailable with the server's address.
// Threading: any thread; one at a time has its turn on the connection, a waiting one gives it up
// whenever another asks.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "client/session/backoff.h"
#include "client/session/plan_cache.h"
#include "serialization/base/ids.h"
#include "serialization/base/result.h"
#include "serialization/codec/messages.h"
#include "serialization/graph/plan_writer.h"
#include "serialization/transport/connection.h"

namespace djinn::client {

using transport::Bytes;

struct OperatorSchema {
  std::string name;   // "aten::add.Tensor"
  uint64_t hash = 0;  // XXH3-64 of the schema's text
};

struct SessionOptions {
  std::string address;  // tcp://host:port or unix:///path
  std::string token;    // names the tenant; empty: anonymous
  std::string app;      // for the server's logs
  std::string libtorch_version;
  std::vector<uint8_t> schema_hash;
  std::function<std::vector<OperatorSchema>()> operators;  // asked if the hashes differ
  std::chrono::milliseconds connect_timeout{10'000};
  std::chrono::milliseconds silence_timeout{
      30'000};  // A server silent for longer while we wait is gone, and so for us is one that
                // refuses the same job for longer.
};

// What came back for one answer of a job. Must live until `done`, or until the session is closed.
struct PendingAnswer {
  std::span<std::byte> into;     // A fetch: exactly as long as the tensor's bytes.
  std::vector<std::byte> bytes;  // A deferred op (`into` is empty): its encoded results.
  std::optional<Error> error;
  bool done = false;
  bool abandoned = false;  // The wait was cancelled: `into` is gone.
};

// Bytes to upload, and who keeps them alive.
struct UploadSource {
  UploadId upload;
  Bytes bytes;
  std::array<uint8_t, codec::kArtifactNameBytes> name{};  // artifacts only
  std::shared_ptr<const void> owner;  // null: the caller waits until the kernel has taken them
  bool forget = false;                // Pages that leave our memory behind the kernel's reading.
};

struct SessionCounters {
  uint64_t jobs = 0;
  uint64_t steps = 0;       // of these, sent without a plan and without numbers
  uint64_t plans = 0;       // plans sent in full
  uint64_t plan_bytes = 0;  // bytes of their messages
  uint64_t plan_ops = 0;    // entries in them
  uint64_t answers = 0;
  uint64_t upload_bytes = 0;  // sent as uploads of any form
  uint64_t offered = 0;       // artifacts the server was asked for
  uint64_t shared_bytes = 0;  // bytes it had already
  uint64_t resyncs = 0;
  uint64_t refusals = 0;  // The server was too busy for a job, so often; it was sent again.
  transport::LoopStats io;
};

class Session : private transport::FrameSink {
 public:
  // Connects and says hello. Blocks at most connect_timeout; the error names address and cause.
  static Result<std::unique_ptr<Session>> open(SessionOptions options);
  ~Session() override;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Sends a flush; blocks only while too many jobs are in flight. `inline_uploads` holds the inline
  // uploads in order, each padded to 8 bytes. One PendingAnswer per answer of the flush.
  Result<> submit(const graph::Flush& flush, std::vector<uint64_t> inline_uploads,
                  std::span<PendingAnswer* const> answers);

  // Blocks until the answer is there, then returns its error or nothing.
  // kUnavailable: the server is gone or has been silent for too long. kExhausted: it was too busy
  // for too long, and the session has ended. kCancelled: cancel() was called.
  Result<> wait(PendingAnswer& answer);

  // Sends bytes for an upload entry of a later job. Without owner: returns when the kernel has
  // them.
  Result<> upload(const UploadSource& source);
  // Asks which artifacts the server has, and sends the others. Blocks for one round trip.
  Result<> upload_artifacts(std::span<const UploadSource> sources);

  // Sends it, and does not wait.
  Result<> hint(const codec::Hint& hint);

  // The counters of this session on the server, when all jobs sent so far have ended.
  Result<codec::StatsReply> server_stats();

  // 0: the server shares nothing.
  [[nodiscard]] uint64_t artifact_bytes_min() const { return artifact_bytes_min_; }
  [[nodiscard]] const std::vector<uint8_t>& artifact_key() const { return artifact_key_; }
  [[nodiscard]] const std::string& address() const { return options_.address; }
  [[nodiscard]] const std::string& device() const { return device_; }
  [[nodiscard]] uint64_t id() const { return id_; }
  // Names of operators this server lacks or knows by another schema.
  [[nodiscard]] const std::vector<std::string>& unsupported() const { return unsupported_; }
  SessionCounters counters();

  // Ends calls that wait for an answer with kCancelled; the session goes on. Async-signal-safe.
  void cancel();

 private:
  struct InFlight;
  class Turn;

  explicit Session(SessionOptions options);

  Result<> say_hello();
  Result<> exchange_operators();
  Result<> transmit(InFlight& job);
  void send_hint(std::shared_ptr<const codec::Message> hint);
  Result<> offer(std::span<const UploadSource> sources, std::vector<bool>& have);
  Result<> send_upload(const UploadSource& source, bool artifact);
  Result<> wait_for_staging_room(uint64_t bytes);
  // Runs the loop until the condition holds, the connection is lost, or the server has been silent
  // for too long. The caller has the turn, and lends it meanwhile if he hands it over.
  Result<> run_until(Turn* turn, const std::function<bool()>& condition);
  // For what must not be interleaved: memory of the caller that the kernel reads, questions of
  // which one is under way at a time. Not to be cancelled.
  Result<> run_alone(const std::function<bool()>& condition) {
    return run_until(nullptr, condition);
  }
  Result<> run_once(std::chrono::nanoseconds timeout);
  void abandon(PendingAnswer& answer);
  void give_up(Error error);
  void finish_before(uint32_t job);
  void resync(const codec::Resync& message);
  void refused(const codec::Refused& message);
  // Sends this job and all later ones, as to a server that knows no plan.
  void send_again(uint32_t from_job);
  // Sends again what was refused, if it is due; ends a session that has waited too long for that.
  Result<> keep_trying();
  void fail(Error error);
  [[nodiscard]] PendingAnswer* pending(uint32_t job, uint16_t answer);

  Result<std::span<std::byte>> on_message(const transport::FrameHeader& header,
                                          Bytes message) override;
  Result<std::span<std::byte>> on_fetched(const transport::FrameHeader& header, Bytes message);
  Result<> on_failed(Bytes message);
  Result<> on_hello_reply(Bytes message);
  Result<> on_control(transport::FrameKind kind, Bytes message);
  void on_payload() override;
  void on_closed(const Error& reason) override;

  SessionOptions options_;
  std::unique_ptr<transport::Loop> loop_;
  std::unique_ptr<transport::Connection> connection_;

  std::mutex mutex_;  // guards taken_ and wanted_; everything below belongs to whoever has the turn
  std::condition_variable changed_;
  bool taken_ = false;
  int wanted_ = 0;
  std::atomic<uint64_t> cancels_{0};

  PlanCache plans_;
  std::deque<std::shared_ptr<InFlight>> in_flight_;
  uint32_t next_job_ = 1;
  uint16_t epoch_ = 0;
  uint32_t refused_job_ = 0;
  Backoff backoff_{std::random_device{}()};
  std::shared_ptr<const codec::Message> held_hint_;  // It is about what comes next.
  uint16_t jobs_in_flight_max_ = 1;
  uint64_t staged_bytes_max_ = 0;
  uint64_t staged_bytes_ = 0;      // Sent, and the job that consumes them has not ended;
  uint64_t unconsumed_bytes_ = 0;  // of these, for the job that is sent next.
  uint64_t artifact_bytes_min_ = 0;
  std::vector<uint8_t> artifact_key_;
  std::string device_;
  uint64_t id_ = 0;
  std::vector<std::string> unsupported_;
  bool schemas_match_ = true;
  bool greeted_ = false;
  std::optional<Error> lost_;
  PendingAnswer* receiving_ = nullptr;
  codec::Fetched receiving_answer_;
  std::optional<std::vector<bool>> offer_reply_;
  std::optional<codec::StatsReply> stats_reply_;
  std::optional<std::vector<uint32_t>> operators_reply_;
  uint32_t stats_tag_ = 0;
  SessionCounters counters_;
};

}  // namespace djinn::client
