// SPDX-License-Identifier: Apache-2.0
// Every message arrives with every field, and nothing that is none gets past the decoder.
#include "serialization/codec/messages.h"

#include <array>
#include <cstdlib>
#include <cstring>
#include <random>

#include <gtest/gtest.h>

#include "serialization/base/limits.h"
#include "tests/support/message_fields.h"
#include "tests/support/seed.h"

namespace djinn::codec {
namespace {

using testing::fields;

template <typename T>
void expect_arrives(const T& message) {
  const Message encoded = encode(message);
  EXPECT_EQ(encoded.bytes().size() % 8, 0U);
  const auto decoded = decode<T>(encoded.bytes());
  ASSERT_TRUE(decoded) << decoded.error().message;
  EXPECT_EQ(fields(*decoded), fields(message));
}

constexpr std::array<uint8_t, 16> kSixteen{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255};
constexpr std::array<uint8_t, 32> kThirtyTwo{1, 0, 3};
constexpr uint64_t kLarge = uint64_t{1} << 40;

// Every field has a value of its own, so none can stand in for another.
TEST(Messages, OfTheGreetingArriveWithEveryField) {
  expect_arrives(Hello{.version_min = 2,
                       .version_max = 3,
                       .token = "secret",
                       .app = "generate 4711",
                       .libtorch = "2.15.0",
                       .schema_hash = kSixteen});
  expect_arrives(HelloReply{.version = 1,
                            .session = kLarge + 1,
                            .libtorch = "2.15.0",
                            .schemas_match = true,
                            .device = "cuda:0",
                            .plan_slots_max = 2,
                            .plan_bytes_max = kLarge + 2,
                            .jobs_in_flight_max = 3,
                            .staged_bytes_max = kLarge + 3,
                            .artifact_bytes_min = kLarge + 4,
                            .artifact_key = kThirtyTwo});
  expect_arrives(
      Operators{.names = {"aten::add.Tensor", "", "aten::mm"}, .hashes = {kLarge, 2, 3}});
  expect_arrives(OperatorsReply{.unsupported = {5, 0, 7}});
}

TEST(Messages, OfWorkArriveWithEveryField) {
  expect_arrives(Step{.job = 1, .checksum = 0xfedcba98, .plan_slot = 3, .epoch = 4});
  expect_arrives(Job{.job = 1,
                     .checksum = 0xfedcba98,
                     .plan_slot = 3,
                     .epoch = 4,
                     .patch_packed = true,
                     .plan_packed = false,
                     .patch = kSixteen,
                     .plan = kThirtyTwo});
  expect_arrives(Job{.patch_packed = false, .plan_packed = true});
  expect_arrives(Upload{.upload = kLarge, .artifact = kThirtyTwo});
  expect_arrives(Upload{.upload = kLarge, .artifact = {}});
  expect_arrives(Offer{.uploads = {kLarge}, .names = kThirtyTwo, .lengths = {kLarge + 1}});
  expect_arrives(OfferReply{.have = {true, false, false, true, true, false, true, false, true}});
}

TEST(Messages, OfAnswersArriveWithEveryField) {
  expect_arrives(Fetched{.job = 1, .answer = 2, .finished = true});
  expect_arrives(Failed{.job = 1, .answer = 2, .finished = true, .code = 3, .message = "why\nnot"});
  expect_arrives(Ack{.finished = 7});
  expect_arrives(Resync{.job = 7, .epoch = 8});
  expect_arrives(Refused{.job = 7, .epoch = 8, .retry_after_ms = 9, .code = 10});
}

TEST(Messages, OfTheRestArriveWithEveryField) {
  expect_arrives(Heartbeat{});
  expect_arrives(Hint{.phase = JobPhase::kTraining,
                      .urgency = Urgency::kLatencyCritical,
                      .rest = Rest::kUntil,
                      .resume_ms = kResumeMsMax,
                      .deadline_ms = kDeadlineMsMax});
  expect_arrives(
      Hint{.phase = JobPhase::kLoad, .urgency = Urgency::kBestEffort, .rest = Rest::kOpen});
  expect_arrives(Goodbye{.code = 5, .message = "the server is shutting down"});
  expect_arrives(Goodbye{.code = 4, .message = "later", .retry_after_ms = 60'000});
  expect_arrives(StatsRequest{.tag = 9});
  expect_arrives(StatsReply{.tag = 1,
                            .ops_executed = kLarge + 1,
                            .jobs_executed = kLarge + 2,
                            .ops_failed = kLarge + 3,
                            .storages = kLarge + 4,
                            .storage_bytes = kLarge + 5,
                            .shared_bytes = kLarge + 6,
                            .plans_built = kLarge + 7,
                            .upload_bytes = kLarge + 8,
                            .relayouts = kLarge + 9,
                            .enters = kLarge + 10,
                            .device_bytes = kLarge + 11});
}

TEST(Messages, OfAnyLengthLieInOneSegment) {
  for (size_t length = 0; length < 600; length += length < 100 ? 1 : 50) {
    const std::string text(length, 'x');
    const std::vector<uint8_t> bytes(length, 7);
    expect_arrives(Hello{.token = text, .app = text, .libtorch = text, .schema_hash = bytes});
    expect_arrives(Operators{.names = std::vector<std::string_view>(length, text),
                             .hashes = std::vector<uint64_t>(length, 1)});
    expect_arrives(OperatorsReply{.unsupported = std::vector<uint32_t>(length, 1)});
    expect_arrives(HelloReply{.libtorch = text, .device = text, .artifact_key = kThirtyTwo});
    expect_arrives(Job{.patch = bytes, .plan = bytes});
    expect_arrives(OfferReply{.have = std::vector<bool>(length, true)});
    expect_arrives(Failed{.message = text});
    const std::vector<uint8_t> names(length * kArtifactNameBytes);
    expect_arrives(Offer{.uploads = std::vector<uint64_t>(length, 1),
                         .names = names,
                         .lengths = std::vector<uint64_t>(length, 1)});
  }
}

TEST(Messages, MayHoldZeroBytesInTheirTexts) {
  const std::string_view text("a\0b\0", 4);
  expect_arrives(Hello{.token = text, .app = text, .libtorch = text});
  expect_arrives(Operators{.names = {text, text}, .hashes = {1, 2}});
  expect_arrives(Goodbye{.message = text});
}

TEST(Messages, AFrequentOneIsSmall) {
  EXPECT_LE(encode(Step{.job = 1, .checksum = 2, .plan_slot = 3, .epoch = 4}).bytes().size(), 24U);
  EXPECT_LE(encode(Fetched{.job = 1, .answer = 2, .finished = true}).bytes().size(), 16U);
}

template <typename T>
void expect_refused(const T& message) {
  const auto decoded = decode<T>(encode(message).bytes());
  ASSERT_FALSE(decoded);
  EXPECT_EQ(decoded.error().code, ErrorCode::kInvalid);
}

TEST(Messages, WhosePartsDoNotFitAreRefused) {
  expect_refused(Operators{.names = {"aten::mm"}, .hashes = {1, 2}});
  expect_refused(Operators{.names = {"aten::mm", "aten::add"}, .hashes = {1}});
  const std::vector<uint8_t> names(65);
  expect_refused(HelloReply{.artifact_key = ByteView(names).first(31)});
  expect_refused(Upload{.upload = 1, .artifact = ByteView(names).first(31)});
  expect_refused(Upload{.upload = 1, .artifact = ByteView(names).first(33)});
  expect_refused(Offer{.uploads = {1, 2}, .names = ByteView(names).first(63), .lengths = {1, 2}});
  expect_refused(Offer{.uploads = {1, 2}, .names = names, .lengths = {1, 2}});
  const std::vector<uint64_t> many(kArtifactOffersMax + 1, 1);
  const std::vector<uint8_t> many_names(many.size() * kArtifactNameBytes);
  expect_refused(Offer{.uploads = many, .names = many_names, .lengths = many});
}

TEST(Messages, OfAHintAreRefusedWhenTheySayWhatNobodyKnows) {
  expect_refused(Hint{.phase = static_cast<JobPhase>(kJobPhaseMax + 1)});
  expect_refused(Hint{.urgency = static_cast<Urgency>(kUrgencyMax + 1)});
  expect_refused(Hint{.rest = static_cast<Rest>(kRestMax + 1)});
  expect_refused(Hint{.rest = Rest::kUntil, .resume_ms = kResumeMsMax + 1});
  expect_refused(Hint{.rest = Rest::kOpen, .resume_ms = 1});
  expect_refused(Hint{.rest = Rest::kNone, .resume_ms = 1});
  expect_refused(Hint{.deadline_ms = kDeadlineMsMax + 1});
}

// The bytes that a client of this version sends: training, best-effort; back in 258 ms; due in 772
// ms.
TEST(Messages, OfAHintHaveTheirPlacesOnTheWire) {
  const Message encoded = encode(Hint{.phase = JobPhase::kTraining,
                                      .urgency = Urgency::kBestEffort,
                                      .rest = Rest::kUntil,
                                      .resume_ms = 258,
                                      .deadline_ms = 772});
  constexpr std::array<uint8_t, 24> kGolden{0, 0, 0, 0, 2, 0, 0, 0, 3, 3, 1, 0,
                                            2, 1, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0};
  ASSERT_EQ(encoded.bytes().size(), kGolden.size());
  EXPECT_EQ(std::memcmp(encoded.bytes().data(), kGolden.data(), kGolden.size()), 0);
}

TEST(Messages, CutShortOrDamagedAreReadInBoundsOrRefused) {
  const uint64_t seed = test_seed();
  SCOPED_TRACE("DJINN_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  const Message encoded =
      encode(Offer{.uploads = {1}, .names = kThirtyTwo, .lengths = {uint64_t{1} << 20}});
  for (size_t length = 8; length < encoded.bytes().size(); length += 8) {
    EXPECT_FALSE(decode<Offer>(encoded.bytes().first(length))) << length;
  }
  for (int i = 0; i < 20'000; ++i) {
    std::vector<uint64_t> words(encoded.bytes().size() / 8);
    std::memcpy(words.data(), encoded.bytes().data(), encoded.bytes().size());
    words[random() % words.size()] ^= uint64_t{1} << (random() % 64);
    const auto decoded = decode<Offer>(std::as_bytes(std::span(words)));
    if (!decoded) continue;
    EXPECT_EQ(decoded->uploads.size(), decoded->lengths.size());
    EXPECT_EQ(decoded->names.size(), decoded->uploads.size() * kArtifactNameBytes);
  }
}

}  // namespace
}  // namespace djinn::codec
