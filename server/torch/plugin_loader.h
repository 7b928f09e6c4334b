// SPDX-License-Identifier: Apache-2.0
// Plugin loader: a plugin's library, loaded and checked, or the sentence that says what is wrong.
//
// Threading: any thread; what it loads stays.
#pragma once

#include <string>

#include "server/torch/plugin.h"

namespace djinn::server {

// Beside this program: ../lib/djinn_cuda.so in a build folder, or where `cmake --install` puts it.
// Where it was looked for first if it is nowhere.
[[nodiscard]] std::string plugin_path(const std::string& name);

// kNotFound: there is no such file. kUnsupported: a library that it needs is missing, or it is of
// another build.
Result<const DevicePlugin*> load_plugin(const std::string& path);

}  // namespace djinn::server
