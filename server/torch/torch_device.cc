// SPDX-License-Identifier: Apache-2.0
#include "server/torch/torch_device.h"

#include <atomic>
#include <mutex>

#include <torch/version.h>

#include "operators/allow_list.h"
#include "operators/census.h"
#include "server/torch/program.h"
#include "server/torch/replay.h"

namespace djinn::server {
namespace {

class TorchDevice final : public Device {
 public:
  TorchDevice(std::string name, std::unique_ptr<Backend> backend)
      : name_(std::move(name)),
        backend_(std::move(backend)),
        table_([this](std::string_view op) { return backend_->kernel_of(op); },
               backend_->dies_of_bad_indices()),
        schema_hash_(operators::schema_hash(operators::allowed_operators())) {}

  std::string name() const override { return name_; }
  std::string libtorch_version() const override { return TORCH_VERSION; }
  std::vector<uint8_t> schema_hash() const override { return schema_hash_; }
  bool supports(std::string_view op, uint64_t schema_hash) const override {
    const auto info = table_.find(std::string(op));
    return info.has_value() && (*info)->schema_hash == schema_hash;
  }
  Result<std::shared_ptr<Buffer>> stage(uint64_t bytes, std::string_view tenant) override {
    try {
      return backend_->stage(bytes, {.account = &Account::of(tenant)});
    } catch (const std::exception& exception) {
      return Error{ErrorCode::kOutOfMemory, translate(exception, "upload")->message};
    }
  }
  Result<> admit(const graph::Plan& plan) override {
    DJINN_TRY([[maybe_unused]] const auto built, build_program(plan, table_, backend_->device()));
    return Unit{};
  }
  std::unique_ptr<Replay> open(SessionId session, std::string_view tenant) override {
    return std::make_unique<TorchReplay>(
        Owner{.session = session.value, .account = &Account::of(tenant)}, *backend_, table_);
  }
  DeviceMemory memory() const override { return backend_->memory(); }
  TierReport tier_report() const override {
    const Tiers* const tiers = backend_->tiers();
    return tiers == nullptr ? Device::tier_report() : tiers->report();
  }
  uint64_t moves() const override {
    const Tiers* const tiers = backend_->tiers();
    return tiers == nullptr ? 0 : tiers->copies();
  }
  bool charges_tenants() const override { return backend_->charges_tenants(); }
  bool works_on_its_own() const override { return backend_->works_on_its_own(); }
  size_t lockstep_max() const override { return backend_->works_on_its_own() ? 1 : kLockstepMax; }
  void run_together(std::span<Member> members, Chunk& chunk) override {
    TorchReplay::run_together(*backend_, members, chunk, lockstep_);
  }
  SharedWork shared_work() const override {
    return {.operators = lockstep_.operators, .packed_bytes = lockstep_.packed.bytes()};
  }
  void set_reclaim(Reclaim reclaim) override {
    if (reclaim == nullptr) return backend_->set_reclaim(nullptr);
    backend_->set_reclaim([this, reclaim = std::move(reclaim)](uint64_t bytes) {
      const uint64_t dropped = lockstep_.packed.drop(bytes);  // What has a first copy goes first.
      return dropped >= bytes ? dropped : dropped + reclaim(bytes - dropped);
    });
  }

 private:
  std::string name_;
  std::unique_ptr<Backend> backend_;
  mutable OperatorTable table_;
  std::vector<uint8_t> schema_hash_;
  LockstepState lockstep_{*backend_};
};

}  // namespace

std::unique_ptr<Device> make_torch_device(std::string name, std::unique_ptr<Backend> backend) {
  return std::make_unique<TorchDevice>(std::move(name), std::move(backend));
}

}  // namespace djinn::server
