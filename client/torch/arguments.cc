// SPDX-License-Identifier: Apache-2.0
#include "client/torch/arguments.h"

#include <ATen/core/Tensor.h>

#include "client/torch/dtypes.h"
#include "client/torch/generator.h"

namespace djinn::client {
namespace {

class Preparation {
 public:
  explicit Preparation(const OpInfo& op) : op_(op) {}

  Arguments run(Stack& stack, size_t begin) {
    for (size_t i = begin; i < begin + op_.arg_count; ++i) {
      c10::IValue& value = stack[i];
      if (value.isTensor()) {
        see(value.toTensor());
      } else if (value.isTensorList()) {
        for (const at::Tensor& tensor : value.toTensorList()) see(tensor);
      } else if (value.isOptionalTensorList()) {
        see_indices(value);
      } else if (value.isDevice() && out_.device == nullptr &&
                 value.toDevice().type() == c10::kPrivateUse1) {
        out_.device = &RemoteDevice::get(value.toDevice().index());
      }
    }
    if (out_.device == nullptr) out_.device = &RemoteDevice::current();
    if (has_host_index_) move_indices(stack, begin);
    return out_;
  }

 private:
  void see(const at::Tensor& tensor) {
    if (!tensor.defined()) return;
    if (is_remote(tensor)) {
      RemoteDevice& device = RemoteDevice::of(tensor);
      TORCH_CHECK(!from_tensor_ || out_.device == &device,
                  "Expected all tensors to be on the same device, but found at least two devices, ",
                  out_.device->device(), " and ", tensor.device(), "! (when checking arguments of ",
                  op_.name.name, ")");
      out_.device = &device;
      from_tensor_ = true;
      return;
    }
    TORCH_CHECK(tensor.is_cpu() && tensor.dim() == 0 && tensor.layout() == c10::kStrided,
                "Expected all tensors to be on the same device, but found at least two devices, "
                "djinn:",
                static_cast<int>(RemoteDevice::current_index()), " and ", tensor.device(),
                "! (when checking arguments of ", op_.name.name, ")");
  }

  // Indices may be on the host, as on every device.
  void see_indices(const c10::IValue& value) {
    for (const std::optional<at::Tensor> index : value.toOptionalTensorList()) {
      if (!index || !index->defined()) continue;
      const auto type = index->scalar_type();
      out_.boolean_index |= type == c10::kBool || type == c10::kByte;
      if (is_remote(*index)) {
        see(*index);
      } else {
        has_host_index_ = true;
      }
    }
  }

  void move_indices(Stack& stack, size_t begin) {
    for (size_t i = begin; i < begin + op_.arg_count; ++i) {
      if (!stack[i].isOptionalTensorList()) continue;
      c10::List<std::optional<at::Tensor>> moved;
      for (const std::optional<at::Tensor> index : stack[i].toOptionalTensorList()) {
        const bool host = index && index->defined() && !is_remote(*index);
        if (host) {
          moved.push_back(index->to(out_.device->device()));
        } else {
          moved.push_back(index);
        }
      }
      stack[i] = std::move(moved);
    }
  }

