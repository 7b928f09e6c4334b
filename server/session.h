// SPDX-License-Identifier: Apache-2.0
// Session: one connection's side of the protocol (serialization/schema/protocol.capnp).
//
// Decodes and checks what a client sends, hands its jobs to the Runner in order, and sends what
// they answer. Whatever breaks a rule ends this session with a Goodbye that says what, and no
// other. Ownership: owns its connection, its plan slots and its staged uploads; borrows the House.
// Its Replay lives in the Runner until `on_closed`. Threading: the I/O thread.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "scheduler/session_hints.h"
#include "serialization/codec/messages.h"
#include "serialization/transport/connection.h"
#include "server/memory/artifact_store.h"
#include "server/report.h"
#include "server/runner.h"
#include "server/session/admission.h"
#include "server/session/plan_slots.h"
#include "server/session/progress.h"
#include "server/session/sender.h"
#include "server/session/uploads.h"
#include "server/settings/access.h"

namespace djinn::server {

// What all sessions have in common.
struct House {
  Device& device;
  Runner& runner;
  ArtifactStore& artifacts;
  PlanCache& plans;
  Admission& admission;
  const Access& access;
  // One more session of this tenant; kExhausted: it has as many as it may.
  std::function<Result<>(std::string_view tenant)> may_open;
  const transport::Loop& loop;
  // Any thread: that session's upload was not what its artifact's name says.
  std::function<void()> closed;  // A connection is gone. On the loop's thread.
  std::function<void(SessionId, UploadId)> refuse_upload;
  // Any thread: what that session's oldest unanswered offer waited for.
  std::function<void(SessionId, std::vector<std::shared_ptr<Buffer>>)> loaded;
};

class Session final : public transport::FrameSink {
 public:
  struct Options {
    bool local = false;  // The peer is on this machine.
    bool full = false;   // There are too many sessions: this one is sent away politely.
  };
  Session(SessionId id, Options options, std::unique_ptr<transport::Connection> connection,
          House& house);
  ~Session() override;

  Result<std::span<std::byte>> on_message(const transport::FrameHeader& header,
                                          transport::Bytes message) override;
  void on_payload() override;
  void on_closed(const Error& reason) override;

  // From the Runner.
  void report(Report report);
  // From time to time: heartbeats, the hello's timeout, packing of what is idle.
  void tick(uint64_t now_ns);
  // No further jobs; says goodbye when those that are here have ended.
  void drain();
  void upload_refused(UploadId upload);
  // Artifacts came from disk, those of the oldest offer that waits for some.
  void loaded(std::span<std::shared_ptr<Buffer>> artifacts);

  [[nodiscard]] bool closed() const { return state_ == State::kClosed; }
  [[nodiscard]] bool open() const { return state_ == State::kOpen; }
  [[nodiscard]] const std::string& tenant() const { return tenant_; }
  // It needs a tick soon: someone waits for an answer, or for room to send.
  [[nodiscard]] bool restless() const;
  // Memory that this session alone costs, roughly: without its Replay and what is staged.
  [[nodiscard]] size_t bytes() const;
  [[nodiscard]] SessionReport look(uint64_t now_ns) const;
  [[nodiscard]] transport::Connection& connection() { return *connection_; }

 private:
  enum class State : uint8_t { kGreeting, kOpen, kEnding, kClosed };
  using Place = Result<std::span<std::byte>>;
  struct PendingStats {
    uint32_t tag = 0;
    JobId after;
  };

  // One per kind of frame; an Error ends the session.
  Place receive(const transport::FrameHeader& header, transport::Bytes message);
  Place receive_payload_frame(const transport::FrameHeader& header, transport::Bytes message);
  Result<> receive_plain_frame(transport::FrameKind kind, transport::Bytes message);
  Result<> hello(const codec::Hello& hello);
  Result<> operators(const codec::Operators& operators);
  Result<> offer(const codec::Offer& offer);
  void answer_offers();
  Result<> hint(const codec::Hint& hint);
  Result<> stats_request(const codec::StatsRequest& request);
  template <typename Message>  // codec::Step or codec::Job
  Place job(const Message& message, uint64_t payload_bytes);
  Place prepare(PlanSlots::Decoded decoded, uint64_t payload_bytes);
  [[nodiscard]] JobPhase phase_of(const Task& task);
  void submit(Task task);
  [[nodiscard]] bool may_run_here(const Task& task) const;
  // Of the job that comes now: what admission is told of it,
  [[nodiscard]] Admission::Entrant entrant(const Task& task) const;
  // and whether its deadline can be met: if not, no operator of it will run.
  void set_deadline(Task& task);

  void send_answer(Report& report);
  void job_ended(const Report& report);
  void send_stats(uint32_t tag);
  void flow();  // Pauses or resumes reading and running, by what is queued and unsent.
  void say_goodbye(const Error& error);
  void resync();
  // True: too many jobs wait for one more, and the client was told when to come again. If that
  // would be too late for it, the job is let in, and will not run.
  bool refuse();
  void refuse_for(uint32_t retry_after_ms);
  void note_arrival(uint32_t job);
  void begin_epoch();
  void release_jobs();

  const SessionId id_;
  const Options options_;
  House& house_;
  State state_ = State::kGreeting;
  std::string tenant_ = "unknown";

  PlanSlots plans_;
  Uploads uploads_;
  Progress progress_;
  uint16_t epoch_ = 0;  // Behind the last one the first comes again.
  uint32_t resyncs_ = 0;
  Admission::Place place_;            // Of its tenant's queue, once it is open.
  uint32_t retry_after_ms_ = 0;       // of the Goodbye
  std::unique_ptr<Task> arriving_;    // A job whose payload is on its way.
  uint64_t inline_bytes_queued_ = 0;  // Of jobs in flight.
  std::deque<PendingStats> pending_stats_;
  std::deque<Offered> offers_;  // In order; the first waits for a disk or a hash.
  std::shared_ptr<const Unit> asks_ = std::make_shared<Unit>();  // Loads end when it dies.
  uint64_t answers_due_ = 0;
  std::vector<Report> reports_;       // Of a job that ran here.
  uint64_t not_here_before_job_ = 0;  // A job took long on this thread: its session pays for it.

  sched::SessionHints hints_;
  uint64_t hints_second_ = 0;  // which one it is, and how many hints came in it
  uint32_t hints_in_second_ = 0;

  // When jobs came first, and until when they are to end: of the next one and those behind it,
  // which may come again.
  struct Arrival {
    uint64_t ns = 0;
    uint64_t deadline_ns = 0;  // sched::kNever: there is none.
  };
  std::vector<Arrival> arrivals_;
  std::optional<Admission::Refusal> late_;  // There is no place in time for the one that comes.

  uint64_t trains_until_job_ = 0;  // Until then a job that shows nothing else trains, too.

  bool draining_ = false;
  bool reading_paused_ = false;
  bool running_paused_ = false;
  bool packed_ = true;
  const uint64_t born_ns_;
  uint64_t state_since_ns_;
  uint64_t last_frame_ns_;

  Sender sender_;
  std::unique_ptr<transport::Connection> connection_;  // Last: it dies first, and calls back.
};

}  // namespace djinn::server
