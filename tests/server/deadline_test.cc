// SPDX-License-Identifier: Apache-2.0
// Deadlines: what could only be late does not run, and who asked for it hears so at once.
#include <gmock/gmock.h>

#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "serialization/base/limits.h"
#include "tests/support/guest.h"

namespace djinn::testing {
namespace {

using graph::PlanWriter;
using server::Access;
using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using transport::FrameKind;

TestServer::Options options(uint64_t queue_max = 1000, std::string policy = "semantic") {
  TestServer::Options out;
  out.server.policy = std::move(policy);
  out.server.access = Access::parse("a=alice\nb=bob\n").value();
  out.server.queue_max = queue_max;
  return out;
}

server::ServerReport report(TestServer& server) {
  auto out = server.report(milliseconds(5000));
  return out ? *out : server::ServerReport{};
}

// A job that takes so long, makes a tensor, and reads that and the guest's own.
uint32_t work(Guest& guest, int64_t ms) {
  Tensor sum = make_tensor(guest.client, 2);
  return guest.client.submit([&](PlanWriter& writer) {
    record_sleep(guest.client, writer, ms);
    record_add(guest.client, writer, guest.tensor, guest.tensor, sum);
    record_fetch(writer, sum);
    record_fetch(writer, guest.tensor);
  });
}

// The same without a look at what the guest had: without its operators it could answer only errors.
void ask(Guest& guest, int64_t ms) {
  Tensor sum = make_tensor(guest.client, 2);
  guest.client.submit([&](PlanWriter& writer) {
    record_sleep(guest.client, writer, ms);
    record_add(guest.client, writer, guest.tensor, guest.tensor, sum);
    record_fetch(writer, sum);
  });
}

void expect_done(Guest& guest) {
  const auto sum = guest.client.receive_answer();
  ASSERT_TRUE(sum && sum->kind == FrameKind::kFetched);
  EXPECT_THAT(sum->floats(), ElementsAre(2, 4));
  ASSERT_TRUE(guest.client.receive_answer());
}

// What was to be made is an error.
void expect_error(Guest& guest, std::string_view text) {
  const auto sum = guest.client.receive_answer();
  ASSERT_TRUE(sum && sum->kind == FrameKind::kFailed);
  const auto failed = sum->as<codec::Failed>();
  EXPECT_EQ(static_cast<ErrorCode>(failed.code), ErrorCode::kDeadline);
  EXPECT_THAT(std::string(failed.message), HasSubstr(std::string(text)));
}

// And what the session had is as it was.
void expect_late(Guest& guest, std::string_view text) {
  expect_error(guest, text);
  const auto own = guest.client.receive_answer();
  ASSERT_TRUE(own && own->kind == FrameKind::kFetched);
  EXPECT_THAT(own->floats(), ElementsAre(1, 2));
  EXPECT_TRUE(own->as<codec::Fetched>().finished);
}

void set_deadline(Guest& guest, uint32_t ms) {
  guest.client.send(FrameKind::kHint, codec::Hint{.deadline_ms = ms});
}

// So that it is known how long such a job takes.
void learn(Guest& guest, int64_t ms) {
  for (int i = 0; i < 3; ++i) {
    work(guest, ms);
    expect_done(guest);
  }
}

// So much work of so many milliseconds that it is still there when a test has asked what it asks.
void flood(Guest& busy, TestServer& server) {
  for (int i = 0; i < 50; ++i) work(busy, 200);
  ASSERT_TRUE(eventually([&] { return report(server).queued_jobs >= 40; }));
}

// Jobs of that guest, of which the first keeps the device until it wakes.
void occupy(TestServer& server, Guest& guest, int jobs = 1, int64_t ms = 0) {
  server.device.asleep = true;
  for (int i = 0; i < jobs; ++i) work(guest, ms);
  ASSERT_TRUE(eventually([&] { return server.device.running > 0; }));
}

TEST(Deadline, AJobThatCouldOnlyBeLateIsAnsweredAtOnceAndTakesNoDeviceTime) {
  for (const char* const policy : {"fcfs", "edf", "semantic"}) {
    SCOPED_TRACE(policy);
    TestServer server(options(1000, policy));
    if (server.device.works_on_its_own()) GTEST_SKIP() << "its jobs take no time here";
    Guest busy(server, "a");
    Guest guest(server, "b");
    learn(busy, 200);
    for (int i = 0; i < 3; ++i) {
      ask(guest, 200);
      EXPECT_TRUE(guest.client.receive_answer());
    }
    const uint64_t ops = guest.client.stats().ops_executed;
    flood(busy, server);
    set_deadline(guest, 100);
    for (int i = 0; i < 3; ++i) {
      ask(guest, 200);
      expect_error(guest, "did not run: its deadline is 100 ms after it came, but work of ");
    }
    EXPECT_GE(report(server).queued_jobs, 10U) << "it did not wait for them";
    EXPECT_EQ(report(server).refusals.deadline, 3U);
    EXPECT_EQ(report(server).load.late, 0U);
    set_deadline(guest, 0);
    server.device.restless = true;
    work(guest, 200);
    expect_done(guest);
    EXPECT_EQ(guest.client.stats().ops_executed, ops + 2) << "of the last job";
  }
}

TEST(Deadline, JobsThatAreRefusedAndOthersKeepTheOrderOfTheirSession) {
  TestServer server(options());
  if (server.device.works_on_its_own()) GTEST_SKIP() << "its jobs take no time here";
  Guest busy(server, "a");
  Guest guest(server, "b");
  learn(busy, 200);
  learn(guest, 200);
  flood(busy, server);
  for (int i = 0; i < 5; ++i) {
    set_deadline(guest, 100);
    work(guest, 200);
    work(guest, 200);
    set_deadline(guest, 0);
    work(guest, 200);
  }
  ASSERT_TRUE(eventually([&] { return report(server).refusals.deadline == 10; }));
  server.device.restless = true;
  for (int i = 0; i < 5; ++i) {
    for (int late = 0; late < 2; ++late) {
      expect_late(guest, i == 0 ? "did not run: its deadline is 100 ms after" : "did not run: ");
    }
    expect_done(guest);
  }
}

TEST(Deadline, IsNoWayAroundARate) {
  TestServer::Options rated = options();
  rated.server.tenants = {{"alice", {.rates = {.requests = 4}}}};
  TestServer server(rated);
  Guest guest(server, "a");
  EXPECT_EQ(guest.ask(), Guest::kTensor);
  set_deadline(guest, 1);
  bool refused = false;
  for (int i = 0; i < 50 && !refused; ++i) {
    guest.client.submit([&](PlanWriter& writer) { record_fetch(writer, guest.tensor); });
    const auto frame = guest.client.receive_answer();
    ASSERT_TRUE(frame);
    refused = frame->kind == FrameKind::kRefused;
  }
  EXPECT_TRUE(refused);
}

TEST(Deadline, OfAJobThatHasPassedAtItsTurnIsHeardThen) {
  TestServer server(options());
  if (server.device.works_on_its_own()) GTEST_SKIP() << "its jobs take no time here";
  Guest busy(server, "a");
  Guest guest(server, "b");
  occupy(server, busy);  // Nobody knows how long that takes.
  set_deadline(guest, 300);
  work(guest, 0);
  ASSERT_TRUE(eventually([&] { return report(server).queued_jobs == 2; }));
  std::this_thread::sleep_for(milliseconds(320));
  server.device.asleep = false;
  expect_late(guest, "ago while others were ahead of it; try again in ");
  expect_done(busy);
  EXPECT_EQ(report(server).load.late, 1U);
  EXPECT_EQ(report(server).refusals.deadline, 0U);
}

TEST(Deadline, AJobThatHasBegunEnds) {
  TestServer server(options());
  if (server.device.works_on_its_own()) GTEST_SKIP() << "its jobs take no time here";
  Guest other(server, "a");
  Guest guest(server, "b");
  set_deadline(guest, 1000);
  occupy(server, guest);
  work(other, 0);  // So that it gives way.
  std::this_thread::sleep_for(milliseconds(1020));
  server.device.asleep = false;
  expect_done(guest);
  expect_done(other);
  EXPECT_EQ(report(server).load.late, 0U);
}

TEST(Deadline, IsOfWhatIsSentFromThenOnAndNotOfWhatOnlyComesAgain) {
  TestServer server(options(4));
  Guest guest(server, "a");
  occupy(server, guest, 4);
  work(guest, 0);
  work(guest, 0);  // Dropped: sent before the refusal was read.
  const auto frame = guest.client.receive_answer();
  ASSERT_TRUE(frame && frame->kind == FrameKind::kRefused);
  const auto refused = frame->as<codec::Refused>();
  set_deadline(guest, 1);
  server.device.asleep = false;
  for (int i = 0; i < 4; ++i) expect_done(guest);
  guest.begin_epoch(refused);
  for (int i = 0; i < 2; ++i) work(guest, 20);
  for (int i = 0; i < 2; ++i) expect_done(guest);
  EXPECT_EQ(report(server).load.late, 0U);
  EXPECT_EQ(report(server).refusals.deadline, 0U);
}

TEST(Deadline, UploadsOfALateJobAreKeptAndItsOwnTurnBringsThem) {
  TestServer server(options());
  if (server.device.works_on_its_own()) GTEST_SKIP() << "its jobs take no time here";
  Guest busy(server, "a");
  Guest guest(server, "b");
  const auto bring = [&guest] {
    Tensor brought = make_tensor(guest.client, 2);
    guest.client.submit(
        [&](PlanWriter& writer) {
          record_upload(writer, brought, graph::UploadForm::kInline);
          record_sleep(guest.client, writer, 200);
          record_fetch(writer, brought);
        },
        to_bytes(std::vector<float>{3, 4}));
    const auto answer = guest.client.receive_answer();
    ASSERT_TRUE(answer && answer->kind == FrameKind::kFetched);
    EXPECT_THAT(answer->floats(), ElementsAre(3, 4));
  };
  for (int i = 0; i < 3; ++i) bring();
  learn(busy, 200);
  flood(busy, server);
  set_deadline(guest, 100);
  bring();
  EXPECT_EQ(report(server).refusals.deadline, 1U);
  server.device.restless = true;
}

TEST(Deadline, AJobIsNotRefusedForWhatIsExpectedOfItAlone) {
  TestServer server(options());
  Guest guest(server, "a");
  learn(guest, 400);
  set_deadline(guest, 200);
  server.device.restless = true;  // Now it takes no time: an expectation must not stand for ever.
  work(guest, 400);
  expect_done(guest);
}

TEST(Deadline, WhoCannotWaitForAPlaceInTheQueueIsNotToldToComeAgain) {
  TestServer server(options(4));
  if (server.device.works_on_its_own()) GTEST_SKIP() << "its jobs take no time here";
  Guest guest(server, "a");
  learn(guest, 50);
  occupy(server, guest, 4, 50);
  set_deadline(guest, 1);
  work(guest, 50);
  server.device.asleep = false;
  for (int i = 0; i < 4; ++i) expect_done(guest);
  expect_late(guest, "but the queue is full; try again in ");
  EXPECT_EQ(report(server).refusals.queue, 0U);
  EXPECT_EQ(report(server).refusals.deadline, 1U);
}

TEST(Deadline, WhoGoesWhileItsAnswerIsDueTakesItAlong) {
  TestServer server(options(1000, "fcfs"));
  if (server.device.works_on_its_own()) GTEST_SKIP() << "its jobs take no time here";
  Guest busy(server, "a");
  auto guest = std::make_unique<Guest>(server, "b");
  learn(busy, 50);
  for (int i = 0; i < 3; ++i) {
    ask(*guest, 50);
    EXPECT_TRUE(guest->client.receive_answer());
  }
  occupy(server, busy, 4, 50);
  set_deadline(*guest, 1);
  for (int i = 0; i < 3; ++i) ask(*guest, 50);
  ASSERT_TRUE(eventually([&] { return report(server).refusals.deadline == 3; }));
  guest.reset();
  ASSERT_TRUE(eventually([&] { return report(server).sessions.size() == 1U; }));
  server.device.asleep = false;
  for (int i = 0; i < 4; ++i) expect_done(busy);
  EXPECT_TRUE(eventually([&] { return report(server).queued_jobs == 0; }));
}

}  // namespace
}  // namespace djinn::testing
