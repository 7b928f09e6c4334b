// SPDX-License-Identifier: Apache-2.0
#include "server/torch/random.h"

#include <mutex>

#include "server/torch/problem.h"

namespace djinn::server {
namespace {

constexpr size_t kGeneratorsMax = 256;  // per session; a program has one or two

std::mutex& borrowed() {
  static std::mutex mutex;
  return mutex;
}

}  // namespace

at::Generator& Generators::get(int64_t id) {
  const auto found = generators_.find(id);
  if (found != generators_.end()) return found->second;
  if (generators_.size() >= kGeneratorsMax) {
    throw Problem(ErrorCode::kExhausted,
                  "a session has at most " + std::to_string(kGeneratorsMax) + " random generators");
  }
  return generators_.emplace(id, backend_.new_generator()).first->second;
}

void Generators::seed(int64_t id, int64_t seed) {
  get(id).set_current_seed(static_cast<uint64_t>(seed));
}

void Generators::as_default(const std::function<void()>& body) {
  at::Generator& ours = get(0);
  at::Generator process = backend_.default_generator();
  const std::scoped_lock lock(borrowed());
  struct Loan {
    Loan(at::Generator& from, at::Generator& to) : ours(from), process(to), own(to.get_state()) {
      process.set_state(ours.get_state());
    }
    ~Loan() {
      ours.set_state(process.get_state());
      process.set_state(own);
    }
    at::Generator& ours;
    at::Generator& process;
    at::Tensor own;
  } const loan(ours, process);
  body();
}

}  // namespace djinn::server
