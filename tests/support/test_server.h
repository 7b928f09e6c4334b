// SPDX-License-Identifier: Apache-2.0
// Test server: a Server with a fake device on a thread of its own, listening on TCP and a unix
// socket.
//
// Threading: made and destroyed by the test's thread.
#pragma once

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <future>
#include <memory>
#include <string>
#include <thread>

#include "server/server.h"
#include "tests/support/fake_device.h"
#include "tests/support/wire_client.h"

namespace djinn::testing {

class TestServer {
 public:
  struct Options {
    server::ServerOptions server;
    uint64_t budget_bytes = 0;
  };
  TestServer() : TestServer(Options{}) {}
  explicit TestServer(Options options) : device(options.budget_bytes) {
    spdlog::set_level(spdlog::level::off);
    std::promise<void> ready;
    thread_ = std::thread([this, &options, &ready] { main(options, ready); });
    ready.get_future().wait();
  }
  ~TestServer() {
    if (!thread_.joinable()) return;
    device.asleep = false;  // A test that failed must end, too.
    server_->stop();
    server_->stop();
    join();
  }
  TestServer(const TestServer&) = delete;
  TestServer& operator=(const TestServer&) = delete;

  // Runs on the server's thread, and waits for it.
  template <typename F>
  auto ask(F function) {
    std::promise<decltype(function(*server_))> answer;
    server_->post([&] { answer.set_value(function(*server_)); });
    return answer.get_future().get();
  }
  [[nodiscard]] size_t sessions() {
    return ask([](server::Server& server) { return server.sessions(); });
  }
  // Tells it to stop and waits for its end.
  void stop() {
    server_->stop();
    join();
  }
  void begin_stop() { server_->stop(); }
  void join() {
    may_die_.set_value();
    thread_.join();
  }
  [[nodiscard]] Result<server::ServerReport> report(std::chrono::milliseconds patience) {
    return server_->report(patience);
  }
  Result<server::ServerReport> drain(std::chrono::milliseconds patience) {
    return server_->drain(patience);
  }
  Result<server::ServerReport> set_policy(std::string_view name,
                                          std::chrono::milliseconds patience) {
    return server_->set_policy(name, patience);
  }
  Result<server::ServerReport> change_tenants(std::string changes,
                                              std::chrono::milliseconds patience) {
    return server_->change_tenants(std::move(changes), patience);
  }
  server::ArtifactStore& artifacts() { return server_->artifacts(); }

  FakeDevice device;
  transport::Address tcp;
  transport::Address unix_socket;

 private:
  void main(const Options& options, std::promise<void>& ready) {
    auto loop = transport::make_loop({.single_thread = true});
    if (!loop) std::abort();
    auto server = std::make_unique<server::Server>(**loop, device, options.server);
    const auto bound = server->listen({.host = "127.0.0.1", .port = 0});
    static std::atomic<int> count = 0;
    const std::string path =
        "/tmp/djinn-test-" + std::to_string(getpid()) + "-" + std::to_string(count++) + ".sock";
    const auto local = server->listen({.kind = transport::Address::Kind::kUnix, .host = path});
    if (!bound || !local) std::abort();
    tcp = *bound;
    unix_socket = *local;
    server_ = server.get();
    ready.set_value();
    if (!server->run()) std::abort();
    may_die_.get_future().wait();
  }

  server::Server* server_ = nullptr;
  std::promise<void> may_die_;  // The test calls it no more.
  std::thread thread_;
};

// Waits until `condition` holds; false if it does not within the time.
template <typename Condition>
bool eventually(Condition condition,
                std::chrono::milliseconds patience = std::chrono::milliseconds(10000)) {
  const auto until = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

}  // namespace djinn::testing
