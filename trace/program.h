// SPDX-License-Identifier: Apache-2.0
// Program: a child process whose device is somebody else's server.
//
// Ownership: the child is killed with the object. Threading: one thread.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "serialization/base/result.h"

namespace djinn::trace {

class Program {
 public:
  // Runs the words with DJINN_SERVER=server. kNotFound: there is no such program.
  static Result<Program> start(std::vector<std::string> words, const std::string& server);
  ~Program();
  Program(Program&& other) noexcept;
  Program& operator=(Program&&) = delete;

  // Its exit status, or 128 + the signal; nothing while it runs. Does not wait.
  std::optional<int> status();

 private:
  explicit Program(pid_t pid) : pid_(pid) {}
  pid_t pid_ = -1;
  std::optional<int> status_;
};

}  // namespace djinn::trace
