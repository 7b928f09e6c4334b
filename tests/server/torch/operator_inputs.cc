// SPDX-License-Identifier: Apache-2.0
#include "tests/server/torch/operator_inputs.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include <ATen/ATen.h>

#include "tests/support/sanitized.h"

namespace djinn::server {
namespace {

using at::Tensor;

bool has(const std::string& name, std::initializer_list<const char*> parts) {
  return std::any_of(parts.begin(), parts.end(),
                     [&](const char* part) { return name.find(part) != std::string::npos; });
}

const std::vector<std::vector<int64_t>> kShapes{
    {4, 4}, {2, 4, 4, 4}, {6}, {2, 4, 4}, {4, 4, 4}, {1, 2, 4, 4, 4}, {}, {2, 4}, {3, 4, 8, 8}};
constexpr at::ScalarType kTypes[] = {at::kFloat, at::kFloat, at::kFloat,        at::kDouble,
                                     at::kLong,  at::kBool,  at::kComplexFloat, at::kBFloat16};

}  // namespace

Stack OperatorInputs::guess(const OperatorInfo& op) {
  shape_ = kShapes[static_cast<size_t>(pick(0, static_cast<int64_t>(kShapes.size()) - 1))];
  type_ = kTypes[static_cast<size_t>(pick(0, std::ssize(kTypes) - 1))];
  Stack stack;
  const auto& arguments = op.handle.schema().arguments();
  for (size_t i = 0; i < arguments.size(); ++i) stack.push_back(value(arguments[i], op.args[i]));
  return stack;
}

int64_t OperatorInputs::nasty_integer() {
  static constexpr int64_t kNasty[] = {0,
                                       -1,
                                       -2,
                                       1,
                                       2,
                                       3,
                                       5,
                                       7,
                                       64,
                                       1000,
                                       1 << 20,
                                       int64_t{1} << 31,
                                       int64_t{1} << 40,
                                       INT64_MAX,
                                       INT64_MIN,
                                       -100};
  return kNasty[static_cast<size_t>(pick(0, std::ssize(kNasty) - 1))];
}

Tensor OperatorInputs::tensor(const std::string& name, const ArgInfo& info) {
  const bool written = info.written;
  if (nasty()) {
    if (info.optional && pick(0, 5) == 0) return {};
    static const std::vector<std::vector<int64_t>> odd_shapes{
        {},        {0},       {1},    {3},  {7, 1},       {0, 4},      {4, 0},
        {1, 1, 1}, {5, 2, 3}, {2, 4}, {64}, {1, 0, 3, 3}, {2, 3, 1, 5}};
    const auto& shape = odd_shapes[static_cast<size_t>(pick(0, std::ssize(odd_shapes) - 1))];
    const auto type = coin() ? type_ : kTypes[static_cast<size_t>(pick(0, std::ssize(kTypes) - 1))];
    const Tensor odd = type == at::kLong ? at::randint(-3, 9, shape, at::kLong)
                                         : at::rand(shape, at::kDouble).sub_(0.3).mul_(9).to(type);
    return make_(odd, written);
  }
  const int64_t channels = shape_.size() > 1 ? shape_[1] : 4;
  Tensor content;
  if (has(name, {"index", "indices", "target", "offsets", "lengths", "boundaries"}) &&
      pick(0, 4) != 0) {
    content = at::randint(0, 2, coin() ? shape_ : std::vector<int64_t>{2}, at::kLong);
    if (nasty()) content.fill_(nasty_integer());
  } else if (has(name, {"mask", "condition"}) && pick(0, 4) != 0) {
    content = at::randint(0, 2, shape_, at::kLong).to(at::kBool);
  } else if (has(name, {"running", "bias", "weight", "save", "invstd", "scale", "rstd", "mean",
                        "var", "zero_point"}) &&
             pick(0, 3) != 0) {
    content = at::rand({channels}).add_(0.5);
  } else if (has(name, {"weight"}) && coin()) {
    content = at::rand({4, channels, 3, 3});
  } else if (has(name, {"found_inf", "inv_scale", "lr", "step", "eps"}) && coin()) {
    content = at::rand({});
  } else {
    content = at::rand(shape_, at::kDouble).mul_(2).add_(0.25).to(type_);
  }
  return make_(content, written);
}

int64_t OperatorInputs::integer(const std::string& name) {
  if (nasty()) return nasty_integer();
  if (has(name, {"dim"})) return pick(-1, 1);
  if (has(name, {"reduction"})) return pick(0, 2);
  if (name == "N") return shape_.empty() ? 1 : shape_[0];
  if (name == "C") return shape_.size() > 1 ? shape_[1] : 1;
  if (name == "HxW") {
    int64_t product = 1;
    for (size_t d = 2; d < shape_.size(); ++d) product *= shape_[d];
    return product;
  }
  if (has(name, {"group"})) return pick(1, 2);
  if (has(name, {"offset", "diagonal", "start"})) return pick(0, 1);
  if (has(name, {"max_q", "max_k"})) return 4;
  return pick(1, 4);
}

std::vector<int64_t> OperatorInputs::integers(const std::string& name, int64_t count) {
  if (nasty()) {
    std::vector<int64_t> list(static_cast<size_t>(pick(0, 5)));
    for (int64_t& each : list) each = coin() ? nasty_integer() : pick(0, 3);
    return list;
  }
  if (has(name, {"size", "shape"}) && !has(name, {"kernel", "output", "step"}) && coin()) {
    return shape_;
  }
  if (has(name, {"normalized"})) return {shape_.empty() ? 1 : shape_.back()};
  if (has(name, {"dim", "dims"}))
    return coin() ? std::vector<int64_t>{-1} : std::vector<int64_t>{0, 1};
  if (count <= 0) count = pick(0, 3);
  std::vector<int64_t> list;
  for (int64_t i = 0; i < count; ++i) {
    list.push_back(has(name, {"pad"})                  ? pick(0, 1)
                   : has(name, {"dilation", "stride"}) ? 1
                                                       : pick(1, 4));
  }
  return list;
}

std::string OperatorInputs::text(const std::string& name) {
  static const std::vector<std::string> texts{"none", "tanh", "sum",  "mean",    "amax", "add",
                                              "V",    "L",    "gels", "reduced", "ij",   "trunc"};
  (void)name;
  return texts[static_cast<size_t>(pick(0, static_cast<int64_t>(texts.size()) - 1))];
}

c10::IValue OperatorInputs::value(const c10::Argument& argument, const ArgInfo& info) {
  const std::string& name = argument.name();
  if (argument.default_value() && pick(0, 2) != 0) return *argument.default_value();
  if (info.optional && info.type != ArgType::kTensor && coin()) return {};
  if (info.optional && pick(0, 3) == 0) return {};
  switch (info.type) {
    case ArgType::kTensor:
      return tensor(name, info);
    case ArgType::kTensors: {
      std::vector<Tensor> list;
      for (int64_t i = pick(1, 3); i > 0; --i) list.push_back(tensor(name, info));
      return list;
    }
    case ArgType::kOptionalTensors: {
      c10::List<std::optional<Tensor>> list;
      for (int64_t i = pick(1, 2); i > 0; --i) list.push_back(tensor(name, info));
      return list;
    }
    case ArgType::kInt:
      return integer(name);
    case ArgType::kFloat:
      return static_cast<double>(pick(1, 8)) / 10;
    case ArgType::kBool:
      return !info.never && coin();
    case ArgType::kScalar:
      return c10::IValue(coin() ? c10::Scalar(pick(1, 3)) : c10::Scalar(0.5));
    case ArgType::kString:
      return text(name);
    case ArgType::kDevice:
      return c10::Device(c10::kCPU);
    case ArgType::kScalarType:
      return static_cast<int64_t>(coin() ? at::kFloat : type_);
    case ArgType::kLayout:
      return static_cast<int64_t>(c10::kStrided);
    case ArgType::kMemoryFormat:
      return static_cast<int64_t>(c10::MemoryFormat::Contiguous);
    case ArgType::kInts:
      return integers(name, argument.N() ? *argument.N() : 0);
    case ArgType::kFloats:
      return std::vector<double>(static_cast<size_t>(pick(1, 3)), 1.5);
    case ArgType::kBools: {
      c10::List<bool> list;
      for (int32_t i = 0; i < std::max(info.exactly, 2); ++i) list.push_back(coin());
      return list;
    }
    case ArgType::kScalars: {
      c10::List<c10::Scalar> list;
      for (int64_t i = pick(1, 3); i > 0; --i) list.push_back(1.5);
      return list;
    }
    default:
      return {};
  }
}

std::vector<int> in_children(int count, unsigned seconds, const std::function<int(int)>& body) {
  const size_t bytes = (static_cast<size_t>(count) + 1) * sizeof(int);
  void* const mapping =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  auto* const results = static_cast<volatile int*>(mapping);
  for (int i = 0; i < count; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(djinn::testing::kSanitized ? 10 * seconds : seconds);
      results[i] = body(i);
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) results[i] = -WTERMSIG(status);
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0) results[i] = -1000;
  }
  std::vector<int> all(results, results + count);
  munmap(mapping, bytes);
  return all;
}

}  // namespace djinn::server
