// SPDX-License-Identifier: Apache-2.0
#include "client/torch/generator.h"

#include <array>

#include "client/torch/remote_device.h"

namespace djinn::client {

RemoteGenerator::RemoteGenerator(c10::DeviceIndex device, uint64_t id)
    : GeneratorImpl({c10::kPrivateUse1, device},
                    c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)),
      id_(id) {}

bool RemoteGenerator::take_seeding(uint32_t generation) const {
  if (told_ == generation) return false;
  told_ = generation;
  return true;
}

void RemoteGenerator::set_current_seed(uint64_t seed) {
  seed_ = seed;
  told_ = 0;
}

uint64_t RemoteGenerator::seed() {
  set_current_seed(c10::detail::getNonDeterministicRandom());
  return seed_;
}

void RemoteGenerator::set_offset(uint64_t /*offset*/) {
  TORCH_CHECK(false, "djinn: a remote generator has no offset; seed it instead");
}
uint64_t RemoteGenerator::get_offset() const {
  TORCH_CHECK(false, "djinn: a remote generator has no offset");
}
void RemoteGenerator::set_state(const c10::TensorImpl& /*state*/) {
  TORCH_CHECK(false, "djinn: a remote generator's state cannot be set; seed it instead");
}
c10::intrusive_ptr<c10::TensorImpl> RemoteGenerator::get_state() const {
  TORCH_CHECK(false, "djinn: a remote generator's state cannot be read; keep its seed instead");
}
RemoteGenerator* RemoteGenerator::clone_impl() const {
  TORCH_CHECK(false, "djinn: a remote generator cannot be cloned; seed a new one instead");
}

const at::Generator& default_generator(c10::DeviceIndex device) {
  static auto* const generators = [] {  // Leaked, like the devices.
    auto* const all = new std::array<at::Generator, 64>;
    for (size_t i = 0; i < all->size(); ++i) {
      (*all)[i] = at::make_generator<RemoteGenerator>(static_cast<c10::DeviceIndex>(i), 0);
    }
    return all;
  }();
  const auto index = static_cast<uint8_t>(device < 0 ? RemoteDevice::current_index() : device);
  TORCH_CHECK(index < 64, "djinn: there is no device djinn:", int{index});
  return (*generators)[index];
}

at::Generator new_generator(c10::DeviceIndex device) {
  static std::atomic<uint64_t> last{0};
  return at::make_generator<RemoteGenerator>(device < 0 ? RemoteDevice::current_index() : device,
                                             ++last);
}

}  // namespace djinn::client
