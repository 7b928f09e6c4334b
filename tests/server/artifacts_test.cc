// SPDX-License-Identifier: Apache-2.0
// Artifacts between sessions: uploaded once, checked, shared, copied by whoever writes.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <memory>

#include <gtest/gtest.h>

#include "serialization/base/limits.h"
#include "tests/support/test_server.h"

namespace djinn::testing {
namespace {

using graph::PlanWriter;
using graph::UploadForm;
using ::testing::HasSubstr;
using transport::FrameKind;

constexpr size_t kFloats = kArtifactBytesMin / sizeof(float);

struct Sharing : ::testing::Test {
  static std::vector<float> weights(float first) {
    std::vector<float> out(kFloats);
    for (size_t i = 0; i < out.size(); ++i) out[i] = first + static_cast<float>(i % 64);
    return out;
  }
  static server::ArtifactName name(const WireClient& client, const std::vector<float>& values) {
    server::ArtifactKey key{};
    std::ranges::copy(client.artifact_key(), key.begin());
    return server::artifact_name(key, std::as_bytes(std::span(values)));
  }
  static void upload(WireClient& client, const server::ArtifactName& name,
                     const std::vector<float>& values) {
    client.send(FrameKind::kUpload, codec::Upload{.upload = client.next_upload, .artifact = name},
                std::as_bytes(std::span(values)));
  }
  static bool offer(WireClient& client, const server::ArtifactName& name) {
    client.send(FrameKind::kOffer, codec::Offer{.uploads = {client.next_upload},
                                                .names = name,
                                                .lengths = {kArtifactBytesMin}});
    const auto frame = client.receive_answer();
    return frame && frame->kind == FrameKind::kOffer && frame->as<codec::OfferReply>().have.at(0);
  }
  // Binds the staged upload to a tensor.
  static Tensor bind(WireClient& client) {
    Tensor tensor = make_tensor(client, kFloats);
    client.submit(
        [&](PlanWriter& writer) { record_upload(writer, tensor, UploadForm::kArtifact); });
    return tensor;
  }
  static std::vector<float> fetch(WireClient& client, Tensor& tensor) {
    return client.fetch([&](PlanWriter& writer) { record_fetch(writer, tensor); });
  }
  static void add_in_place(WireClient& client, Tensor& tensor) {
    client.submit([&](PlanWriter& writer) {
      writer.op(client.op("aten::add_.Tensor"), 2);
      writer.tensor();
      record_operand(writer, tensor);
      writer.tensor();
      record_operand(writer, tensor);
      writer.results(1);
      writer.not_new();
    });
  }
  static std::vector<float> twice(std::vector<float> values) {
    for (float& value : values) value *= 2;
    return values;
  }

