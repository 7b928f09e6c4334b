// SPDX-License-Identifier: Apache-2.0
// rr: sessions that have jobs take turns, a job each.
//
// A session waits for at most one job of every other. Long jobs get more of the device than short
// ones, and ten sessions of one tenant more than one.
#include "scheduler/keyed.h"

namespace djinn::sched {
namespace {

class RoundRobin final : public Keyed {
 public:
  [[nodiscard]] std::string_view name() const override { return "rr"; }

 private:
  // Whoever had its turn comes back behind all who wait.
  [[nodiscard]] uint64_t rank(Lane& /*lane*/, uint64_t /*now_ns*/) override { return 0; }
  [[nodiscard]] Why why(const Lane& lane, uint64_t /*now_ns*/) const override {
    return {.rule = "its turn", .terms = {{{"turn", lane.key.second}}}};
  }
};

}  // namespace

std::unique_ptr<Policy> make_rr() { return std::make_unique<RoundRobin>(); }

}  // namespace djinn::sched
