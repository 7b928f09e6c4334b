// SPDX-License-Identifier: Apache-2.0
// Replay: what a plan makes on the device is what the same calls make locally, to the last bit.
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include "operators/dtypes.h"
#include "serialization/graph/result_meta.h"
#include "server/torch/cpu_device.h"
#include "tests/server/torch/harness.h"

namespace djinn::server {
namespace {

using at::Tensor;
using Ints = std::vector<int64_t>;

Tensor wrapped(const c10::Scalar& value) {
  Tensor tensor = at::scalar_tensor(value, value.isFloatingPoint() ? at::kDouble : at::kLong);
  tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
  return tensor;
}

class ReplayTest : public ::testing::Test {
 protected:
  std::unique_ptr<Device> device_ = make_cpu_device({.threads = 1});
  Mirror mirror_{*device_};
};

TEST_F(ReplayTest, MultipliesUploadedMatrices) {
  const Tensor product = mirror_.op("aten::mm", at::randn({8, 16}), at::randn({16, 4}));
  mirror_.expect_same(product);
  mirror_.run();
  EXPECT_EQ(mirror_.replay().stats().ops_executed, 1);
  EXPECT_EQ(mirror_.replay().stats().relayouts, 0);
}

TEST_F(ReplayTest, KeepsStoragesFromJobToJob) {
  const Tensor first = mirror_.op("aten::mm", at::randn({8, 16}), at::randn({16, 4}));
  mirror_.run();
  const Tensor second = mirror_.op("aten::mul.Tensor", first, first);
  mirror_.expect_same(second);
  mirror_.run();
}

TEST_F(ReplayTest, WritesThroughViewsOfOneStorage) {
  const Tensor base = at::randn({6, 8});
  mirror_.op("aten::add_.Tensor", base.select(0, 2), base.select(0, 3), 2);
  mirror_.op("aten::mul_.Tensor", base.t().narrow(0, 1, 3), wrapped(0.25));
  mirror_.op("aten::zero_", base.as_strided({3}, {9}, 1));
  mirror_.op("aten::copy_", base.narrow(1, 0, 4), base.narrow(1, 4, 4), false);
  mirror_.expect_same(base);
  mirror_.expect_same(base.t());
  mirror_.run();
  EXPECT_EQ(mirror_.replay().stats().storages, 1);
}

TEST_F(ReplayTest, WritesIntoGivenResults) {
  const Tensor values = at::empty({4});
  const Tensor indices = at::empty({4}, at::kLong);
  mirror_.see_empty(values);
  mirror_.see_empty(indices);
  const Tensor input = at::randn({4, 9});
  mirror_.op("aten::max.dim_max", input, 1, false, values, indices);
  mirror_.expect_same(values);
  mirror_.expect_same(indices);
  const Tensor range = at::empty({7});
  mirror_.see_empty(range);
  mirror_.op("aten::arange.start_out", 1.0, 8.0, 1.0, range);
  mirror_.expect_same(range);
  mirror_.run();
}

TEST_F(ReplayTest, ComputesInEveryElementType) {
  for (uint8_t code = 0; code <= graph::kDtypeMax; ++code) {
    const c10::ScalarType type = operators::to_torch(static_cast<graph::Dtype>(code));
    if (type == at::kFloat8_e5m2 || type == at::kFloat8_e4m3fn || type == at::kComplexHalf)
      continue;
    if (type == at::kUInt16 || type == at::kUInt32 || type == at::kUInt64) continue;
    const Tensor input = at::arange(1, 13, at::kInt).reshape({3, 4}).to(type);
    mirror_.expect_same(mirror_.op("aten::add.Tensor", input, input.narrow(0, 1, 1), 1));
    mirror_.expect_same(mirror_.op("aten::mul.Tensor", input, wrapped(3)));
    mirror_.expect_same(mirror_.op("aten::_to_copy", input, at::kBFloat16, c10::IValue(),
                                   c10::IValue(), c10::IValue(), false, c10::IValue()));
  }
  mirror_.run();
}

TEST_F(ReplayTest, TakesListsOptionalsAndScalarsOfEveryKind) {
  const Tensor base = at::randn({5, 4});
  c10::List<std::optional<Tensor>> rows;
  rows.push_back(std::nullopt);
  rows.push_back(at::tensor({3, 0, 1}));
  mirror_.expect_same(mirror_.op("aten::index.Tensor", base, rows));
  mirror_.expect_same(mirror_.op("aten::cat", std::vector<Tensor>{base, base.narrow(0, 0, 2)}, 0));
  mirror_.expect_same(mirror_.op("aten::sum.dim_IntList", base, Ints{1}, true, c10::IValue()));
  mirror_.expect_same(mirror_.op("aten::upsample_nearest2d", base.view({1, 1, 5, 4}), Ints{10, 8},
                                 c10::IValue(), 2.0));
  mirror_.expect_same(mirror_.op("aten::gelu", base, "tanh"));
  mirror_.expect_same(
      mirror_.op("aten::full", Ints{2, 3}, 7.5, at::kDouble, 0, c10::Device(c10::kCPU), false));
  const Tensor complex = at::randn({3}, at::kComplexFloat);
  mirror_.expect_same(mirror_.op("aten::add.Tensor", complex, complex, c10::complex<double>(1, 2)));
  c10::List<c10::Scalar> scalars;
  scalars.push_back(2);
  scalars.push_back(0.5);
  const Stack made = mirror_.call("aten::_foreach_mul.ScalarList",
                                  {std::vector<Tensor>{base, base.select(0, 1)}, scalars});
  for (const Tensor& each : made[0].toTensorVector()) mirror_.expect_same(each);
  mirror_.run();
}

TEST_F(ReplayTest, FollowsNumbersThatChangeWithoutThePlan) {
  Tensor cache = at::randn({1, 4});
  const Tensor row = at::randn({1, 4});
  mirror_.see(cache);
  mirror_.see(row);
  mirror_.run();
  graph::PlanHash hash;
  for (int i = 0; i < 5; ++i) {
    const Tensor next = mirror_.op("aten::cat", std::vector<Tensor>{cache, row}, 0);
    const Tensor view = mirror_.op("aten::repeat", next, Ints{i + 1, 2});
    mirror_.expect_same(view);
    mirror_.forget(cache);
    mirror_.forget(view);
    cache = next;
    if (i == 0) continue;
    mirror_.run();
  }
}

TEST_F(ReplayTest, ConvolvesForwardAndBackward) {
  const Tensor input = at::randn({2, 3, 9, 9});
  const Tensor weight = at::randn({4, 3, 3, 3});
  const Tensor bias = at::randn({4});
  const Tensor out = mirror_.op("aten::convolution", input, weight, bias, Ints{2, 2}, Ints{1, 1},
                                Ints{1, 1}, false, Ints{0, 0}, 1);
  mirror_.expect_same(out);
  c10::List<bool> mask({true, true, true});
  const Stack grads = mirror_.call("aten::convolution_backward",
                                   {at::ones_like(out), input, weight, Ints{4}, Ints{2, 2},
                                    Ints{1, 1}, Ints{1, 1}, false, Ints{0, 0}, 1, mask});
  for (const c10::IValue& grad : grads) mirror_.expect_same(grad.toTensor());
  mirror_.run();
}

TEST_F(ReplayTest, UpdatesTheRunningStatisticsOfABatchNorm) {
  const Tensor mean = at::zeros({3});
  const Tensor var = at::ones({3});
  const Stack made = mirror_.call(
      "aten::native_batch_norm",
      {at::randn({4, 3, 5, 5}), at::ones({3}), at::zeros({3}), mean, var, true, 0.1, 1e-5});
  for (const c10::IValue& each : made) mirror_.expect_same(each.toTensor());
  mirror_.expect_same(mean);
  mirror_.expect_same(var);
  mirror_.run();
}

TEST_F(ReplayTest, TellsWhatADeferredOperatorMade) {
  const Tensor input = at::tensor({0.0, 1.0, 0.0, 2.0}).view({2, 2});
  graph::StorageRecord& place = mirror_.new_record(0);
  const uint32_t answer = mirror_.deferred("aten::nonzero", {input}, {&place});
  const uint32_t equal = mirror_.deferred("aten::equal", {input, input}, {nullptr});
  const Answers answers = mirror_.run();
  const Tensor local = at::nonzero(input);
  const auto bytes = answers[answer]->bytes;
  const auto metas =
      graph::decode_results({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
  ASSERT_TRUE(metas.has_value());
  const auto& meta = std::get<graph::TensorMeta>((*metas)[0]);
  EXPECT_EQ(meta.sizes, local.sizes().vec());
  EXPECT_EQ(meta.strides, local.strides().vec()) << "as PyTorch laid it out";
  EXPECT_EQ(meta.storage_bytes, local.storage().nbytes());
  const auto same = answers[equal]->bytes;
  const auto value =
      graph::decode_results({reinterpret_cast<const uint8_t*>(same.data()), same.size()});
  EXPECT_TRUE(std::get<bool>((*value)[0]));

  const uint32_t fetched = mirror_.writer().fetch();
  mirror_.writer().operand(place, graph::Dtype::kInt64, meta.sizes, meta.strides, meta.offset);
  const Answers again = mirror_.run();
  const std::vector<std::byte> expected = bytes_of(local);
  EXPECT_TRUE(std::ranges::equal(again[fetched]->bytes, expected));
}

TEST_F(ReplayTest, GivesWayBehindEveryEntryAndComputesTheSame) {
  mirror_.give_way();
  Tensor x = at::randn({8, 16});
  Tensor weight = at::randn({16, 16});
  mirror_.see(x);
  mirror_.see(weight);
  mirror_.expect_same(x);
  for (int i = 0; i < 3; ++i) {
    const Tensor product = mirror_.op("aten::mm", x, weight);
    const Tensor next = mirror_.op("aten::tanh", product);
    const Tensor scale = mirror_.op("aten::mean", next, c10::IValue());
    mirror_.forget(product);
    mirror_.op("aten::mul_.Tensor", weight, scale);
    x = next;
  }
  mirror_.expect_same(x);
  mirror_.expect_same(weight);
  mirror_.run();
  EXPECT_GE(mirror_.suspensions(), 10U);
}

TEST_F(ReplayTest, CopiesAResultThatIsLaidOutOtherwiseThanPredicted) {
  const Tensor input = at::randn({4, 6});
  mirror_.see(input);
  mirror_.writer().op(mirror_.name("aten::relu"), 1);
  mirror_.writer().tensor();
  mirror_.operand(input);
  mirror_.writer().results(1);
  mirror_.writer().tensor();
  const Tensor column_major = at::relu(input).t().contiguous().t();
  mirror_.operand(column_major);
  mirror_.expect_same(column_major);
  mirror_.run();
  EXPECT_EQ(mirror_.replay().stats().relayouts, 1);
}

TEST_F(ReplayTest, DrawsWhatTheCpuGeneratorDraws) {
  const auto generator = at::detail::createCPUGenerator(42);
  mirror_.writer().seed(0, 42);
  const Tensor noise = at::empty({1000});
  mirror_.see_empty(noise);
  mirror_.op("aten::normal_", noise, 0.0, 1.0, generator);
  mirror_.expect_same(noise);
  const Tensor more = at::empty({77});
  mirror_.see_empty(more);
  mirror_.op("aten::uniform_", more, 0.0, 1.0, generator);
  mirror_.expect_same(more);
  mirror_.run();
}

// native_dropout takes no generator: it draws from the process's.
TEST_F(ReplayTest, LendsTheSessionsGeneratorToOperatorsThatTakeNone) {
  const Tensor input = at::ones({500});
  at::manual_seed(7);
  mirror_.writer().seed(0, 7);
  const Stack made = mirror_.call("aten::native_dropout", {input, 0.5, true});
  mirror_.expect_same(made[0].toTensor());
  const Tensor before = at::rand({3}, at::detail::createCPUGenerator(11));
  at::manual_seed(11);
  mirror_.run();
  EXPECT_TRUE(at::equal(at::rand({3}), before)) << "the process's generator is as it was";
}

TEST_F(ReplayTest, SessionsDrawIndependently) {
  Mirror other(*device_);
  for (Mirror* mirror : {&mirror_, &other}) {
    const auto generator = at::detail::createCPUGenerator();
    const Tensor noise = at::empty({64});
    mirror->see_empty(noise);
    mirror->op("aten::uniform_", noise, 0.0, 1.0, generator);
    mirror->expect_same(noise);
    mirror->run();
  }
}

// -- adopted uploads

TEST_F(ReplayTest, AdoptsAStagedUploadWithoutACopy) {
  const Tensor weight = at::randn({512, 512});
  mirror_.stage(weight, true);
  mirror_.expect_same(mirror_.op("aten::mm", weight, weight));
  const uint64_t before = device_->memory().used_bytes;
  mirror_.run();
  EXPECT_EQ(mirror_.replay().stats().shared_bytes, weight.nbytes());
  EXPECT_LT(device_->memory().used_bytes, before + 2 * weight.nbytes());
}

TEST_F(ReplayTest, SurvivesALostProgram) {
  const Tensor input = at::randn({3, 3});
  mirror_.see(input);
  const Recorded recorded = mirror_.finish();
  mirror_.run(recorded);
  mirror_.replay().shrink();
  EXPECT_EQ(mirror_.replay().stats().storages, 1);
}

}  // namespace
}  // namespace djinn::server
