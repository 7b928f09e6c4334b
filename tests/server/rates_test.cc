// SPDX-License-Identifier: Apache-2.0
// A server that keeps tenants to their rates: whoever has used what it may comes again when it was
// told to, and nobody else notices.
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "server/clock.h"
#include "tests/support/guest.h"

namespace djinn::testing {
namespace {

using std::chrono::milliseconds;
using transport::FrameKind;

constexpr milliseconds kPatience{10'000};
constexpr uint64_t kMs = 1'000'000;
constexpr const char* kTokens = "a=alice\nb=bob\n";

TestServer::Options options(server::Rates alice) {
  TestServer::Options out;
  out.server.access = server::Access::parse(kTokens).value();
  out.server.tenants = {{"alice", {.rates = alice}}};
  return out;
}

server::TenantReport tenant(TestServer& server, const std::string& name) {
  const auto report = server.report(kPatience);
  if (!report) return {};
  for (const server::TenantReport& each : report->tenants) {
    if (each.tenant == name) return each;
  }
  return {};
}

// A job that is sent until it is let in, each time when the server said so.
struct Persistent {
  explicit Persistent(Guest& guest) {
    while (!answered && refusals < 100) {
      guest.sleep(0);
      const auto frame = guest.client.receive_answer();
      answered = frame && frame->kind == FrameKind::kFetched;
      if (answered) {
        EXPECT_EQ(frame->floats(), Guest::kTensor);
      }
      if (answered || !frame) return;
      EXPECT_EQ(frame->kind, FrameKind::kRefused);
      const auto refused = frame->as<codec::Refused>();
      EXPECT_EQ(static_cast<ErrorCode>(refused.code), ErrorCode::kExhausted);
      ++refusals;
      told_ms += refused.retry_after_ms;
      std::this_thread::sleep_for(milliseconds(refused.retry_after_ms));
      guest.begin_epoch(refused);
    }
  }
  bool answered = false;
  uint32_t refusals = 0;
  uint64_t told_ms = 0;
};

TEST(Rates, RequestsPerSecondAreKeptAndWhoComesWhenItWasToldIsLetIn) {
  constexpr double kRate = 50;
  TestServer server(options({.requests = kRate}));
  const uint64_t begin_ns = server::now_ns();
  Guest alice(server, "a");
  Guest bob(server, "b");
  uint32_t refusals = 0;
  int jobs = 2;  // of the Guest
  for (; refusals < 20; ++jobs) {
    const Persistent job(alice);
    ASSERT_TRUE(job.answered);
    EXPECT_LE(job.refusals, 1U) << "the server told the truth";
    refusals += job.refusals;
    const double seconds = static_cast<double>(server::now_ns() - begin_ns) / 1e9;
    ASSERT_LE(jobs, kRate * (1 + seconds) + 1);
    EXPECT_EQ(Persistent(bob).refusals, 0U) << "he has no limit";
  }
  EXPECT_EQ(tenant(server, "alice").rate_refusals, refusals);
  EXPECT_EQ(tenant(server, "alice").rates.requests, kRate);
  EXPECT_EQ(tenant(server, "bob").rate_refusals, 0U);
  EXPECT_EQ(server.report(kPatience).value().refusals.requests, refusals);
}

// Says what alice may from now on.
void change(TestServer& server, server::Rates rates) {
  server.ask([&](server::Server& of) {
    of.change(server::TenantTable{{"alice", {.rates = rates}}},
              server::Access::parse(kTokens).value());
    return 0;
  });
  ASSERT_TRUE(eventually([&] { return tenant(server, "alice").rates == rates; }));
}

// The refusal of the job that the guest sends now.
codec::Refused refused(Guest& guest) {
  guest.sleep(0);
  const auto frame = guest.client.receive_answer();
  EXPECT_TRUE(frame && frame->kind == FrameKind::kRefused);
  return frame ? frame->as<codec::Refused>() : codec::Refused{};
}

TEST(Rates, BytesPerSecondCountBothWays) {
  constexpr size_t kFloats = 256 << 10;  // a megabyte
  constexpr uint64_t kRate = 64 << 10;
  TestServer server(options({.bytes = kRate}));
  Guest alice(server, "a");
  const uint64_t begin_ns = server::now_ns();
  Tensor large = make_tensor(alice.client, kFloats);
  alice.client.send(FrameKind::kUpload,
                    codec::Upload{.upload = alice.client.next_upload, .artifact = {}},
                    to_bytes(std::vector<float>(kFloats, 3)));
  const codec::Refused sent = refused(alice);
  const uint64_t passed_ms = (server::now_ns() - begin_ns) / kMs;
  EXPECT_LE(sent.retry_after_ms, 15'002U) << "16 seconds' worth, of which it had one";
  EXPECT_GE(sent.retry_after_ms + passed_ms, 15'000U);
  EXPECT_EQ(server.report(kPatience).value().refusals.bytes, 1U);

  change(server, {});
  alice.begin_epoch(sent);
  alice.client.submit([&](graph::PlanWriter& writer) {
    record_upload(writer, large, graph::UploadForm::kStream);
    record_fetch(writer, alice.tensor);
  });
  ASSERT_TRUE(alice.client.receive_answer()) << "what was sent before is still there";
  change(server, {.bytes = kRate});
  const auto back =
      alice.client.fetch([&](graph::PlanWriter& writer) { record_fetch(writer, large); });
  EXPECT_EQ(back, std::vector<float>(kFloats, 3)) << "what was let in comes whole";
  EXPECT_GE(refused(alice).retry_after_ms, 5'000U);
}

TEST(Rates, DeviceTimeIsMeasuredAndADebtIsPaidByWaiting) {
  TestServer server(options({.device_ns = 10 * kMs}));
  if (server.device.works_on_its_own()) GTEST_SKIP() << "its jobs take no time here";
  Guest alice(server, "a");
  Guest bob(server, "b");
  const uint64_t begin_ns = server::now_ns();
  alice.sleep(200);  // Nobody knows how long it takes.
  const auto first = alice.client.receive_answer();
  ASSERT_TRUE(first && first->kind == FrameKind::kFetched);
  EXPECT_EQ(Persistent(bob).refusals, 0U);
  const codec::Refused then = refused(alice);
  const uint64_t passed_ms = (server::now_ns() - begin_ns) / kMs;
  const uint64_t used_ms = tenant(server, "alice").used_ns / kMs;
  EXPECT_GE(used_ms, 200U);
  EXPECT_LE(then.retry_after_ms, 100 * (used_ms + 1)) << "a hundred times what it used";
  EXPECT_GE(then.retry_after_ms + passed_ms + 1002, std::min<uint64_t>(100 * used_ms, 60'000));
  EXPECT_EQ(server.report(kPatience).value().refusals.device_time, 1U);
  EXPECT_EQ(Persistent(bob).refusals, 0U);
}

TEST(Rates, WhoGoesBeforeItsJobEndsIsChargedAllTheSame) {
  TestServer server(options({.device_ns = 10 * kMs}));
  if (server.device.works_on_its_own()) GTEST_SKIP() << "it does not say what ran for who is gone";
  {
    Guest gone(server, "a");
    server.device.asleep = true;
    gone.sleep(0);
    ASSERT_TRUE(eventually([&] { return server.device.running > 0; }));
  }
  ASSERT_TRUE(eventually([&] { return server.sessions() == 0; }));
  std::this_thread::sleep_for(milliseconds(200));
  server.device.asleep = false;
  ASSERT_TRUE(eventually([&] { return tenant(server, "alice").used_ns >= 200 * kMs; }));
  WireClient client(server.unix_socket);
  codec::Hello hello = WireClient::usual_hello();
  hello.token = "a";
  ASSERT_TRUE(client.hello(hello));
  Tensor tensor = make_tensor(client, 2);
  client.submit(
      [&](graph::PlanWriter& writer) {
        record_upload(writer, tensor, graph::UploadForm::kInline);
        record_fetch(writer, tensor);
      },
      to_bytes(std::vector<float>{1, 2}));
  const auto frame = client.receive_answer();
  ASSERT_TRUE(frame);
  EXPECT_EQ(frame->kind, FrameKind::kRefused) << "its tenant owes 190 ms, at 10 a second";
}

TEST(Rates, AChangeHoldsAtOnceForSessionsThatAreThere) {
  TestServer server(options({}));
  Guest alice(server, "a");
  EXPECT_EQ(Persistent(alice).refusals, 0U);
  change(server, {.requests = 0.01});
  EXPECT_EQ(Persistent(alice).refusals, 0U) << "the first one of a hundred seconds";
  const codec::Refused second = refused(alice);
  EXPECT_EQ(second.retry_after_ms, 60'000U);
  change(server, {});
  alice.begin_epoch(second);
  EXPECT_EQ(Persistent(alice).refusals, 0U);
}

}  // namespace
}  // namespace djinn::testing
