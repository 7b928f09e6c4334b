// SPDX-License-Identifier: Apache-2.0
// Replay: what a plan makes on the device is what the same calls make locally.
#include <gtest/gtest.h>

#include "server/torch/cpu_device.h"
#include "tests/server/torch/harness.h"

namespace djinn::server {
namespace {

class ReplayTest : public ::testing::Test {
 protected:
  std::unique_ptr<Device> device_ = make_cpu_device({.threads = 1});
  Mirror mirror_{*device_};
};

TEST_F(ReplayTest, MultipliesUploadedMatrices) {
  const at::Tensor product = mirror_.op("aten::mm", at::randn({8, 16}), at::randn({16, 4}));
  mirror_.expect_same(product);
  mirror_.run();
  EXPECT_EQ(mirror_.replay().stats().ops_executed, 1);
  EXPECT_EQ(mirror_.replay().stats().relayouts, 0);
}

TEST_F(ReplayTest, KeepsStoragesFromJobToJob) {
  const at::Tensor first = mirror_.op("aten::mm", at::randn({8, 16}), at::randn({16, 4}));
  mirror_.run();
  const at::Tensor second = mirror_.op("aten::mul.Tensor", first, first);
  mirror_.expect_same(second);
  mirror_.run();
}

}  // namespace
}  // namespace djinn::server
