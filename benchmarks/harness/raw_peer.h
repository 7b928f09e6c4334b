// SPDX-License-Identifier: Apache-2.0
// Raw peer: blocking sockets over loopback TCP that do nothing else - the limit that a transport is
// measured against.
//
// A thread echoes pings and swallows streams into memory that was touched before. Errors end the
// process with a sentence: there is nothing to measure then. Threading: one thread uses it.
#pragma once

#include <cstddef>
#include <span>
#include <thread>
#include <vector>

namespace djinn::benchmarks {

inline constexpr size_t kPingBytes = 64;  // Each way.

class RawPeer {
 public:
  // `stream_bytes`: of the largest stream.
  explicit RawPeer(size_t stream_bytes = 0);
  ~RawPeer();
  RawPeer(const RawPeer&) = delete;
  RawPeer& operator=(const RawPeer&) = delete;

  // Seconds of a ping of kPingBytes and its echo.
  double ping();
  // Where the echoing thread may run.
  void pin(int core);
  // Seconds until the peer has received all and said so.
  double stream(std::span<const std::byte> bytes);

 private:
  void serve();

  std::vector<std::byte> destination_;
  int fd_ = -1;
  int server_ = -1;
  std::thread thread_;
};

}  // namespace djinn::benchmarks
