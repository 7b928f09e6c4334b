// SPDX-License-Identifier: Apache-2.0
#include "client/torch/recorder.h"

#include <ATen/core/List.h>
#include <ATen/native/Resize.h>

#include "client/torch/arguments.h"
#include "client/torch/dtypes.h"
#include "client/torch/generator.h"
#include "client/torch/remote_device.h"
#include "client/torch/resize.h"
#include "client/torch/shapes.h"
#include "serialization/graph/result_meta.h"

namespace djinn::client {
namespace {

using Kind = PredictedResult::Kind;

// Before the entry that draws random numbers: the seed, if the server does not know it.
void write_seed(const OpInfo& op, const Stack& stack, size_t begin, RemoteDevice& device) {
  if (!op.random && op.generator_arg == SIZE_MAX) return;
  const c10::IValue* const given =
      op.generator_arg == SIZE_MAX ? nullptr : &stack[begin + op.generator_arg];
  if (given != nullptr && given->isGenerator() && given->toGenerator().defined()) {
    device.before_random(*given->toGenerator().unsafeGetGeneratorImpl());
  } else {
    device.before_random(*default_generator(device.device().index()).unsafeGetGeneratorImpl());
  }
}

// Out= tensors get the size that PyTorch would give them, and, if that is another one, the strides.
void resize_outputs(const OpInfo& op, const Prediction& prediction, const Stack& stack,
                    size_t begin) {
  size_t next = 0;
  for (const int alias : op.alias) {
    const PredictedResult& result = prediction[next++];
    if (result.kind == Kind::kList) next += static_cast<size_t>(result.value);
    if (alias < 0 || result.kind != Kind::kTensor) continue;
    const at::Tensor& out = stack[begin + static_cast<size_t>(alias)].toTensor();
    if (is_remote(out) && out.sizes() != c10::IntArrayRef(result.sizes)) {
      resize_remote(out, result.sizes, std::nullopt);
      out.unsafeGetTensorImpl()->set_sizes_and_strides(result.sizes, result.strides);
    }
  }
}

// Nobody here knows the result's size, so the app must have given it.
void check_outputs(const OpInfo& op, const Stack& stack, size_t begin) {
  for (const int alias : op.alias) {
    const c10::IValue& out = stack[begin + static_cast<size_t>(alias)];
    TORCH_CHECK(!out.isTensor() || out.toTensor().numel() > 0, "djinn: ", op.name.name,
                " needs an out= tensor of the right size, or none at all");
  }
}

class Recording {
 public:
  Recording(OpInfo& op, Stack& stack, size_t begin, RemoteDevice& device)
      : op_(op), stack_(stack), begin_(begin), device_(device) {}

  void predicted(const Prediction& prediction) {
    Stack results;
    results.reserve(op_.alias.size());
    {
      const auto hold = RemoteDevice::lock();
      write_seed(op_, stack_, begin_, device_);
      graph::PlanWriter& writer = device_.writer();
      writer.op(op_.name, op_.arg_count);
      EntryGuard guard(writer);
      write_arguments(op_, stack_, begin_, device_);
      writer.results(op_.alias.size());
      size_t next = 0;
      for (const int alias : op_.alias) {
        const PredictedResult& result = prediction[next++];
        results.push_back(alias >= 0 ? not_new(result, alias, next)
                                     : make(result, prediction, next));
      }
      guard.written();
      device_.entry_done();
    }
    finish(std::move(results));
  }

  // All results are arguments: no prediction is needed.
  void in_place() {
    Stack results;
    {
      const auto hold = RemoteDevice::lock();
      write_seed(op_, stack_, begin_, device_);
      device_.writer().op(op_.name, op_.arg_count);
      EntryGuard guard(device_.writer());
      write_arguments(op_, stack_, begin_, device_);
      device_.writer().results(op_.alias.size());
      for (const int alias : op_.alias) {
        device_.writer().not_new();
        results.push_back(stack_[begin_ + static_cast<size_t>(alias)]);
      }
      guard.written();
      device_.entry_done();
    }
    finish(std::move(results));
  }

  void finish(Stack results) {
    torch::jit::drop(stack_, op_.arg_count);
    for (c10::IValue& result : results) stack_.push_back(std::move(result));
  }

