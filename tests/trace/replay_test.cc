// SPDX-License-Identifier: Apache-2.0
// What a session said through the recorder, said again by many sessions: they get the same answers,
// and what goes wrong is counted by its code.
#include <gmock/gmock.h>

#include <sstream>

#include <gtest/gtest.h>

#include "client/session/hash_cache.h"
#include "tests/trace/recording.h"

namespace djinn::trace {
namespace {

using ::testing::HasSubstr;
using testing::Tensor;
using testing::TestServer;
using testing::WireClient;

constexpr int64_t kSize = 1 << 12;
constexpr int kSteps = 20;

// Brings weights as an artifact and adds them again and again: sums that grow.
void talk(const transport::Address& address, float weight = 1.5F) {
  WireClient client(address);
  ASSERT_TRUE(client.hello());
  Tensor weights = make_tensor(client, kSize);
  const std::vector<float> values(kSize, weight);
  const auto bytes = testing::to_bytes(values);
  const auto name = client::artifact_name(client.artifact_key(), client::sha256(bytes));
  const std::array<uint64_t, 1> upload{1};
  client.send(transport::FrameKind::kOffer,
              codec::Offer{.uploads = {1}, .names = name, .lengths = {bytes.size()}});
  const auto reply = client.receive_answer();
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->as<codec::OfferReply>().have, std::vector<bool>{false});
  client.send(transport::FrameKind::kUpload, codec::Upload{.upload = upload[0], .artifact = name},
              bytes);
  std::vector<float> sums = client.fetch([&](auto& writer) {
    record_upload(writer, weights, graph::UploadForm::kArtifact);
    record_fetch(writer, weights);
  });
  ASSERT_EQ(sums.size(), static_cast<size_t>(kSize));
  Tensor sum = make_tensor(client, kSize);
  client.submit([&](auto& writer) { record_add(client, writer, weights, weights, sum); });
  for (int i = 0; i < kSteps; ++i) {
    Tensor next = make_tensor(client, kSize);
    sums = client.fetch([&](auto& writer) {
      record_add(client, writer, sum, weights, next);
      writer.forget(*sum.storage);
      record_fetch(writer, next);
    });
    ASSERT_EQ(sums.size(), static_cast<size_t>(kSize));
    EXPECT_EQ(sums.back(), weight * static_cast<float>(i + 3));
    sum = std::move(next);
  }
  client.send(transport::FrameKind::kGoodbye, codec::Goodbye{});
}

Recording recorded(TestServer& server) {
  return record(server.tcp, [](const auto& address) { talk(address); });
}

TEST(AReplay, GetsTheAnswersThatWereRecordedFromAnyNumberOfSessions) {
  TestServer recording_server;
  const Recording recording = recorded(recording_server);
  ASSERT_TRUE(recording.verdict) << recording.verdict.error().message;
  const Trace trace = recording.trace();
  EXPECT_EQ(trace.artifact_bytes(), kSize * sizeof(float));
  TestServer server;  // Another one: its names of artifacts are others.
  for (const uint32_t sessions : {1U, 8U, 64U}) {
    const Outcome outcome =
        play(server, {.trace = &trace, .sessions = sessions, .plays = sessions});
    const Tally& tally = outcome.parts[0];
    EXPECT_EQ(tally.plays, sessions);
    EXPECT_EQ(tally.answers, sessions * (kSteps + 1));
    EXPECT_EQ(tally.per_answer.count(), sessions);
    EXPECT_EQ(tally.different, 0U) << tally.first_difference;
    EXPECT_THAT(tally.errors, ::testing::IsEmpty()) << tally.first_error;
    EXPECT_EQ(tally.play.count(), sessions);
    EXPECT_EQ(tally.unfinished, 0U);
  }
  EXPECT_TRUE(testing::eventually([&] { return server.sessions() == 0; }));
}

TEST(AReplay, BringsWeightsOnce) {
  TestServer server;
  const Recording recording = recorded(server);
  const Trace trace = recording.trace();
  const Outcome outcome = play(server, {.trace = &trace, .plays = 5});
  EXPECT_EQ(outcome.parts[0].plays, 5U);
  EXPECT_LT(outcome.parts[0].sent_bytes, kSize * sizeof(float)) << "they were there already";
}

TEST(ARecording, HoldsTheWeightsThoughTheServerHadThem) {
  TestServer server;
  (void)recorded(server);
  const Recording again = recorded(server);
  ASSERT_TRUE(again.verdict) << again.verdict.error().message;
  TestServer empty;
  const Trace trace = again.trace();
  const Outcome outcome = play(empty, {.trace = &trace, .plays = 1});
  EXPECT_EQ(outcome.parts[0].plays, 1U) << outcome.parts[0].first_error;
  EXPECT_GT(outcome.parts[0].sent_bytes, kSize * sizeof(float));
}

// The trace once more, with answers as `bend` leaves them.
Recording rewritten(const Trace& trace, const std::function<void(size_t, Answered&)>& bend) {
  std::ostringstream out;
  Writer writer(out);
  writer.hello(codec::encode(trace.hello()).bytes());
  size_t answer = 0;
  const auto answers_before = [&](size_t count) {
    for (; answer < count; ++answer) {
      Answered answered = trace.answers()[answer];
      bend(answer, answered);
      writer.answer(answered.what, answered.payload, 0);
    }
  };
  for (const Said& said : trace.said()) {
    answers_before(said.after);
    if (said.artifact) {
      writer.artifact(said.upload, said.payload, 0);
    } else {
      writer.frame(said.kind, said.message, said.payload, 0);
    }
  }
  answers_before(trace.answers().size());
  EXPECT_TRUE(writer.finish());
  return in_memory(out.str());
}

TEST(AReplay, CountsAnswersThatAreOthers) {
  TestServer server;
  const Recording recording = recorded(server);
  const Trace trace = recording.trace();
  const Recording bent = rewritten(trace, [&](size_t answer, Answered& answered) {
    if (answer == 5) answered.payload = trace.answers()[3].payload;
  });
  const Trace other = bent.trace();
  const Outcome outcome = play(server, {.trace = &other, .sessions = 2, .plays = 3});
  EXPECT_EQ(outcome.parts[0].plays, 3U);
  EXPECT_EQ(outcome.parts[0].different, 3U) << "one in each play";
  EXPECT_THAT(outcome.parts[0].first_difference, HasSubstr("answer 0 of job 7"));
  const Outcome trusting =
      play(server, {.trace = &other, .sessions = 2, .plays = 3}, {.compare = false});
  EXPECT_EQ(trusting.parts[0].different, 0U);
}

TEST(AReplay, CountsAnErrorWhereAnErrorWasRecordedAsRight) {
  TestServer server;
  const Recording recording = record(server.tcp, [](const auto& address) {
    WireClient client(address);
    ASSERT_TRUE(client.hello());
    Tensor a = make_tensor(client, 4);
    Tensor b = make_tensor(client, 4);
    client.submit(
        [&](auto& writer) {
          record_upload(writer, a, graph::UploadForm::kInline);
          record_fail(client, writer, a, b);
          record_fetch(writer, b);
        },
        testing::to_bytes(std::vector<float>(4)));
    const auto frame = client.receive_answer();
    ASSERT_TRUE(frame);
    EXPECT_EQ(frame->kind, transport::FrameKind::kFailed);
  });
  const Trace trace = recording.trace();
  ASSERT_EQ(trace.answers().size(), 1U);
  EXPECT_NE(trace.answers()[0].what.code, 0);
  const Outcome same = play(server, {.trace = &trace, .plays = 1});
  EXPECT_EQ(same.parts[0].plays, 1U) << same.parts[0].first_error;
  EXPECT_EQ(same.parts[0].different, 0U);
  const Recording fetched =
      rewritten(trace, [](size_t, Answered& answered) { answered.what.code = 0; });
  const Trace good = fetched.trace();
  const Outcome failed = play(server, {.trace = &good, .plays = 1});
  EXPECT_EQ(failed.parts[0].plays, 0U);
  EXPECT_EQ(failed.parts[0].errors.at(ErrorCode::kFailed), 1U);
}

TEST(AReplay, CountsASessionThatIsNotLetIn) {
  TestServer server;
  const Recording recording = recorded(server);
  const Trace trace = recording.trace();
  const Outcome outcome = play(server, {.trace = &trace, .token = "nobody's", .plays = 3});
  EXPECT_EQ(outcome.parts[0].plays, 0U);
  EXPECT_EQ(outcome.parts[0].errors.at(ErrorCode::kDenied), 3U);
}

TEST(AReplay, GivesUpOnAServerThatIsNotThere) {
  auto server = std::make_unique<TestServer>();
  const Recording recording = recorded(*server);
  const Trace trace = recording.trace();
  const transport::Address address = server->tcp;
  server.reset();
  const auto outcome = drive({.server = address, .parts = {{.trace = &trace}}});
  ASSERT_TRUE(outcome);
  EXPECT_GT(outcome->parts[0].errors.at(ErrorCode::kUnavailable), 0U);
}

TEST(AReplay, KeepsManySessionsOfWhichFewGoOnAtATime) {
  TestServer server;
  const Recording recording = recorded(server);
  const Trace trace = recording.trace();
  constexpr uint32_t kSessions = 200;
  size_t connected = 0;
  Load load{.active = 10, .turn = 3};
  load.connected = [&] { connected = server.sessions(); };
  const Outcome outcome =
      play(server, {.trace = &trace, .sessions = kSessions, .plays = kSessions}, load);
  EXPECT_EQ(connected, kSessions);
  EXPECT_EQ(outcome.sessions_most, kSessions);
  EXPECT_EQ(outcome.parts[0].plays, kSessions) << outcome.parts[0].first_error;
  EXPECT_EQ(outcome.parts[0].different, 0U);
}

TEST(AReplay, LetsPlaysFallDueAtARateAndCountsFromThen) {
  TestServer server;
  const Recording recording = record(server.tcp, [](const auto& address) {
    WireClient client(address);
    ASSERT_TRUE(client.hello());
    Tensor a = make_tensor(client, 4);
    ASSERT_EQ(client
                  .fetch(
                      [&](auto& writer) {
                        record_upload(writer, a, graph::UploadForm::kInline);
                        record_sleep(client, writer, 50);
                        record_fetch(writer, a);
                      },
                      testing::to_bytes(std::vector<float>(4)))
                  .size(),
              4U);
  });
  const Trace trace = recording.trace();
  // Each takes 50 ms, and one falls due every 10 ms: they queue up.
  const Outcome outcome = play(server, {.trace = &trace, .rate = 100, .plays = 20});
  EXPECT_EQ(outcome.parts[0].plays, 20U);
  EXPECT_GE(outcome.seconds, 1.0);
  EXPECT_GE(outcome.parts[0].play.most(), 300) << "the last waited for those before it";
  const Outcome cut = play(server, {.trace = &trace, .rate = 100}, {.seconds = 0.3});
  EXPECT_GE(cut.parts[0].plays, 1U);
  EXPECT_LE(cut.parts[0].plays, 6U);
  EXPECT_LE(cut.seconds, 1.0);
}

TEST(AReplay, InTheBackgroundGoesOnUntilTheOthersHaveEnded) {
  TestServer server;
  const Recording recording = recorded(server);
  const Trace trace = recording.trace();
  const auto outcome = drive({.server = server.tcp,
                              .parts = {{.trace = &trace, .sessions = 2, .plays = 30},
                                        {.trace = &trace, .sessions = 8, .background = true}}});
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(outcome->parts[0].plays, 30U) << outcome->parts[0].first_error;
  EXPECT_GT(outcome->parts[1].answers, 0U);
  EXPECT_LE(outcome->parts[1].unfinished, 8U);
}

TEST(ARecording, OfNoSessionOrOfTwoSaysSo) {
  TestServer server;
  const Recording none =
      record(server.tcp, [](const auto& address) { const WireClient silent(address); });
  ASSERT_FALSE(none.verdict);
  EXPECT_THAT(none.verdict.error().message, HasSubstr("opened no session"));
  EXPECT_FALSE(Trace::read(std::as_bytes(std::span(none.words)), nullptr)) << "it has no hello";
  const Recording two = record(server.tcp, [](const auto& address) {
    WireClient first(address);
    ASSERT_TRUE(first.hello());
    const WireClient second(address);
    EXPECT_TRUE(first.closed_by_peer(std::chrono::milliseconds(5000)));
  });
  ASSERT_FALSE(two.verdict);
  EXPECT_THAT(two.verdict.error().message, HasSubstr("second session"));
}

}  // namespace
}  // namespace djinn::trace
