// SPDX-License-Identifier: Apache-2.0
// Requests as curl, people and passers-by send them.
#include "server/admin/http.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>

namespace djinn::server::admin {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

int refused(std::string_view text) {
  const Parsed parsed = parse_request(text);
  EXPECT_FALSE(parsed.request) << text;
  return parsed.refusal ? parsed.refusal->status : 0;
}

TEST(Http, ReadsWhatCurlSends) {
  const Parsed parsed = parse_request(
      "GET /memory?x=1 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/7.88.1\r\nAccept: "
      "*/*\r\n\r\n");
  ASSERT_TRUE(parsed.request);
  EXPECT_EQ(parsed.request->path, "/memory");
  EXPECT_FALSE(parsed.request->head_only);
  EXPECT_TRUE(parse_request("HEAD / HTTP/1.0\n\n").request.value().head_only);
}

TEST(Http, WaitsUntilTheHeadIsWhole) {
  const std::string whole = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
  for (size_t i = 0; i < whole.size(); ++i) {
    const Parsed parsed = parse_request(whole.substr(0, i));
    EXPECT_FALSE(parsed.request || parsed.refusal) << i;
  }
  EXPECT_TRUE(parse_request(whole).request);
}

TEST(Http, RefusesWhatItDoesNotSpeak) {
  EXPECT_EQ(refused("POST /memory HTTP/1.1\r\n\r\n"), 405);
  EXPECT_EQ(refused("GET /memory HTTP/2\r\n\r\n"), 505);
  for (const char* text : {"\r\n\r\n", "GET\r\n\r\n", "GET /\r\n\r\n", "GET  HTTP/1.1\r\n\r\n",
                           "GET memory HTTP/1.1\r\n\r\n", "GET /a b HTTP/1.1\r\n\r\n",
                           "GET /\x01 HTTP/1.1\r\n\r\n", "\x16\x03\x01\n\n"}) {
    EXPECT_EQ(refused(text), 400) << text;
  }
}

TEST(Http, RefusesARequestWithoutEnd) {
  const std::string most(kRequestBytesMax - 1, 'a');
  EXPECT_FALSE(parse_request(most).refusal);
  EXPECT_EQ(refused(most + "a"), 431);
  EXPECT_EQ(refused(most + "aa\r\n\r\n"), 431);
}

TEST(Http, AnswersWithLengthAndEnd) {
  const Response response{.status = 200, .type = "application/json", .body = "{}\n"};
  const std::string bytes = to_bytes(response, false);
  EXPECT_THAT(bytes, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(bytes, HasSubstr("\r\nContent-Length: 3\r\n"));
  EXPECT_THAT(bytes, HasSubstr("\r\nConnection: close\r\n"));
  EXPECT_TRUE(bytes.ends_with("\r\n\r\n{}\n"));
  const std::string head = to_bytes(response, true);
  EXPECT_THAT(head, HasSubstr("\r\nContent-Length: 3\r\n"));
  EXPECT_TRUE(head.ends_with("\r\n\r\n"));
}

}  // namespace
}  // namespace djinn::server::admin
