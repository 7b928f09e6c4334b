// SPDX-License-Identifier: Apache-2.0
#include "client/torch/shapes.h"

#include <algorithm>
#include <bit>
#include <mutex>
#include <unordered_map>

#include <ATen/EmptyTensor.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include "client/torch/storage.h"

namespace djinn::client {
namespace {

// Words that make up a key, gathered on the stack of the thread and hashed once.
class KeyBuilder {
 public:
  void add(uint64_t word) {
    if (count_ == kWords) fold();
    words_[count_++] = word;
  }

  void add(const at::Tensor& tensor) {
    if (!tensor.defined()) return add(2);
    const c10::TensorImpl* const impl = tensor.unsafeGetTensorImpl();
    add(3 | static_cast<uint64_t>(tensor.scalar_type()) << 8 |
        static_cast<uint64_t>(tensor.device().type()) << 16 |
        static_cast<uint64_t>(impl->is_wrapped_number()) << 24 |
        static_cast<uint64_t>(tensor.dim()) << 32);
    for (const int64_t size : tensor.sizes()) add(static_cast<uint64_t>(size));
    for (const int64_t stride : tensor.strides()) add(static_cast<uint64_t>(stride));
  }

  void add(const c10::IValue& value, bool floats) {
    if (value.isTensor()) return add(value.toTensor());
    if (value.isNone()) return add(1);
    if (value.isInt()) {
      add(4);
      return add(static_cast<uint64_t>(value.toInt()));
    }
    if (value.isBool()) return add(value.toBool() ? 5 : 6);
    if (value.isDouble()) {
      add(7);
      if (floats) add(std::bit_cast<uint64_t>(value.toDouble()));
      return;
    }
    add_other(value, floats);
  }

  [[nodiscard]] ShapeKey key() {
    const XXH128_hash_t hash = XXH3_128bits_withSeed(words_, count_ * sizeof(uint64_t), folded_);
    return {.high = hash.high64, .low = hash.low64};
  }

 private:
  static constexpr size_t kWords = 128;

  void add_other(const c10::IValue& value, bool floats) {
    if (value.isTensorList()) {
      add(8);
      for (const at::Tensor& tensor : value.toTensorList()) add(tensor);
      return add(9);
    }
    if (value.isList()) {
      add(10);
      for (const c10::IValue& item : value.toListRef()) add(item, floats);
      return add(11);
    }
    if (value.isString()) {
      const std::string& text = value.toStringRef();
      return add(XXH3_64bits(text.data(), text.size()));
    }
    if (value.isComplexDouble()) return add(12);
    add(13);  // Devices and generators do not decide shapes.
  }

  void fold() {
    folded_ = XXH3_64bits_withSeed(words_, sizeof words_, folded_);
    count_ = 0;
  }

  uint64_t words_[kWords];
  size_t count_ = 0;
  uint64_t folded_ = 0;
};

struct HashKey {
  size_t operator()(const ShapeKey& key) const noexcept { return key.low; }
};

// Entries are shared, because a full cache is emptied while others still read theirs: they are
// leaked on purpose in bounded number (kPredictionsMax) per generation of the cache.
constexpr size_t kPredictionsMax = 1 << 16;

class Cache {
 public:
  const Prediction* find(const ShapeKey& key) {
    const std::lock_guard lock(mutex_);
    const auto found = map_.find(key);
    return found == map_.end() ? nullptr : found->second.get();
  }
  const Prediction* put(const ShapeKey& key, Prediction prediction) {
    const std::lock_guard lock(mutex_);
    if (map_.size() >= kPredictionsMax) {
      retired_ = std::move(map_);  // One generation behind: no reader is that slow.
      map_.clear();
    }
    auto& place = map_[key];
    if (place == nullptr) place = std::make_unique<const Prediction>(std::move(prediction));
    return place.get();
  }

