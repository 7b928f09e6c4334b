// SPDX-License-Identifier: Apache-2.0
// Late answers: replay on a device that works on its own, as a GPU does, played by the CPU.
//
// Copies to the host are made on a thread of the device, long after the operators behind them have
// run; host memory of an upload is spoilt as soon as nobody should need it.
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>

#include <gtest/gtest.h>

#include "server/torch/cpu_backend.h"
#include "server/torch/torch_device.h"
#include "tests/server/torch/harness.h"

namespace djinn::server {
namespace {

using at::Tensor;
using std::chrono::milliseconds;

class LateBackend final : public Backend {
 public:
  explicit LateBackend(std::unique_ptr<Backend> cpu) : cpu_(std::move(cpu)) {}
  ~LateBackend() override {
    after(After::kEarlierCalls, nullptr);
    thread_.join();
  }
  LateBackend(const LateBackend&) = delete;
  LateBackend& operator=(const LateBackend&) = delete;

  [[nodiscard]] c10::Device device() const override { return cpu_->device(); }
  [[nodiscard]] DeviceMemory memory() const override { return cpu_->memory(); }
  std::shared_ptr<Buffer> stage(uint64_t bytes, const Owner& owner) override {
    return std::make_shared<Staged>(cpu_->stage(bytes, owner));
  }
  [[nodiscard]] Kernel kernel_of(std::string_view name) const override {
    return cpu_->kernel_of(name);
  }
  [[nodiscard]] bool dies_of_bad_indices() const override { return true; }
  [[nodiscard]] bool works_on_its_own() const override { return true; }
  Result<> enter(const Owner& owner, const std::function<void()>& body) override {
    if (lost) return *lost;
    return cpu_->enter(owner, body);
  }
  void trim() override { cpu_->trim(); }
  c10::Storage allocate(uint64_t bytes, Fill fill) override { return cpu_->allocate(bytes, fill); }
  Adopted adopt(const std::shared_ptr<Buffer>& buffer) override {
    auto& staged = static_cast<Staged&>(*buffer);
    if (!staged.on_device) {
      staged.on_device = cpu_->allocate(staged.length(), Fill::kNone);
      cpu_->write(staged.on_device, staged.bytes());
    }
    return {.storage = staged.on_device, .home = nullptr};
  }
  void write(const c10::Storage& to, Bytes from) override { cpu_->write(to, from); }
  void copy(const c10::Storage& to, const c10::Storage& from, uint64_t bytes) override {
    cpu_->copy(to, from, bytes);
  }
  HostCopy to_host(const Tensor& tensor) override {
    const Tensor from = tensor.contiguous();
    const Tensor to = at::empty_like(from);
    copies_.emplace_back(from.const_data_ptr(), to);
    return {.tensor = to, .source = std::make_shared<const c10::Storage>(from.storage())};
  }
  void after(After what, Done done) override {
    const std::scoped_lock lock(mutex_);
    queue_.push_back({.copies = {}, .done = std::move(done)});
    if (what == After::kCopies) queue_.back().copies.swap(copies_);
    wanted_.notify_one();
  }
  at::Generator new_generator() override { return cpu_->new_generator(); }
  const at::Generator& default_generator() override { return cpu_->default_generator(); }

  std::optional<Error> lost;         // `enter` fails.
  std::optional<Error> copies_fail;  // Set while nothing is under way.

 private:
  class Staged final : public Buffer {
   public:
    explicit Staged(std::shared_ptr<Buffer> host) : host_(std::move(host)) {}
    std::span<std::byte> bytes() override { return host_->bytes(); }
    void drop_host() override { std::ranges::fill(host_->bytes(), std::byte{0xee}); }
    c10::Storage on_device;

   private:
    std::shared_ptr<Buffer> host_;
  };
  struct Item {
    std::vector<std::pair<const void*, Tensor>> copies;
    Done done;
  };

  void main() {
    while (true) {
      Item item;
      {
        std::unique_lock lock(mutex_);
        wanted_.wait(lock, [this] { return !queue_.empty(); });
        item = std::move(queue_.front());
        queue_.pop_front();
      }
      if (!item.done) return;
      std::this_thread::sleep_for(milliseconds(5));
      for (const auto& [from, to] : item.copies) {
        std::memcpy(to.mutable_data_ptr(), from, to.nbytes());
      }
      item.done(copies_fail ? &*copies_fail : nullptr);
    }
  }