 private:
  c10::IValue not_new(const PredictedResult& result, int alias, size_t& next) {
    if (result.kind == Kind::kList) next += static_cast<size_t>(result.value);
    device_.writer().not_new();
    return stack_[begin_ + static_cast<size_t>(alias)];
  }

  at::Tensor make_tensor(const PredictedResult& result) {
    graph::PlanWriter& writer = device_.writer();
    if (result.kind == Kind::kUndefined) {
      writer.undefined();
      return {};
    }
    at::Tensor tensor =
        make_remote(device_, result.sizes, result.strides, result.type, result.storage_bytes);
    writer.tensor();
    device_.write_operand(tensor);
    return tensor;
  }

  c10::IValue make(const PredictedResult& result, const Prediction& all, size_t& next) {
    if (result.kind == Kind::kInt) {
      device_.writer().not_new();
      return result.value;
    }
    if (result.kind != Kind::kList) return make_tensor(result);
    device_.writer().list(static_cast<size_t>(result.value));
    c10::List<at::Tensor> list;
    for (int64_t i = 0; i < result.value; ++i) list.push_back(make_tensor(all[next++]));
    return list;
  }

  OpInfo& op_;
  Stack& stack_;
  const size_t begin_;
  RemoteDevice& device_;
};

// An operator whose results only the server knows: one round trip.
class Deferral {
 public:
  Deferral(OpInfo& op, Stack& stack, size_t begin, RemoteDevice& device)
      : op_(op), stack_(stack), begin_(begin), device_(device) {}

  // Returns what came out, as a prediction for the next time; empty if it holds a value.
  Prediction run(Stack& results) {
    PendingAnswer answer;
    {
      const auto hold = RemoteDevice::lock();
      write_seed(op_, stack_, begin_, device_);
      device_.writer().deferred_op(op_.name, op_.arg_count);
      EntryGuard guard(device_.writer());
      write_arguments(op_, stack_, begin_, device_);
      write_results();
      guard.written();
      device_.entry_done_before_cut();
      device_.shape_questions++;
      PendingAnswer* const answers[] = {&answer};
      device_.cut(answers);
    }
    device_.wait(answer);
    auto metas = graph::decode_results(
        {reinterpret_cast<const uint8_t*>(answer.bytes.data()), answer.bytes.size()});
    TORCH_CHECK(metas.has_value() && metas->size() == op_.alias.size(),
                "djinn: the server's answer to ", op_.name.name, " makes no sense");
    for (size_t r = 0; r < op_.alias.size(); ++r) {
      results.push_back(op_.alias[r] >= 0 ? stack_[begin_ + static_cast<size_t>(op_.alias[r])]
                                          : take((*metas)[r], r));
    }
    return reusable_ ? std::move(prediction_) : Prediction();
  }

 private:
  // How many tensors a list result has: as many as the first list argument.
  [[nodiscard]] size_t list_length() const {
    for (size_t i = begin_; i < begin_ + op_.arg_count; ++i) {
      if (stack_[i].isTensorList()) return stack_[i].toTensorList().size();
    }
    TORCH_CHECK(false, "djinn: ", op_.name.name,
                " returns a list whose length only the server knows; this is not supported");
  }

  void write_deferred() {
    at::Tensor place = make_remote(device_, {0}, {1}, c10::kByte);
    device_.writer().deferred_result(context_of(place).record);
    places_.push_back(std::move(place));
  }

  void write_results() {
    graph::PlanWriter& writer = device_.writer();
    const auto& returns = op_.handle.schema().returns();
    writer.results(returns.size());
    for (size_t r = 0; r < returns.size(); ++r) {
      const bool is_new = op_.alias[r] < 0;
      if (is_new && returns[r].type()->isSubtypeOf(*c10::TensorType::get())) {
        write_deferred();
      } else if (is_new && returns[r].type()->isSubtypeOf(*c10::ListType::ofTensors())) {
        const size_t count = list_length();
        writer.list(count);
        for (size_t i = 0; i < count; ++i) write_deferred();
      } else {
        writer.not_new();
      }
    }
  }

