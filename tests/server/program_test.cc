// SPDX-License-Identifier: Apache-2.0
// djinn-server as an operator meets it: flags, what it prints, and how it ends.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/wire_client.h"

namespace djinn::testing {
namespace {

using ::testing::HasSubstr;

std::string program() {
  std::array<char, 4096> path{};
  const ssize_t length = readlink("/proc/self/exe", path.data(), path.size() - 1);
  const std::string self(path.data(), static_cast<size_t>(length));
  return self.substr(0, self.rfind("/tests/")) + "/djinn-server";
}

struct Said {
  int status = 0;
  std::string text;  // stdout and stderr
};
Said say(const std::string& args) {
  FILE* const pipe = popen((program() + " " + args + " 2>&1").c_str(), "r");
  Said said;
  for (int c = fgetc(pipe); c != EOF; c = fgetc(pipe)) said.text += static_cast<char>(c);
  said.status = WEXITSTATUS(pclose(pipe));
  return said;
}

// A server in a process of its own, on any free port.
class Process {
 public:
  explicit Process(std::vector<std::string> args) {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) std::abort();
    args.insert(args.begin(), {program(), "--listen", "tcp://127.0.0.1:0", "--device", "cpu"});
    std::vector<char*> argv;
    argv.reserve(args.size() + 1);
    for (std::string& arg : args) argv.push_back(arg.data());
    argv.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(ends[1], STDOUT_FILENO);
      execv(argv[0], argv.data());
      _exit(127);
    }
    ::close(ends[1]);
    out_ = fdopen(ends[0], "r");
  }
  ~Process() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      wait();
    }
    if (out_ != nullptr) fclose(out_);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  std::string line() {
    std::string out;
    for (int c = fgetc(out_); c != EOF && c != '\n'; c = fgetc(out_)) out += static_cast<char>(c);
    return out;
  }
  void signal(int number) const { ::kill(pid_, number); }
  // The exit status, or 128 + the signal.
  int wait() {
    int status = 0;
    waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_ = -1;
  FILE* out_ = nullptr;
};

transport::Address address_in(const std::string& line) {
  const std::string prefix = "listening on ";
  EXPECT_TRUE(line.starts_with(prefix)) << line;
  const auto address = transport::parse_address(line.substr(prefix.size()));
  EXPECT_TRUE(address) << line;
  return address.value_or(transport::Address{});
}

TEST(Program, ExplainsItself) {
  const Said help = say("--help");
  EXPECT_EQ(help.status, 0);
  for (const char* word : {"DJINN_SERVER=", "--listen", "--device-memory", "SIGTERM"}) {
    EXPECT_THAT(help.text, HasSubstr(word));
  }
  EXPECT_THAT(say("--version").text, HasSubstr("djinn-server 0."));
}

TEST(Program, PrintsTheSettingsItWouldUse) {
  const std::string path = ::testing::TempDir() + "/djinn-server.toml";
  const Said printed = say("--device cpu --device-memory 3GiB --print-config");
  EXPECT_EQ(printed.status, 0);
  std::ofstream(path) << printed.text;
  EXPECT_EQ(say("--config " + path + " --print-config").text, printed.text);
}

TEST(Program, SaysInOneSentenceWhatIsWrong) {
  for (const char* args :
       {"--threads 0", "--listen nowhere", "--config /nonexistent", "--frob", "--device cuda:999",
        "--token-file /nonexistent", "--device cpu --cache-dir /nonexistent/folder",
        "--token-file /nonexistent", "--admin unix:///nonexistent/s", "--admin tcp://127.0.0.1:1",
        "--metrics unix:///tmp/s", "--metrics tcp://192.0.2.1:1",
        "--listen tcp://127.0.0.1:0 --listen unix:///nonexistent/s"}) {
    const Said said = say(std::string(args) + " --log-level off");
    EXPECT_NE(said.status, 0) << args;
    EXPECT_LE(std::ranges::count(said.text, '\n'), 2) << said.text;
  }
}

TEST(Program, ListensServesAndSaysGoodbye) {
  const std::string port_file = ::testing::TempDir() + "/djinn-port";
  Process process({"--port-file", port_file, "--log-level", "warn"});
  const auto address = address_in(process.line());
  WireClient client(address);
  ASSERT_TRUE(client.hello());
  Tensor tensor = make_tensor(client, 2);
  const auto got = client.fetch(
      [&](graph::PlanWriter& writer) {
        record_upload(writer, tensor, graph::UploadForm::kInline);
        record_fetch(writer, tensor);
      },
      to_bytes(std::vector<float>{1, 2}));
  EXPECT_THAT(got, ::testing::ElementsAre(1, 2));
  uint16_t port = 0;
  std::ifstream(port_file) >> port;
  EXPECT_EQ(port, address.port);
  process.signal(SIGTERM);
  EXPECT_EQ(client.read_ending().code, ErrorCode::kUnavailable);
  client.close();
  EXPECT_EQ(process.wait(), 0);
}

TEST(Program, EndsAtOnceAtTheSecondSignal) {
  Process process({"--log-level", "off"});
  const auto address = address_in(process.line());
  WireClient client(address);  // It does not close, so that the server lingers.
  ASSERT_TRUE(client.hello());
  process.signal(SIGINT);
  EXPECT_EQ(client.read_ending().code, ErrorCode::kUnavailable);
  process.signal(SIGINT);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(process.wait(), 1);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(500));
}

}  // namespace
}  // namespace djinn::testing
