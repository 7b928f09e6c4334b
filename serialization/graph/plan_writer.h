// SPDX-License-Identifier: Apache-2.0
// Plan writer: the structure and the numbers of a flush, written in one pass while the app records.
//
// Why no list of ops in between: recording is the client's hot path (a decoder's step is a thousand
// ops), and what the list would hold is exactly these two strings. The grammar is in plan.h.
// Ownership: borrows StorageRecords from the tensors that live; `forget` must be called before one
// dies. OpNames are borrowed until the flush is finished. Threading: one thread at a time (the
// recorder's lock).
#pragma once

#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "serialization/graph/plan.h"

namespace djinn::graph {

// What the client knows of a storage on the server. Lives as long as its tensors do.
struct StorageRecord {
  uint64_t id = 0;
  uint64_t bytes = 0;
  uint32_t epoch = 0;  // The flush in which `slot` is valid.
  uint32_t slot = 0;
  bool known = false;  // The server has heard of it in an earlier flush.
};

// One that no OpName of this process has. Threading: any thread.
[[nodiscard]] uint32_t new_op_number();

// An operator's name. What a flush knows of it stands in the flush's writer, since several
// sessions' flushes are written at a time, entry by entry.
struct OpName {
  explicit OpName(std::string text) : name(std::move(text)) {}
  OpName(const OpName&) = delete;
  OpName& operator=(const OpName&) = delete;

  const std::string name;
  const uint32_t number = new_op_number();  // In this process, from 0.
};

// Grows like a vector, but writes without a call.
template <typename T>
class Sink {
 public:
  void push(T value) {
    if (size_ == capacity_) grow(1);
    data_[size_++] = value;
  }
  // Room for `count` more; the caller writes at the returned place and then calls `advance`.
  T* room(size_t count) {
    if (capacity_ - size_ < count) grow(count);
    return data_.get() + size_;
  }
  void advance(size_t count) { size_ += count; }
  void truncate(size_t size) { size_ = size; }
  void clear() { size_ = 0; }
  [[nodiscard]] size_t size() const { return size_; }
  T& operator[](size_t i) { return data_[i]; }
  [[nodiscard]] std::span<const T> span() const { return {data_.get(), size_}; }

 private:
  void grow(size_t count) {
    const size_t capacity = std::max<size_t>(1024, 2 * (size_ + count));
    std::unique_ptr<T[]> data(new T[capacity]);
    if (size_ != 0) std::memcpy(data.get(), data_.get(), size_ * sizeof(T));
    data_ = std::move(data);
    capacity_ = capacity;
  }

  std::unique_ptr<T[]> data_;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

// A finished flush. The spans are valid until the writer's next `begin`.
struct Flush {
  PlanHash hash;
  std::span<const uint8_t> structure;
  std::span<const int64_t> numbers;
  uint32_t entries = 0;
  uint32_t answers = 0;  // fetches and deferred ops: answers the client will get
};

class PlanWriter {
 public:
  // Starts a flush whose first new storage and first upload will have these ids.
  void begin(uint64_t base, uint64_t upload);

  [[nodiscard]] bool empty() const { return entries_ == 0 && strays_.empty(); }
  [[nodiscard]] uint32_t entries() const { return entries_; }

  // -- entries; an op is: op, its args, results(count), its results
  void op(const OpName& name, size_t arg_count) { run('O', name, arg_count); }
  // Returns the index of its answer.
  uint32_t deferred_op(const OpName& name, size_t arg_count) {
    run('Y', name, arg_count);
    return answers_++;
  }
  // The upload's destination follows with `operand`.
  void upload(UploadForm form, uint64_t length_bytes) {
    entry('U');
    u8(static_cast<uint8_t>(form));
    number(static_cast<int64_t>(length_bytes));
  }
  // The operand follows. Returns the index of its answer.
  uint32_t fetch() {
    entry('Q');
    return answers_++;
  }
  void resize(StorageRecord& storage, uint64_t bytes) {
    entry('R');
    slot(storage);
    number(static_cast<int64_t>(bytes));
    storage.bytes = bytes;
  }
  void seed(uint64_t generator, uint64_t seed) {
    entry('G');
    number(static_cast<int64_t>(generator));
    number(static_cast<int64_t>(seed));
  }

