// SPDX-License-Identifier: Apache-2.0
#include <string>

#include <gtest/gtest.h>

#include "serialization/transport/connection.h"

namespace djinn::transport {
namespace {

Address parsed(const std::string& text) {
  auto address = parse_address(text);
  EXPECT_TRUE(address) << text;
  return address ? *address : Address{};
}

TEST(Address, IsParsedAndWrittenBack) {
  const Address tcp = parsed("tcp://example.org:7000");
  EXPECT_EQ(tcp.kind, Address::Kind::kTcp);
  EXPECT_EQ(tcp.host, "example.org");
  EXPECT_EQ(tcp.port, 7000);
  const Address v6 = parsed("tcp://[fe80::1]:0");
  EXPECT_EQ(v6.host, "fe80::1");
  EXPECT_EQ(v6.port, 0);
  const Address path = parsed("unix:///run/djinn.sock");
  EXPECT_EQ(path.kind, Address::Kind::kUnix);
  EXPECT_EQ(path.host, "/run/djinn.sock");
  for (const char* text : {"tcp://a:1", "tcp://[::1]:65535", "unix:///x", "tcp://10.0.0.1:80"}) {
    EXPECT_EQ(parsed(text).text(), text);
  }
}

TEST(Address, IsRefusedWithTheAcceptedForms) {
  for (const char* text : {"", "host:1", "tcp://", "tcp://host", "tcp://host:", "tcp://:1",
                           "tcp://host:65536", "tcp://host:-1", "tcp://host:1x", "tcp://::1:80",
                           "tcp://[::1]", "tcp://[]:1", "tcp://a b:1", "tcp://a/b:1", "unix://",
                           "unix://relative", "http://host:1", "tcp://host: 1"}) {
    const auto address = parse_address(text);
    ASSERT_FALSE(address) << text;
    EXPECT_EQ(address.error().code, ErrorCode::kInvalid);
    EXPECT_NE(address.error().message.find("tcp://host:port"), std::string::npos);
    EXPECT_NE(address.error().message.find("unix:///path"), std::string::npos);
  }
  EXPECT_FALSE(parse_address("unix:///" + std::string(200, 'x'))) << "too long for the kernel";
}

TEST(Address, KnowsWhatIsOnThisMachine) {
  for (const char* text : {"unix:///x", "tcp://localhost:1", "tcp://127.0.0.1:1",
                           "tcp://127.9.9.9:1", "tcp://[::1]:1", "tcp://[::ffff:127.0.0.1]:1"}) {
    EXPECT_TRUE(parsed(text).is_local()) << text;
  }
  for (const char* text : {"tcp://128.0.0.1:1", "tcp://example.org:1", "tcp://[fe80::1]:1"}) {
    EXPECT_FALSE(parsed(text).is_local()) << text;
  }
}

}  // namespace
}  // namespace djinn::transport
