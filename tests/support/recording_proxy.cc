// SPDX-License-Identifier: Apache-2.0
#include "tests/support/recording_proxy.h"

#include <algorithm>
#include <span>
#include <thread>

namespace djinn::testing {

RecordingProxy::RecordingProxy(const std::string& server, size_t piece_bytes,
                               std::chrono::microseconds delay)
    : relay_(
          server,
          [this, delay](Relay::Way way, std::span<const std::byte> piece) {
            if (way == Relay::Way::kToServer) {
              bytes_.insert(bytes_.end(), piece.begin(), piece.end());
            }
            if (delay.count() > 0) std::this_thread::sleep_for(delay);
          },
          piece_bytes) {}

std::vector<RecordingProxy::Frame> RecordingProxy::heard() {
  relay_.wait();
  std::vector<Frame> frames;
  std::span<const std::byte> rest(bytes_);
  const auto take = [&rest](size_t count) {
    count = std::min(count, rest.size());
    std::vector<std::byte> out(rest.begin(), rest.begin() + static_cast<ptrdiff_t>(count));
    rest = rest.subspan(count);
    return out;
  };
  while (rest.size() >= transport::kFrameHeaderBytes) {
    const auto header = transport::decode(rest.first<transport::kFrameHeaderBytes>()).value();
    rest = rest.subspan(transport::kFrameHeaderBytes);
    Frame& frame = frames.emplace_back();
    frame.kind = header.kind;
    frame.message = take(header.message_bytes);
    frame.payload = take(header.payload_bytes);
    (void)take(transport::padding(header.payload_bytes));
  }
  return frames;
}

}  // namespace djinn::testing
