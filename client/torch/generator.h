// SPDX-License-Identifier: Apache-2.0
// Generator: a random generator whose state is on the server; the client knows its seed only.
//
// Why the seed travels with the next random op and not when it is set: torch::manual_seed seeds
// every device, also in programs that never draw a number on it. Threading: PyTorch's generator
// mutex, as for every generator.
#pragma once

#include <atomic>

#include <ATen/core/Generator.h>
#include <c10/core/GeneratorImpl.h>

namespace djinn::client {

class RemoteGenerator final : public c10::GeneratorImpl {
 public:
  RemoteGenerator(c10::DeviceIndex device, uint64_t id);

  [[nodiscard]] uint64_t id() const { return id_; }
  // True if this generation of the device's session has not heard of the newest seeding; it will.
  bool take_seeding(uint32_t generation) const;

  void set_current_seed(uint64_t seed) override;
  uint64_t current_seed() const override { return seed_; }
  uint64_t seed() override;
  void set_offset(uint64_t offset) override;
  uint64_t get_offset() const override;
  void set_state(const c10::TensorImpl& state) override;
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override;

 private:
  RemoteGenerator* clone_impl() const override;

  const uint64_t id_;
  uint64_t seed_ = c10::default_rng_seed_val;
  mutable uint32_t told_ = 0;  // The generation that knows the seed; 0: none.
};

// The device's default generator (id 0), or a new one.
[[nodiscard]] const at::Generator& default_generator(c10::DeviceIndex device);
[[nodiscard]] at::Generator new_generator(c10::DeviceIndex device);

}  // namespace djinn::client