  std::unique_ptr<Backend> cpu_;
  std::vector<std::pair<const void*, Tensor>> copies_;
  std::mutex mutex_;
  std::condition_variable wanted_;
  std::deque<Item> queue_;
  std::thread thread_{[this] { main(); }};
};

class LateAnswersTest : public ::testing::Test {
 protected:
  LateBackend* backend_ = new LateBackend(make_cpu_backend({}));
  std::unique_ptr<Device> device_ = make_torch_device("late", std::unique_ptr<Backend>(backend_));
  Mirror mirror_{*device_};
};

TEST_F(LateAnswersTest, AreThoseOfTheMomentThatWasFetched) {
  const Tensor x = at::randn({4096});
  const Tensor small = at::randn({3});
  const Tensor seen_through = at::randn({40, 50});
  for (const Tensor& tensor : {x, small, seen_through}) mirror_.see(tensor);
  std::vector<std::pair<uint32_t, std::vector<std::byte>>> expected;
  for (int round = 0; round < 3; ++round) {
    for (const Tensor& tensor : {x, small, seen_through.t()}) {
      expected.emplace_back(mirror_.fetch(tensor), bytes_of(tensor));
    }
    for (const Tensor& tensor : {x, small, seen_through}) {
      mirror_.op("aten::add_.Scalar", tensor, 1, 1);
    }
  }
  for (const Tensor& tensor : {x, small, seen_through}) mirror_.forget(tensor);
  const Answers answers = mirror_.run();
  for (const auto& [answer, bytes] : expected) {
    ASSERT_TRUE(answers[answer]) << answers.error(answer);
    EXPECT_TRUE(std::ranges::equal(answers[answer]->bytes, bytes)) << answer;
  }
}

TEST_F(LateAnswersTest, ComeInOrderWithErrorsAndMetadata) {
  const Tensor x = at::randn({8});
  mirror_.see(x);
  mirror_.fetch(x);
  graph::StorageRecord& place = mirror_.new_record(0);
  mirror_.deferred("aten::nonzero", {x}, {&place});
  graph::StorageRecord unknown{.id = 4711, .bytes = 16, .known = true};
  const uint32_t missing = mirror_.writer().fetch();
  mirror_.writer().operand(unknown, graph::Dtype::kFloat32, std::vector<int64_t>{4},
                           std::vector<int64_t>{1}, 0);
  mirror_.expect_same(x);
  const Recorded recorded = mirror_.finish();
  const Answers answers = mirror_.run(recorded);  // Asserts the order.
  EXPECT_EQ(answers.code(missing), ErrorCode::kNotFound);
}

TEST_F(LateAnswersTest, AnUploadIsCopiedOnceAndItsHostMemoryGoes) {
  const Tensor weight = at::randn({64, 64});
  mirror_.stage(weight, false);
  mirror_.expect_same(weight);
  mirror_.run();
  mirror_.op("aten::add_.Scalar", weight, 1, 1);
  mirror_.expect_same(weight);
  mirror_.run();
}

TEST_F(LateAnswersTest, SharedBytesAreCopiedBeforeTheyAreWritten) {
  const Tensor weight = at::randn({64, 64});
  mirror_.stage(weight, true);
  mirror_.expect_same(weight);
  mirror_.op("aten::add_.Scalar", weight, 1, 1);
  mirror_.expect_same(weight);
  const Recorded recorded = mirror_.finish();
  mirror_.run(recorded);
  EXPECT_EQ(mirror_.replay().stats().shared_bytes, 0);
}

TEST_F(LateAnswersTest, SharedBytesFillAPartOfATensorWhenTheirHostMemoryHasGone) {
  const Tensor weight = at::randn({4, 64});
  mirror_.stage(weight, true);
  const Recorded first = mirror_.finish();
  mirror_.run(first);
  const StagedUpload staged = first.uploads.at(0);
  staged.buffer->drop_host();  // As when its bytes have been verified.
  Mirror other(*device_);
  const Tensor all = at::randn({8, 64});
  other.see(all);
  other.writer().upload(graph::UploadForm::kArtifact, weight.nbytes());
  other.operand(all.narrow(0, 2, 4));
  all.narrow(0, 2, 4).copy_(weight);
  const uint32_t fetched = other.fetch(all);
  Recorded second = other.finish();
  second.uploads.push_back(staged);
  const Answers answers = other.run(second);
  ASSERT_EQ(answers.error(fetched), "");
  EXPECT_TRUE(std::ranges::equal(answers[fetched]->bytes, bytes_of(all)));
}

TEST_F(LateAnswersTest, ALostDeviceIsTheErrorOfEveryAnswer) {
  const Tensor x = at::randn({8});
  mirror_.see(x);
  const uint32_t fetched = mirror_.fetch(x);
  const Recorded recorded = mirror_.finish();
  backend_->copies_fail = Error{ErrorCode::kUnavailable, "the device was lost"};
  EXPECT_EQ(mirror_.run(recorded).error(fetched), "the device was lost");
  backend_->lost = backend_->copies_fail;
  EXPECT_EQ(mirror_.run(recorded).error(fetched), "the device was lost");
}

}  // namespace
}  // namespace djinn::server
