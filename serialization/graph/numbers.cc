// SPDX-License-Identifier: Apache-2.0
#include "serialization/graph/numbers.h"

#include <xxhash.h>

#include <cassert>

#include "serialization/graph/packing.h"

namespace djinn::graph {
namespace {

// Arithmetic that wraps, as both ends must agree on any input.
int64_t add(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}
int64_t subtract(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) - static_cast<uint64_t>(b));
}

// One scratch vector per thread: a coder per plan and session must be small when it is idle.
Numbers& scratch() {
  thread_local Numbers vector;
  return vector;
}

void put_difference(ByteString& out, NumberKind kind, int64_t actual, int64_t predicted) {
  if (kind == NumberKind::kFloat) {
    put_word(out, static_cast<uint64_t>(actual));
  } else {
    put_varint(out, zigzag(subtract(actual, predicted)));
  }
}

}  // namespace

uint32_t checksum(std::span<const int64_t> numbers) {
  return static_cast<uint32_t>(XXH3_64bits(numbers.data(), numbers.size_bytes()));
}

NumbersCoder::NumbersCoder(std::shared_ptr<const Plan> plan) : plan_(std::move(plan)) {
  for (uint32_t i = 0; i < plan_->kinds.size(); ++i) {
    if (plan_->kinds[i] == NumberKind::kFloat) floats_.push_back(i);
    if (plan_->kinds[i] == NumberKind::kId) ids_.push_back(i);
  }
}

int64_t NumbersCoder::predict_base() const {
  if (last_ == nullptr) return 0;
  const int64_t last = (*last_)[kBaseNumber];
  return before_ == nullptr ? last : add(last, subtract(last, (*before_)[kBaseNumber]));
}

void NumbersCoder::predict(int64_t base) {
  Numbers& out = scratch();
  const size_t count = plan_->kinds.size();
  out.resize(count);
  if (last_ == nullptr) {
    std::fill(out.begin(), out.end(), 0);
  } else if (before_ == nullptr) {
    std::copy(last_->begin(), last_->end(), out.begin());
  } else {
    const int64_t* last = last_->data();
    const int64_t* before = before_->data();
    for (size_t i = 0; i < count; ++i) out[i] = add(last[i], subtract(last[i], before[i]));
    for (const uint32_t i : floats_) out[i] = last[i];
    const int64_t moved = subtract(base, last[kBaseNumber]);
    for (const uint32_t i : ids_) out[i] = last[i] == before[i] ? last[i] : add(last[i], moved);
  }
  out[kBaseNumber] = base;
}

void NumbersCoder::encode(SharedNumbers numbers, ByteString& patch) {
  assert(numbers->size() == plan_->kinds.size());
  unpack();
  // The base comes first: ids are predicted from the true one.
  const int64_t base = (*numbers)[kBaseNumber];
  const int64_t predicted_base = predict_base();
  uint32_t next = 0;
  if (base != predicted_base) {
    put_varint(patch, 0);
    put_difference(patch, NumberKind::kInt, base, predicted_base);
    next = 1;
  }
  predict(base);
  const Numbers& predicted = scratch();
  const int64_t* actual = numbers->data();
  for (uint32_t i = 1; i < predicted.size(); ++i) {
    if (actual[i] == predicted[i]) [[likely]] {
      continue;
    }
    put_varint(patch, i - next);
    put_difference(patch, plan_->kinds[i], actual[i], predicted[i]);
    next = i + 1;
  }
  keep(std::move(numbers));
}

Result<SharedNumbers> NumbersCoder::decode(ByteSpan patch) {
  unpack();
  ByteReader in(patch);
  int64_t base = predict_base();
  uint64_t next = 0;
  // A patch that names position 0 names it first.
  if (!patch.empty() && patch[0] == 0) {
    in.u8();
    base = add(base, unzigzag(in.varint()));
    next = 1;
  }
  predict(base);
  auto out = std::make_shared<Numbers>(scratch());
  while (in.ok() && !in.at_end()) {
    const uint64_t gap = in.varint();
    if (gap >= out->size() - std::min<uint64_t>(next, out->size())) {
      return Error{ErrorCode::kInvalid, "numbers: a patch behind the end of the plan"};
    }
    const uint64_t i = next + gap;
    (*out)[i] = plan_->kinds[i] == NumberKind::kFloat ? static_cast<int64_t>(in.word())
                                                      : add((*out)[i], unzigzag(in.varint()));
    next = i + 1;
  }
  if (!in.ok()) return Error{ErrorCode::kInvalid, "numbers: a patch is cut short"};
  return SharedNumbers(std::move(out));
}

void NumbersCoder::keep(SharedNumbers numbers) {
  before_ = std::move(last_);
  last_ = std::move(numbers);
}

size_t NumbersCoder::bytes() const {
  size_t total = sizeof *this + (floats_.capacity() + ids_.capacity()) * sizeof(uint32_t);
  if (last_ != nullptr) total += last_->size() * sizeof(int64_t);
  if (before_ != nullptr) total += before_->size() * sizeof(int64_t);
  return total + packed_.capacity();
}

void NumbersCoder::compact() {
  if (last_ == nullptr) return;
  ByteString plain;
  for (const int64_t value : *last_) put_varint(plain, zigzag(value));
  packed_vectors_ = 1;
  if (before_ != nullptr) {
    packed_vectors_ = 2;
    for (size_t i = 0; i < last_->size(); ++i) {
      put_varint(plain, zigzag(subtract((*last_)[i], (*before_)[i])));
    }
  }
  packed_ = pack(plain);
  packed_.shrink_to_fit();
  last_ = nullptr;
  before_ = nullptr;
}

void NumbersCoder::unpack() {
  if (packed_vectors_ == 0) return;
  const size_t count = plan_->kinds.size();
  auto plain = graph::unpack(packed_, size_t{20} * count);
  assert(plain.has_value() && "we packed it ourselves");
  ByteReader in(*plain);
  auto last = std::make_shared<Numbers>(count);
  for (int64_t& value : *last) value = unzigzag(in.varint());
  if (packed_vectors_ == 2) {
    auto before = std::make_shared<Numbers>(count);
    for (size_t i = 0; i < count; ++i) (*before)[i] = subtract((*last)[i], unzigzag(in.varint()));
    before_ = std::move(before);
  }
  last_ = std::move(last);
  packed_ = {};
  packed_vectors_ = 0;
}

}  // namespace djinn::graph
