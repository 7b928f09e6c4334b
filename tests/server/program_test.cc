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
#include <iterator>
#include <optional>
#include <string>
#include <thread>
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

// A server in a process of its own, on any free port. What it logs goes to the file, if one is
// named.
class Process {
 public:
  explicit Process(std::vector<std::string> args, const std::string& log = "") {
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
      if (!log.empty()) dup2(open(log.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0600), STDERR_FILENO);
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
  for (const char* word : {"DJINN_SERVER=", "--listen", "--device-memory", "SIGTERM", "SIGHUP"}) {
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

// -- tenants of a config file

std::string write(const std::string& name, const std::string& text) {
  std::string path = ::testing::TempDir() + "/" + name;
  std::ofstream(path) << text;
  return path;
}

bool log_says(const std::string& path, const std::string& text) {
  for (int i = 0; i < 1000; ++i) {
    std::ifstream in(path);
    const std::string all{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    if (all.find(text) != std::string::npos) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

bool greets(WireClient& client, const char* token) {
  codec::Hello hello = WireClient::usual_hello();
  hello.token = token;
  return client.hello(hello).has_value();
}

// Uploads so many bytes and keeps them; what came of it.
std::optional<WireFrame> keep(WireClient& client, std::vector<Tensor>& kept, size_t bytes) {
  kept.push_back(make_tensor(client, static_cast<int64_t>(bytes / sizeof(float))));
  Tensor& tensor = kept.back();
  client.send(transport::FrameKind::kUpload,
              codec::Upload{.upload = client.next_upload, .artifact = {}},
              to_bytes(std::vector<float>(bytes / sizeof(float), 3)));
  client.submit([&](graph::PlanWriter& writer) {
    record_upload(writer, tensor, graph::UploadForm::kStream);
    record_fetch(writer, tensor);
  });
  return client.receive_answer();
}

TEST(Program, NamesTheTableAndTheKeyThatAreWrong) {
  for (const char* line :
       {"weight = 0", "class = \"urgent\"", "sessions = -1", "colour = 3",
        "requests-per-second = -1", "device-memory = \"2GiB\"\nhost-memory = \"1GiB\""}) {
    const std::string path =
        write("djinn-wrong.toml", std::string("[tenants.alice]\n") + line + "\n");
    const Said said = say("--device cpu --listen tcp://127.0.0.1:0 --config " + path);
    EXPECT_NE(said.status, 0) << line;
    EXPECT_THAT(said.text, HasSubstr("[tenants.alice]")) << line;
  }
}

TEST(Program, KeepsATenantToItsShareOfTheHostAndOthersToTheirs) {
  const std::string tokens = write("djinn-share.tokens", "a=alice\nb=bob\n");
  const std::string config =
      write("djinn-share.toml",
            "device-memory = \"8MiB\"\ntoken-file = \"" + tokens + "\"\n" +
                "[tenants.alice]\ndevice-memory = \"4MiB\"\nhost-memory = \"6MiB\"\n");
  Process process({"--config", config, "--log-level", "off"});
  const auto address = address_in(process.line());
  WireClient alice(address);
  WireClient bob(address);
  ASSERT_TRUE(greets(alice, "a") && greets(bob, "b"));
  constexpr size_t kMiB = 1 << 20;
  std::vector<Tensor> hers;
  std::vector<Tensor> his;
  for (int i = 0; i < 5; ++i) {
    const auto answer = keep(alice, hers, kMiB);
    ASSERT_TRUE(answer && answer->kind == transport::FrameKind::kFetched) << i;
  }
  const auto refused = keep(alice, hers, kMiB);
  ASSERT_TRUE(refused && refused->kind == transport::FrameKind::kFailed);
  const auto failed = refused->as<codec::Failed>();
  EXPECT_EQ(static_cast<ErrorCode>(failed.code), ErrorCode::kOutOfMemory);
  EXPECT_THAT(std::string(failed.message), HasSubstr("tenant alice"));
  EXPECT_THAT(std::string(failed.message), HasSubstr("host-memory"));
  for (int i = 0; i < 12; ++i) {  // More than the device has, so that hers have to leave.
    const auto answer = keep(bob, his, kMiB);
    ASSERT_TRUE(answer && answer->kind == transport::FrameKind::kFetched) << i;
  }
  for (size_t i = 0; i < 5; ++i) {
    const auto back =
        alice.fetch([&](graph::PlanWriter& writer) { record_fetch(writer, hers[i]); });
    EXPECT_EQ(back, std::vector<float>(kMiB / sizeof(float), 3)) << i;
  }
}

TEST(Program, RereadsATenantsRates) {
  const std::string config =
      write("djinn-rates.toml", "[tenants.anonymous]\nrequests-per-second = 0.01\n");
  const std::string log = ::testing::TempDir() + "/djinn-rates.log";
  Process process({"--config", config}, log);
  WireClient client(address_in(process.line()));
  ASSERT_TRUE(client.hello());
  std::vector<Tensor> kept;
  const auto first = keep(client, kept, 4096);
  ASSERT_TRUE(first && first->kind == transport::FrameKind::kFetched);
  const auto second = keep(client, kept, 4096);
  ASSERT_TRUE(second && second->kind == transport::FrameKind::kRefused);
  const auto refused = second->as<codec::Refused>();
  EXPECT_EQ(static_cast<ErrorCode>(refused.code), ErrorCode::kExhausted);
  EXPECT_EQ(refused.retry_after_ms, 60'000U) << "a hundred seconds; nobody is told more than one";
  write("djinn-rates.toml", "[tenants.anonymous]\n");
  process.signal(SIGHUP);
  ASSERT_TRUE(log_says(log, "1 tenants were reread"));
  client.forget_plans();
  client.next_job = refused.job;
  client.epoch = refused.epoch;
  const auto back = client.fetch([&](graph::PlanWriter& writer) { record_fetch(writer, kept[0]); });
  EXPECT_EQ(back, std::vector<float>(1024, 3)) << "the session goes on";
}

TEST(Program, RereadsTokensAndTenantsAndNothingThatIsWrong) {
  const std::string tokens = write("djinn-reread.tokens", "a=alice\n");
  const std::string top = "token-file = \"" + tokens + "\"\n";
  const std::string config = write("djinn-reread.toml", top + "[tenants.alice]\nsessions = 1\n");
  const std::string log = ::testing::TempDir() + "/djinn-reread.log";
  Process process({"--config", config}, log);
  const auto address = address_in(process.line());
  WireClient first(address);
  ASSERT_TRUE(greets(first, "a"));
  {
    WireClient second(address);
    EXPECT_FALSE(greets(second, "a")) << "one session at a time";
  }
  write("djinn-reread.toml", top + "[tenants.alice]\nsessions = none\n");
  process.signal(SIGHUP);
  EXPECT_TRUE(log_says(log, "nothing was changed: ")) << "the file is wrong";
  {
    WireClient second(address);
    EXPECT_FALSE(greets(second, "a"));
  }
  write("djinn-reread.toml", top + "threads = 1\n[tenants.alice]\nsessions = 2\n[tenants.bob]\n");
  write("djinn-reread.tokens", "a=alice\nb=bob\n");
  process.signal(SIGHUP);
  EXPECT_TRUE(log_says(log, "2 tenants were reread"));
  EXPECT_TRUE(log_says(log, "from the next start on")) << "threads stay as they are";
  WireClient second(address);
  EXPECT_TRUE(greets(second, "a"));
  WireClient newcomer(address);
  EXPECT_TRUE(greets(newcomer, "b")) << "a token that was not there at the start";
  EXPECT_EQ(first.stats().jobs_executed, 0U) << "who was there goes on";
}

}  // namespace
}  // namespace djinn::testing
