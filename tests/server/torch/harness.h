// SPDX-License-Identifier: Apache-2.0
// Harness: plays the client for the executor's tests, without one.
//
// `Mirror` runs each operator twice: eagerly on the CPU, and through a plan on a Replay, with the
// storages of the eager tensors as the names of the remote ones. What must be equal is compared to
// the last bit.
// Threading: one thread.
#pragma once

#include <atomic>
#include <cstdlib>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/stack.h>

#include "serialization/graph/plan_writer.h"
#include "server/executor.h"

namespace djinn::server {

using Stack = torch::jit::Stack;

// Collects the answers of a job.
class Answers final : public AnswerSink {
 public:
  void answer(uint32_t index, Result<Answer> answer) override;
  void ended() override;

  // Until the job has ended.
  void wait() const { ended_->wait(false); }

  [[nodiscard]] size_t size() const { return answers_.size(); }
  [[nodiscard]] const Result<Answer>& operator[](size_t index) const { return answers_[index]; }
  // "" if the answer is bytes.
  [[nodiscard]] std::string error(size_t index) const;
  [[nodiscard]] ErrorCode code(size_t index) const { return answers_[index].error().code; }
  template <typename T>
  [[nodiscard]] T as(size_t index) const {
    T value{};
    const Bytes bytes = answers_[index]->bytes;
    std::memcpy(&value, bytes.data(), std::min(sizeof value, bytes.size()));
    return value;
  }

 private:
  std::vector<Result<Answer>> answers_;
  std::shared_ptr<std::atomic<bool>> ended_ = std::make_shared<std::atomic<bool>>(false);
};

// The numbers and the plan of a flush, before they run.
struct Recorded {
  std::shared_ptr<const graph::Plan> plan;
  graph::Numbers numbers;
  std::vector<uint64_t> inline_uploads;
  std::vector<StagedUpload> uploads;

  [[nodiscard]] Work work() const;
};

class Mirror {
 public:
  explicit Mirror(Device& device);
  ~Mirror();

  // -- recording
  // Runs the operator eagerly, records it, and returns its results.
  Stack call(const std::string& name, Stack args);
  template <typename... Args>
  at::Tensor op(const std::string& name, Args&&... args) {
    Stack results = call(name, Stack{c10::IValue(std::forward<Args>(args))...});
    return results.empty() || !results[0].isTensor() ? at::Tensor() : results[0].toTensor();
  }
  // Records the operator with results whose shapes come with the answer; returns the answer's
  // number.
  uint32_t deferred(const std::string& name, const Stack& args,
                    const std::vector<graph::StorageRecord*>& results);
  // Makes the tensor's storage known, by an inline upload of its bytes.
  void see(const at::Tensor& tensor);
  // The same for a storage that will be written before it is read: no upload.
  void see_empty(const at::Tensor& tensor);
  // As an upload of its own.
  void stage(const at::Tensor& tensor, bool shared);
  uint32_t fetch(const at::Tensor& tensor);
  // Fetches and compares with the eager tensor as it is now, when the job has run.
  void expect_same(const at::Tensor& tensor);
  // The app drops the storage.
  void forget(const at::Tensor& tensor);
  graph::StorageRecord& record(const at::Tensor& tensor);
  graph::StorageRecord& new_record(uint64_t bytes);
  void operand(const at::Tensor& tensor);
  graph::OpName& name(const std::string& name);
  graph::PlanWriter& writer() { return writer_; }

  // -- running
  Recorded finish();
  // Runs the flush and checks what was expected.
  Answers run();
  Answers run(const Recorded& recorded);
  Replay& replay() { return *replay_; }
  // Its jobs give way behind every entry; all do with DJINN_TEST_CHUNKS in the environment.
  void give_way() { gives_way_ = true; }
  // So often one has.
  [[nodiscard]] uint64_t suspensions() const { return suspensions_; }

 private:
  struct Expected {
    uint32_t answer;
    at::Tensor value;
  };

  void arg(const c10::IValue& value);
  void tensor_arg(const at::Tensor& tensor);
  void result(const c10::IValue& value, bool aliases);
  void begin();

  Device& device_;
  std::unique_ptr<Replay> replay_;
  graph::PlanWriter writer_;
  std::unordered_map<const c10::StorageImpl*, std::unique_ptr<graph::StorageRecord>> records_;
  std::vector<std::unique_ptr<graph::StorageRecord>> anonymous_;
  std::unordered_map<std::string, std::unique_ptr<graph::OpName>> names_;
  std::vector<at::Tensor> alive_;
  std::vector<uint64_t> inline_uploads_;
  std::vector<StagedUpload> uploads_;
  std::vector<Expected> expected_;
  uint64_t next_id_ = 1;
  uint64_t next_upload_ = 1;
  uint64_t next_job_ = 1;
  bool gives_way_ = std::getenv("DJINN_TEST_CHUNKS") != nullptr;  // NOLINT: one thread
  uint64_t suspensions_ = 0;
};

// The bytes of the tensor's elements in row-major order.
[[nodiscard]] std::vector<std::byte> bytes_of(const at::Tensor& tensor);

}  // namespace djinn::server
