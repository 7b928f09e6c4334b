// SPDX-License-Identifier: Apache-2.0
// What an operator does to a real djinn-server while sessions work: nobody's results change.
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <thread>

#include <gtest/gtest.h>

#include "scheduler/policy.h"
#include "tests/support/http_peer.h"
#include "tests/support/server_process.h"
#include "trace/driver.h"
#include "trace/record.h"
#include "trace/trace.h"

namespace djinn::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using transport::Address;

struct Ran {
  int status = 0;
  std::string output;
};

Ran run(const std::string& command) {
  FILE* const pipe = popen(command.c_str(), "r");
  Ran ran;
  for (int c = fgetc(pipe); c != EOF; c = fgetc(pipe)) ran.output += static_cast<char>(c);
  ran.status = WEXITSTATUS(pclose(pipe));
  return ran;
}

class Operations : public ::testing::Test {
 protected:
  trace::Trace recorded(std::vector<std::string> words) {
    const std::string path = admin_.host + ".trace";
    words[0] = binary_folder() + "/" + words[0];
    const auto made = trace::record(address_, path, words);
    if (!made) throw std::runtime_error(made.error().message);
    auto trace = trace::Trace::open(path);
    std::filesystem::remove(path);  // The mapping holds it.
    return std::move(trace.value());
  }
  [[nodiscard]] Ran ctl(const std::string& args) const {
    return run(binary_folder() + "/djinn-ctl --admin " + admin_.text() + " " + args + " 2>&1");
  }
  [[nodiscard]] std::string ask(const std::string& request) const {
    HttpPeer peer(admin_);
    return peer.send(request) ? peer.receive() : "";
  }
  [[nodiscard]] std::string post(const std::string& path, const std::string& body) const {
    return ask("POST " + path + " HTTP/1.1\r\nContent-Length: " + std::to_string(body.size()) +
               "\r\n\r\n" + body);
  }
  // Three sessions of each program play it, so many times in all.
  Result<trace::Outcome> play(const std::vector<trace::Trace>& traces, uint64_t plays) const {
    trace::Load load{.server = address_};
    for (const trace::Trace& each : traces) {
      load.parts.push_back({.trace = &each, .sessions = 3, .plays = plays});
    }
    return trace::drive(load);
  }
  std::vector<trace::Trace> record_programs() {
    std::vector<trace::Trace> out;
    out.push_back(recorded({"tests/decode", "djinn", "8"}));
    out.push_back(recorded({"train_mlp", "--device", "djinn", "--steps", "20"}));
    return out;
  }

  Address admin_{.kind = Address::Kind::kUnix,
                 .host = "/tmp/djinn-operations-" + std::to_string(getpid())};
  ServerProcess server_{
      {"--threads", "1", "--log-level", "warn", "--chunk-us", "200", "--admin", admin_.text()}};
  Address address_ = transport::parse_address(server_.address()).value();
};

