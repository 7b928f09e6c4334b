// SPDX-License-Identifier: Apache-2.0
#include "tests/support/app_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <stdexcept>
#include <utility>

#include "tests/support/server_process.h"

namespace djinn::testing {
namespace {

std::array<int, 2> make_pipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
  return ends;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> out;
  out.reserve(texts.size() + 1);
  for (std::string& text : texts) out.push_back(text.data());
  out.push_back(nullptr);
  return out;
}

}  // namespace

AppProcess::AppProcess(const std::vector<std::string>& args, const std::string& server,
                       std::vector<std::string> environment) {
  const std::string bin = binary_folder();
  std::vector<std::string> words{bin + "/tests/app"};
  words.insert(words.end(), args.begin(), args.end());
  environment.insert(environment.end(),
                     {"LD_PRELOAD=" + bin + "/../lib/libdjinn_client.so", "DJINN_SERVER=" + server,
                      "DJINN_STATS=1", "OMP_NUM_THREADS=1"});
  for (char** each = environ; *each != nullptr; ++each) {
    if (!std::string(*each).starts_with("DJINN_")) environment.emplace_back(*each);
  }
  const auto argv = pointers(words);
  const auto envp = pointers(environment);
  const auto in = make_pipe();
  const auto out = make_pipe();
  errors_ = memfd_create("stderr", MFD_CLOEXEC);
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    dup2(errors_, STDERR_FILENO);
    execve(argv[0], argv.data(), envp.data());
    _exit(127);
  }
  ::close(in[0]);
  ::close(out[1]);
  input_ = fdopen(in[1], "w");
  output_ = fdopen(out[0], "r");
}

AppProcess::~AppProcess() {
  if (pid_ > 0) {
    signal(SIGKILL);
    wait();
  }
  end_input();
  fclose(output_);
  ::close(errors_);
}

std::string AppProcess::line() {
  std::string out;
  for (int c = fgetc(output_); c != EOF && c != '\n'; c = fgetc(output_)) {
    out += static_cast<char>(c);
  }
  return out;
}

void AppProcess::write(const std::string& line) {
  std::fputs((line + "\n").c_str(), input_);
  std::fflush(input_);
}

void AppProcess::end_input() {
  if (FILE* const input = std::exchange(input_, nullptr)) fclose(input);
}

void AppProcess::signal(int number) const {
  if (pid_ > 0) kill(pid_, number);
}

int AppProcess::wait() {
  end_input();
  int status = 0;
  waitpid(std::exchange(pid_, -1), &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string AppProcess::errors() const {
  std::string out;
  std::array<char, 4096> some{};
  for (off_t at = 0;;) {
    const ssize_t got = pread(errors_, some.data(), some.size(), at);
    if (got <= 0) return out;
    out.append(some.data(), static_cast<size_t>(got));
    at += got;
  }
}

int64_t AppProcess::stat(const std::string& name) const {
  const std::string text = errors();
  const std::string key = "\"" + name + "\": ";
  const size_t at = text.find(key);
  return at == std::string::npos ? -1 : std::atoll(text.c_str() + at + key.size());
}

}  // namespace djinn::testing
