// SPDX-License-Identifier: Apache-2.0
// A trace that is played to a busy server: what is refused comes again, and every answer is the one
// that was recorded.
#include <gmock/gmock.h>

#include <sstream>

#include <gtest/gtest.h>

#include "serialization/codec/messages.h"
#include "tests/trace/recording.h"

namespace djinn::trace {
namespace {

using ::testing::HasSubstr;
using testing::Tensor;
using testing::TestServer;
using testing::WireClient;

constexpr int kSteps = 20;

// A program that does not wait: a full queue refuses some of it.
Recording hasty(TestServer& server) {
  return record(server.tcp, [](const auto& address) {
    WireClient client(address);
    ASSERT_TRUE(client.hello());
    Tensor one = make_tensor(client, 2);
    Tensor sum = make_tensor(client, 2);
    client.submit([&](auto& writer) { record_upload(writer, one, graph::UploadForm::kInline); },
                  testing::to_bytes(std::vector<float>{1, 2}));
    client.submit([&](auto& writer) { record_add(client, writer, one, one, sum); });
    for (int i = 0; i < kSteps; ++i) {
      Tensor next = make_tensor(client, 2);
      const auto add = [&](auto& writer) {
        if (i % 5 == 0) record_sleep(client, writer, 1);
        record_add(client, writer, sum, one, next);
        writer.forget(*sum.storage);
        if (i % 10 == 9) record_fetch(writer, next);
      };
      if (i % 10 == 9) {
        EXPECT_EQ(client.fetch(add).at(1), 2.0F * static_cast<float>(i + 3));
      } else {
        client.submit(add);
      }
      sum = std::move(next);
    }
    client.submit([&](auto& writer) {  // Nobody waits for it, and it is counted all the same.
      record_sleep(client, writer, 5);
      writer.forget(*sum.storage);
    });
    client.send(transport::FrameKind::kGoodbye, codec::Goodbye{});
  });
}

TEST(ARefusedReplay, ComesAgainUntilEveryJobIsAnsweredAsItWasRecorded) {
  TestServer recording_server;
  const Recording recording = hasty(recording_server);
  ASSERT_TRUE(recording.verdict) << recording.verdict.error().message;
  const Trace trace = recording.trace();
  TestServer::Options busy;
  busy.server.queue_max = 1;
  busy.server.chunk_ns = 0;
  uint64_t refusals = 0;
  for (int attempt = 0; attempt < 20 && refusals == 0; ++attempt) {
    TestServer server(busy);
    constexpr uint32_t kPlays = 24;
    const Outcome outcome =
        play(server, {.trace = &trace, .sessions = kPlays / 2, .plays = kPlays});
    const Tally& tally = outcome.parts[0];
    EXPECT_EQ(tally.plays, kPlays) << tally.first_error;
    EXPECT_EQ(tally.different, 0U) << tally.first_difference;
    EXPECT_EQ(tally.answers, kPlays * trace.answers().size());
    EXPECT_EQ(tally.jobs, kPlays * trace.jobs());
    refusals = tally.refusals;
    EXPECT_GE(tally.repeats, refusals);
    const auto report = server.report(std::chrono::milliseconds(5000));
    ASSERT_TRUE(report);
    EXPECT_EQ(report->refusals.queue, refusals) << "both sides count the same";
  }
  EXPECT_GT(refusals, 0U);
}

TEST(ARefusedReplay, StillKeepsFewActiveAtATime) {
  TestServer recording_server;
  const Recording recording = hasty(recording_server);
  const Trace trace = recording.trace();
  TestServer::Options busy;
  busy.server.queue_max = 1;
  TestServer server(busy);
  const Outcome outcome =
      play(server, {.trace = &trace, .sessions = 10, .plays = 10}, {.active = 3, .turn = 1});
  EXPECT_EQ(outcome.parts[0].plays, 10U) << outcome.parts[0].first_error;
  EXPECT_EQ(outcome.parts[0].different, 0U);
}

TEST(ARefusedReplay, OfJobsThatNoServerUnderstandsSaysWhichWhenItHasToSayThemAgain) {
  TestServer server;
  const Recording recording = hasty(server);
  const Trace trace = recording.trace();
  ASSERT_TRUE(trace.spoken());
  EXPECT_EQ(trace.spoken()->size(), trace.jobs());
  std::ostringstream out;
  Writer writer(out);
  writer.hello(codec::encode(trace.hello()).bytes());
  uint32_t job = 0;
  for (const Said& said : trace.said()) {
    if (said.job != 2) continue;
    codec::Job bent = codec::decode<codec::Job>(said.message).value();
    bent.job = ++job;
    bent.checksum += 1;
    writer.frame(said.kind, codec::encode(bent).bytes(), said.payload, 0);
  }
  ASSERT_TRUE(writer.finish());
  const Recording wrong = in_memory(out.str());
  const auto spoken = wrong.trace().spoken();
  ASSERT_FALSE(spoken);
  EXPECT_THAT(spoken.error().message, HasSubstr("job 1 of the trace: its numbers have another"));
}

}  // namespace
}  // namespace djinn::trace
