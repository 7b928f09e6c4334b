// SPDX-License-Identifier: Apache-2.0
// The admin socket of a server with a fake device: who may ask, what they hear, and who harms whom.
#include "server/admin/listener.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include <gtest/gtest.h>

#include "tests/support/http_peer.h"
#include "tests/support/test_server.h"

namespace djinn::testing {
namespace {

using graph::PlanWriter;
using graph::UploadForm;
using nlohmann::json;
using server::admin::Show;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using transport::Address;

Address socket_address() {
  static int count = 0;
  return {.kind = Address::Kind::kUnix,
          .host = "/tmp/djinn-admin-" + std::to_string(getpid()) + "-" + std::to_string(count++)};
}

Result<std::unique_ptr<server::admin::Listener>> listen(
    TestServer& server, const Address& address, milliseconds patience = milliseconds(2000)) {
  return server::admin::listen(
      {.address = address, .show = Show::kAll, .patience = patience},
      {.report = [&server] { return server.report(milliseconds(10'000)); }});
}

// A server and its admin socket.
struct Admin : ::testing::Test {
  explicit Admin(milliseconds patience = milliseconds(2000))
      : address(socket_address()), listener(listen(server, address, patience)) {}
  void SetUp() override { ASSERT_TRUE(listener) << listener.error().message; }
  json page(const std::string& path) {
    return json::parse(http_body(address, path), nullptr, false);
  }

  TestServer server;
  Address address;
  Result<std::unique_ptr<server::admin::Listener>> listener;
};

struct Holder {
  explicit Holder(TestServer& server, int64_t floats) : client(server.tcp), size(floats) {
    EXPECT_TRUE(client.hello());
    tensor = make_tensor(client, size);
    EXPECT_EQ(client
                  .fetch(
                      [&](PlanWriter& writer) {
                        record_upload(writer, tensor, UploadForm::kInline);
                        record_fetch(writer, tensor);
                      },
                      to_bytes(std::vector<float>(static_cast<size_t>(size), 1)))
                  .size(),
              static_cast<size_t>(size));
  }
  WireClient client;
  int64_t size;
  Tensor tensor;
};

TEST_F(Admin, ShowsSessionsTenantsAndMemory) {
  auto first = std::make_unique<Holder>(server, 100);
  const Holder second(server, 50);
  const json sessions = page("/sessions").at("sessions");
  ASSERT_EQ(sessions.size(), 2U);
  EXPECT_EQ(sessions[0].at("tenant"), "anonymous");
  EXPECT_EQ(sessions[0].at("state"), "open");
  EXPECT_EQ(sessions[0].at("jobs"), 1);
  EXPECT_EQ(sessions[0].at("storages"), 1);
  EXPECT_EQ(sessions[0].at("storage_bytes"), 400);
  EXPECT_EQ(sessions[1].at("storage_bytes"), 200);
  EXPECT_THAT(sessions[0].at("peer").get<std::string>(), StartsWith("tcp://127.0.0.1:"));
  json tenants = page("/tenants").at("tenants");
  ASSERT_EQ(tenants.size(), 1U);
  EXPECT_EQ(tenants[0].at("sessions"), 2);
  EXPECT_EQ(tenants[0].at("storage_bytes"), 600);
  EXPECT_EQ(tenants[0].at("device").at("used_bytes"), 600);
  EXPECT_GE(tenants[0].at("device").at("peak_bytes"), 600);
  EXPECT_EQ(page("/memory").at("device").at("used_bytes"), 600);
  EXPECT_FALSE(page("/memory").at("tiered"));

  first.reset();  // What is gone is no longer there, and its peak stays.
  ASSERT_TRUE(eventually([&] { return server.sessions() == 1 && server.device.replays == 1; }));
  tenants = page("/tenants").at("tenants");
  EXPECT_EQ(tenants[0].at("sessions"), 1);
  EXPECT_EQ(tenants[0].at("storage_bytes"), 200);
  EXPECT_EQ(tenants[0].at("device").at("used_bytes"), 200);
  EXPECT_GE(tenants[0].at("device").at("peak_bytes"), 600);
  EXPECT_EQ(page("/memory").at("device").at("used_bytes"), 200);
  EXPECT_GE(page("/memory").at("device").at("peak_bytes"), 600);
}

TEST_F(Admin, AnswersWhileSessionsComeWorkAndGo) {
  std::atomic<bool> over = false;
  std::thread work([&] {
    while (!over) const Holder holder(server, 16);
  });
  for (int i = 0; i < 50; ++i) {
    for (const char* path : {"/memory", "/tenants", "/sessions", "/metrics", "/health"}) {
      EXPECT_THAT(http_get(address, path), StartsWith("HTTP/1.1 200 OK\r\n"));
    }
  }
  over = true;
  work.join();
}

TEST_F(Admin, AnswersHeadsStrangePagesAndWrongMethods) {
  HttpPeer head(address);
  ASSERT_TRUE(head.send("HEAD /memory HTTP/1.1\r\n\r\n"));
  EXPECT_TRUE(head.receive().ends_with("\r\n\r\n"));
  EXPECT_THAT(http_get(address, "/etc/passwd"), StartsWith("HTTP/1.1 404 Not Found\r\n"));
  HttpPeer post(address);
  ASSERT_TRUE(post.send("POST /memory HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"));
  EXPECT_THAT(post.receive(), StartsWith("HTTP/1.1 405 "));
}

TEST_F(Admin, RefusesARequestThatIsTooLong) {
  HttpPeer peer(address);
  ASSERT_TRUE(peer.send("GET /memory HTTP/1.1\r\nX: " + std::string(20'000, 'x') + "\r\n\r\n"));
  EXPECT_THAT(peer.receive(), StartsWith("HTTP/1.1 431 "));
}

TEST_F(Admin, TheSocketIsForItsUserAndGoesWithTheServer) {
  struct stat info {};
  ASSERT_EQ(lstat(address.host.c_str(), &info), 0);
  EXPECT_TRUE(S_ISSOCK(info.st_mode));
  EXPECT_EQ(info.st_mode & 07777, 0600U);
  listener->reset();
  EXPECT_NE(lstat(address.host.c_str(), &info), 0);
}

TEST(AdminUsers, AreTheServersOwnAndRoot) {
  EXPECT_TRUE(server::admin::may_look(1000, 1000));
  EXPECT_TRUE(server::admin::may_look(0, 1000));
  EXPECT_FALSE(server::admin::may_look(1001, 1000));
  EXPECT_FALSE(server::admin::may_look(1000, 0));
}

TEST_F(Admin, AnotherUserHearsNothingEvenIfTheFileLetsIt) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can be somebody else";
  ASSERT_EQ(chmod(address.host.c_str(), 0666), 0);
  std::string answer;
  std::thread([&] {
    constexpr uid_t kNobody = 65534;  // The system call is for this thread, libc's is for all.
    if (syscall(SYS_setresuid, -1, kNobody, -1) != 0) return;
    answer = http_get(address, "/tenants");
  }).join();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 403 "));
  EXPECT_THAT(answer, ::testing::Not(HasSubstr("tenants")));
}

TEST_F(Admin, ALiveSocketIsRefusedInOneSentence) {
  auto second = listen(server, address);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(second.error().message, HasSubstr("answers there already"));
  EXPECT_THAT(http_get(address, "/health"), HasSubstr("200 OK"));
}

TEST(AdminSocket, OfADeadServerIsReplaced) {
  TestServer server;
  const Address address = socket_address();
  { auto dead = transport::listen_socket(address); }  // Its file stays.
  ASSERT_TRUE(std::filesystem::exists(address.host));
  {
    auto listener = listen(server, address);
    ASSERT_TRUE(listener) << listener.error().message;
    EXPECT_THAT(http_get(address, "/health"), HasSubstr("200 OK"));
  }
  EXPECT_FALSE(std::filesystem::exists(address.host));
}

TEST(AdminSocket, DoesNotReplaceWhatIsNoSocketNorRemoveWhatIsNotItsOwn) {
  TestServer server;
  const Address address = socket_address();
  std::ofstream(address.host) << "precious";
  EXPECT_FALSE(listen(server, address));
  EXPECT_TRUE(std::filesystem::exists(address.host));
  std::filesystem::remove(address.host);
  {
    auto listener = listen(server, address);
    ASSERT_TRUE(listener);
    std::filesystem::remove(address.host);
    std::ofstream(address.host) << "precious";
  }
  EXPECT_TRUE(std::filesystem::exists(address.host));
  std::filesystem::remove(address.host);
}

struct Impatient : Admin {
  Impatient() : Admin(milliseconds(200)) {}
};

TEST_F(Impatient, WhoHangsIsSentAwayAndHarmsNobody) {
  std::vector<std::unique_ptr<HttpPeer>> stuck;
  for (int i = 0; i < 10; ++i) {
    stuck.push_back(std::make_unique<HttpPeer>(address));
    ASSERT_TRUE(stuck.back()->send("GET /mem"));
  }
  EXPECT_THAT(http_get(address, "/health"), HasSubstr("200 OK"));
  for (const auto& peer : stuck) EXPECT_THAT(peer->receive(), StartsWith("HTTP/1.1 408 "));
}

TEST_F(Impatient, MoreThanThereArePlacesForWaitTheirTurn) {
  std::vector<std::unique_ptr<HttpPeer>> stuck;
  for (size_t i = 0; i < server::admin::Listener::kPeersMax + 5; ++i) {
    stuck.push_back(std::make_unique<HttpPeer>(address));
  }
  EXPECT_THAT(http_get(address, "/health"), HasSubstr("200 OK"));
}

TEST_F(Impatient, EndsAtOnceThoughPeersHang) {
  const HttpPeer silent(address);
  const auto begin = steady_clock::now();
  listener->reset();
  EXPECT_LT(steady_clock::now() - begin, milliseconds(1000));
}

TEST(AdminOverTcp, ShowsMetricsAndNothingElse) {
  TestServer server;
  const auto listener =
      server::admin::listen({.address = {.host = "127.0.0.1"}, .show = Show::kMetrics},
                            {.report = [&server] { return server.report(milliseconds(10'000)); }});
  ASSERT_TRUE(listener) << listener.error().message;
  const Address& address = (*listener)->address();
  EXPECT_NE(address.port, 0);
  EXPECT_THAT(http_body(address, "/metrics"), HasSubstr("# TYPE djinn_sessions gauge\n"));
  EXPECT_THAT(http_get(address, "/health"), HasSubstr("200 OK"));
  for (const char* path : {"/sessions", "/tenants", "/memory"}) {
    EXPECT_THAT(http_get(address, path), StartsWith("HTTP/1.1 404 "));
  }
}

TEST(AdminReport, AServerThatDoesNotAnswerIsAnErrorInTime) {
  TestServer server;
  std::promise<void> go_on;
  std::promise<void> there;
  std::thread block([&] {
    server.ask([&](server::Server&) {
      there.set_value();
      go_on.get_future().wait();
      return 0;
    });
  });
  there.get_future().wait();
  const auto report = server.report(milliseconds(50));
  EXPECT_FALSE(report);
  if (!report) {
    EXPECT_EQ(report.error().code, ErrorCode::kDeadline);
  }
  go_on.set_value();
  block.join();
  EXPECT_TRUE(server.report(milliseconds(10'000)));
}

}  // namespace
}  // namespace djinn::testing