  // -- args
  void none() { u8('n'); }
  void undefined() { u8('z'); }
  void boolean(bool value) { u8(value ? 'T' : 'F'); }
  void integer(int64_t value) {
    u8('i');
    number(value);
  }
  void real(double value) {
    u8('d');
    float_number(value);
  }
  void complex(double re, double im) {
    u8('c');
    float_number(re);
    float_number(im);
  }
  void text(std::string_view text);
  void device() { u8('v'); }
  void host_device() { u8('h'); }
  void generator(uint64_t id) {
    u8('g');
    number(static_cast<int64_t>(id));
  }
  void list(size_t count) {
    u8('l');
    varint(count);
  }
  void integers(std::span<const int64_t> values) {
    u8('I');
    varint(values.size());
    for (const int64_t value : values) number(value);
  }
  void reals(std::span<const double> values) {
    u8('D');
    varint(values.size());
    for (const double value : values) float_number(value);
  }
  // A 0-dim tensor of the host; the values follow with `number` or `float_number` (two if complex).
  void cpu_scalar(Dtype dtype, bool wrapped) {
    u8('k');
    u8(static_cast<uint8_t>(dtype));
    u8(wrapped ? 1 : 0);
  }
  void tensor() { u8('t'); }  // followed by `operand`

  void operand(StorageRecord& storage, Dtype dtype, std::span<const int64_t> sizes,
               std::span<const int64_t> strides, int64_t offset);

  // -- results
  void results(size_t count) { varint(count); }
  void not_new() { u8('='); }
  void deferred_result(StorageRecord& storage) {
    u8('y');
    slot(storage, true);
  }

  void number(int64_t value) { numbers_.push(value); }
  void float_number(double value) {
    int64_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    number(bits);
  }

  // Takes back the entry that was begun last: its arguments turned out not to be sendable.
  void abandon_entry();

  // The app dropped this storage: it dies behind the entry written last.
  void forget(StorageRecord& storage);

  // Writes the end. Storages that live on are known to the server from here on.
  Flush finish();

 private:
  struct Slot {
    StorageRecord* storage = nullptr;  // null: dropped
    uint32_t death = 0;
  };

  void entry(uint8_t tag) {
    begun_ = {.structure = structure_.size(),
              .numbers = numbers_.size(),
              .slots = slots_.size(),
              .names = names_.size(),
              .entries = entries_,
              .answers = answers_};
    u8(tag);
    ++entries_;
  }
  void run(uint8_t tag, const OpName& name, size_t arg_count) {
    entry(tag);
    if (name.number >= places_.size() || places_[name.number].epoch != epoch_) introduce(name);
    varint(places_[name.number].index);
    varint(arg_count);
  }
  void introduce(const OpName& name);
  void slot(StorageRecord& storage, bool deferred = false) {
    if (storage.epoch == epoch_) {
      varint(storage.slot);
    } else {
      introduce(storage, deferred);
    }
  }
  void introduce(StorageRecord& storage, bool deferred);
  void u8(uint8_t value) { structure_.push(value); }
  void varint(uint64_t value) {
    while (value >= 0x80) {
      u8(static_cast<uint8_t>(value | 0x80));
      value >>= 7;
    }
    u8(static_cast<uint8_t>(value));
  }

  // Where the entry written last begins.
  struct Mark {
    size_t structure = 0;
    size_t numbers = 0;
    size_t slots = 0;
    size_t names = 0;
    uint32_t entries = 0;
    uint32_t answers = 0;
  };

  // An operator's place in the names of a flush.
  struct Place {
    uint32_t epoch = 0;
    uint32_t index = 0;
  };

  Mark begun_;
  Sink<uint8_t> structure_;
  Sink<int64_t> numbers_;
  std::vector<Slot> slots_;
  std::vector<const OpName*> names_;
  std::vector<Place> places_;  // by the operator's number
  std::vector<int64_t> strays_;
  uint32_t epoch_ = 0;
  uint32_t entries_ = 0;
  uint32_t answers_ = 0;
};

}  // namespace djinn::graph
