// SPDX-License-Identifier: Apache-2.0
// Broken rules: each ends its own session with a Goodbye that names it, and nobody else's.
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "serialization/base/limits.h"
#include "serialization/graph/packing.h"
#include "tests/support/test_server.h"

namespace djinn::testing {
namespace {

using graph::PlanWriter;
using graph::UploadForm;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using transport::FrameKind;

struct Rules : ::testing::Test {
  Rules() {
    EXPECT_TRUE(bystander.hello());
    tensor = make_tensor(bystander, 2);
    const std::vector<float> values{1, 2};
    bystander.submit(
        [&](PlanWriter& writer) { record_upload(writer, tensor, UploadForm::kInline); },
        to_bytes(values));
  }
  ~Rules() override {
    const auto got = bystander.fetch([&](PlanWriter& writer) { record_fetch(writer, tensor); });
    EXPECT_THAT(got, ElementsAre(1, 2)) << "somebody else's session was hurt";
  }

  void expect_ending(ErrorCode code, const std::string& text) {
    const auto ending = client.read_ending();
    EXPECT_EQ(ending.code, code) << ending.message;
    EXPECT_THAT(ending.message, HasSubstr(text));
  }
  void nothing_job() {
    client.submit([&](PlanWriter& writer) { record_sleep(client, writer, 0); });
  }

