// SPDX-License-Identifier: Apache-2.0
// A training loop and a decoding loop, recorded from real programs with one server and said again
// to another: from one session, from eight and from sixty-four, every answer is the one that the
// program got, bit by bit; also from a server that has room for one job and refuses the others.
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include <gtest/gtest.h>

#include "server/ctl/ask.h"
#include "tests/support/server_process.h"
#include "trace/driver.h"
#include "trace/record.h"
#include "trace/trace.h"

namespace djinn::testing {
namespace {

using trace::Tally;
using trace::Trace;

class Traces : public ::testing::TestWithParam<std::vector<std::string>> {
 protected:
  static void SetUpTestSuite() {
    server_ = std::make_unique<ServerProcess>(
        std::vector<std::string>{"--threads", "1", "--log-level", "warn"});
  }
  static void TearDownTestSuite() { server_.reset(); }

  // The trace of a program that lies beside this test or one folder above.
  static std::string recorded(std::vector<std::string> words) {
    std::string path = ::testing::TempDir() + "/" + std::to_string(getpid()) + ".trace";
    words[0] = binary_folder() + "/" + words[0];
    const ServerProcess recording({"--threads", "1", "--log-level", "warn"});
    const auto address = transport::parse_address(recording.address()).value();
    const auto made = trace::record(address, path, words);
    EXPECT_TRUE(made) << made.error().message;
    EXPECT_EQ(made ? made->status : -1, 0);
    return path;
  }
  static transport::Address address() {
    return transport::parse_address(server_->address()).value();
  }

 private:
  static std::unique_ptr<ServerProcess> server_;
};
std::unique_ptr<ServerProcess> Traces::server_;

TEST_P(Traces, OfARealProgramAreAnsweredTheSameInAnyNumberOfSessions) {
  const std::string path = recorded(GetParam());
  const auto trace = Trace::open(path);
  ASSERT_TRUE(trace) << trace.error().message;
  std::remove(path.c_str());  // The mapping holds it.
  ASSERT_GE(trace->answers().size(), 4U);
  uint64_t operators = 0;
  for (const uint32_t sessions : {1U, 8U, 64U}) {
    const auto outcome =
        trace::drive({.server = address(),
                      .parts = {{.trace = &*trace, .sessions = sessions, .plays = sessions}}});
    ASSERT_TRUE(outcome) << outcome.error().message;
    const Tally& tally = outcome->parts[0];
    EXPECT_EQ(tally.plays, sessions) << tally.first_error;
    EXPECT_EQ(tally.different, 0U) << tally.first_difference;
    EXPECT_EQ(tally.answers, sessions * trace->answers().size());
    if (sessions == 1) operators = tally.operators;
    EXPECT_GT(tally.operators, 0U);
    EXPECT_EQ(tally.operators, sessions * operators) << "each session computed by itself";
  }
}

// djinn_refusals_total{reason="queue"}, which is all that such a server can refuse.
uint64_t refusals(const transport::Address& admin) {
  const auto page = ctl::get(admin, "/metrics", std::chrono::seconds(10));
  EXPECT_TRUE(page) << page.error().message;
  const std::string name = "djinn_refusals_total{reason=\"queue\"} ";
  const size_t at = page ? page->find(name) : std::string::npos;
  return at == std::string::npos ? UINT64_MAX : std::stoull(page->substr(at + name.size()));
}

TEST_P(Traces, AreAnsweredTheSameByAServerInWhichOneJobMayWait) {
  const std::string path = recorded(GetParam());
  const auto trace = Trace::open(path);
  ASSERT_TRUE(trace) << trace.error().message;
  std::remove(path.c_str());
  const transport::Address admin{
      .kind = transport::Address::Kind::kUnix,
      .host = ::testing::TempDir() + "/busy-" + std::to_string(getpid()) + ".sock"};
  const ServerProcess busy(
      {"--threads", "1", "--log-level", "warn", "--queue", "1", "--admin", admin.text()});
  constexpr uint32_t kPlays = 12;
  const auto outcome =
      trace::drive({.server = transport::parse_address(busy.address()).value(),
                    .parts = {{.trace = &*trace, .sessions = kPlays / 2, .plays = kPlays}}});
  ASSERT_TRUE(outcome) << outcome.error().message;
  const Tally& tally = outcome->parts[0];
  EXPECT_EQ(tally.plays, kPlays) << tally.first_error;
  EXPECT_EQ(tally.different, 0U) << tally.first_difference;
  EXPECT_EQ(tally.answers, kPlays * trace->answers().size());
  EXPECT_EQ(tally.jobs, kPlays * trace->jobs());
  EXPECT_EQ(refusals(admin), tally.refusals) << "the server and the players count the same";
}

using Words = std::vector<std::string>;
const std::array kPrograms{
    Words{"train_mlp", "--device", "djinn", "--steps", "60", "--print-every", "10"},
    Words{"tests/decode", "djinn", "24"}, Words{"tests/decode", "djinn", "24", "static"}};
constexpr std::array kNames{"Training", "Decoding", "StaticDecoding"};
INSTANTIATE_TEST_SUITE_P(Programs, Traces, ::testing::ValuesIn(kPrograms),
                         [](const auto& each) { return std::string(kNames.at(each.index)); });

struct Ran {
  int status = 0;
  std::string output;
};
Ran run(const std::string& command) {
  Ran ran;
  FILE* const pipe = popen(command.c_str(), "r");
  std::array<char, 4096> bytes{};
  for (size_t got = 0; (got = fread(bytes.data(), 1, bytes.size(), pipe)) > 0;) {
    ran.output.append(bytes.data(), got);
  }
  ran.status = WEXITSTATUS(pclose(pipe));
  return ran;
}

TEST(DjinnTrace, RecordsAndReplaysFromAShell) {
  const ServerProcess server({"--threads", "1", "--log-level", "warn"});
  const std::string bin = binary_folder();
  const std::string trace = ::testing::TempDir() + "/shell-" + std::to_string(getpid()) + ".trace";
  const std::string to = " --connect " + server.address() + " ";
  const Ran alone = run(bin + "/tests/decode cpu 8");
  const Ran recorded = run(bin + "/djinn-trace record" + to + "-o " + trace + " -- " + bin +
                           "/tests/decode djinn 8");
  EXPECT_EQ(recorded.status, 0);
  EXPECT_EQ(recorded.output, alone.output) << "the program is none the wiser";
  const Ran replayed = run(bin + "/djinn-trace replay " + trace + to + "--sessions 4 --json");
  EXPECT_EQ(replayed.status, 0);
  const auto result = nlohmann::json::parse(replayed.output);
  EXPECT_EQ(result.at("parts").at(0).at("plays"), 4);
  EXPECT_EQ(result.at("parts").at(0).at("answer").at("count"),
            result.at("parts").at(0).at("answers"));
  EXPECT_GE(result.at("parts").at(0).at("answers"), 4 * 16) << "logits and token of each step";
  EXPECT_EQ(result.at("parts").at(0).at("different"), 0);
  EXPECT_EQ(run(bin + "/djinn-trace show " + trace).status, 0);
  std::remove(trace.c_str());
  EXPECT_EQ(run(bin + "/djinn-trace record" + to + "-o " + trace + " -- false 2>&1").status, 125)
      << "a program without a session leaves no trace";
  EXPECT_NE(access(trace.c_str(), F_OK), 0);
  EXPECT_EQ(run(bin + "/djinn-trace replay " + bin + "/djinn-trace" + to + "2>&1").status, 2);
}

}  // namespace
}  // namespace djinn::testing
