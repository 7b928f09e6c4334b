// SPDX-License-Identifier: Apache-2.0
// fcfs: jobs in the order in which they came, whoever sent them: what "no scheduler" means.
//
// A job waits for exactly those that came before it. Who sends more gets more.
#include "scheduler/keyed.h"

namespace djinn::sched {
namespace {

class Fcfs final : public Keyed {
 public:
  [[nodiscard]] std::string_view name() const override { return "fcfs"; }

 private:
  [[nodiscard]] uint64_t rank(Lane& lane, uint64_t /*now_ns*/) override {
    return lane.job().arrived_ns;
  }
  [[nodiscard]] Why why(const Lane& lane, uint64_t now_ns) const override {
    return {.rule = "came first", .terms = {{{"waited_ns", now_ns - lane.job().arrived_ns}}}};
  }
};

}  // namespace

std::unique_ptr<Policy> make_fcfs() { return std::make_unique<Fcfs>(); }

}  // namespace djinn::sched