  TestServer server;
  WireClient bystander{server.tcp};
  WireClient client{server.tcp};
  Tensor tensor;
};

// -- the greeting

TEST_F(Rules, TheFirstFrameIsAHello) {
  client.send(FrameKind::kStep, codec::Step{.job = 1});
  expect_ending(ErrorCode::kInvalid, "first frame");
  EXPECT_TRUE(client.closed_by_peer(std::chrono::seconds(5)));  // Whether we close or not.
}

TEST_F(Rules, TheVersionsOverlap) {
  auto hello = WireClient::usual_hello();
  hello.version_min = 7;
  hello.version_max = 9;
  client.send(FrameKind::kHello, hello);
  expect_ending(ErrorCode::kUnsupported, "versions 7 to 9 of the protocol, and the server 1");
}

TEST_F(Rules, AnUnknownTokenIsDenied) {
  auto hello = WireClient::usual_hello();
  hello.token = "guess";
  client.send(FrameKind::kHello, hello);
  expect_ending(ErrorCode::kDenied, "token");
}

TEST_F(Rules, ASchemaHashHasSixteenBytes) {
  auto hello = WireClient::usual_hello();
  hello.schema_hash = hello.schema_hash.first(15);
  client.send(FrameKind::kHello, hello);
  expect_ending(ErrorCode::kInvalid, "16 bytes");
}

TEST_F(Rules, ThereIsOneHello) {
  ASSERT_TRUE(client.hello());
  client.send(FrameKind::kHello, WireClient::usual_hello());
  expect_ending(ErrorCode::kInvalid, "second hello");
}

TEST_F(Rules, OnlyClientFramesAreTaken) {
  ASSERT_TRUE(client.hello());
  client.send(FrameKind::kFetched, codec::Fetched{.job = 1});
  expect_ending(ErrorCode::kInvalid, "not for servers");
}

TEST_F(Rules, PlainFramesHaveNoPayload) {
  ASSERT_TRUE(client.hello());
  const std::array<std::byte, 8> payload{};
  client.send(FrameKind::kStats, codec::StatsRequest{.tag = 1}, payload);
  expect_ending(ErrorCode::kInvalid, "payload");
}

TEST_F(Rules, AMessageIsWhatItsKindSays) {
  ASSERT_TRUE(client.hello());
  const std::array<uint64_t, 2> nonsense{~uint64_t{0}, ~uint64_t{0}};
  client.send_frame(FrameKind::kJob, std::as_bytes(std::span(nonsense)));
  expect_ending(ErrorCode::kInvalid, "message");
}

TEST_F(Rules, AFrameThatIsNoneClosesTheConnection) {
  ASSERT_TRUE(client.hello());
  const std::array<uint64_t, 8> nonsense{1, 2, 3, 4};
  client.send_raw(std::as_bytes(std::span(nonsense)));
  EXPECT_TRUE(client.closed_by_peer(std::chrono::seconds(5)));
}

// -- jobs

TEST_F(Rules, AReplayedJobEndsTheSession) {
  ASSERT_TRUE(client.hello());
  nothing_job();
  nothing_job();
  client.next_job = 2;
  nothing_job();
  expect_ending(ErrorCode::kInvalid, "job 2 where 3 was to come");
}

TEST_F(Rules, ASkippedJobEndsTheSession) {
  ASSERT_TRUE(client.hello());
  client.next_job = 2;
  nothing_job();
  expect_ending(ErrorCode::kInvalid, "job 2 where 1 was to come");
}

TEST_F(Rules, AnEpochBeginsWithAResync) {
  ASSERT_TRUE(client.hello());
  client.epoch = 3;
  nothing_job();
  expect_ending(ErrorCode::kInvalid, "epoch 3");
}

TEST_F(Rules, AStepNamesAPlanThatIsThere) {
  ASSERT_TRUE(client.hello());
  client.send(FrameKind::kStep, codec::Step{.job = 1, .plan_slot = 5});
  expect_ending(ErrorCode::kInvalid, "plan slot 5");
}

TEST_F(Rules, APlanSlotIsBelowItsBound) {
  ASSERT_TRUE(client.hello());
  client.bend_job = [](codec::Job& job) { job.plan_slot = kPlanSlotsMax; };
  nothing_job();
  expect_ending(ErrorCode::kInvalid, "plan slot 256");
}

TEST_F(Rules, APlanHasOnlyOperatorsFromTheList) {
  ASSERT_TRUE(client.hello());
  client.submit([&](PlanWriter& writer) {
    writer.op(client.op("aten::from_file"), 0);
    writer.results(0);
  });
  expect_ending(ErrorCode::kUnsupported, "aten::from_file");
}

TEST_F(Rules, APlanThatUnpacksForEverIsRefused) {
  ASSERT_TRUE(client.hello());
  const graph::ByteString zeros(kStructureBytesMax + 1, 0);
  const graph::ByteString bomb = graph::pack(zeros);
  client.bend_job = [&](codec::Job& job) {
    job.plan = bomb;
    job.plan_packed = true;
  };
  nothing_job();
  expect_ending(ErrorCode::kInvalid, "");
}

TEST_F(Rules, APatchThatUnpacksForEverIsRefused) {
  ASSERT_TRUE(client.hello());
  const graph::ByteString zeros(1 << 20, 0);
  const graph::ByteString bomb = graph::pack(zeros);
  client.bend_job = [&](codec::Job& job) {
    job.patch = bomb;
    job.patch_packed = true;
  };
  nothing_job();
  expect_ending(ErrorCode::kInvalid, "");
}

TEST_F(Rules, PlansStayBelowTheirBytes) {
  ASSERT_TRUE(client.hello());
  // Lists of integers: 16 bytes are charged for each number.
  const std::vector<int64_t> many(kListItemsMax, 1);
  for (size_t i = 1; i <= 12; ++i) {  // 12 * 13 / 2 MiB
    client.submit([&](PlanWriter& writer) {
      writer.op(client.op("test::fail"), i);
      for (size_t k = 0; k < i; ++k) writer.integers(many);
      writer.results(0);
    });
  }
  expect_ending(ErrorCode::kExhausted, "the plans kept here add up to");
}

TEST_F(Rules, JobsInFlightAreBounded) {
  ASSERT_TRUE(client.hello());
  client.submit([&](PlanWriter& writer) { record_sleep(client, writer, 300); });
  for (uint32_t i = 0; i < kJobsInFlightMax; ++i) nothing_job();
  expect_ending(ErrorCode::kExhausted, "in flight");
}

TEST_F(Rules, StatsRequestsAreBounded) {
  ASSERT_TRUE(client.hello());
  client.submit([&](PlanWriter& writer) { record_sleep(client, writer, 300); });
  for (uint32_t i = 0; i <= kStatsRequestsMax; ++i) {
    client.send(FrameKind::kStats, codec::StatsRequest{.tag = i});
  }
  expect_ending(ErrorCode::kExhausted, "stats");
}

TEST_F(Rules, HintsSayWhatIsKnownAndAreBounded) {
  ASSERT_TRUE(client.hello());
  for (uint32_t i = 0; i <= 2 * kHintsPerSecondMax; ++i) {
    client.send(FrameKind::kHint, codec::Hint{.phase = JobPhase::kDecode});
  }
  expect_ending(ErrorCode::kExhausted, "hint");
}

TEST_F(Rules, AHintOutOfBoundsEndsItsSession) {
  ASSERT_TRUE(client.hello());
  client.send(FrameKind::kHint, codec::Hint{.rest = Rest::kUntil, .resume_ms = kResumeMsMax + 1});
  expect_ending(ErrorCode::kInvalid, "hint");
}

// -- uploads

TEST_F(Rules, InlineUploadsAreAsLongAsTheNumbersSay) {
  ASSERT_TRUE(client.hello());
  Tensor a = make_tensor(client, 8);
  const std::vector<float> values{1, 2};
  client.submit([&](PlanWriter& writer) { record_upload(writer, a, UploadForm::kInline); },
                to_bytes(values));
  expect_ending(ErrorCode::kInvalid, "a payload of 8 bytes for inline uploads of 32");
}

TEST_F(Rules, AnInlineUploadIsNotNegative) {
  ASSERT_TRUE(client.hello());
  Tensor a = make_tensor(client, 2);
  client.submit([&](PlanWriter& writer) {
    writer.upload(UploadForm::kInline, static_cast<uint64_t>(-8));
    record_operand(writer, a);
  });
  expect_ending(ErrorCode::kInvalid, "-8 bytes");
}

TEST_F(Rules, AConsumedUploadHasArrived) {
  ASSERT_TRUE(client.hello());
  Tensor a = make_tensor(client, 2);
  client.submit([&](PlanWriter& writer) { record_upload(writer, a, UploadForm::kStream); });
  expect_ending(ErrorCode::kInvalid, "upload 1 has not arrived");
}

TEST_F(Rules, AConsumedUploadIsAsLongAsTheJobExpects) {
  ASSERT_TRUE(client.hello());
  Tensor a = make_tensor(client, 8);
  const std::vector<float> values{1, 2};
  client.send(FrameKind::kUpload, codec::Upload{.upload = 1, .artifact = {}},
              std::as_bytes(std::span(values)));
  client.submit([&](PlanWriter& writer) { record_upload(writer, a, UploadForm::kStream); });
  expect_ending(ErrorCode::kInvalid, "has 8 bytes, and the job expects 32");
}

TEST_F(Rules, UploadsComeInOrder) {
  ASSERT_TRUE(client.hello());
  const std::array<std::byte, 8> payload{};
  client.send(FrameKind::kUpload, codec::Upload{.upload = 2, .artifact = {}}, payload);
  client.send(FrameKind::kUpload, codec::Upload{.upload = 2, .artifact = {}}, payload);
  expect_ending(ErrorCode::kInvalid, "upload 2 is out of order");
}

TEST_F(Rules, AnUploadIsConsumedOnce) {
  ASSERT_TRUE(client.hello());
  const std::array<std::byte, 8> payload{};
  Tensor a = make_tensor(client, 2);
  client.send(FrameKind::kUpload, codec::Upload{.upload = 1, .artifact = {}}, payload);
  client.submit([&](PlanWriter& writer) { record_upload(writer, a, UploadForm::kStream); });
  client.next_upload = 1;
  client.submit([&](PlanWriter& writer) { record_upload(writer, a, UploadForm::kStream); });
  expect_ending(ErrorCode::kInvalid, "upload 1 was consumed before");
}

TEST_F(Rules, StagedBytesAreBounded) {
  ASSERT_TRUE(client.hello());
  // Announced, not sent: the bound is checked before anything is received.
  const std::array<std::byte, 8> payload{};
  client.send(FrameKind::kUpload, codec::Upload{.upload = 1, .artifact = {}}, payload);
  const auto message = codec::encode(codec::Upload{.upload = 2, .artifact = {}});
  const auto header = transport::encode({.kind = FrameKind::kUpload,
                                         .message_bytes = message.bytes().size(),
                                         .payload_bytes = kStagedUploadBytesMax});
  client.send_raw(header);
  client.send_raw(message.bytes());
  expect_ending(ErrorCode::kExhausted, "staged");
}

TEST_F(Rules, OffersComeInOrder) {
  ASSERT_TRUE(client.hello());
  const std::array<uint8_t, 64> names{};
  client.send(FrameKind::kOffer,
              codec::Offer{.uploads = {2, 1}, .names = names, .lengths = {1, 1}});
  expect_ending(ErrorCode::kInvalid, "upload 1 is out of order");
}

// -- who may come

TEST(Doors, SendAwayPolitelyWhenThereAreTooManySessions) {
  TestServer server({.server = {.access = {}, .sessions_max = 2}});
  WireClient one(server.tcp);
  WireClient two(server.tcp);
  ASSERT_TRUE(one.hello());
  ASSERT_TRUE(two.hello());
  WireClient three(server.tcp);
  three.send(FrameKind::kHello, WireClient::usual_hello());
  const auto ending = three.read_ending();
  EXPECT_EQ(ending.code, ErrorCode::kExhausted);
  EXPECT_THAT(ending.message, HasSubstr("as many sessions"));
  three.close();
  two.close();
  EXPECT_TRUE(eventually([&] { return server.sessions() == 1; }));
  WireClient four(server.tcp);
  EXPECT_TRUE(four.hello());
}

TEST(Doors, KnowTenantsByTheirTokens) {
  TestServer server({.server = {.access = *server::Access::parse("secret=alice\n")}});
  WireClient client(server.tcp);
  auto hello = WireClient::usual_hello();
  hello.token = "secret";
  EXPECT_TRUE(client.hello(hello));
}

}  // namespace
}  // namespace djinn::testing