  // The tensor over the storage that was named before the operator ran.
  at::Tensor take_tensor(const graph::TensorMeta& meta) {
    TORCH_CHECK(next_place_ < places_.size(), "djinn: the server returned too many tensors for ",
                op_.name.name);
    at::Tensor place = std::move(places_[next_place_++]);
    StorageContext& context = context_of(place);
    {
      const auto hold = RemoteDevice::lock();
      context.record.bytes = meta.storage_bytes;
    }
    grow_addresses(place.storage(), meta.storage_bytes);
    PredictedResult result;
    result.type = from_wire(meta.dtype);
    result.sizes.append(meta.sizes.begin(), meta.sizes.end());
    result.strides.append(meta.strides.begin(), meta.strides.end());
    result.storage_bytes = meta.storage_bytes;
    reusable_ &= meta.offset == 0;
    auto tensor = at::detail::make_tensor<c10::TensorImpl>(
        c10::Storage(place.storage()), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
        c10::scalarTypeToTypeMeta(result.type));
    tensor.unsafeGetTensorImpl()->set_storage_offset(meta.offset);
    tensor.unsafeGetTensorImpl()->set_sizes_and_strides(meta.sizes, meta.strides);
    prediction_.push_back(std::move(result));
    return tensor;
  }

  c10::IValue take(const graph::ResultMeta& meta, size_t r) {
    if (const auto* tensor = std::get_if<graph::TensorMeta>(&meta)) return take_tensor(*tensor);
    if (const auto* list = std::get_if<std::vector<graph::TensorMeta>>(&meta)) {
      PredictedResult header;
      header.kind = Kind::kList;
      header.value = static_cast<int64_t>(list->size());
      prediction_.push_back(std::move(header));
      c10::List<at::Tensor> tensors;
      for (const auto& each : *list) tensors.push_back(take_tensor(each));
      return tensors;
    }
    if (std::holds_alternative<graph::UndefinedTensor>(meta)) {
      ++next_place_;
      PredictedResult nothing;
      nothing.kind = Kind::kUndefined;
      prediction_.push_back(std::move(nothing));
      return at::Tensor();
    }
    reusable_ = false;  // A value: it depends on data.
    if (const auto* value = std::get_if<int64_t>(&meta)) return *value;
    if (const auto* value = std::get_if<double>(&meta)) return *value;
    if (const auto* value = std::get_if<bool>(&meta)) return *value;
    TORCH_CHECK(false, "djinn: result ", r, " of ", op_.name.name,
                " is of a kind that does not travel");
  }

  OpInfo& op_;
  Stack& stack_;
  const size_t begin_;
  RemoteDevice& device_;
  std::vector<at::Tensor> places_;
  size_t next_place_ = 0;
  Prediction prediction_;
  bool reusable_ = true;
};

}  // namespace

void record(OpInfo& op, Stack& stack) {
  TORCH_CHECK(op.allowed, "djinn: ", op.name.name,
              " is not among the operators that servers run; call it on a tensor of the CPU");
  const size_t begin = stack.size() - op.arg_count;
  const Arguments args = prepare_arguments(op, stack, begin);
  Recording recording(op, stack, begin, *args.device);
  const bool index = args.boolean_index && op.name.name == "aten::index.Tensor";
  const bool data_dependent = op.deferred || index;
  if (!data_dependent) {
    if (op.alias.empty()) return recording.in_place();
    const ShapeKey key = shape_key(op, stack, begin);
    if (const Prediction* const prediction = predict(op, key, stack, begin)) {
      if (op.out_of_place) resize_outputs(op, *prediction, stack, begin);
      return recording.predicted(*prediction);
    }
    if (op.all_alias) {
      if (op.out_of_place) check_outputs(op, stack, begin);
      return recording.in_place();
    }
    Stack results;
    Prediction learned = Deferral(op, stack, begin, *args.device).run(results);
    if (learned.size() >= op.alias.size()) teach(key, std::move(learned));
    return recording.finish(std::move(results));
  }
  Stack results;
  (void)Deferral(op, stack, begin, *args.device).run(results);
  recording.finish(std::move(results));
}

void record_any(const c10::OperatorHandle& handle, Stack* stack) {
  record(op_info(handle), *stack);
}

}  // namespace djinn::client
