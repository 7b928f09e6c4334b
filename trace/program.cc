// SPDX-License-Identifier: Apache-2.0
#include "trace/program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <system_error>
#include <utility>

namespace djinn::trace {

// The child says through a pipe that closes itself why it could not become the program.
Result<Program> Program::start(std::vector<std::string> words, const std::string& server) {
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return Error{ErrorCode::kFailed, "no pipe"};
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(1);
    ::setenv("DJINN_SERVER", server.c_str(), 1);  // NOLINT(concurrency-mt-unsafe): one thread here
    ::execvp(argv[0], argv.data());
    const int error = errno;
    (void)!::write(ends[1], &error, sizeof error);
    ::_exit(127);
  }
  ::close(ends[1]);
  int error = 0;
  const bool failed = pid < 0 || ::read(ends[0], &error, sizeof error) == sizeof error;
  ::close(ends[0]);
  if (!failed) return Program(pid);
  if (pid > 0) ::waitpid(pid, nullptr, 0);
  return Error{ErrorCode::kNotFound, words[0] + ": " + std::generic_category().message(error)};
}

Program::Program(Program&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), status_(other.status_) {}

Program::~Program() {
  if (pid_ < 0 || status()) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

std::optional<int> Program::status() {
  int status = 0;
  if (!status_ && ::waitpid(pid_, &status, WNOHANG) == pid_) {
    status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }
  return status_;
}

}  // namespace djinn::trace
