// SPDX-License-Identifier: Apache-2.0
// Golden data and the real model, for tests that need them.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace djinn::examples {

// Tests set no variables while they run, so reading them is safe.
inline const char* variable(const char* name) {
  return std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
}

// Where the converted model lies; DJINN_MODEL names another place.
inline std::filesystem::path model_folder() {
  const char* given = variable("DJINN_MODEL");
  return given != nullptr ? given : DJINN_MODEL_DIR;
}

inline bool model_is_there() { return std::filesystem::exists(model_folder() / "converted.json"); }

inline std::string no_model() {
  return model_folder().string() + " is not there: ./dev setup makes it";
}

inline nlohmann::json golden(const std::string& name) {
  std::ifstream file(std::filesystem::path(DJINN_GOLDEN_DIR) / name);
  return nlohmann::json::parse(file);
}

}  // namespace djinn::examples