 private:
  using Map = std::unordered_map<ShapeKey, std::unique_ptr<const Prediction>, HashKey>;
  std::mutex mutex_;
  Map map_;
  Map retired_;
};

Cache& cache() {
  static auto* const instance = new Cache;
  return *instance;
}

at::Tensor stand_in(const at::Tensor& tensor) {
  if (!is_remote(tensor)) return tensor;  // A CPU scalar stays: type promotion depends on it.
  return at::detail::empty_strided_meta(tensor.sizes(), tensor.strides(), tensor.scalar_type());
}

c10::IValue stand_in(const c10::IValue& value) {
  if (value.isTensor()) return stand_in(value.toTensor());
  if (value.isDevice()) return c10::Device(c10::kMeta);
  if (value.isGenerator()) return {};
  if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const at::Tensor& tensor : value.toTensorList()) list.push_back(stand_in(tensor));
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> list;
    for (const std::optional<at::Tensor> tensor : value.toOptionalTensorList()) {
      list.push_back(tensor && tensor->defined() ? std::optional(stand_in(*tensor)) : std::nullopt);
    }
    return list;
  }
  return value;
}

PredictedResult describe(const at::Tensor& tensor) {
  PredictedResult out;
  if (!tensor.defined()) {
    out.kind = PredictedResult::Kind::kUndefined;
    return out;
  }
  out.type = tensor.scalar_type();
  out.sizes.append(tensor.sizes().begin(), tensor.sizes().end());
  out.strides.append(tensor.strides().begin(), tensor.strides().end());
  return out;
}

std::optional<Prediction> describe(const OpInfo& op, const Stack& results) {
  Prediction out;
  for (const c10::IValue& value : results) {
    if (value.isTensor()) {
      out.push_back(describe(value.toTensor()));
    } else if (value.isTensorList()) {
      PredictedResult list;
      list.kind = PredictedResult::Kind::kList;
      list.value = static_cast<int64_t>(value.toTensorList().size());
      out.push_back(std::move(list));
      for (const at::Tensor& tensor : value.toTensorList()) out.push_back(describe(tensor));
    } else if (value.isInt()) {
      PredictedResult integer;
      integer.kind = PredictedResult::Kind::kInt;
      integer.value = value.toInt();
      out.push_back(std::move(integer));
    } else {
      return std::nullopt;
    }
  }
  return results.size() == op.alias.size() ? std::optional(std::move(out)) : std::nullopt;
}

std::optional<Prediction> ask_meta(const OpInfo& op, const Stack& stack, size_t begin) {
  Stack args;
  for (size_t i = begin; i < begin + op.arg_count; ++i) args.push_back(stand_in(stack[i]));
  const Stack keep = args;  // Boxed out= kernels return references into their arguments.
  const c10::impl::ExcludeDispatchKeyGuard below(c10::autograd_dispatch_keyset);
  try {
    op.handle.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::Meta), &args);
  } catch (const c10::NotImplementedError&) {
    op.has_meta = false;  // A composite that ends in an operator without a Meta kernel.
    return std::nullopt;
  }
  return describe(op, args);
}

}  // namespace

ShapeKey shape_key(const OpInfo& op, const Stack& stack, size_t begin) {
  KeyBuilder key;
  key.add(reinterpret_cast<uint64_t>(&op));
  for (size_t i = begin; i < begin + op.arg_count; ++i) key.add(stack[i], op.floats_shape);
  return key.key();
}

const Prediction* predict(const OpInfo& op, const ShapeKey& key, const Stack& stack, size_t begin) {
  if (const Prediction* const known = cache().find(key)) return known;
  Prediction out;
  if (op.rule != nullptr && op.rule(stack, begin, out)) return cache().put(key, std::move(out));
  if (op.has_meta) {
    if (auto found = ask_meta(op, stack, begin)) return cache().put(key, *std::move(found));
  }
  return nullptr;
}

const Prediction* teach(const ShapeKey& key, Prediction prediction) {
  return cache().put(key, std::move(prediction));
}

}  // namespace djinn::client
