// SPDX-License-Identifier: Apache-2.0
// A real djinn-server in a process of its own, for integration tests and benchmarks.
//
// Ownership: the process ends with the object (SIGTERM, then SIGKILL). Threading: one thread.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace djinn::testing {

class ServerProcess {
 public:
  // Starts `djinn-server --listen <listen> --device <server_device()> <args>` from $DJINN_TEST_BIN,
  // or the folder of this test's binary, and waits until it listens. Throws std::runtime_error with
  // what it printed.
  explicit ServerProcess(std::vector<std::string> args = {},
                         const std::string& listen = "tcp://127.0.0.1:0");
  ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  [[nodiscard]] const std::string& address() const { return address_; }
  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] bool running();
  void signal(int number);
  // Waits for the end; returns the exit status as waitpid gives it, or -1 after the timeout.
  int wait(int timeout_ms);

 private:
  pid_t pid_ = -1;
  int status_ = -1;
  int output_ = -1;
  std::string address_;
};

// The device of the servers that tests start: $DJINN_TEST_DEVICE, "cpu" without it.
[[nodiscard]] std::string server_device();

// Folder of the binaries of this build.
[[nodiscard]] std::string binary_folder();

}  // namespace djinn::testing
