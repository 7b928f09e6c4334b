// SPDX-License-Identifier: Apache-2.0
// What an honest client hears: jobs, answers, acknowledgements, stats, over TCP and unix sockets.
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "serialization/base/limits.h"
#include "server/clock.h"
#include "tests/support/test_server.h"

namespace djinn::testing {
namespace {

using graph::PlanWriter;
using graph::UploadForm;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using transport::FrameKind;

struct Conversation : ::testing::TestWithParam<const char*> {
  TestServer server;
  WireClient client{std::string(GetParam()) == "tcp" ? server.tcp : server.unix_socket};

  // A tensor on the server that holds these values.
  Tensor upload(const std::vector<float>& values) {
    Tensor tensor = make_tensor(client, static_cast<int64_t>(values.size()));
    client.submit([&](PlanWriter& writer) { record_upload(writer, tensor, UploadForm::kInline); },
                  to_bytes(values));
    return tensor;
  }
};
INSTANTIATE_TEST_SUITE_P(Transports, Conversation, ::testing::Values("tcp", "unix"),
                         [](const auto& param) { return std::string(param.param); });

TEST_P(Conversation, StatesItsLimitsInTheHello) {
  const auto reply = client.hello();
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->version, codec::kProtocolVersion);
  EXPECT_GT(reply->session, 0U);
  EXPECT_TRUE(reply->schemas_match);
  EXPECT_EQ(reply->plan_slots_max, kPlanSlotsMax);
  EXPECT_EQ(reply->plan_bytes_max, kPlanCacheBytesMax);
  EXPECT_EQ(reply->jobs_in_flight_max, kJobsInFlightMax);
  EXPECT_EQ(reply->staged_bytes_max, kStagedUploadBytesMax);
  EXPECT_EQ(reply->artifact_bytes_min, kArtifactBytesMin);
  EXPECT_EQ(client.artifact_key().size(), 32U);
}

TEST_P(Conversation, SaysWhichOperatorsItLacksWhenTheSchemasDiffer) {
  auto hello = WireClient::usual_hello();
  const std::array<uint8_t, 16> other{};
  hello.schema_hash = other;
  const auto reply = client.hello(hello);
  ASSERT_TRUE(reply);
  EXPECT_FALSE(reply->schemas_match);
  client.send(FrameKind::kOperators,
              codec::Operators{.names = {"aten::add.Tensor", "aten::from_file", "test::sleep"},
                               .hashes = {7, 7, 8}});
  const auto answer = client.receive();
  ASSERT_TRUE(answer && answer->kind == FrameKind::kOperators);
  EXPECT_THAT(answer->as<codec::OperatorsReply>().unsupported, ElementsAre(1, 2));
}

TEST_P(Conversation, AddsWhatWasUploadedAndFetchesTheSum) {
  ASSERT_TRUE(client.hello());
  Tensor a = make_tensor(client, 4);
  Tensor sum = make_tensor(client, 4);
  const std::vector<float> values{1, 2, 3, 4};
  const auto got = client.fetch(
      [&](PlanWriter& writer) {
        record_upload(writer, a, UploadForm::kInline);
        record_add(client, writer, a, a, sum);
        record_fetch(writer, sum);
      },
      to_bytes(values));
  EXPECT_THAT(got, ElementsAre(2, 4, 6, 8));
}

TEST_P(Conversation, RunsARepeatedJobFromAStepOfAFewBytes) {
  ASSERT_TRUE(client.hello());
  Tensor a = upload({1, 2});
  std::vector<Tensor> sums;
  for (int i = 0; i < 200; ++i) {
    sums.push_back(make_tensor(client, 2));
    const auto got = client.fetch([&](PlanWriter& writer) {
      record_add(client, writer, i == 0 ? a : sums[static_cast<size_t>(i) - 1], a, sums.back());
      record_fetch(writer, sums.back());
    });
    const auto n = static_cast<float>(i + 2);
    ASSERT_THAT(got, ElementsAre(n, 2 * n)) << i;
  }
  EXPECT_EQ(client.stats().plans_built, 3U);  // The upload, a + a, and sum + a.
}

TEST_P(Conversation, StagesAnUploadBeforeTheJobThatConsumesIt) {
  ASSERT_TRUE(client.hello());
  Tensor a = make_tensor(client, 100'000);
  const std::vector<float> values(100'000, 1.5F);
  client.send(FrameKind::kUpload, codec::Upload{.upload = 1, .artifact = {}},
              std::as_bytes(std::span(values)));
  const auto got = client.fetch([&](PlanWriter& writer) {
    record_upload(writer, a, UploadForm::kStream);
    record_fetch(writer, a);
  });
  EXPECT_EQ(got, values);
  const auto stats = client.stats();
  EXPECT_EQ(stats.upload_bytes, 400'000U);
  EXPECT_EQ(stats.storages, 1U);
  EXPECT_EQ(stats.storage_bytes, 400'000U);
}

TEST_P(Conversation, AnswersEachFetchAndSaysWithWhichOneTheJobEnded) {
  ASSERT_TRUE(client.hello());
  Tensor a = upload({3, 4});
  client.submit([&](PlanWriter& writer) {
    record_fetch(writer, a);
    record_fetch(writer, a);
  });
  const auto first = client.receive_answer();
  const auto second = client.receive_answer();
  ASSERT_TRUE(first && second);
  EXPECT_FALSE(first->as<codec::Fetched>().finished);
  EXPECT_EQ(second->as<codec::Fetched>().answer, 1);
  EXPECT_TRUE(second->as<codec::Fetched>().finished);
}

TEST_P(Conversation, ReportsAFailureToWhoeverReadsIt) {
  ASSERT_TRUE(client.hello());
  Tensor a = upload({1, 2});
  Tensor b = make_tensor(client, 2);
  const uint32_t job = client.submit([&](PlanWriter& writer) {
    record_fail(client, writer, a, b);
    record_fetch(writer, b);
    record_fetch(writer, a);
  });
  const auto failed = client.receive_answer();
  ASSERT_TRUE(failed && failed->kind == FrameKind::kFailed);
  EXPECT_EQ(failed->as<codec::Failed>().job, job);
  EXPECT_EQ(failed->as<codec::Failed>().code, static_cast<uint16_t>(ErrorCode::kFailed));
  EXPECT_THAT(std::string(failed->as<codec::Failed>().message), HasSubstr("test::fail"));
  const auto good = client.receive_answer();
  ASSERT_TRUE(good && good->kind == FrameKind::kFetched);
  EXPECT_THAT(good->floats(), ElementsAre(1, 2));
}

TEST_P(Conversation, AcknowledgesJobsThatNoAnswerTellsOf) {
  ASSERT_TRUE(client.hello());
  Tensor a = make_tensor(client, 2);
  const std::vector<float> values{1, 2};
  for (uint32_t i = 0; i < 3 * kJobsPerAck; ++i) {
    client.submit([&](PlanWriter& writer) { record_upload(writer, a, UploadForm::kInline); },
                  to_bytes(values));
  }
  uint32_t acknowledged = 0;
  while (acknowledged < 3 * kJobsPerAck) {
    const auto frame = client.receive();
    ASSERT_TRUE(frame && frame->kind == FrameKind::kAck);
    acknowledged = frame->as<codec::Ack>().finished;
  }
}

TEST_P(Conversation, AcknowledgesAConsumedUploadWithoutWaitingForMoreJobs) {
  ASSERT_TRUE(client.hello());
  Tensor a = make_tensor(client, 2);
  const std::vector<float> values{1, 2};
  client.send(FrameKind::kUpload, codec::Upload{.upload = 1, .artifact = {}},
              std::as_bytes(std::span(values)));
  client.submit([&](PlanWriter& writer) { record_upload(writer, a, UploadForm::kStream); });
  const auto frame = client.receive();
  ASSERT_TRUE(frame && frame->kind == FrameKind::kAck);
  EXPECT_EQ(frame->as<codec::Ack>().finished, 1U);
}

TEST_P(Conversation, ASessionRestsWhenItsJobsHaveEndedAndUntilTheNext) {
  ASSERT_TRUE(client.hello());
  client.submit([&](PlanWriter& writer) { record_sleep(client, writer, 50); });
  client.send(
      FrameKind::kHint,
      codec::Hint{.urgency = Urgency::kBestEffort, .rest = Rest::kUntil, .resume_ms = 60'000});
  ASSERT_TRUE(eventually([&] { return server.device.rests == 1; }));
  EXPECT_GT(server.device.resumes_at_ns, server::now_ns() + 30'000'000'000);
  const auto hints = [&] {
    const auto report = server.report(std::chrono::seconds(10));
    return report && !report->sessions.empty() ? report->sessions.back().hints
                                               : sched::SessionHints{};
  };
  EXPECT_EQ(hints().rest, Rest::kUntil);
  client.submit([&](PlanWriter& writer) { record_sleep(client, writer, 0); });
  EXPECT_EQ(client.stats().jobs_executed, 2U);
  EXPECT_EQ(hints().rest, Rest::kNone);
  EXPECT_EQ(hints().urgency, Urgency::kBestEffort);
  client.send(FrameKind::kHint, codec::Hint{.rest = Rest::kOpen});
  ASSERT_TRUE(eventually([&] { return server.device.rests == 2; }));
  EXPECT_EQ(server.device.resumes_at_ns, UINT64_MAX);
}

TEST_P(Conversation, AnswersStatsWhenAllEarlierJobsHaveEnded) {
  ASSERT_TRUE(client.hello());
  client.submit([&](PlanWriter& writer) { record_sleep(client, writer, 30); });
  client.submit([&](PlanWriter& writer) { record_sleep(client, writer, 1); });
  const auto stats = client.stats();
  EXPECT_EQ(stats.jobs_executed, 2U);
  EXPECT_EQ(stats.ops_executed, 2U);
  EXPECT_EQ(stats.plans_built, 1U);
}

TEST_P(Conversation, SendsHeartbeatsWhileAClientWaits) {
  ASSERT_TRUE(client.hello());
  Tensor a = upload({1});
  client.submit([&](PlanWriter& writer) {
    record_sleep(client, writer, 1500);
    record_fetch(writer, a);
  });
  const auto first = client.receive();
  ASSERT_TRUE(first);
  EXPECT_EQ(first->kind, FrameKind::kHeartbeat);
  const auto answer = client.receive_answer();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->kind, FrameKind::kFetched);
  EXPECT_FALSE(client.receive(std::chrono::milliseconds(1300))) << "nobody waits any more";
}

TEST_P(Conversation, SendsALargeAnswerWhole) {
  ASSERT_TRUE(client.hello());
  std::vector<float> values(5'000'001);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 1000);
  Tensor a = make_tensor(client, static_cast<int64_t>(values.size()));
  client.send(FrameKind::kUpload, codec::Upload{.upload = 1, .artifact = {}},
              std::as_bytes(std::span(values)));
  const auto got = client.fetch([&](PlanWriter& writer) {
    record_upload(writer, a, UploadForm::kStream);
    record_fetch(writer, a);
  });
  EXPECT_TRUE(got == values);
}

TEST_P(Conversation, ResynchronisesAfterAWrongChecksumAndLosesNoJob) {
  ASSERT_TRUE(client.hello());
  Tensor a = upload({1, 2});
  Tensor b = make_tensor(client, 2);
  Tensor c = make_tensor(client, 2);
  client.bend_job = [](codec::Job& job) { job.checksum ^= 1; };
  client.submit([&](PlanWriter& writer) { record_add(client, writer, a, a, b); });
  client.bend_job = nullptr;
  // Sent before the client heard of it: dropped without a word.
  client.submit([&](PlanWriter& writer) { record_add(client, writer, b, a, c); });
  const auto frame = client.receive();
  ASSERT_TRUE(frame && frame->kind == FrameKind::kResync);
  EXPECT_EQ(frame->as<codec::Resync>().job, 2U);
  EXPECT_EQ(frame->as<codec::Resync>().epoch, 1U);
  // The client sends both again, in the new epoch and with their plans.
  client.forget_plans();
  client.epoch = 1;
  client.next_job = 2;
  b.storage->known = false;
  c.storage->known = false;
  client.submit([&](PlanWriter& writer) { record_add(client, writer, a, a, b); });
  const auto got = client.fetch([&](PlanWriter& writer) {
    record_add(client, writer, b, a, c);
    record_fetch(writer, c);
  });
  EXPECT_THAT(got, ElementsAre(3, 6));
}

TEST_P(Conversation, KeepsPredictingAfterItWasIdle) {
  ASSERT_TRUE(client.hello());
  Tensor a = upload({1, 2});
  const auto step = [&] {
    return client.fetch([&](PlanWriter& writer) { record_fetch(writer, a); });
  };
  for (int i = 0; i < 3; ++i) ASSERT_THAT(step(), ElementsAre(1, 2));
  ASSERT_TRUE(eventually([&] { return server.device.shrinks > 0; }));
  for (int i = 0; i < 3; ++i) ASSERT_THAT(step(), ElementsAre(1, 2));
  EXPECT_EQ(client.stats().plans_built, 2U);
}

}  // namespace
}  // namespace djinn::testing
