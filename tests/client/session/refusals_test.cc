// SPDX-License-Identifier: Apache-2.0
// A client and a busy server: what was refused comes again, in order, and nothing is lost.
#include <gmock/gmock.h>

#include <algorithm>
#include <thread>

#include <gtest/gtest.h>

#include "client/session/session.h"
#include "tests/support/test_server.h"

namespace djinn::testing {
namespace {

using client::PendingAnswer;
using client::Session;
using graph::PlanWriter;
using std::chrono::milliseconds;
using ::testing::ElementsAre;

TestServer::Options options(uint64_t queue_max) {
  TestServer::Options out;
  out.server.queue_max = queue_max;
  out.server.chunk_ns = 0;
  return out;
}

// A program of one session: a tensor [1, 2] to which [1, 2] is added again and again.
struct Program {
  explicit Program(TestServer& server, milliseconds patience = milliseconds(30'000))
      : names(server.unix_socket) {
    client::SessionOptions of;
    of.address = server.unix_socket.text();
    of.app = "refusals_test";
    of.libtorch_version = "0.0.0";
    of.schema_hash = server.device.schema_hash();
    of.silence_timeout = patience;
    auto opened = Session::open(of);
    EXPECT_TRUE(opened);
    session = std::move(*opened);
    one = make_tensor(names, 2);
    sum = make_tensor(names, 2);
    EXPECT_TRUE(submit([&](PlanWriter& to) { record_upload(to, one, graph::UploadForm::kInline); },
                       to_bytes(std::vector<float>{1, 2})));
    EXPECT_TRUE(submit([&](PlanWriter& to) { record_add(names, to, one, one, sum); }));
  }
  Result<> submit(const WireClient::Record& record, std::span<const std::byte> inline_bytes = {},
                  std::span<PendingAnswer* const> answers = {}) {
    writer.begin(base, uploads);
    record(writer);
    base = names.next_storage;
    const graph::Flush flush = writer.finish();
    std::vector<uint64_t> words(inline_bytes.size() / sizeof(uint64_t));
    if (!words.empty()) uploads += 1;
    std::ranges::copy(inline_bytes, std::as_writable_bytes(std::span(words)).begin());
    return session->submit(flush, std::move(words), answers);
  }
  Result<> add(int64_t sleep_ms) {
    return submit([&](PlanWriter& to) {
      record_sleep(names, to, sleep_ms);
      Tensor next = make_tensor(names, 2);
      record_add(names, to, sum, one, next);
      to.forget(*sum.storage);
      sum = std::move(next);
    });
  }
  Result<std::vector<float>> fetch() {
    std::vector<float> out(2);
    PendingAnswer answer;
    answer.into = std::as_writable_bytes(std::span(out));
    PendingAnswer* const one_answer = &answer;
    DJINN_CHECK(
        submit([&](PlanWriter& to) { record_fetch(to, sum); }, {}, std::span(&one_answer, 1)));
    DJINN_CHECK(session->wait(answer));
    return out;
  }

  WireClient names;  // Says nothing: it numbers storages and names operators.
  std::unique_ptr<Session> session;
  graph::PlanWriter writer;
  uint64_t base = 1;
  uint64_t uploads = 1;
  Tensor one;
  Tensor sum;
};

uint64_t refusals(TestServer& server) {
  const auto report = server.report(milliseconds(5000));
  return report ? report->refusals.queue : 0;
}

TEST(Refusals, AreSentAgainUntilAllIsDoneAndCountedAlikeOnBothSides) {
  TestServer server(options(2));
  std::atomic<uint64_t> counted = 0;
  std::vector<std::thread> threads;
  threads.reserve(6);
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&] {
      Program program(server);
      for (int i = 0; i < 30; ++i) ASSERT_TRUE(program.add(i % 3 == 0 ? 1 : 0));
      const auto got = program.fetch();
      ASSERT_TRUE(got) << got.error().message;
      EXPECT_THAT(*got, ElementsAre(32, 64)) << "each addition once, and in order";
      counted += program.session->counters().refusals;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_GT(counted, 0U);
  EXPECT_EQ(refusals(server), counted);
}

TEST(Refusals, OfAJobAreNotForgottenByWhoAsksWhetherAllHasRun) {
  TestServer server(options(1));
  Program program(server);
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(program.add(1));
  const auto stats = program.session->server_stats();
  ASSERT_TRUE(stats) << stats.error().message;
  EXPECT_EQ(stats->jobs_executed, 22U);
  EXPECT_GT(program.session->counters().refusals, 0U);
}

TEST(Refusals, HoldBackAHintBehindTheJobsThatItIsNotAbout) {
  TestServer server(options(1));
  Program program(server);
  server.device.asleep = true;
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(program.add(20));
  ASSERT_TRUE(eventually([&] {  // It reads when it writes.
    (void)program.session->hint({});
    return program.session->counters().refusals > 0;
  }));
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(program.add(20));
  ASSERT_TRUE(program.session->hint({.deadline_ms = 1}));
  server.device.asleep = false;
  const auto got = program.fetch();
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_THAT(*got, ElementsAre(12, 24)) << "none of the ten had a deadline";
  EXPECT_TRUE(program.add(20));  // This one has.
  EXPECT_TRUE(program.add(20));
  const auto late = program.fetch();
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kDeadline);
}

TEST(Refusals, ThatLastTooLongEndTheSessionWithATypedErrorAndNobodyElses) {
  TestServer server(options(1));
  Program other(server);
  ASSERT_TRUE(other.fetch());
  Program program(server, milliseconds(300));
  ASSERT_TRUE(program.fetch());
  server.device.asleep = true;
  ASSERT_TRUE(other.add(0));
  ASSERT_TRUE(eventually([&] { return server.device.running > 0; }));
  const auto begin = std::chrono::steady_clock::now();
  const auto got = program.fetch();
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, ErrorCode::kExhausted);
  EXPECT_THAT(got.error().message, ::testing::HasSubstr("too busy"));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(5000));
  server.device.asleep = false;
  EXPECT_THAT(other.fetch().value(), ElementsAre(3, 6));
}

}  // namespace
}  // namespace djinn::testing
