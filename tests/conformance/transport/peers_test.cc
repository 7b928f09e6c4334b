// SPDX-License-Identifier: Apache-2.0
// What a server on sockets promises when its peer is broken, slow or malicious.
#include <signal.h>
#include <sys/resource.h>

#include <array>
#include <fstream>
#include <thread>

#include "serialization/base/limits.h"
#include "tests/conformance/transport/pair.h"
#include "tests/conformance/transport/raw_socket.h"

namespace djinn::transport {
namespace {

using namespace std::chrono_literals;
using Peers = testing::TestWithParam<Kind>;
INSTANTIATE_TEST_SUITE_P(Transports, Peers, testing::ValuesIn(socket_kinds()), kind_name);

constexpr std::span<const std::byte> kNothing{};

// A raw peer and the connection that the server has for it, beside a well-behaved pair.
struct Guest {
  explicit Guest(Pair& pair) : socket(pair.listener->address()), connection(pair.accept()) {
    pair.server_loop->start(*connection, sink);
  }
  RawSocket socket;
  Recorder sink;
  std::unique_ptr<Connection> connection;
};

FrameHeaderBytes header_of(FrameKind kind, uint64_t message, uint64_t payload) {
  return encode({.kind = kind, .message_bytes = message, .payload_bytes = payload});
}

void expect_refused(const Kind& kind, std::span<const std::byte> bytes) {
  Pair pair(kind);
  Guest guest(pair);
  guest.socket.write(bytes);
  ASSERT_TRUE(pair.run_until([&] { return guest.sink.closed > 0; }));
  EXPECT_EQ(guest.sink.reason.code, ErrorCode::kInvalid);
  EXPECT_TRUE(guest.sink.frames.empty());
  std::array<std::byte, 8> buffer;
  EXPECT_TRUE(pair.run_until([&] { return guest.socket.read(buffer) == 0; })) << "hung up";
}

TEST_P(Peers, ThatSpeakSomethingElseAreClosed) {
  const std::string http = "GET / HTTP/1.1\r\nHost: djinn\r\n\r\n";
  expect_refused(GetParam(), std::as_bytes(std::span(http)));
}

TEST_P(Peers, ThatAnnounceTooMuchAreClosed) {
  FrameHeaderBytes words = header_of(FrameKind::kJob, 0, 0);
  const uint32_t too_many = kMessageBytesMax / 8 + 1;
  std::memcpy(words.data() + 4, &too_many, sizeof too_many);
  expect_refused(GetParam(), words);
  FrameHeaderBytes payload = header_of(FrameKind::kUpload, 0, kPayloadBytesMax + 1);
  expect_refused(GetParam(), payload);
}

TEST_P(Peers, ThatBreakOffInTheMiddleOfAFrameAreGone) {
  const auto header = header_of(FrameKind::kUpload, 64, 100'000);
  const std::array<std::byte, 64> message{};
  for (const size_t length :
       {size_t{1}, size_t{15}, size_t{16}, size_t{40}, size_t{80}, size_t{200}}) {
    Pair pair(GetParam());
    Guest guest(pair);
    std::vector<std::byte> bytes(header.begin(), header.end());
    bytes.insert(bytes.end(), message.begin(), message.end());
    bytes.resize(length);
    guest.socket.write(bytes);
    guest.socket.close();
    ASSERT_TRUE(pair.run_until([&] { return guest.sink.closed > 0; }));
    EXPECT_EQ(guest.sink.reason.code, ErrorCode::kUnavailable);
    EXPECT_NE(guest.sink.reason.message.find("in the middle of a frame"), std::string::npos);
    EXPECT_EQ(guest.sink.payloads, 0U);
  }
}

TEST_P(Peers, ThatAreSilentDelayNobody) {
  Pair pair(GetParam());
  pair.at_server.on_frame = [&] { pair.server->send(FrameKind::kAck, {}, kNothing, nullptr); };
  std::vector<std::unique_ptr<Guest>> guests;
  const auto header = header_of(FrameKind::kUpload, 1024, 1 << 20);
  for (size_t i = 0; i < 64; ++i) {
    guests.push_back(std::make_unique<Guest>(pair));
    guests.back()->socket.write(std::span(header).first(i % 17));  // And nothing more.
  }
  for (size_t i = 1; i <= 100; ++i) {
    pair.client->send(FrameKind::kStep, {}, kNothing, nullptr);
    ASSERT_TRUE(pair.run_until([&] { return pair.at_client.complete(i); }, 1s));
  }
  for (const auto& guest : guests) EXPECT_EQ(guest->sink.closed, 0);
}

TEST_P(Peers, MaySendAFrameByteByByte) {
  Pair pair(GetParam());
  Guest guest(pair);
  const auto payload = random_bytes(13, 1);
  const auto header = header_of(FrameKind::kUpload, 8, payload.size());
  std::vector<std::byte> bytes(header.begin(), header.end());
  bytes.resize(24, std::byte{9});
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  bytes.resize(40);
  for (int frame = 0; frame < 2; ++frame) {
    for (const std::byte& byte : bytes) {
      guest.socket.write({&byte, 1});
      pair.run_some();
    }
  }
  ASSERT_TRUE(pair.run_until([&] { return guest.sink.complete(2); }));
  EXPECT_EQ(guest.sink.frames[1].payload, payload);
  EXPECT_EQ(guest.sink.frames[1].message, std::vector<std::byte>(8, std::byte{9}));
}

uint64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  uint64_t total = 0;
  uint64_t resident = 0;
  file >> total >> resident;
  return resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

TEST_P(Peers, ThatAnnounceALargeMessageCostNothingUntilItArrives) {
  Pair pair(GetParam());
  const uint64_t before = resident_bytes();
  std::vector<std::unique_ptr<Guest>> guests;
  const auto header = header_of(FrameKind::kJob, kMessageBytesMax, 0);
  for (int i = 0; i < 64; ++i) {
    guests.push_back(std::make_unique<Guest>(pair));
    guests.back()->socket.write(header);
  }
  pair.run_until([] { return false; }, 50ms);
  EXPECT_LT(resident_bytes() - std::min(before, resident_bytes()), uint64_t{64} << 20);
  for (const auto& guest : guests) EXPECT_EQ(guest->sink.closed, 0);
}

TEST_P(Peers, ThatNeverReadBlockOnlyThemselves) {
  Pair pair(GetParam());
  Guest guest(pair);
  const auto payload = random_bytes(30 << 20, 1);
  bool done = false;
  guest.connection->send(FrameKind::kFetched, {}, payload, [&] { done = true; });
  pair.at_server.on_frame = [&] { pair.server->send(FrameKind::kAck, {}, kNothing, nullptr); };
  for (size_t i = 1; i <= 50; ++i) {
    pair.client->send(FrameKind::kStep, {}, kNothing, nullptr);
    ASSERT_TRUE(pair.run_until([&] { return pair.at_client.complete(i); }, 1s));
  }
  EXPECT_FALSE(done);
  EXPECT_GT(guest.connection->unsent_bytes(), 0U);
  guest.socket.close();
  ASSERT_TRUE(pair.run_until([&] { return guest.sink.closed > 0; }));
  EXPECT_TRUE(done);
}

TEST_P(Peers, LeaveAStaleSocketFileThatIsReplaced) {
  if (GetParam().address != Address::Kind::kUnix) GTEST_SKIP() << "only unix sockets leave files";
  const Address address = fresh_address(Address::Kind::kUnix);
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::strncpy(name.sun_path, address.host.c_str(), sizeof name.sun_path - 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
  ::close(fd);
  auto loop = Pair::value(GetParam().make());
  EXPECT_TRUE(loop->listen(address, [](auto) {})) << "nobody listens there any more";
  EXPECT_NE(::access(address.host.c_str(), F_OK), 0) << "removed with the listener";
  std::ofstream(address.host) << "not a socket";
  EXPECT_FALSE(loop->listen(address, [](auto) {}));
  EXPECT_EQ(::access(address.host.c_str(), F_OK), 0) << "somebody's file is not ours to remove";
  ::unlink(address.host.c_str());
}

}  // namespace
}  // namespace djinn::transport