TEST_F(Operations, ThePolicyIsExchangedAHundredTimesUnderLoadAndEveryResultIsTheSame) {
  const std::vector<trace::Trace> traces = record_programs();
  std::atomic<bool> over = false;
  std::atomic<bool> loaded = false;
  uint64_t plays = 0;
  std::thread load([&] {
    do {
      const auto outcome = play(traces, 12);
      ASSERT_TRUE(outcome) << outcome.error().message;
      for (const trace::Tally& tally : outcome->parts) {
        EXPECT_EQ(tally.plays, 12U) << tally.first_error;
        EXPECT_EQ(tally.different, 0U) << tally.first_difference;
        EXPECT_TRUE(tally.errors.empty()) << tally.first_error;
        plays += tally.plays;
      }
      loaded = true;
    } while (!over);
  });
  const auto& names = sched::policy_names();
  size_t exchanged = 0;
  for (; exchanged < 100 || !loaded; ++exchanged) {
    const std::string& next = names[exchanged % names.size()];
    const std::string answer = post("/policy", next);
    ASSERT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
    ASSERT_THAT(answer, HasSubstr("\"policy\": \"" + next + "\""));
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  over = true;
  load.join();
  std::cout << "the policy was exchanged " << exchanged << " times during " << plays
            << " plays of programs" << std::endl;
  EXPECT_EQ(json::parse(http_body(admin_, "/health")).at("queued_jobs"), 0);
}

TEST_F(Operations, ThePolicyIsShownAndAWrongOneIsRefusedWithTheNames) {
  EXPECT_THAT(ctl("policy").output, HasSubstr("\n*  semantic  "));
  const Ran changed = ctl("policy edf");
  EXPECT_EQ(changed.status, 0);
  EXPECT_THAT(changed.output, HasSubstr("\n*  edf "));
  const Ran refused = ctl("policy frob");
  EXPECT_EQ(refused.status, 1);
  for (const std::string& name : sched::policy_names()) {
    EXPECT_THAT(refused.output, HasSubstr(name));
  }
  EXPECT_THAT(ctl("policy").output, HasSubstr("\n*  edf "));
  EXPECT_THAT(post("/policy", "frob"), StartsWith("HTTP/1.1 400 "));
}

TEST_F(Operations, AWrongMethodIsRefusedAndChangesNothing) {
  const std::string put = ask("PUT /policy HTTP/1.1\r\n\r\n");
  EXPECT_THAT(put, StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(put, HasSubstr("\r\nAllow: GET, HEAD, POST\r\n"));
  EXPECT_THAT(post("/memory", "x"), StartsWith("HTTP/1.1 405 "));
  const std::string get = http_get(admin_, "/drain");
  EXPECT_THAT(get, StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(get, HasSubstr("\r\nAllow: POST\r\n"));
  EXPECT_THAT(post("/policy", std::string(2000, 'x')), StartsWith("HTTP/1.1 413 "));
  EXPECT_THAT(ask("POST /drain HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 411 "));
  EXPECT_EQ(json::parse(http_body(admin_, "/health")).at("status"), "ok");
  EXPECT_EQ(json::parse(http_body(admin_, "/policy")).at("policy"), "semantic");
}

TEST_F(Operations, TopShowsHowBusyTheDeviceIsAndForWhom) {
  const std::vector<trace::Trace> traces = record_programs();
  std::atomic<bool> over = false;
  std::thread load([&] {
    while (!over) EXPECT_TRUE(play(traces, 12));
  });
  json top;
  const auto shows_work = [&] {
    const Ran ran = ctl("top --once --json --interval 0.2");
    EXPECT_EQ(ran.status, 0) << ran.output;
    top = json::parse(ran.output);
    return top.at("utilisation") > 0 && top.at("jobs_per_second") > 0;
  };
  while (!shows_work()) {
  }
  over = true;
  load.join();
  EXPECT_LE(top.at("utilisation"), 1);
  EXPECT_EQ(top.at("tenants").at(0).at("tenant"), "anonymous");
  EXPECT_EQ(top.at("tenants").at(0).at("device_share"), 1) << "there is nobody else";
  const std::string metrics = http_body(admin_, "/metrics");
  EXPECT_THAT(metrics, HasSubstr("\n# TYPE djinn_job_wait_microseconds histogram\n"));
  EXPECT_THAT(metrics, HasSubstr("\ndjinn_class_queued_jobs{class=\"best-effort\"} 0\n"));
}

// A program knows nothing of it but that it takes longer.
TEST(Rates, AProgramOfATenantThatMayAskTenTimesASecondComputesTheSame) {
  const std::string at = "/tmp/djinn-rates-" + std::to_string(getpid());
  const std::string config = at + ".toml";
  std::ofstream(config) << "[tenants.anonymous]\nrequests-per-second = 10\n";
  const ServerProcess server(
      {"--threads", "1", "--log-level", "warn", "--config", config, "--admin", "unix://" + at});
  const std::string decode = binary_folder() + "/tests/decode ";
  const auto begin = std::chrono::steady_clock::now();
  const Ran limited = run("DJINN_SERVER=" + server.address() + " " + decode + "djinn 8");
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(limited.status, 0);
  EXPECT_EQ(limited.output, run(decode + "cpu 8").output);
  const Address admin{.kind = Address::Kind::kUnix, .host = at};
  const json tenant = json::parse(http_body(admin, "/tenants")).at("tenants").at(0);
  const auto jobs = tenant.at("all_jobs").get<double>();
  std::cout << jobs << " jobs in " << seconds.count() << " s, " << tenant.at("rate_refusals")
            << " refusals" << std::endl;
  EXPECT_GT(tenant.at("rate_refusals"), 0);
  EXPECT_LE(jobs, 10 * (seconds.count() + 1) + 1);
  const std::string shown =
      run(binary_folder() + "/djinn-ctl --admin " + admin.text() + " tenants").output;
  EXPECT_THAT(shown, HasSubstr("10.0 jobs"));
  std::filesystem::remove(config);
}

// What was taken is answered as it was recorded; whoever is cut short reads that the server went.
TEST_F(Operations, ADrainUnderLoadChangesNoAnswerAndEndsTheServerAsSigtermDoes) {
  const std::vector<trace::Trace> traces = record_programs();
  Result<trace::Outcome> outcome = Error{ErrorCode::kCancelled, "it did not play"};
  std::thread load([&] { outcome = play(traces, 100'000); });
  const auto jobs_wait = [&] {
    return json::parse(http_body(admin_, "/health")).at("queued_jobs").get<uint64_t>() >= 3;
  };
  while (!jobs_wait()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const Ran drained = ctl("drain");
  load.join();
  EXPECT_EQ(drained.status, 0) << drained.output;
  EXPECT_THAT(drained.output, StartsWith("draining: "));
  EXPECT_TRUE(drained.output.ends_with("the server has ended\n")) << drained.output;
  EXPECT_EQ(server_.wait(20'000), 0) << "it ends by itself, and well";
  ASSERT_TRUE(outcome) << outcome.error().message;
  for (const trace::Tally& tally : outcome->parts) {
    EXPECT_EQ(tally.different, 0U) << tally.first_difference;
    EXPECT_GT(tally.answers, 0U);
    for (const auto& [code, count] : tally.errors) {
      EXPECT_EQ(code, ErrorCode::kUnavailable) << tally.first_error;
    }
  }
  EXPECT_FALSE(std::filesystem::exists(admin_.host));
}

}  // namespace
}  // namespace djinn::testing
