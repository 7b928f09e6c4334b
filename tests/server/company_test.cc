// SPDX-License-Identifier: Apache-2.0
// Sessions in company: who is slow, silent, gone or mad delays and harms nobody else.
#include <gmock/gmock.h>

#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "serialization/base/limits.h"
#include "tests/support/guest.h"
#include "tests/support/seed.h"

namespace djinn::testing {
namespace {

using graph::PlanWriter;
using graph::UploadForm;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using transport::FrameKind;

// Comes over TCP, and asks whether it is still served.
struct Friend : Guest {
  explicit Friend(TestServer& server) : Guest(server.tcp) {}
  milliseconds time_to_ask() {
    const auto begin = steady_clock::now();
    EXPECT_EQ(ask(), kTensor);
    return std::chrono::duration_cast<milliseconds>(steady_clock::now() - begin);
  }
};

TEST(Company, NobodyWaitsForHalfAFrame) {
  TestServer server;
  Friend someone(server);
  WireClient half(server.tcp);
  ASSERT_TRUE(half.hello());
  const auto message = codec::encode(codec::Upload{.upload = 1, .artifact = {}});
  const auto header = transport::encode({.kind = FrameKind::kUpload,
                                         .message_bytes = message.bytes().size(),
                                         .payload_bytes = 1 << 20});
  half.send_raw(header);
  half.send_raw(message.bytes());
  half.send_raw(std::vector<std::byte>(100));
  WireClient silent(server.tcp);
  silent.send_raw(std::span(header).first(7));
  for (int i = 0; i < 20; ++i) EXPECT_LT(someone.time_to_ask(), milliseconds(500));
}

TEST(Company, NobodyWaitsForWhoReadsSlowly) {
  TestServer server;
  Friend someone(server);
  WireClient slow(server.tcp);
  ASSERT_TRUE(slow.hello());
  constexpr size_t kFloats = 4 << 20;  // 16 MiB
  Tensor large = make_tensor(slow, kFloats);
  slow.send(FrameKind::kUpload, codec::Upload{.upload = 1, .artifact = {}},
            to_bytes(std::vector<float>(kFloats, 3)));
  slow.submit([&](PlanWriter& writer) { record_upload(writer, large, UploadForm::kStream); });
  constexpr int kFetches = 20;  // 320 MiB of answers, and nobody reads.
  for (int i = 0; i < kFetches; ++i) {
    slow.submit([&](PlanWriter& writer) { record_fetch(writer, large); });
  }
  for (int i = 0; i < 50; ++i) {
    EXPECT_LT(someone.time_to_ask(), milliseconds(500));
    std::this_thread::sleep_for(milliseconds(5));
  }
  EXPECT_LE(server.device.answer_bytes, kUnsentBytesMax + 2 * kFloats * sizeof(float));
  // And when it reads at last, it gets everything.
  for (int i = 0; i < kFetches; ++i) {
    const auto answer = slow.receive_answer();
    ASSERT_TRUE(answer && answer->kind == FrameKind::kFetched) << i;
    ASSERT_EQ(answer->payload.size(), kFloats * sizeof(float));
  }
}

TEST(Company, WhoSendsMoreInlineThanIsConsumedIsNotReadAnyMore) {
  TestServer server;
  Friend someone(server);
  WireClient eager(server.unix_socket);
  ASSERT_TRUE(eager.hello());
  server.device.asleep = true;
  eager.submit([&](PlanWriter& writer) { record_sleep(eager, writer, 0); });
  // Jobs of 8 MiB, so that their bytes reach the bound before their number does.
  constexpr int kUploads = 128;
  constexpr int kJobs = 48;
  constexpr auto kJobsMax =
      static_cast<int>(kInlineBytesQueuedMax / kUploads / kInlineUploadBytesMax);
  static_assert(kJobsMax + 10 < kJobs && kJobs < static_cast<int>(kJobsInFlightMax));
  const std::vector<std::byte> payload(kUploads * kInlineUploadBytesMax);
  Tensor tensor = make_tensor(eager, kInlineUploadBytesMax / sizeof(float));
  std::atomic<int> sent = 0;
  std::thread sender([&] {
    for (; sent < kJobs; ++sent) {
      eager.submit(
          [&](PlanWriter& writer) {
            for (int i = 0; i < kUploads; ++i) record_upload(writer, tensor, UploadForm::kInline);
          },
          payload);
    }
  });
  EXPECT_TRUE(eventually([&] { return sent >= kJobsMax; }, milliseconds(30'000)));
  std::this_thread::sleep_for(milliseconds(200));
  EXPECT_LT(sent, kJobsMax + 10) << "what is in the kernel's buffers, and one job that arrives";
  server.device.asleep = false;
  sender.join();
  EXPECT_EQ(eager.stats().jobs_executed, kJobs + 1U);
  EXPECT_EQ(someone.ask(), Guest::kTensor);
}

TEST(Company, WhoVanishesInTheMiddleOfAJobLeavesNothing) {
  TestServer server;
  Friend someone(server);
  EXPECT_EQ(someone.ask(), Guest::kTensor);
  const uint64_t before = server.device.used_bytes;
  auto gone = std::make_unique<WireClient>(server.tcp);
  ASSERT_TRUE(gone->hello());
  Tensor tensor = make_tensor(*gone, 1 << 20);
  gone->send(FrameKind::kUpload, codec::Upload{.upload = 1, .artifact = {}},
             to_bytes(std::vector<float>(1 << 20, 1)));
  gone->send(FrameKind::kUpload, codec::Upload{.upload = 2, .artifact = {}},
             to_bytes(std::vector<float>(1 << 18, 1)));
  gone->next_upload = 1;
  gone->submit([&](PlanWriter& writer) {
    record_upload(writer, tensor, UploadForm::kStream);
    record_sleep(*gone, writer, 200);
  });
  for (int i = 0; i < 30; ++i) {
    gone->submit([&](PlanWriter& writer) { record_sleep(*gone, writer, 1000); });
  }
  ASSERT_TRUE(eventually([&] { return server.device.running > 0; }));
  gone.reset();
  EXPECT_TRUE(eventually([&] { return server.device.used_bytes == before; }, milliseconds(1000)));
  EXPECT_EQ(server.device.replays, 1);
  EXPECT_EQ(someone.ask(), Guest::kTensor);
}

TEST(Company, ALongJobOfOneDoesNotStarveTheOthersForEver) {
  TestServer server;
  Friend busy(server);
  Friend other(server);
  for (int i = 0; i < 40; ++i) {
    busy.client.submit([&](PlanWriter& writer) { record_sleep(busy.client, writer, 20); });
  }
  EXPECT_LT(other.time_to_ask(), milliseconds(300)) << "one turn, not forty";
}

TEST(Company, ThirtyTwoSessionsAtOnceEachGetTheirOwn) {
  TestServer server;
  std::vector<std::thread> threads;
  threads.reserve(32);
  std::atomic<int> good = 0;
  for (int t = 0; t < 32; ++t) {
    threads.emplace_back([&, t] {
      WireClient client(t % 2 == 0 ? server.tcp : server.unix_socket);
      if (!client.hello()) return;
      const auto seed = static_cast<float>(t);
      const int64_t size = 3 + 100 * (t % 5);
      Tensor a = make_tensor(client, size);
      const std::vector<float> values(static_cast<size_t>(size), seed);
      client.submit([&](PlanWriter& writer) { record_upload(writer, a, UploadForm::kInline); },
                    to_bytes(values));
      Tensor sum = make_tensor(client, size);
      client.submit([&](PlanWriter& writer) { record_add(client, writer, a, a, sum); });
      for (int i = 0; i < 30; ++i) {
        Tensor next = make_tensor(client, size);
        const auto got = client.fetch([&](PlanWriter& writer) {
          if (t % 3 == 0) record_sleep(client, writer, 1);
          record_add(client, writer, sum, a, next);
          record_fetch(writer, next);
          writer.forget(*sum.storage);
        });
        if (got !=
            std::vector<float>(static_cast<size_t>(size), seed * static_cast<float>(i + 3))) {
          return;
        }
        sum = std::move(next);
      }
      if (client.stats().storages == 2) ++good;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(good, 32);
}

TEST(Company, APlanOfManySessionsIsAdmittedAndKeptOnce) {
  TestServer server;
  std::vector<std::unique_ptr<Friend>> friends;
  for (int i = 0; i < 10; ++i) {
    friends.push_back(std::make_unique<Friend>(server));
    EXPECT_EQ(friends.back()->ask(), Guest::kTensor);
  }
  EXPECT_EQ(server.device.plans_admitted, 2U);
}

TEST(Company, AnIdleSessionCostsLittle) {
  TestServer server;
  std::vector<std::unique_ptr<Friend>> friends;
  for (int i = 0; i < 20; ++i) {
    friends.push_back(std::make_unique<Friend>(server));
    // A plan of 1,000 operators, as a decoder's step has.
    WireClient& client = friends.back()->client;
    Tensor& tensor = friends.back()->tensor;
    for (int k = 0; k < 3; ++k) {
      client.submit([&](PlanWriter& writer) {
        for (int op = 0; op < 1000; ++op) {
          Tensor sum = make_tensor(client, 2);
          record_add(client, writer, tensor, tensor, sum);
          writer.forget(*sum.storage);
        }
      });
    }
  }
  ASSERT_TRUE(eventually([&] { return server.device.shrinks >= 20; }));
  const size_t bytes =
      server.ask([](djinn::server::Server& asked) { return asked.session_bytes(); }) / 20;
  RecordProperty("idle_session_bytes", static_cast<int>(bytes));
  std::printf("an idle session: %zu bytes\n", bytes);
  EXPECT_LE(bytes, 40U << 10);
  for (auto& each : friends) EXPECT_EQ(each->ask(), Guest::kTensor);
}

TEST(Company, DrainsWhenItIsToldToStop) {
  TestServer server;
  Friend someone(server);
  WireClient idle(server.unix_socket);
  ASSERT_TRUE(idle.hello());
  someone.client.submit([&](PlanWriter& writer) {
    record_sleep(someone.client, writer, 300);
    record_fetch(writer, someone.tensor);
  });
  ASSERT_TRUE(eventually([&] { return server.device.running > 0; }));
  server.begin_stop();
  EXPECT_EQ(idle.read_ending().code, ErrorCode::kUnavailable);
  idle.close();
  const auto answer = someone.client.receive_answer();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->kind, FrameKind::kFetched) << "what was queued is finished";
  const auto ending = someone.client.read_ending();
  EXPECT_EQ(ending.code, ErrorCode::kUnavailable);
  EXPECT_THAT(ending.message, ::testing::HasSubstr("shutting down"));
  someone.client.close();
  server.join();
}

TEST(Company, SurvivesRandomFrames) {
  const uint64_t seed = test_seed();
  SCOPED_TRACE("DJINN_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  TestServer server;
  Friend someone(server);
  constexpr int kFrames = 100'000;
  std::unique_ptr<WireClient> client;
  Tensor tensor;
  for (int i = 0; i < kFrames; ++i) {
    if (client == nullptr) {
      client = std::make_unique<WireClient>(server.unix_socket);
      if (random() % 16 != 0) client->hello();
      tensor = make_tensor(*client, 4);
      client->submit(
          [&](PlanWriter& writer) { record_upload(writer, tensor, UploadForm::kInline); },
          to_bytes(std::vector<float>(4)));
    }
    const auto kind = static_cast<FrameKind>(1 + random() % transport::kFrameKindMax);
    std::vector<uint64_t> message(random() % 12);
    for (uint64_t& word : message) word = random() % 4 == 0 ? random() : random() % 8;
    std::vector<std::byte> payload(random() % 3 == 0 ? random() % 64 : 0);
    if (random() % 4 == 0) {
      // A real job whose bytes are flipped.
      client->bend_job = [&](codec::Job& job) {
        if (!job.plan.empty()) const_cast<uint8_t&>(job.plan[random() % job.plan.size()]) ^= 1;
      };
      client->forget_plans();
      client->submit([&](PlanWriter& writer) {
        record_fetch(writer, tensor);
        record_sleep(*client, writer, 0);
      });
      client->bend_job = nullptr;
    }
    client->send_frame(kind, std::as_bytes(std::span(message)), payload);
    if (random() % 4 == 0) client.reset();
    if (i % 5000 == 0) {
      EXPECT_EQ(someone.ask(), Guest::kTensor);
    }
  }
  client.reset();
  EXPECT_EQ(someone.ask(), Guest::kTensor);
  EXPECT_TRUE(eventually([&] { return server.device.replays == 1; }));
}

}  // namespace
}  // namespace djinn::testing
