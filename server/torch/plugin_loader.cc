// SPDX-License-Identifier: Apache-2.0
#include "server/torch/plugin_loader.h"

#include <dlfcn.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string_view>

namespace djinn::server {
namespace {

// "libcudnn.so.9: cannot open shared object file: No such file or directory" -> "libcudnn.so.9"
std::string missing_library(std::string_view text) {
  const size_t end = text.find(": cannot open shared object file");
  return std::string(text.substr(0, end == std::string_view::npos ? 0 : end));
}

Error not_loaded(const std::string& path) {
  const char* const said = dlerror();  // NOLINT(concurrency-mt-unsafe): it is per thread
  const std::string text = said == nullptr ? "unknown error" : said;
  const std::string missing = missing_library(text);
  if (!missing.empty() && missing != path) {
    return {ErrorCode::kUnsupported,
            std::string("LibTorch's CUDA part needs ") + missing +
                ", which is not found: ./dev setup --cuda installs it, or name its folder in "
                "LD_LIBRARY_PATH"};
  }
  if (text.find("undefined symbol") != std::string::npos && !text.starts_with(path)) {
    return {ErrorCode::kUnsupported,
            std::string("a library of NVIDIA's is older than LibTorch's CUDA part wants (") + text +
                "): ./dev setup --cuda installs the right ones"};
  }
  return {ErrorCode::kUnsupported,
          path + " cannot be loaded (" + text + "): build and install server and plugin together"};
}

Error another_build(const std::string& path, const std::string& difference) {
  return {ErrorCode::kUnsupported, path + " is a plugin of another build (" + difference +
                                       "): build and install server and plugin together"};
}

}  // namespace

std::string plugin_path(const std::string& name) {
  std::array<char, 4096> self{};
  const ssize_t length = readlink("/proc/self/exe", self.data(), self.size() - 1);
  std::string folder(self.data(), static_cast<size_t>(length < 0 ? 0 : length));
  folder.resize(folder.rfind('/') == std::string::npos ? 0 : folder.rfind('/'));
  const std::string built = folder + "/../lib/" + name;
  const std::string installed = folder + "/../" DJINN_INSTALL_LIBDIR "/" + name;
  const auto is_there = [](const std::string& path) { return access(path.c_str(), R_OK) == 0; };
  return !is_there(built) && is_there(installed) ? installed : built;
}

Result<const DevicePlugin*> load_plugin(const std::string& path) {
  if (access(path.c_str(), R_OK) != 0) {
    return Error{ErrorCode::kNotFound,
                 std::string("this djinn-server has no CUDA plugin (") + path +
                     " is not there): build it where the CUDA toolkit is; cmake says why it was "
                     "left out"};
  }
  // Local: the plugin brings its own copies of some of our functions. LibTorch's libraries are
  // already here and are found by name. Never closed: CUDA's libraries do not survive that.
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return not_loaded(path);
  const auto function = reinterpret_cast<PluginFunction>(dlsym(library, kPluginFunction));
  if (function == nullptr) return another_build(path, "it is no plugin of djinn's");
  const DevicePlugin* const plugin = function();
  if (plugin == nullptr || plugin->magic != kPluginMagic) {
    return another_build(path, "it is no plugin of djinn's");
  }
  if (plugin->version != kPluginVersion || plugin->bytes != sizeof(DevicePlugin)) {
    return another_build(path, std::string("interface ") + std::to_string(plugin->version) +
                                   ", wanted is " + std::to_string(kPluginVersion));
  }
  if (std::strcmp(plugin->build, DJINN_PLUGIN_BUILD) != 0) {
    return another_build(path, std::string(plugin->build) + ", wanted is " DJINN_PLUGIN_BUILD);
  }
  return plugin;
}

}  // namespace djinn::server
