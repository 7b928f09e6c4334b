// SPDX-License-Identifier: Apache-2.0
#include "serialization/graph/result_meta.h"

#include <bit>

#include "serialization/base/limits.h"

namespace djinn::graph {
namespace {

void put_tensor(ByteString& out, const TensorMeta& tensor) {
  put_varint(out, tensor.storage_bytes);
  out.push_back(static_cast<uint8_t>(tensor.dtype));
  out.push_back(static_cast<uint8_t>(tensor.sizes.size()));
  for (const int64_t size : tensor.sizes) put_varint(out, static_cast<uint64_t>(size));
  for (const int64_t stride : tensor.strides) put_varint(out, static_cast<uint64_t>(stride));
  put_varint(out, static_cast<uint64_t>(tensor.offset));
}

struct Encode {
  ByteString& out;
  void operator()(std::monostate) const { out.push_back('n'); }
  void operator()(UndefinedTensor) const { out.push_back('z'); }
  void operator()(int64_t value) const {
    out.push_back('i');
    put_varint(out, zigzag(value));
  }
  void operator()(double value) const {
    out.push_back('d');
    put_word(out, std::bit_cast<uint64_t>(value));
  }
  void operator()(bool value) const { out.push_back(value ? 'T' : 'F'); }
  void operator()(const TensorMeta& tensor) const {
    out.push_back('t');
    put_tensor(out, tensor);
  }
  void operator()(const std::vector<TensorMeta>& tensors) const {
    out.push_back('l');
    put_varint(out, tensors.size());
    for (const TensorMeta& tensor : tensors) put_tensor(out, tensor);
  }
};

Result<TensorMeta> tensor(ByteReader& in) {
  TensorMeta out;
  out.storage_bytes = in.varint();
  const uint8_t dtype = in.u8();
  const uint8_t rank = in.u8();
  if (dtype > kDtypeMax || rank >= kRankMax || out.storage_bytes > kStorageBytesMax) {
    return Error{ErrorCode::kInvalid, "a result's description is out of bounds"};
  }
  out.dtype = static_cast<Dtype>(dtype);
  const auto dimension = [&] {
    const uint64_t value = in.varint();
    return static_cast<int64_t>(std::min(value, kStorageBytesMax));
  };
  for (unsigned d = 0; d < rank; ++d) out.sizes.push_back(dimension());
  for (unsigned d = 0; d < rank; ++d) out.strides.push_back(dimension());
  out.offset = dimension();
  return out;
}

Result<ResultMeta> one(ByteReader& in) {
  switch (in.u8()) {
    case 'n':
      return ResultMeta(std::monostate{});
    case 'z':
      return ResultMeta(UndefinedTensor{});
    case 'i':
      return ResultMeta(unzigzag(in.varint()));
    case 'd':
      return ResultMeta(std::bit_cast<double>(in.word()));
    case 'T':
      return ResultMeta(true);
    case 'F':
      return ResultMeta(false);
    case 't': {
      DJINN_TRY(auto meta, tensor(in));
      return ResultMeta(std::move(meta));
    }
    case 'l': {
      std::vector<TensorMeta> list;
      const uint64_t count = in.varint();
      for (uint64_t i = 0; i < count && in.ok(); ++i) {
        DJINN_TRY(auto meta, tensor(in));
        list.push_back(std::move(meta));
      }
      return ResultMeta(std::move(list));
    }
    default:
      return Error{ErrorCode::kInvalid, "a result of unknown kind"};
  }
}

}  // namespace

ByteString encode_results(const std::vector<ResultMeta>& results) {
  ByteString out;
  out.push_back(static_cast<uint8_t>(results.size()));
  for (const ResultMeta& result : results) std::visit(Encode{out}, result);
  return out;
}

Result<std::vector<ResultMeta>> decode_results(ByteSpan bytes) {
  ByteReader in(bytes);
  std::vector<ResultMeta> out;
  const uint8_t count = in.u8();
  for (unsigned i = 0; i < count && in.ok(); ++i) {
    DJINN_TRY(auto result, one(in));
    out.push_back(std::move(result));
  }
  if (!in.ok() || !in.at_end()) return Error{ErrorCode::kInvalid, "results are cut short"};
  return out;
}

}  // namespace djinn::graph
