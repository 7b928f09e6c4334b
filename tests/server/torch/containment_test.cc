// SPDX-License-Identifier: Apache-2.0
// Containment: a failure stays with the tensors it concerns, memory is returned when it is not
// needed, and shared bytes are copied before they are written.
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "server/torch/cpu_device.h"
#include "tests/server/torch/harness.h"

namespace djinn::server {
namespace {

using at::Tensor;
using ::testing::HasSubstr;

class ContainmentTest : public ::testing::Test {
 protected:
  // Records an operator that will fail: predicted is what a good one would make.
  Tensor failing() {
    const Tensor left = at::randn({2, 3});
    const Tensor right = at::randn({4, 5});
    Tensor predicted = at::empty({2, 5});
    mirror_.see(left);
    mirror_.see(right);
    mirror_.writer().op(mirror_.name("aten::mm"), 2);
    mirror_.writer().tensor();
    mirror_.operand(left);
    mirror_.writer().tensor();
    mirror_.operand(right);
    mirror_.writer().results(1);
    mirror_.writer().tensor();
    mirror_.operand(predicted);
    return predicted;
  }

  uint64_t used() const { return device_->memory().used_bytes; }

  std::unique_ptr<Device> device_ = make_cpu_device({.threads = 1});
  Mirror mirror_{*device_};
};

// -- errors

TEST_F(ContainmentTest, AnErrorNamesOperatorShapesAndCauseAndIsInherited) {
  const Tensor bad = failing();
  const uint32_t first = mirror_.fetch(bad);
  const Tensor child = mirror_.op("aten::add.Tensor", bad, at::ones({2, 5}), 1);
  const uint32_t second = mirror_.fetch(child);
  const Tensor bystander = at::randn({3});
  mirror_.see(bystander);
  mirror_.expect_same(bystander);
  const Answers answers = mirror_.run();
  EXPECT_EQ(answers.code(first), ErrorCode::kFailed);
  EXPECT_THAT(answers.error(first), HasSubstr("aten::mm([2, 3] Float, [4, 5] Float)"));
  EXPECT_THAT(answers.error(first), HasSubstr("cannot be multiplied"));
  EXPECT_THAT(answers.error(first), Not(HasSubstr("frame #"))) << "no stack of the server's";
  EXPECT_EQ(answers.error(second), answers.error(first));
  EXPECT_EQ(mirror_.replay().stats().ops_failed, 2);

  const uint32_t later = mirror_.fetch(child);
  EXPECT_EQ(mirror_.run().error(later), answers.error(first)) << "it lives on with the storage";
}

TEST_F(ContainmentTest, AnErrorReachesWhatTheOperatorWouldHaveWritten) {
  const Tensor target = at::randn({2, 5});
  mirror_.see(target);
  const Tensor bad = failing();
  mirror_.op("aten::add_.Tensor", target, bad, 1);
  const uint32_t answer = mirror_.fetch(target);
  EXPECT_THAT(mirror_.run().error(answer), HasSubstr("aten::mm"));
}

TEST_F(ContainmentTest, APolynomialOfADegreeThatWouldTakeYearsIsRefused) {
  const Tensor x = at::full({4}, 0.5);
  const Tensor degrees = at::tensor({std::nan(""), 2.0, 1e18, 3.0}, at::kFloat);
  const Tensor predicted = at::empty({4});
  mirror_.see(x);
  mirror_.see(degrees);
  mirror_.writer().op(mirror_.name("aten::special_legendre_polynomial_p"), 2);
  for (const Tensor& each : {x, degrees}) {
    mirror_.writer().tensor();
    mirror_.operand(each);
  }
  mirror_.writer().results(1);
  mirror_.writer().tensor();
  mirror_.operand(predicted);
  const uint32_t answer = mirror_.fetch(predicted);
  EXPECT_THAT(mirror_.run().error(answer), HasSubstr("a degree is above 100000"));
}

TEST_F(ContainmentTest, ARefusedJobRunsNoOperatorAndHasItsUploads) {
  const Tensor x = at::randn({3});
  mirror_.see(x);
  const Tensor y = mirror_.op("aten::add.Tensor", x, x, 1);
  const uint32_t made = mirror_.fetch(y);
  const uint32_t uploaded = mirror_.fetch(x);
  Work work = mirror_.finish().work();
  work.refused = std::make_shared<const Error>(Error{ErrorCode::kDeadline, "late"});
  Answers answers;
  mirror_.replay().run_whole(work, answers);
  answers.wait();
  EXPECT_EQ(answers.error(made), "late");
  EXPECT_EQ(answers.error(uploaded), "");
  EXPECT_EQ(mirror_.replay().stats().ops_executed, 0);
  EXPECT_EQ(mirror_.replay().stats().ops_failed, 1);
}

TEST_F(ContainmentTest, AnUploadOverEverythingEndsAnError) {
  const Tensor bad = failing();
  mirror_.run();
  const Tensor fresh = at::randn({2, 5});
  mirror_.writer().upload(graph::UploadForm::kInline, fresh.nbytes());
  mirror_.operand(bad);
  const uint32_t answer = mirror_.fetch(bad);
  Recorded recorded = mirror_.finish();
  recorded.inline_uploads.resize(fresh.nbytes() / 8);
  std::memcpy(recorded.inline_uploads.data(), fresh.const_data_ptr(), fresh.nbytes());
  const Answers answers = mirror_.run(recorded);
  EXPECT_EQ(answers.error(answer), "");
  EXPECT_TRUE(std::ranges::equal(answers[answer]->bytes, bytes_of(fresh)));
}

TEST_F(ContainmentTest, ADeferredOperatorThatFailsAnswersWithItsError) {
  graph::StorageRecord& place = mirror_.new_record(0);
  const Tensor input = at::randn({3});
  const uint32_t answer = mirror_.deferred("aten::masked_select", {input, input}, {&place});
  const Answers answers = mirror_.run();
  EXPECT_THAT(answers.error(answer), HasSubstr("aten::masked_select"));
}

TEST_F(ContainmentTest, AStorageThatDoesNotExistIsNotFound) {
  graph::StorageRecord unknown{.id = 4711, .bytes = 16, .known = true};
  const uint32_t answer = mirror_.writer().fetch();
  mirror_.writer().operand(unknown, graph::Dtype::kFloat32, std::vector<int64_t>{4},
                           std::vector<int64_t>{1}, 0);
  EXPECT_EQ(mirror_.run().code(answer), ErrorCode::kNotFound);
}

TEST_F(ContainmentTest, AnIdIsNeverUsedTwice) {
  const Tensor first = at::randn({4});
  mirror_.see(first);
  mirror_.run();
  graph::StorageRecord again{.id = mirror_.record(first).id, .bytes = 16};
  const std::vector<int64_t> one{4};
  const std::vector<int64_t> stride{1};
  const uint32_t answer = mirror_.writer().fetch();
  mirror_.writer().operand(again, graph::Dtype::kFloat32, one, stride, 0);
  EXPECT_EQ(mirror_.run().code(answer), ErrorCode::kInvalid);
  mirror_.expect_same(first);
  mirror_.run();
}

// -- lifetimes

TEST_F(ContainmentTest, ADeadStorageIsFreedWithinTheJob) {
  constexpr int64_t kElements = 1 << 20;
  const uint64_t before = used();
  Tensor x = at::ones({kElements});
  mirror_.stage(x, false);
  for (int i = 0; i < 10; ++i) {
    const Tensor next = mirror_.op("aten::neg", x);
    mirror_.forget(x);
    x = next;
  }
  mirror_.forget(x);
  const Recorded recorded = mirror_.finish();
  const uint64_t mirrored = used();  // the eager tensors
  mirror_.run(recorded);
  EXPECT_LE(device_->memory().peak_bytes, mirrored + 3 * kElements * 4)
      << "one storage at a time and its successor";
  EXPECT_EQ(mirror_.replay().stats().storages, 0);
  EXPECT_GE(mirrored, before);
}

TEST_F(ContainmentTest, AReleasedStorageIsFreedAtTheNextJob) {
  const Tensor kept = at::randn({8});
  const Tensor dropped = at::randn({8});
  mirror_.see(kept);
  mirror_.see(dropped);
  mirror_.run();
  EXPECT_EQ(mirror_.replay().stats().storage_bytes, 64);
  mirror_.forget(dropped);
  mirror_.expect_same(kept);
  mirror_.run();
  EXPECT_EQ(mirror_.replay().stats().storages, 1);
  EXPECT_EQ(mirror_.replay().stats().storage_bytes, 32);
}

TEST_F(ContainmentTest, ASessionsEndFreesEverything) {
  const Tensor big = at::randn({1 << 16});
  const uint64_t before = used();
  {
    Mirror other(*device_);
    other.stage(big, false);
    other.run();
    EXPECT_GE(used(), before + big.nbytes());
  }
  EXPECT_EQ(used(), before);
}

// -- what nobody wrote

TEST_F(ContainmentTest, AStorageThatNobodyWroteIsZeros) {
  {
    Mirror other(*device_);  // Leaves its bytes in the allocator's bins.
    const Tensor secret = at::full({1000}, 42.0F);
    other.see(secret);
    other.run();
  }
  const Tensor untouched = at::zeros({1000});
  mirror_.see_empty(untouched);
  mirror_.expect_same(untouched);
  const Tensor partly = at::zeros({1000});
  mirror_.see_empty(partly);
  mirror_.op("aten::fill_.Scalar", partly.narrow(0, 10, 5), 1.0);
  mirror_.expect_same(partly);
  const Tensor itself = at::zeros({1000});
  mirror_.see_empty(itself);
  mirror_.op("aten::copy_", itself, itself, false);
  mirror_.expect_same(itself);
  mirror_.run();
}

TEST_F(ContainmentTest, AGrownStorageGoesOnWithZeros) {
  const Tensor x = at::randn({4});
  mirror_.see(x);
  mirror_.writer().resize(mirror_.record(x), 32);
  const uint32_t answer = mirror_.writer().fetch();
  mirror_.writer().operand(mirror_.record(x), graph::Dtype::kFloat32, std::vector<int64_t>{8},
                           std::vector<int64_t>{1}, 0);
  const Answers answers = mirror_.run();
  const Tensor expected = at::cat({x, at::zeros({4})});
  EXPECT_TRUE(std::ranges::equal(answers[answer]->bytes, bytes_of(expected)));
}

// -- copy on write

TEST_F(ContainmentTest, AWriteToSharedBytesCopiesFirst) {
  const Tensor weight = at::randn({64, 64});
  mirror_.stage(weight, true);
  const Recorded recorded = mirror_.finish();
  mirror_.run(recorded);
  EXPECT_EQ(mirror_.replay().stats().shared_bytes, weight.nbytes());
  const Tensor original = weight.clone();
  mirror_.writer().begin(1000, 1000);
  mirror_.op("aten::add_.Tensor", weight.select(0, 1), weight.select(0, 2), 1);
  mirror_.expect_same(weight);
  mirror_.expect_same(weight.t());
  mirror_.run();
  EXPECT_EQ(mirror_.replay().stats().shared_bytes, 0);
  EXPECT_TRUE(std::ranges::equal(recorded.uploads[0].buffer->bytes(), bytes_of(original)));
}

TEST_F(ContainmentTest, AHiddenWriteToSharedBytesCopiesFirst) {
  const Tensor mean = at::zeros({3});
  const Tensor var = at::ones({3});
  mirror_.stage(mean, true);
  mirror_.stage(var, true);
  const Tensor before = mean.clone();
  mirror_.call("aten::native_batch_norm",
               {at::randn({4, 3, 5, 5}), c10::IValue(), c10::IValue(), mean, var, true, 0.1, 1e-5});
  mirror_.expect_same(mean);
  mirror_.expect_same(var);
  const Recorded recorded = mirror_.finish();
  mirror_.run(recorded);
  EXPECT_TRUE(std::ranges::equal(recorded.uploads[0].buffer->bytes(), bytes_of(before)));
  EXPECT_EQ(mirror_.replay().stats().shared_bytes, 0);
}

TEST_F(ContainmentTest, AnAnswerKeepsItsBytesWhileTheyAreWritten) {
  const Tensor x = at::randn({4096});
  mirror_.see(x);
  const uint32_t answer = mirror_.fetch(x);
  const std::vector<std::byte> before = bytes_of(x);
  mirror_.op("aten::zero_", x);
  mirror_.forget(x);
  const Answers answers = mirror_.run();
  EXPECT_TRUE(std::ranges::equal(answers[answer]->bytes, before));
}

// -- memory

TEST_F(ContainmentTest, TheBudgetIsATypedErrorOfOneTensor) {
  const Tensor x = at::randn({1024});
  mirror_.see(x);
  const Tensor big = at::empty({1 << 20});
  mirror_.see_empty(big);
  mirror_.op("aten::zero_", big);
  const uint32_t answer = mirror_.fetch(big);
  mirror_.expect_same(x);
  const Recorded recorded = mirror_.finish();
  const auto tight = make_cpu_device(
      {.memory_budget_bytes = used() + (2 << 20), .threads = 1, .host_budget_bytes = 8 << 20});
  const Answers answers = mirror_.run(recorded);
  EXPECT_EQ(answers.code(answer), ErrorCode::kOutOfMemory);
  EXPECT_THAT(answers.error(answer), HasSubstr("aten::zero_"));
  EXPECT_THAT(answers.error(answer), HasSubstr("4194304 bytes"));
  EXPECT_TRUE(tight->stage(4 << 20, "a").has_value()) << "on the host";
  const auto full = tight->stage(16 << 20, "a");
  ASSERT_FALSE(full.has_value());
  EXPECT_EQ(full.error().code, ErrorCode::kOutOfMemory);
  EXPECT_TRUE(answers[answer + 1].has_value());
  const auto unlimited = make_cpu_device({.threads = 1});
}

TEST_F(ContainmentTest, AnUploadForWhichThereWasNoMemorySaysSo) {
  const Tensor x = at::randn({64});
  mirror_.stage(x, false);
  const uint32_t answer = mirror_.fetch(x);
  Recorded recorded = mirror_.finish();
  recorded.uploads[0] = {.buffer = nullptr, .shared = false, .failure = "no room for 256 bytes"};
  const Answers answers = mirror_.run(recorded);
  EXPECT_EQ(answers.code(answer), ErrorCode::kOutOfMemory);
  EXPECT_THAT(answers.error(answer), HasSubstr("no room"));
}

}  // namespace
}  // namespace djinn::server
