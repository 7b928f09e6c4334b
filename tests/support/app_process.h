// SPDX-License-Identifier: Apache-2.0
// A LibTorch program in a process of its own, with the client library preloaded.
//
// Ownership: the process is killed with the object. Threading: one thread.
#pragma once

#include <sys/types.h>

#include <cstdio>
#include <string>
#include <vector>

namespace djinn::testing {

class AppProcess {
 public:
  // Runs `app <args>` (tests/integration/app.cc) with DJINN_SERVER=server and these variables
  // ("NAME=value") besides.
  AppProcess(const std::vector<std::string>& args, const std::string& server,
             std::vector<std::string> environment = {});
  ~AppProcess();
  AppProcess(const AppProcess&) = delete;
  AppProcess& operator=(const AppProcess&) = delete;

  // The next line of its output, without its end; empty when there is none.
  std::string line();
  void write(const std::string& line);
  void end_input();
  void signal(int number) const;
  // Ends its input, and waits. The exit status, or 128 + the signal.
  int wait();
  // What it wrote to stderr; after wait().
  [[nodiscard]] std::string errors() const;
  // A number of the statistics that djinn prints at the end, e.g. "upload_bytes"; -1: not there.
  [[nodiscard]] int64_t stat(const std::string& name) const;

 private:
  pid_t pid_ = -1;
  FILE* input_ = nullptr;
  FILE* output_ = nullptr;
  int errors_ = -1;  // A file without a name.
};

}  // namespace djinn::testing
