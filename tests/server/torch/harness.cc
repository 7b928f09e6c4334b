// SPDX-License-Identifier: Apache-2.0
#include "tests/server/torch/harness.h"

#include <cstdlib>

#include <gtest/gtest.h>

#include "operators/census.h"
#include "operators/dtypes.h"
#include "serialization/graph/plan_reader.h"

namespace djinn::server {

void Answers::answer(uint32_t index, Result<Answer> answer) {
  EXPECT_EQ(index, answers_.size()) << "answers come in the order of the plan";
  EXPECT_FALSE(*ended_) << "an answer behind the end";
  answers_.push_back(std::move(answer));
}

void Answers::ended() {
  const auto ended = ended_;  // Whoever waits may destroy this as soon as it is set.
  EXPECT_FALSE(ended->exchange(true));
  ended->notify_all();
}

std::string Answers::error(size_t index) const {
  return answers_[index] ? "" : answers_[index].error().message;
}

Work Recorded::work() const {
  return {.job = JobId{1},
          .plan = plan,
          .numbers = std::make_shared<const graph::Numbers>(numbers),
          .inline_uploads = inline_uploads,
          .uploads = uploads};
}

Mirror::Mirror(Device& device) : device_(device), replay_(device.open(SessionId{1}, "test")) {
  begin();
}
Mirror::~Mirror() = default;

void Mirror::begin() {
  writer_.begin(next_id_, next_upload_);
  inline_uploads_.clear();
  uploads_.clear();
  expected_.clear();
}

graph::OpName& Mirror::name(const std::string& name) {
  auto& known = names_[name];
  if (known == nullptr) known = std::make_unique<graph::OpName>(name);
  return *known;
}

graph::StorageRecord& Mirror::new_record(uint64_t bytes) {
  anonymous_.push_back(std::make_unique<graph::StorageRecord>());
  *anonymous_.back() = {.id = next_id_++, .bytes = bytes};
  return *anonymous_.back();
}

graph::StorageRecord& Mirror::record(const at::Tensor& tensor) {
  auto& known = records_[tensor.storage().unsafeGetStorageImpl()];
  if (known == nullptr) {
    alive_.push_back(tensor);  // Its storage's address is its name here.
    known = std::make_unique<graph::StorageRecord>();
    *known = {.id = next_id_++, .bytes = tensor.storage().nbytes()};
  }
  return *known;
}

void Mirror::operand(const at::Tensor& tensor) {
  writer_.operand(record(tensor), *operators::from_torch(tensor.scalar_type()), tensor.sizes(),
                  tensor.strides(), tensor.storage_offset());
}

void Mirror::see_empty(const at::Tensor& tensor) { record(tensor); }

void Mirror::see(const at::Tensor& tensor) {
  if (records_.contains(tensor.storage().unsafeGetStorageImpl())) return;
  graph::StorageRecord& storage = record(tensor);
  writer_.upload(graph::UploadForm::kInline, storage.bytes);
  const std::vector<int64_t> sizes{static_cast<int64_t>(storage.bytes)};
  writer_.operand(storage, graph::Dtype::kUint8, sizes, std::vector<int64_t>{1}, 0);
  const size_t at = inline_uploads_.size();
  inline_uploads_.resize(at + (storage.bytes + 7) / 8);
  if (storage.bytes != 0) {
    std::memcpy(inline_uploads_.data() + at, tensor.storage().data(), storage.bytes);
  }
}

void Mirror::stage(const at::Tensor& tensor, bool shared) {
  graph::StorageRecord& storage = record(tensor);
  ++next_upload_;
  writer_.upload(shared ? graph::UploadForm::kArtifact : graph::UploadForm::kStream, storage.bytes);
  const std::vector<int64_t> sizes{static_cast<int64_t>(storage.bytes)};
  writer_.operand(storage, graph::Dtype::kUint8, sizes, std::vector<int64_t>{1}, 0);
  auto buffer = device_.stage(storage.bytes, "test");
  ASSERT_TRUE(buffer.has_value()) << buffer.error().message;
  std::memcpy((*buffer)->bytes().data(), tensor.storage().data(), storage.bytes);
  uploads_.push_back({.buffer = std::move(*buffer), .shared = shared, .failure = ""});
}

void Mirror::tensor_arg(const at::Tensor& tensor) {
  if (!tensor.defined()) {
    writer_.undefined();
  } else if (tensor.unsafeGetTensorImpl()->is_wrapped_number()) {
    const auto dtype = *operators::from_torch(tensor.scalar_type());
    writer_.cpu_scalar(dtype, true);
    const c10::Scalar value = tensor.item();
    if (graph::is_complex(dtype)) {
      writer_.float_number(value.toComplexDouble().real());
      writer_.float_number(value.toComplexDouble().imag());
    } else if (graph::is_floating(dtype)) {
      writer_.float_number(value.toDouble());
    } else {
      writer_.number(value.toLong());
    }
  } else {
    writer_.tensor();
    operand(tensor);
  }
}

void Mirror::arg(const c10::IValue& value) {
  if (value.isNone()) {
    writer_.none();
  } else if (value.isTensor()) {
    tensor_arg(value.toTensor());
  } else if (value.isBool()) {
    writer_.boolean(value.toBool());
  } else if (value.isInt()) {
    writer_.integer(value.toInt());
  } else if (value.isDouble()) {
    writer_.real(value.toDouble());
  } else if (value.isComplexDouble()) {
    writer_.complex(value.toComplexDouble().real(), value.toComplexDouble().imag());
  } else if (value.isString()) {
    writer_.text(value.toStringRef());
  } else if (value.isDevice()) {
    writer_.device();
  } else if (value.isGenerator()) {
    writer_.generator(0);
  } else if (value.isIntList()) {
    writer_.integers(value.toIntVector());
  } else if (value.isDoubleList()) {
    writer_.reals(value.toDoubleVector());
  } else if (value.isList()) {
    const auto items = value.toListRef();
    writer_.list(items.size());
    for (const c10::IValue& item : items) arg(item);
  } else {
    FAIL() << "no plan can hold " << value.tagKind();
  }
}

void Mirror::result(const c10::IValue& value, bool aliases) {
  if (aliases || !(value.isTensor() || value.isTensorList())) {
    writer_.not_new();
  } else if (value.isTensor()) {
    if (value.toTensor().defined()) {
      writer_.tensor();
      operand(value.toTensor());
    } else {
      writer_.undefined();
    }
  } else {
    const auto items = value.toTensorVector();
    writer_.list(items.size());
    for (const at::Tensor& item : items) result(item, false);
  }
}

Stack Mirror::call(const std::string& name, Stack args) {
  const auto op = operators::find_operator(name);
  if (!op) throw std::invalid_argument(name);
  for (const c10::IValue& value : args) {
    const auto visit = [&](const at::Tensor& tensor) {
      const bool plain = tensor.defined() && !tensor.unsafeGetTensorImpl()->is_wrapped_number();
      if (plain) see(tensor);
    };
    if (value.isTensor()) visit(value.toTensor());
    if (!value.isList()) continue;
    for (const c10::IValue& item : value.toListRef()) {
      if (item.isTensor()) visit(item.toTensor());
    }
  }
  writer_.op(this->name(name), args.size());
  for (const c10::IValue& value : args) arg(value);
  const at::NoGradGuard no_grad;
  const Stack kept = args;
  op->callBoxed(args);
  const auto& returns = op->schema().returns();
  writer_.results(returns.size());
  for (size_t i = 0; i < returns.size(); ++i) {
    const auto* alias = returns[i].alias_info();
    result(args[i], alias != nullptr && alias->isWrite());
  }
  return args;
}

uint32_t Mirror::deferred(const std::string& name, const Stack& args,
                          const std::vector<graph::StorageRecord*>& results) {
  for (const c10::IValue& value : args) {
    if (value.isTensor()) see(value.toTensor());
  }
  const uint32_t answer = writer_.deferred_op(this->name(name), args.size());
  for (const c10::IValue& value : args) arg(value);
  writer_.results(results.size());
  for (graph::StorageRecord* storage : results) {
    if (storage == nullptr) {
      writer_.not_new();
    } else {
      writer_.deferred_result(*storage);
    }
  }
  return answer;
}

uint32_t Mirror::fetch(const at::Tensor& tensor) {
  const uint32_t answer = writer_.fetch();
  operand(tensor);
  return answer;
}

void Mirror::expect_same(const at::Tensor& tensor) {
  const uint32_t answer = fetch(tensor);
  expected_.push_back({.answer = answer, .value = tensor.clone()});
}

void Mirror::forget(const at::Tensor& tensor) { writer_.forget(record(tensor)); }

Recorded Mirror::finish() {
  const graph::Flush flush = writer_.finish();
  auto plan = graph::read_plan(flush.structure);
  if (!plan) throw std::runtime_error(plan.error().message);
  return {.plan = std::make_shared<const graph::Plan>(std::move(*plan)),
          .numbers = graph::Numbers(flush.numbers.begin(), flush.numbers.end()),
          .inline_uploads = inline_uploads_,
          .uploads = uploads_};
}

Answers Mirror::run() {
  const Recorded recorded = finish();
  Answers answers = run(recorded);
  for (const Expected& each : expected_) {
    EXPECT_EQ(answers.error(each.answer), "");
    if (!answers[each.answer]) continue;
    const std::vector<std::byte> local = bytes_of(each.value);
    const Bytes remote = answers[each.answer]->bytes;
    EXPECT_TRUE(std::equal(local.begin(), local.end(), remote.begin(), remote.end()))
        << "answer " << each.answer << " differs from " << each.value;
  }
  begin();
  return answers;
}

Answers Mirror::run(const Recorded& recorded) {
  const auto admitted = device_.admit(*recorded.plan);
  EXPECT_TRUE(admitted.has_value()) << admitted.error().message;
  Answers answers;
  Work work = recorded.work();
  work.job = JobId{next_job_++};
  const std::atomic<bool> others = gives_way_;
  for (bool whole = false; !whole;) {
    Chunk chunk(&others, {});
    whole = replay_->run(work, answers, chunk);
    if (!whole) ++suspensions_;
  }
  answers.wait();
  EXPECT_EQ(answers.size(), recorded.plan->answers);
  return answers;
}

std::vector<std::byte> bytes_of(const at::Tensor& tensor) {
  const at::Tensor plain = tensor.contiguous();
  const auto* data = static_cast<const std::byte*>(plain.const_data_ptr());
  return {data, data + plain.nbytes()};
}

}  // namespace djinn::server