  TestServer server;
  WireClient first{server.tcp};
  WireClient second{server.tcp};
};

TEST_F(Sharing, TheSecondSessionUploadsNothingAndHasNoCopy) {
  ASSERT_TRUE(first.hello() && second.hello());
  const auto values = weights(1);
  const auto artifact = name(first, values);
  EXPECT_FALSE(offer(first, artifact));
  upload(first, artifact, values);
  Tensor mine = bind(first);
  EXPECT_EQ(fetch(first, mine), values) << "at once, before it is verified";
  ASSERT_TRUE(eventually([&] { return server.artifacts().stats().artifacts == 1; }));

  ASSERT_TRUE(offer(second, artifact));
  Tensor yours = bind(second);
  EXPECT_EQ(fetch(second, yours), values);
  const auto stats = second.stats();
  EXPECT_EQ(stats.upload_bytes, 0U);
  EXPECT_EQ(stats.shared_bytes, kArtifactBytesMin);
  EXPECT_EQ(server.device.used_bytes, kArtifactBytesMin);

  add_in_place(second, yours);
  EXPECT_EQ(fetch(second, yours), twice(values));
  EXPECT_EQ(fetch(first, mine), values) << "a writer copies first";
  add_in_place(first, mine);
  EXPECT_EQ(fetch(first, mine), twice(values));
  WireClient third(server.tcp);
  ASSERT_TRUE(third.hello());
  ASSERT_TRUE(offer(third, artifact));
  Tensor theirs = bind(third);
  EXPECT_EQ(fetch(third, theirs), values) << "the artifact itself never changes";
}

TEST_F(Sharing, SurvivesItsUploader) {
  ASSERT_TRUE(first.hello() && second.hello());
  const auto values = weights(1);
  const auto artifact = name(first, values);
  upload(first, artifact, values);
  bind(first);
  ASSERT_TRUE(eventually([&] { return server.artifacts().stats().artifacts == 1; }));
  first.close();
  ASSERT_TRUE(eventually([&] { return server.artifacts().stats().unused_bytes > 0; }));
  ASSERT_TRUE(offer(second, artifact));
  Tensor yours = bind(second);
  EXPECT_EQ(fetch(second, yours), values);
}

TEST_F(Sharing, BytesUnderAWrongNameEndTheirSessionAndAreNotShared) {
  ASSERT_TRUE(first.hello() && second.hello());
  const auto victim = name(first, weights(1));
  upload(first, victim, weights(5));
  const auto ending = first.read_ending();
  EXPECT_EQ(ending.code, ErrorCode::kInvalid);
  EXPECT_THAT(ending.message, HasSubstr("upload 1"));
  EXPECT_FALSE(offer(second, victim));
}

TEST_F(Sharing, TwoMayUploadTheSameAtOnce) {
  ASSERT_TRUE(first.hello() && second.hello());
  const auto values = weights(3);
  const auto artifact = name(first, values);
  EXPECT_FALSE(offer(first, artifact));
  EXPECT_FALSE(offer(second, artifact));
  upload(first, artifact, values);
  upload(second, artifact, values);
  Tensor one = bind(first);
  Tensor two = bind(second);
  EXPECT_EQ(fetch(first, one), values);
  EXPECT_EQ(fetch(second, two), values);
  server.artifacts().settle();
  EXPECT_EQ(server.artifacts().stats().artifacts, 1U);
  EXPECT_EQ(server.artifacts().stats().refused, 0U);
}

TEST(Staging, TellsTheTensorWhenThereIsNoMemory) {
  TestServer server({.server = {}, .budget_bytes = 1000});
  WireClient client(server.tcp);
  ASSERT_TRUE(client.hello());
  const std::vector<float> values(1000, 1);
  client.send(FrameKind::kUpload, codec::Upload{.upload = 1, .artifact = {}},
              std::as_bytes(std::span(values)));
  Tensor large = make_tensor(client, 1000);
  client.submit([&](PlanWriter& writer) {
    record_upload(writer, large, UploadForm::kStream);
    record_fetch(writer, large);
  });
  const auto failed = client.receive_answer();
  ASSERT_TRUE(failed && failed->kind == FrameKind::kFailed);
  EXPECT_EQ(failed->as<codec::Failed>().code, static_cast<uint16_t>(ErrorCode::kOutOfMemory));
  EXPECT_THAT(std::string(failed->as<codec::Failed>().message), HasSubstr("4000 bytes"));
  // The session goes on.
  Tensor small = make_tensor(client, 2);
  const auto got = client.fetch(
      [&](PlanWriter& writer) {
        record_upload(writer, small, UploadForm::kInline);
        record_fetch(writer, small);
      },
      to_bytes(std::vector<float>{1, 2}));
  EXPECT_EQ(got.size(), 2U);
}

struct Pressure : ::testing::Test {
  Pressure() {
    WireClient client(server.tcp);
    EXPECT_TRUE(client.hello());
    Sharing::upload(client, Sharing::name(client, values), values);
    Sharing::bind(client);
    EXPECT_TRUE(eventually([&] { return server.artifacts().stats().artifacts == 1; }));
    client.close();
    EXPECT_TRUE(eventually([&] { return server.artifacts().stats().unused_bytes > 0; }));
  }
  const std::vector<float> values = Sharing::weights(1);
  TestServer server{{.server = {}, .budget_bytes = kArtifactBytesMin * 3 / 2}};
};

TEST_F(Pressure, AnUploadTakesThePlaceOfUnusedArtifacts) {
  WireClient client(server.tcp);
  ASSERT_TRUE(client.hello());
  client.send(FrameKind::kUpload, codec::Upload{.upload = 1, .artifact = {}},
              std::as_bytes(std::span(values)));
  Tensor tensor = make_tensor(client, kFloats);
  const auto got = client.fetch([&](PlanWriter& writer) {
    record_upload(writer, tensor, UploadForm::kStream);
    record_fetch(writer, tensor);
  });
  EXPECT_EQ(got, values);
  EXPECT_EQ(server.artifacts().stats().artifacts, 0U);
}

TEST_F(Pressure, AnOperatorsResultTakesThePlaceOfUnusedArtifacts) {
  WireClient client(server.tcp);
  ASSERT_TRUE(client.hello());
  constexpr int64_t kThird = kFloats / 3;
  Tensor tensor = make_tensor(client, kThird);
  const std::vector<float> part(kThird, 1);
  client.send(FrameKind::kUpload, codec::Upload{.upload = 1, .artifact = {}},
              std::as_bytes(std::span(part)));
  Tensor sum = make_tensor(client, kThird);
  const auto got = client.fetch([&](PlanWriter& writer) {
    record_upload(writer, tensor, UploadForm::kStream);
    record_add(client, writer, tensor, tensor, sum);
    record_fetch(writer, sum);
  });
  EXPECT_EQ(got, std::vector<float>(kThird, 2));
  EXPECT_EQ(server.artifacts().stats().artifacts, 0U);
}

// -- servers that come one after the other, with one folder

struct OnDisk : ::testing::Test {
  OnDisk() {
    std::string name = ::testing::TempDir() + "/djinn-artifacts-XXXXXX";
    folder = mkdtemp(name.data());
    start();
    WireClient client(server->tcp);
    EXPECT_TRUE(client.hello());
    for (const auto& each : values) {
      Sharing::upload(client, Sharing::name(client, each), each);
      Sharing::bind(client);
    }
    EXPECT_TRUE(eventually([&] { return disk().artifacts == 2; }));
    client.close();
    start();
  }
  ~OnDisk() override {
    server.reset();
    std::filesystem::remove_all(folder);
  }
  void start() {
    server.reset();
    auto cache = server::DiskCache::open(folder, 1 << 30);
    if (!cache) std::abort();
    server = std::make_unique<TestServer>(
        TestServer::Options{.server = {.access = {}, .disk = std::move(*cache)}});
  }
  [[nodiscard]] server::DiskStats disk() const { return server->artifacts().stats().disk; }
  void damage_one() const {
    for (const auto& file : std::filesystem::directory_iterator(folder)) {
      if (file.path().extension() != ".artifact") continue;
      std::fstream out(file.path(), std::ios::in | std::ios::out | std::ios::binary);
      out.seekp(500).put(99);
      return;
    }
  }
  [[nodiscard]] static codec::Offer offer_of(WireClient& client,
                                             const std::vector<server::ArtifactName>& names,
                                             std::vector<uint8_t>& bytes) {
    codec::Offer offer;
    for (const auto& name : names) {
      bytes.insert(bytes.end(), name.begin(), name.end());
      offer.uploads.push_back(client.next_upload + offer.uploads.size());
      offer.lengths.push_back(kArtifactBytesMin);
    }
    offer.names = bytes;
    return offer;
  }
  [[nodiscard]] std::vector<server::ArtifactName> names(const WireClient& client) const {
    return {Sharing::name(client, values[0]), Sharing::name(client, values[1])};
  }
  static std::vector<bool> answer(WireClient& client) {
    const auto frame = client.receive_answer();
    if (!frame || frame->kind != FrameKind::kOffer) return {};
    return frame->as<codec::OfferReply>().have;
  }

