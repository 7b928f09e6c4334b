// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/random_program.h"

#include <cstdlib>
#include <cstring>
#include <sstream>

#include "tests/integration/random_steps.h"

namespace djinn::testing {
namespace {

using at::Tensor;

constexpr size_t kTensorsMax = 8;

std::string describe(const Tensor& tensor) {
  std::ostringstream out;
  out << tensor.scalar_type() << tensor.sizes() << " strides " << tensor.strides() << " offset "
      << tensor.storage_offset() << (tensor.requires_grad() ? " tracked" : "")
      << (tensor.is_conj() ? " conjugated" : "") << (tensor.is_neg() ? " negated" : "");
  return out.str();
}

std::string first_line(const c10::Error& error) {
  const std::string text = error.what_without_backtrace();
  return text.substr(0, text.find('\n'));
}

// The elements one behind the other, as they would be printed.
Tensor plain(const Tensor& tensor) {
  const Tensor host = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous();
  return host.is_complex() ? at::view_as_real(host) : host;
}

}  // namespace

RandomProgram::RandomProgram(uint64_t seed, at::Device remote)
    : random_(seed), remote_{remote, {}} {
  fetch_all_ = std::getenv("DJINN_FETCH_ALL") != nullptr;  // NOLINT(concurrency-mt-unsafe)
  tracked_ = chance(30);
  complex_ = chance(50);
  for (int i = 0; i < 2; ++i) add(data(sizes(3, 5), type()));
}

int64_t RandomProgram::below(int64_t end) {
  return end <= 0 ? 0 : static_cast<int64_t>(random_() % static_cast<uint64_t>(end));
}

size_t RandomProgram::any_of(at::ScalarType wanted) {
  const size_t first = any();
  for (size_t i = 0; i < size(); ++i) {
    const size_t at = (first + i) % size();
    if (host_.t[at].scalar_type() == wanted) return at;
  }
  return first;
}

Tensor RandomProgram::data(at::IntArrayRef shape, at::ScalarType element) {
  // Small integers: sums and products stay exact for a while, and conversions are defined.
  auto out = at::empty(shape, at::kLong);
  for (int64_t i = 0; i < out.numel(); ++i) out.data_ptr<int64_t>()[i] = between(-9, 9);
  return element == at::kByte ? out.abs().to(element) : out.to(element);
}

std::vector<int64_t> RandomProgram::sizes(int64_t rank_max, int64_t size_max) {
  std::vector<int64_t> out(static_cast<size_t>(between(chance(10) ? 0 : 1, rank_max)));
  for (int64_t& size : out) size = chance(3) ? 0 : between(1, size_max);
  return out;
}

at::ScalarType RandomProgram::type() {
  if (tracked_) return at::kFloat;
  // Not both: their sum would be of a type that djinn does not have.
  const auto seldom = complex_ ? at::kComplexFloat : at::kBFloat16;
  const at::ScalarType types[] = {at::kFloat,  at::kFloat, at::kFloat, at::kLong,
                                  at::kDouble, at::kInt,   at::kByte,  seldom};
  return types[below(std::size(types))];
}

void RandomProgram::fail(const std::string& what) {
  if (!difference_) difference_ = what;
}

void RandomProgram::add(const Tensor& source) {
  const std::string name = "t" + std::to_string(size());
  Tensor host = source.clone();
  Tensor remote = source.to(remote_.device);
  std::ostringstream text;
  text << name << " = upload " << source.scalar_type() << source.sizes();
  if (tracked_) {
    host.requires_grad_();
    remote.requires_grad_();
    leaves_.emplace_back(host, remote);
    host = host * 2;
    remote = remote * 2;
    text << " * 2, of a leaf";
  }
  steps_.push_back(text.str());
  host_.t.push_back(host);
  remote_.t.push_back(remote);
}

void RandomProgram::drop(size_t i) {
  for (Pool* const pool : {&host_, &remote_}) {
    pool->t[i] = pool->t.back();
    pool->t.pop_back();
  }
  steps_.push_back("t" + std::to_string(i) + " = move(t" + std::to_string(size()) + ")");
}

std::string RandomProgram::geometry() const {
  std::string out;
  for (const Tensor& tensor : host_.t) {
    out += describe(tensor) + " in " + std::to_string(tensor.storage().nbytes()) + " bytes; ";
  }
  return out;
}

void RandomProgram::compare_geometry(size_t i) {
  const std::string host = describe(host_.t[i]);
  const std::string remote = describe(remote_.t[i]);
  if (host == remote) return;
  fail("t" + std::to_string(i) + " is " + host + " on the CPU, " + remote + " on djinn");
}

void RandomProgram::compare_bits(const std::string& name, const Tensor& host,
                                 const Tensor& remote) {
  const Tensor a = plain(host);
  const Tensor b = plain(remote);
  if (a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type() &&
      (a.nbytes() == 0 || std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0)) {
    return;
  }
  std::ostringstream text;
  text << name << " is\n" << a << "\non the CPU, and on djinn\n" << b;
  fail(text.str());
}

void RandomProgram::fetch(size_t i) {
  const std::string name = "t" + std::to_string(i);
  steps_.push_back("fetch " + name);
  try {
    compare_bits(name, host_.t[i], remote_.t[i]);
  } catch (const c10::Error& error) {
    fail("the fetch of " + name + " threw: " + first_line(error));
  }
}

// The CPU refused: djinn must, too, or may learn of it later; then the program ends here.
void RandomProgram::refuse(const Act& act, const std::string& why, bool may_come_later) {
  const bool overlap = why.starts_with("unsupported operation");
  if (overlap && !tracked_) return;  // Left out: it changed nothing, and autograd has seen nothing.
  try {
    (void)act(remote_);
  } catch (const c10::Error& error) {
    return;
  }
  if (!may_come_later && !overlap) fail("only the CPU refused: " + why);
  over_ = true;
}

bool RandomProgram::apply(const std::string& text, const Act& act, Refusal refusal) {
  steps_.push_back(text);
  const std::string before = geometry();
  Tensor host;
  try {
    host = act(host_);
  } catch (const c10::Error& error) {
    const std::string why = first_line(error);
    steps_.back() += "   // refused: " + why;
    over_ = geometry() != before;  // Refused half-way: nothing to compare with.
    if (!over_) refuse(act, why, refusal == Refusal::kLater);
    return false;
  }
  Tensor remote;
  try {
    remote = act(remote_);
  } catch (const c10::Error& error) {
    fail("only djinn refused: " + first_line(error));
    return false;
  }
  if (host.defined() != remote.defined()) {
    fail("a tensor is defined on one side only");
  } else if (host.defined() && remote.is_cpu()) {
    compare_bits("a value read", host, remote);
  } else if (host.defined()) {
    host_.t.push_back(host);
    remote_.t.push_back(remote);
  }
  for (size_t i = 0; i < size(); ++i) compare_geometry(i);
  return !difference_;
}

void RandomProgram::fill_grown(size_t i, size_t bytes_before) {
  const Tensor& tensor = host_.t[i];
  const size_t bytes = tensor.storage().nbytes();
  if (difference_ || bytes <= bytes_before) return;
  const size_t item = tensor.itemsize();
  const auto first = static_cast<int64_t>(bytes_before / item);
  const auto count = static_cast<int64_t>(bytes / item) - first;
  std::ostringstream text;
  text << "t" << i << ".as_strided({" << count << "}, {1}, " << first << ").fill_(5)";
  apply(text.str(), [=](Pool& pool) {
    pool.t[i].as_strided({count}, {1}, first).fill_(5);
    return Tensor();
  });
}

void RandomProgram::compare_gradients() {
  const auto backward = [](Pool& pool) {
    Tensor loss;
    for (const Tensor& tensor : pool.t) {
      if (!tensor.requires_grad()) continue;
      const Tensor part = tensor.to(at::kDouble).sum();
      loss = loss.defined() ? loss + part : part;
    }
    if (loss.defined()) loss.backward();
    return Tensor();
  };
  if (!apply("sum of all, backward", backward)) return;
  for (size_t i = 0; i < leaves_.size() && !difference_; ++i) {
    const Tensor& host = leaves_[i].first.grad();
    const Tensor& remote = leaves_[i].second.grad();
    if (host.defined() != remote.defined()) return fail("a gradient is there on one side only");
    if (host.defined()) compare_bits("gradient of leaf " + std::to_string(i), host, remote);
  }
}

void RandomProgram::draw_step() {
  int total = 0;
  for (const auto kinds : {view_steps(), write_steps()}) {
    for (const StepKind& kind : kinds) total += kind.weight;
  }
  int64_t at = below(total);
  for (const auto kinds : {view_steps(), write_steps()}) {
    for (const StepKind& kind : kinds) {
      if ((at -= kind.weight) < 0) return kind.step(*this);
    }
  }
}

std::optional<std::string> RandomProgram::run(int steps) {
  for (int i = 0; i < steps && !difference_; ++i) {
    draw_step();
    if (over_) break;
    while (size() > kTensorsMax) drop(any());
    if (!difference_ && chance(8)) fetch(any());
    for (size_t k = 0; fetch_all_ && k < size() && !difference_; ++k) fetch(k);
  }
  if (over_) return difference_;
  if (!difference_ && tracked_) compare_gradients();
  for (size_t i = 0; i < size() && !difference_; ++i) fetch(i);
  return difference_;
}

}  // namespace djinn::testing

// A product keeps its factors for the gradient. Written over one of them (x.mul_(x), or
// x.copy_(x * y)), it is a cycle of LibTorch's own: without djinn, on the CPU, it leaks as well.
extern "C" const char* __lsan_default_suppressions() {  // NOLINT: LeakSanitizer asks for it.
  return "leak:VariableType::(anonymous namespace)::mul_\n";
}
