// SPDX-License-Identifier: Apache-2.0
// Counting proxy: stands between a client and a server, passes every byte on and counts it - a
// second opinion on what the kernel's and the client's own counters say.
//
// It serves one connection at a time. Threading: its own
// thread; the counters may be read from any.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>

namespace djinn::benchmarks {

class CountingProxy {
 public:
  // To a server at tcp://127.0.0.1:`port`.
  explicit CountingProxy(uint16_t port);
  ~CountingProxy();
  CountingProxy(const CountingProxy&) = delete;
  CountingProxy& operator=(const CountingProxy&) = delete;

  [[nodiscard]] const std::string& address() const { return address_; }
  [[nodiscard]] uint64_t up() const { return up_; }      // client to server
  [[nodiscard]] uint64_t down() const { return down_; }  // server to client

 private:
  void main();
  void pass(int client, int server);

  uint16_t port_ = 0;
  int listener_ = -1;
  int stop_ = -1;
  std::string address_;
  std::atomic<uint64_t> up_ = 0;
  std::atomic<uint64_t> down_ = 0;
  std::thread thread_;
};

}  // namespace djinn::benchmarks
