// SPDX-License-Identifier: Apache-2.0
// RecordingProxy: stands between one client and a server, hands on every byte, and keeps what the
// client said.
//
// Ownership: its thread ends with the object. Threading: `heard` when the client has gone.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <thread>
#include <vector>

#include "serialization/transport/connection.h"

namespace djinn::testing {

class RecordingProxy {
 public:
  // Hands on at most `piece_bytes` at a time, and waits for `delay` behind each.
  explicit RecordingProxy(const std::string& server, size_t piece_bytes = 1 << 16,
                          std::chrono::microseconds delay = std::chrono::microseconds(0));
  ~RecordingProxy();
  RecordingProxy(const RecordingProxy&) = delete;
  RecordingProxy& operator=(const RecordingProxy&) = delete;

  [[nodiscard]] const std::string& address() const { return address_; }

  struct Frame {
    transport::FrameKind kind;
    std::vector<std::byte> message;
    std::vector<std::byte> payload;
    bool operator==(const Frame&) const = default;
  };
  // Waits until the client has gone. What it said, frame by frame.
  std::vector<Frame> heard();

 private:
  void run();

  transport::Address server_;
  const size_t piece_bytes_;
  const std::chrono::microseconds delay_;
  int listener_ = -1;
  std::string address_;
  std::vector<std::byte> bytes_;
  std::jthread thread_;
};

}  // namespace djinn::testing