  const OpInfo& op_;
  Arguments out_;
  bool from_tensor_ = false;
  bool has_host_index_ = false;
};

template <typename T>
T read(const at::Tensor& tensor) {
  return *static_cast<const T*>(tensor.const_data_ptr());
}

void write_complex(graph::PlanWriter& writer, c10::complex<double> value) {
  writer.float_number(value.real());
  writer.float_number(value.imag());
}

// A 0-dim tensor of the host, by value: it may change after this call.
void write_scalar(graph::PlanWriter& writer, const at::Tensor& tensor) {
  writer.cpu_scalar(to_wire(tensor.scalar_type()),
                    tensor.unsafeGetTensorImpl()->is_wrapped_number());
  switch (tensor.scalar_type()) {
    case c10::kByte:
      return writer.number(read<uint8_t>(tensor));
    case c10::kChar:
      return writer.number(read<int8_t>(tensor));
    case c10::kShort:
      return writer.number(read<int16_t>(tensor));
    case c10::kInt:
      return writer.number(read<int32_t>(tensor));
    case c10::kLong:
      return writer.number(read<int64_t>(tensor));
    case c10::kUInt16:
      return writer.number(read<uint16_t>(tensor));
    case c10::kUInt32:
      return writer.number(read<uint32_t>(tensor));
    case c10::kUInt64:
      return writer.number(static_cast<int64_t>(read<uint64_t>(tensor)));
    case c10::kBool:
      return writer.number(read<bool>(tensor) ? 1 : 0);
    case c10::kHalf:
      return writer.float_number(read<c10::Half>(tensor));
    case c10::kBFloat16:
      return writer.float_number(read<c10::BFloat16>(tensor));
    case c10::kFloat:
      return writer.float_number(read<float>(tensor));
    case c10::kDouble:
      return writer.float_number(read<double>(tensor));
    case c10::kComplexFloat:
      return write_complex(writer, c10::complex<double>(read<c10::complex<float>>(tensor)));
    case c10::kComplexDouble:
      return write_complex(writer, read<c10::complex<double>>(tensor));
    default:
      TORCH_CHECK(false, "djinn: a scalar of type ", tensor.scalar_type(), " does not travel");
  }
}

void write_tensor(RemoteDevice& device, const at::Tensor& tensor) {
  graph::PlanWriter& writer = device.writer();
  if (!tensor.defined()) return writer.undefined();
  if (!is_remote(tensor)) return write_scalar(writer, tensor);
  writer.tensor();
  device.write_operand(tensor);
}

void write_list(const OpInfo& op, RemoteDevice& device, const c10::IValue& value);

void write_value(const OpInfo& op, RemoteDevice& device, const c10::IValue& value) {
  graph::PlanWriter& writer = device.writer();
  if (value.isTensor()) return write_tensor(device, value.toTensor());
  if (value.isNone()) return writer.none();
  if (value.isInt()) return writer.integer(value.toInt());
  if (value.isDouble()) return writer.real(value.toDouble());
  if (value.isBool()) return writer.boolean(value.toBool());
  if (value.isList()) return write_list(op, device, value);
  if (value.isDevice()) {
    return value.toDevice().type() == c10::kPrivateUse1 ? writer.device() : writer.host_device();
  }
  if (value.isString()) return writer.text(value.toStringRef());
  if (value.isComplexDouble()) {
    const auto number = value.toComplexDouble();
    return writer.complex(number.real(), number.imag());
  }
  TORCH_CHECK(false, "djinn: ", op.name.name, " has an argument of type ", value.tagKind(),
              ", which cannot be sent to a server");
}

void write_list(const OpInfo& op, RemoteDevice& device, const c10::IValue& value) {
  graph::PlanWriter& writer = device.writer();
  if (value.isIntList()) {
    const auto list = value.toIntVector();
    return writer.integers(list);
  }
  if (value.isDoubleList()) {
    const auto list = value.toDoubleVector();
    return writer.reals(list);
  }
  const auto items = value.toListRef();
  writer.list(items.size());
  for (const c10::IValue& item : items) write_value(op, device, item);
}

}  // namespace

Arguments prepare_arguments(const OpInfo& op, Stack& stack, size_t begin) {
  return Preparation(op).run(stack, begin);
}

void write_arguments(const OpInfo& op, const Stack& stack, size_t begin, RemoteDevice& device) {
  for (size_t i = 0; i < op.arg_count; ++i) {
    const c10::IValue& value = stack[begin + i];
    if (i == op.generator_arg) {
      const bool given = value.isGenerator() && value.toGenerator().defined();
      device.writer().generator(
          given ? static_cast<const RemoteGenerator&>(*value.toGenerator().unsafeGetGeneratorImpl())
                      .id()
                : 0);
    } else {
      write_value(op, device, value);
    }
  }
}

}  // namespace djinn::client
