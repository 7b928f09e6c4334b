// SPDX-License-Identifier: Apache-2.0
// Packed matrices: second copies of weights that several sessions multiply by, in the order in
// which oneDNN reads them.
//
// MKL packs a matrix anew in each product of a few rows, which costs more than the product. oneDNN
// takes one that was packed before: on two cores with AVX-512 a decode step's products of 4, 8 and
// 16 rows took 24, 31 and 36 ms where MKL's took 48, 66 and 78. A matrix is packed when it has been
// multiplied by often enough that this is worth its memory, and dropped when that is wanted or
// others were used since. Packed copies are nobody's: only the device's budget counts them.
// Source: mkldnn::_reorder_linear_weight and _linear_pointwise of LibTorch, which torch.compile
// uses too. Where LibTorch lacks them, or the processor what they need (AVX-512 for bfloat16),
// nothing is packed. Threading: `multiply` inside
// Backend::enter, one thread at a time; the rest any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <map>
#include <tuple>

#include <ATen/core/Tensor.h>

#include "serialization/base/mutex.h"
#include "server/torch/backend.h"

namespace djinn::server {

class PackedMatrices {
 public:
  explicit PackedMatrices(const Backend& backend);

  // rows [n, inner] times matrix [inner, columns] plus bias [columns] or nothing, by a packed copy
  // of the matrix. Undefined: there is none, and whoever asks multiplies himself. `content` is the
  // number of the buffer whose bytes the matrix shows. Throws what LibTorch throws.
  [[nodiscard]] at::Tensor multiply(uint64_t content, const at::Tensor& matrix,
                                    const at::Tensor& rows, const at::Tensor& bias);
  // Drops so many bytes, or all there are; returns how many.
  uint64_t drop(uint64_t bytes);
  [[nodiscard]] uint64_t bytes() const { return bytes_; }

 private:
  // What a matrix is, as long as the server lives: numbers of buffers do not come again.
  struct Key {
    uint64_t content = 0;
    int64_t offset = 0;
    int64_t inner = 0;
    int64_t columns = 0;
    int64_t stride = 0;
    int64_t column_stride = 0;
    c10::ScalarType type = c10::ScalarType::Undefined;
    auto operator<=>(const Key&) const = default;  // NOLINT(modernize-use-nullptr): its own 0
  };
  struct Entry {
    at::Tensor packed;  // Undefined: not yet.
    uint64_t bytes = 0;
    uint64_t uses = 0;
    bool never = false;             // LibTorch cannot pack it.
    std::list<Key>::iterator used;  // its place among those that are packed
  };
  // Undefined: it is not packed, and is not to be now.
  [[nodiscard]] at::Tensor find(const Key& key, uint64_t bytes, bool& pack);
  void keep(const Key& key, at::Tensor packed, uint64_t bytes);
  void never_pack(const Key& key);
  void unpack(Entry& entry) REQUIRES(mutex_);

  const Backend& backend_;
  const uint64_t bytes_max_;
  Mutex mutex_;
  std::map<Key, Entry> entries_ GUARDED_BY(mutex_);
  std::list<Key> used_ GUARDED_BY(mutex_);  // Of those that are packed: the next to go comes first.
  std::atomic<uint64_t> bytes_ = 0;
};

}  // namespace djinn::server
