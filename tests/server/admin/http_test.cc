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
  EXPECT_EQ(parsed.request->method, Method::kGet);
  EXPECT_EQ(parse_request("HEAD / HTTP/1.0\n\n").request.value().method, Method::kHead);
  EXPECT_EQ(parse_request("PUT / HTTP/1.0\n\n").request.value().method, Method::kOther);
  const Parsed post = parse_request(
      "POST /policy HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: 3 \r\nContent-Type: "
      "application/x-www-form-urlencoded\r\n\r\nwfq");
  ASSERT_TRUE(post.request);
  EXPECT_EQ(post.request->method, Method::kPost);
  EXPECT_EQ(post.request->path, "/policy");
  EXPECT_EQ(post.request->body, "wfq");
}

TEST(Http, WaitsUntilTheRequestIsWhole) {
  for (const std::string whole : {"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
                                  "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n\r\n\r\n"}) {
    for (size_t i = 0; i < whole.size(); ++i) {
      const Parsed parsed = parse_request(whole.substr(0, i));
      EXPECT_FALSE(parsed.request || parsed.refusal) << i;
    }
    EXPECT_TRUE(parse_request(whole).request);
  }
}

TEST(Http, RefusesABodyWhoseLengthIsNotClear) {
  const auto post = [](const std::string& headers) {
    return refused("POST /policy HTTP/1.1\r\n" + headers + "\r\n");
  };
  EXPECT_EQ(post(""), 411);
  EXPECT_EQ(post("Content-Length: 3\r\nContent-Length: 3\r\n"), 400);
  for (const char* length : {"", "-1", "+1", "0x1", "1,1", "1 1", "one"}) {
    EXPECT_EQ(post("Content-Length: " + std::string(length) + "\r\n"), 400) << length;
  }
  EXPECT_EQ(post("Transfer-Encoding: chunked\r\n"), 501);
  EXPECT_EQ(post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), 501);
  EXPECT_EQ(post("Content-Length : 3\r\n"), 400);
  EXPECT_EQ(post("Content-Length: 1025\r\n"), 413);
  EXPECT_EQ(post("Content-Length: 99999999999999999999999\r\n"), 413);
  EXPECT_EQ(refused("GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\n"), 400);
  for (const char* line : {"Host", ": x", "Ho st: x", " Host: x", "H\x01: x"}) {
    EXPECT_EQ(refused("GET / HTTP/1.1\r\n" + std::string(line) + "\r\n\r\n"), 400) << line;
  }
}

TEST(Http, RefusesWhatItDoesNotSpeak) {
  EXPECT_EQ(refused("GET /memory HTTP/2\r\n\r\n"), 505);
  for (const char* text :
       {"\r\n\r\n", "GET\r\n\r\n", "GET /\r\n\r\n", "GET  HTTP/1.1\r\n\r\n",
        "GET memory HTTP/1.1\r\n\r\n", "GET /a b HTTP/1.1\r\n\r\n", "GET /\x01 HTTP/1.1\r\n\r\n",
        "get / HTTP/1.1\r\n\r\n", "\x16\x03\x01\n\n"}) {
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
