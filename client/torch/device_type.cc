// SPDX-License-Identifier: Apache-2.0
// The device type: what PyTorch asks of a backend before it runs anything on it - a name, a guard,
// hooks and an allocator. Registered when the library is loaded.
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include "client/torch/generator.h"
#include "client/torch/remote_device.h"
#include "client/torch/storage.h"

namespace djinn::client {
namespace {

// One stream per device: the log is in program order.
c10::Stream stream_of(c10::Device device) {
  return c10::Stream(
      c10::Stream::DEFAULT,
      {c10::kPrivateUse1, device.has_index() ? device.index() : RemoteDevice::current_index()});
}

// NOLINTBEGIN(modernize-use-nodiscard): PyTorch calls these, through its interfaces.
struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return c10::kPrivateUse1; }
  c10::Device getDevice() const override {
    return {c10::kPrivateUse1, RemoteDevice::current_index()};
  }
  c10::Device exchangeDevice(c10::Device device) const override {
    const c10::Device before = getDevice();
    setDevice(device);
    return before;
  }
  void setDevice(c10::Device device) const override { uncheckedSetDevice(device); }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    if (device.has_index()) RemoteDevice::set_current_index(device.index());
  }
  c10::DeviceIndex deviceCount() const noexcept override { return RemoteDevice::count(); }
  c10::Stream getStream(c10::Device device) const noexcept override { return stream_of(device); }
  c10::Stream getDefaultStream(c10::Device device) const override { return stream_of(device); }
  c10::Stream getNewStream(c10::Device device, int /*priority*/) const override {
    return stream_of(device);
  }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool /*high_priority*/) const override {
    return stream_of(device);
  }
  c10::Stream exchangeStream(c10::Stream stream) const noexcept override { return stream; }
  // Events order streams; there is one.
  void record(void** /*event*/, const c10::Stream& /*stream*/, const c10::DeviceIndex /*device*/,
              const c10::EventFlag /*flag*/) const override {}
  void block(void* /*event*/, const c10::Stream& /*stream*/) const override {}
  bool queryEvent(void* /*event*/) const override { return true; }
  bool queryStream(const c10::Stream& /*stream*/) const override { return true; }
  void synchronizeStream(const c10::Stream& stream) const override {
    RemoteDevice::get(stream.device_index()).synchronize();
  }
  void synchronizeDevice(const c10::DeviceIndex device) const override {
    RemoteDevice::get(device).synchronize();
  }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex /*device*/) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return RemoteDevice::count(); }
  c10::DeviceIndex getCurrentDevice() const override { return RemoteDevice::current_index(); }
  void setCurrentDevice(c10::DeviceIndex device) const override {
    RemoteDevice::set_current_index(device);
  }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex device) const override {
    const c10::DeviceIndex before = RemoteDevice::current_index();
    RemoteDevice::set_current_index(device);
    return before;
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex device) const override {
    return exchangeDevice(device);
  }
  at::Device getDeviceFromPtr(void* /*pointer*/) const override {
    return {c10::kPrivateUse1, RemoteDevice::current_index()};
  }
  bool isPinnedPtr(const void* /*pointer*/) const override { return false; }
  c10::Allocator* getPinnedMemoryAllocator() const override {
    return c10::GetAllocator(c10::kCPU);  // The transport needs no pinned memory.
  }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex device) const override {
    return default_generator(device);
  }
  at::Generator getNewGenerator(c10::DeviceIndex device) const override {
    return new_generator(device);
  }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    resize_storage(storage, bytes);
  }
};
// NOLINTEND(modernize-use-nodiscard)

[[maybe_unused]] const bool kRegistered = [] {
  c10::register_privateuse1_backend("djinn");
  c10::SetAllocator(c10::kPrivateUse1, &remote_allocator());
  at::RegisterPrivateUse1HooksInterface(new Hooks);  // leaked: asked for until the process ends
  return true;
}();

}  // namespace
}  // namespace djinn::client
