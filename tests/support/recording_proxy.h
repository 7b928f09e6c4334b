// SPDX-License-Identifier: Apache-2.0
// RecordingProxy: a relay that keeps what the client said.
//
// Threading: one thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "serialization/transport/frame.h"
#include "tests/support/relay.h"

namespace djinn::testing {

class RecordingProxy {
 public:
  // Hands on at most `piece_bytes` at a time, and waits for `delay` before each.
  explicit RecordingProxy(const std::string& server, size_t piece_bytes = 1 << 16,
                          std::chrono::microseconds delay = std::chrono::microseconds(0));

  [[nodiscard]] const std::string& address() const { return relay_.address(); }

  struct Frame {
    transport::FrameKind kind;
    std::vector<std::byte> message;
    std::vector<std::byte> payload;
    bool operator==(const Frame&) const = default;
  };
  // Waits until the client has gone. What it said, frame by frame.
  std::vector<Frame> heard();

 private:
  std::vector<std::byte> bytes_;  // The relay's thread writes them.
  Relay relay_;
};

}  // namespace djinn::testing
