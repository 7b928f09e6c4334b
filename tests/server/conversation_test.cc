// SPDX-License-Identifier: Apache-2.0
// What an honest client hears: jobs, answers, acknowledgements, stats, over TCP and unix sockets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serialization/base/limits.h"
#include "tests/support/test_server.h"

namespace djinn::testing {
namespace {

using ::testing::ElementsAre;
using graph::UploadForm;
using transport::FrameKind;

struct Conversation : ::testing::TestWithParam<const char*> {
  TestServer server;
  WireClient client{std::string(GetParam()) == "tcp" ? server.tcp : server.unix_socket};
};
INSTANTIATE_TEST_SUITE_P(Transports, Conversation, ::testing::Values("tcp", "unix"),
                         [](const auto& param) { return std::string(param.param); });

TEST_P(Conversation, StatesItsLimitsInTheHello) {
  const auto reply = client.hello();
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->version, codec::kProtocolVersion);
  EXPECT_GT(reply->session, 0U);
  EXPECT_TRUE(reply->schemas_match);
  EXPECT_EQ(reply->plan_slots_max, kPlanSlotsMax);
  EXPECT_EQ(reply->plan_bytes_max, kPlanCacheBytesMax);
  EXPECT_EQ(reply->jobs_in_flight_max, kJobsInFlightMax);
  EXPECT_EQ(client.artifact_key().size(), 32U);
}

TEST_P(Conversation, AddsWhatWasUploadedAndFetchesTheSum) {
  ASSERT_TRUE(client.hello());
  Tensor a = make_tensor(client, 4);
  Tensor sum = make_tensor(client, 4);
  const std::vector<float> values{1, 2, 3, 4};
  const auto got = client.fetch(
      [&](graph::PlanWriter& writer) {
        record_upload(writer, a, UploadForm::kInline);
        record_add(client, writer, a, a, sum);
        record_fetch(writer, sum);
      },
      to_bytes(values));
  EXPECT_THAT(got, ElementsAre(2, 4, 6, 8));
}

}  // namespace
}  // namespace djinn::testing
