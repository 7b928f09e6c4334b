// SPDX-License-Identifier: Apache-2.0
// Recorder: stands between a program and a server, hands on every frame, and writes those that a
// trace is made of.
//
// Why between them and not in the client: what a session said is exactly its frames. Ids of
// storages, jobs, uploads and plan slots are a session's own, and numbers are predicted from a
// session's own history, so a new session that says the same frames is understood the same. What is
// a server's own is taken out: the token, and names of artifacts, which are keyed (the trace has
// the SHA-256 of the bytes). A program is told that the server has none of its artifacts, so that
// the trace holds their bytes; those that the server had are not sent on.
// Ownership: borrows loop and writer. One session: a second connection is turned away, and is an
// error. Threading: the loop's thread.
#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "serialization/base/result.h"
#include "serialization/transport/connection.h"
#include "trace/writer.h"

namespace djinn::trace {

class Recorder {
 public:
  // Listens on a port of loopback that the system chooses.
  static Result<std::unique_ptr<Recorder>> make(transport::Loop& loop, transport::Address server,
                                                Writer& writer);
  ~Recorder();
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  [[nodiscard]] std::string address() const;
  // A session began, and has ended.
  [[nodiscard]] bool ended() const;
  // Why there is no trace: nobody came, or something happened that a trace cannot hold.
  [[nodiscard]] Result<> verdict() const;

 private:
  struct Frame;
  class Side;

  Recorder(transport::Loop& loop, transport::Address server, Writer& writer);

  void accept(std::unique_ptr<transport::Connection> connection);
  // One for each direction. What comes back says whether it goes on to the other side.
  Result<bool> from_client(const Frame& frame);
  Result<bool> from_server(const Frame& frame);
  Result<bool> upload(const Frame& frame);
  Result<bool> offer_answered(const Frame& frame);
  Result<> hello(const Frame& frame);
  Result<> answer(const Frame& frame);
  void received(Side& from, const std::shared_ptr<const Frame>& frame);
  void send(Side& to, const std::shared_ptr<const Frame>& frame);
  void closed(Side& side);
  void fail(Error error);
  [[nodiscard]] uint64_t time_us() const;

  transport::Loop& loop_;
  const transport::Address server_address_;
  Writer& writer_;
  std::unique_ptr<transport::Loop::Listener> listener_;
  std::unique_ptr<Side> client_;
  std::unique_ptr<Side> server_;
  std::deque<std::vector<uint64_t>> offers_;  // Their uploads; unanswered ones.
  std::unordered_set<uint64_t> there_;        // Uploads that the server has not to be sent.
  std::chrono::steady_clock::time_point since_;
  std::optional<Error> error_;
};

}  // namespace djinn::trace
