// SPDX-License-Identifier: Apache-2.0
// What an operator allows a tenant, as its sessions meet it.
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "server/memory/account.h"
#include "tests/support/guest.h"

namespace djinn::testing {
namespace {

using graph::PlanWriter;
using graph::UploadForm;
using server::Access;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using transport::FrameKind;

constexpr const char* kTokens = "a=alice\nb=bob\n";

TestServer::Options options(server::TenantTable tenants) {
  TestServer::Options out;
  out.server.access = Access::parse(kTokens).value();
  out.server.tenants = std::move(tenants);
  out.server.policy = "semantic";
  out.server.chunk_ns = 0;
  return out;
}

std::string refusal(TestServer& server, std::string_view token) {
  WireClient client(server.unix_socket);
  codec::Hello hello = WireClient::usual_hello();
  hello.token = token;
  client.send(FrameKind::kHello, hello);
  const auto ending = client.read_ending();
  EXPECT_EQ(ending.code, ErrorCode::kExhausted);
  return ending.message;
}

TEST(TenantTerms, ATenantHasNoMoreSessionsThanItMay) {
  TestServer server(options({{"alice", {.sessions_max = 2}}}));
  auto first = std::make_unique<Guest>(server, "a");
  Guest second(server, "a");
  ASSERT_TRUE(first->greeted && second.greeted);
  EXPECT_THAT(refusal(server, "a"), AllOf(HasSubstr("tenant alice has 2"), HasSubstr("may have 2"),
                                          HasSubstr("[tenants.alice]")));
  const Guest other(server, "b");
  EXPECT_TRUE(other.greeted) << "one tenant's limit is nobody else's";
  first.reset();
  EXPECT_TRUE(eventually([&] { return Guest(server, "a").greeted; })) << "one has ended";
  EXPECT_THAT(second.ask(), ElementsAre(1, 2));
}

// Both ask while the device is busy, the first one for more than the other; who is served first?
std::string first_served(TestServer& server, Guest& alice, Guest& bob) {
  Guest busy(server, "");
  server.device.asleep = true;
  busy.sleep(20);
  EXPECT_TRUE(eventually([&] { return server.device.running > 0; }));
  alice.sleep(20);
  bob.sleep(20);
  EXPECT_EQ(alice.client.receive(std::chrono::milliseconds(50)), std::nullopt);
  server.device.asleep = false;
  const bool alice_first = !bob.client.receive(std::chrono::milliseconds(0)) &&
                           alice.client.receive_answer().has_value() &&
                           !bob.client.receive(std::chrono::milliseconds(0)).has_value();
  if (alice_first) {
    EXPECT_TRUE(bob.client.receive_answer());
    return "alice";
  }
  return "bob";
}

TEST(TenantTerms, AHintIsWorthNoMoreThanTheTenantsClass) {
  TestServer server(options({{"alice", {.terms = {.ceiling = sched::Class::kBestEffort}}}}));
  if (server.device.works_on_its_own()) GTEST_SKIP() << "its queue is the device's";
  Guest alice(server, "a");
  alice.client.send(FrameKind::kHint, codec::Hint{.urgency = Urgency::kLatencyCritical});
  Guest bob(server, "b");
  EXPECT_EQ(first_served(server, alice, bob), "bob") << "though hers came first";
  server.ask([&](server::Server& asked) {
    asked.change(server::TenantTable{}, Access::parse(kTokens).value());
    return 0;
  });
  server.ask([](server::Server& /*asked*/) { return 0; });
  Guest late(server, "a");
  late.client.send(FrameKind::kHint, codec::Hint{.urgency = Urgency::kLatencyCritical});
  Guest later(server, "b");
  EXPECT_EQ(first_served(server, late, later), "alice") << "her table has gone from the file";
}

TEST(TenantTerms, WhatIsOverATenantsMemoryIsItsOwnErrorAndNobodyElses) {
  TestServer server(options({{"alice", {.device_memory_bytes = 1 << 20}}}));
  Guest alice(server, "a");
  Guest bob(server, "b");
  const auto large = [](Guest& of) {
    constexpr size_t kFloats = 1 << 19;  // 2 MiB
    Tensor tensor = make_tensor(of.client, kFloats);
    of.client.send(FrameKind::kUpload,
                   codec::Upload{.upload = of.client.next_upload, .artifact = {}},
                   to_bytes(std::vector<float>(kFloats, 3)));
    of.client.submit([&](PlanWriter& writer) {
      record_upload(writer, tensor, UploadForm::kStream);
      record_fetch(writer, tensor);
    });
    return of.client.receive_answer();
  };
  const auto refused = large(alice);
  ASSERT_TRUE(refused && refused->kind == FrameKind::kFailed);
  const auto failed = refused->as<codec::Failed>();
  EXPECT_EQ(static_cast<ErrorCode>(failed.code), ErrorCode::kOutOfMemory);
  EXPECT_THAT(std::string(failed.message), HasSubstr("tenant alice"));
  EXPECT_THAT(alice.ask(), ElementsAre(1, 2)) << "her other tensors live";
  const auto served = large(bob);
  ASSERT_TRUE(served);
  EXPECT_EQ(served->kind, FrameKind::kFetched);
  server.ask([&](server::Server& asked) {
    asked.change(server::TenantTable{{"alice", {.device_memory_bytes = 8 << 20}}},
                 Access::parse(kTokens).value());
    return 0;
  });
  server.ask([](server::Server& /*asked*/) { return 0; });
  const auto again = large(alice);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->kind, FrameKind::kFetched) << "the limit was raised meanwhile";
}

TEST(TenantTerms, AreShownToTheOperator) {
  TestServer server(options({{"alice",
                              {.terms = {.weight = 3, .ceiling = sched::Class::kInteractive},
                               .host_memory_bytes = 4096,
                               .sessions_max = 5}},
                             {"unseen", {.terms = {.weight = 2}}}}));
  Guest alice(server, "a");
  alice.sleep(20);
  ASSERT_TRUE(alice.client.receive_answer());
  const auto report = server.report(std::chrono::milliseconds(5000));
  ASSERT_TRUE(report);
  const auto of = [&](const std::string& name) {
    const auto at = std::ranges::find(report->tenants, name, &server::TenantReport::tenant);
    return at == report->tenants.end() ? server::TenantReport{} : *at;
  };
  EXPECT_EQ(of("alice").terms.weight, 3);
  EXPECT_EQ(of("alice").terms.ceiling, sched::Class::kInteractive);
  EXPECT_EQ(of("alice").sessions_max, 5U);
  EXPECT_EQ(of("alice").host.limit, 4096U);
  EXPECT_GE(of("alice").used_ns, 20'000'000U) << "its job slept so long";
  EXPECT_EQ(of("unseen").terms.weight, 2);
}

}  // namespace
}  // namespace djinn::testing
