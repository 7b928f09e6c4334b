// SPDX-License-Identifier: Apache-2.0
// Player: one session that says what a trace says.
//
// A frame goes out when the answers are there that the program had when it said it; nobody thinks
// in between. The bounds that a client keeps (jobs in flight, staged bytes) are kept here, too.
// Artifacts are offered under the server's names, and sent if it has them not. What a busy server
// refused is sent again as a client does it (client/session/backoff.h), in the words of a client
// whose server has forgotten its plans. A play ends with a question for the session's counters,
// which is answered when all its jobs have ended.
// Ownership: borrows trace and tally; owns its connection, which must die before the loop.
// Threading: the loop's thread.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/session/backoff.h"
#include "client/session/plan_cache.h"
#include "serialization/base/limits.h"
#include "serialization/transport/connection.h"
#include "trace/tally.h"
#include "trace/trace.h"

namespace djinn::trace {

using Clock = std::chrono::steady_clock;

struct PlayOptions {
  std::string token;  // Names the tenant; empty: anonymous.
  std::string app = "djinn-trace";
  bool compare = true;
  uint32_t deadline_ms = 0;  // of each job, from when the server gets it; 0: none
  // It was greeted, rests, was refused, or has ended. Called from the loop, so it must not destroy
  // the player.
  std::function<void()> changed = [] {};
  uint64_t seed = 1;  // of the random part of its waits when it is refused
};

class Player final : private transport::FrameSink {
 public:
  // `due`: when this play should have begun; latencies count from there.
  Player(const Trace& trace, PlayOptions options, Tally& tally, Clock::time_point due);
  ~Player() override;

  // Connects and says hello. What goes wrong is in the tally, and the play has ended.
  void begin(transport::Loop& loop, const transport::Address& address);

  // It may go on until it has so many answers more; then it rests. None at first.
  void allow(uint32_t answers);

  [[nodiscard]] bool greeted() const { return state_ != State::kGreeting; }
  [[nodiscard]] bool resting() const {
    return state_ == State::kPlaying && !asked_for_end_ && answers_ >= allowed_;
  }
  [[nodiscard]] bool ended() const { return state_ == State::kEnded; }

  // When it is to be told to `go_on`: it was refused, and what was is due again then.
  [[nodiscard]] std::optional<Clock::time_point> due() const { return backoff_.due(); }
  void go_on(Clock::time_point now);

  // A server that is silent for too long is gone, and so is one that refuses a job for as long.
  void check_silence(Clock::time_point now);

 private:
  enum class State : uint8_t { kGreeting, kPlaying, kLeaving, kEnded };

  void advance();
  [[nodiscard]] bool may_say(const Said& said) const;
  void say(const Said& said);
  void say_job(const Said& said);
  // A job as to a server that has heard nothing before what was refused first.
  void say_anew(uint32_t job);
  // Whether it was dealt with; else the server's answer to the offer must come first.
  bool say_artifact(const Said& said);
  void offer(size_t begin);
  void ask_for_end();
  void ask_for_counters();
  void finish_through(uint32_t job);

  Result<std::span<std::byte>> on_message(const transport::FrameHeader& header,
                                          Bytes message) override;
  Result<> on_control(transport::FrameKind kind, Bytes message);
  Result<> on_hello_reply(Bytes message);
  Result<> on_failed(Bytes message);
  Result<> on_stats(Bytes message);
  Result<> on_refused(Bytes message);
  void on_payload() override;
  void on_closed(const Error& reason) override;
  void compare(uint16_t code, Bytes got);
  void answered(uint32_t job, bool finished);
  void fail(const Error& error);

  const Trace& trace_;
  const PlayOptions options_;
  Tally& tally_;
  const Clock::time_point due_;
  Clock::time_point first_answer_at_{};
  State state_ = State::kGreeting;
  Clock::time_point heard_;

  size_t next_ = 0;  // of what is to be said
  uint32_t answers_ = 0;
  uint32_t allowed_ = 0;
  uint32_t sent_job_ = 0;
  uint32_t finished_job_ = 0;
  uint32_t in_flight_max_ = 1;
  bool asked_for_end_ = false;
  uint32_t question_ = 1;  // Its tag: answers to an earlier one came too early.

  // Since the first refusal, and from then on:
  bool anew_ = false;
  client::Backoff backoff_;
  client::PlanCache plans_;
  uint16_t epoch_ = 0;
  uint32_t refused_job_ = 0;  // It and all behind it are to be said again.

  // Of jobs in flight, by their number.
  std::array<Clock::time_point, kJobsInFlightMax> sent_at_;
  std::array<uint64_t, kJobsInFlightMax> staged_by_{};
  uint64_t staged_bytes_ = 0;      // Sent, and the job that consumes them has not ended;
  uint64_t unconsumed_bytes_ = 0;  // of these, for the job that is sent next.
  uint64_t staged_max_ = 0;

  std::vector<uint8_t> artifact_key_;
  size_t offer_begin_ = 0;
  size_t offer_end_ = 0;
  std::vector<bool> have_;  // Empty: not answered yet.

  std::vector<std::byte> payload_;
  uint32_t arriving_job_ = 0;
  uint16_t arriving_answer_ = 0;
  bool arriving_finishes_ = false;

  std::unique_ptr<transport::Connection> connection_;  // Last: it dies first, and calls back.
};

}  // namespace djinn::trace
