// SPDX-License-Identifier: Apache-2.0
// ChatTemplate: turns a question into the text that the model was trained to answer.
//
// Why no Jinja: the models used here speak ChatML, and a template that is not ChatML is refused
// instead of guessed.
#pragma once

#include <filesystem>
#include <string>

namespace djinn::examples {

class ChatTemplate {
 public:
  explicit ChatTemplate(
      const std::filesystem::path& tokenizer_config_json);  // Throws std::runtime_error.

  // One question and the opening of the answer. An empty `system` takes the model's own default.
  [[nodiscard]] std::string render(const std::string& user, const std::string& system = "") const;

 private:
  std::string default_system_;
};

}  // namespace djinn::examples
