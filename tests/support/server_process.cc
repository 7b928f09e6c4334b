// SPDX-License-Identifier: Apache-2.0
#include "tests/support/server_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <thread>

namespace djinn::testing {
namespace {

using std::chrono::steady_clock;

// Reads until a line is whole, the peer closes, or time is up.
std::string read_line(int fd, std::chrono::seconds timeout) {
  const auto deadline = steady_clock::now() + timeout;
  std::string line;
  while (steady_clock::now() < deadline) {
    pollfd wait{.fd = fd, .events = POLLIN, .revents = 0};
    if (poll(&wait, 1, 100) <= 0) continue;
    char c = 0;
    if (read(fd, &c, 1) <= 0) break;
    if (c == '\n') return line;
    line += c;
  }
  throw std::runtime_error("djinn-server said \"" + line + "\" and not where it listens");
}

}  // namespace

std::string binary_folder() {
  if (const char* const given = std::getenv("DJINN_TEST_BIN")) return given;  // NOLINT
  char path[4096] = {};
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  const std::string self(path, static_cast<size_t>(std::max<ssize_t>(length, 0)));
  const std::string folder = self.substr(0, self.rfind('/'));
  // Tests lie one folder below the programs.
  return folder.ends_with("/tests") ? folder.substr(0, folder.size() - 6) : folder;
}

std::string server_device() {
  const char* const given = std::getenv("DJINN_TEST_DEVICE");  // NOLINT(concurrency-mt-unsafe)
  return given != nullptr ? given : "cpu";
}

ServerProcess::ServerProcess(std::vector<std::string> args, const std::string& listen) {
  const std::string program = binary_folder() + "/djinn-server";
  std::vector<std::string> all{program, "--listen", listen, "--device", server_device()};
  all.insert(all.end(), args.begin(), args.end());
  std::vector<char*> argv;
  argv.reserve(all.size() + 1);
  for (std::string& arg : all) argv.push_back(arg.data());
  argv.push_back(nullptr);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // Whatever becomes of the test, no server stays behind.
    if (getppid() != parent) _exit(1);
    dup2(ends[1], STDOUT_FILENO);
    execv(program.c_str(), argv.data());
    _exit(127);
  }
  close(ends[1]);
  output_ = ends[0];
  const std::string line = read_line(output_, std::chrono::seconds(60));
  const size_t at = line.find("://");
  const size_t from = at == std::string::npos ? at : line.rfind(' ', at);
  if (from == std::string::npos) throw std::runtime_error("djinn-server said: " + line);
  address_ = line.substr(from + 1);
}

ServerProcess::~ServerProcess() {
  if (running()) {
    kill(pid_, SIGCONT);
    kill(pid_, SIGTERM);
    if (wait(15'000) < 0) {
      kill(pid_, SIGKILL);
      wait(5'000);
    }
  }
  if (output_ >= 0) close(output_);
}

bool ServerProcess::running() {
  if (status_ >= 0) return false;
  return wait(0) < 0;
}

void ServerProcess::signal(int number) { kill(pid_, number); }

int ServerProcess::wait(int timeout_ms) {
  const auto deadline = steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  while (status_ < 0) {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      status_ = status;
      break;
    }
    if (steady_clock::now() >= deadline) return -1;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return status_;
}

}  // namespace djinn::testing