  const std::vector<std::vector<float>> values{Sharing::weights(1), Sharing::weights(2)};
  std::string folder;
  std::unique_ptr<TestServer> server;
};

TEST_F(OnDisk, ArtifactsAreThereAndRightWithoutAnUpload) {
  WireClient client(server->tcp);
  ASSERT_TRUE(client.hello());
  std::vector<uint8_t> bytes;
  client.send(FrameKind::kOffer, offer_of(client, names(client), bytes));
  ASSERT_EQ(answer(client), (std::vector<bool>{true, true}));
  for (const auto& each : values) {
    Tensor tensor = Sharing::bind(client);
    EXPECT_EQ(Sharing::fetch(client, tensor), each);
  }
  EXPECT_EQ(client.stats().upload_bytes, 0U);
  EXPECT_EQ(disk().hits, 2U);
}

TEST_F(OnDisk, ADamagedArtifactIsNotThereAndIsUploadedByTheSameId) {
  damage_one();
  WireClient client(server->tcp);
  ASSERT_TRUE(client.hello());
  std::vector<uint8_t> bytes;
  client.send(FrameKind::kOffer, offer_of(client, names(client), bytes));
  const auto have = answer(client);
  ASSERT_EQ(have.size(), 2U);
  EXPECT_NE(have[0], have[1]) << "one of the two";
  for (size_t i = 0; i < values.size(); ++i) {
    if (!have[i]) Sharing::upload(client, names(client)[i], values[i]);
    Tensor tensor = Sharing::bind(client);
    EXPECT_EQ(Sharing::fetch(client, tensor), values[i]);
  }
  EXPECT_EQ(client.stats().upload_bytes, kArtifactBytesMin);
  EXPECT_EQ(disk().corrupt_files, 1U);
  EXPECT_TRUE(eventually([&] { return disk().artifacts == 2; })) << "and healed";
}

TEST_F(OnDisk, OffersAreAnsweredInTheirOrder) {
  WireClient client(server->tcp);
  ASSERT_TRUE(client.hello());
  const server::ArtifactName nowhere{};
  const std::vector<std::vector<server::ArtifactName>> asked{
      {names(client)[0]}, {nowhere}, {nowhere, names(client)[1]}, {names(client)[0], nowhere}};
  const std::vector<std::vector<bool>> expected{{true}, {false}, {false, true}, {true, false}};
  const uint64_t first = client.next_upload;
  for (const auto& each : asked) {
    std::vector<uint8_t> bytes;
    client.send(FrameKind::kOffer, offer_of(client, each, bytes));
    client.next_upload += each.size();
  }
  client.next_upload = first;
  for (const auto& each : expected) EXPECT_EQ(answer(client), each);
}

TEST_F(OnDisk, AnUploadOfWhatIsLoadedEndsItsSession) {
  WireClient client(server->tcp);
  ASSERT_TRUE(client.hello());
  WireClient other(server->tcp);
  ASSERT_TRUE(other.hello());
  std::vector<uint8_t> bytes;
  client.send(FrameKind::kOffer, offer_of(client, names(client), bytes));
  Sharing::upload(client, names(client)[0], values[0]);  // Its place is kept for what is loaded.
  const auto ending = client.read_ending();
  EXPECT_EQ(ending.code, ErrorCode::kInvalid);
  EXPECT_THAT(ending.message, HasSubstr("out of order"));
  EXPECT_TRUE(Sharing::offer(other, names(other)[0])) << "nobody else is concerned";
}

TEST_F(OnDisk, WhoLeavesBeforeTheAnswerHarmsNobody) {
  for (int i = 0; i < 20; ++i) {
    WireClient client(server->tcp);
    ASSERT_TRUE(client.hello());
    std::vector<uint8_t> bytes;
    client.send(FrameKind::kOffer, offer_of(client, names(client), bytes));
    client.close();
  }
  WireClient client(server->tcp);
  ASSERT_TRUE(client.hello());
  EXPECT_TRUE(Sharing::offer(client, names(client)[1]));
  Tensor tensor = Sharing::bind(client);
  EXPECT_EQ(Sharing::fetch(client, tensor), values[1]);
}

}  // namespace
}  // namespace djinn::testing
