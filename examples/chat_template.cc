// SPDX-License-Identifier: Apache-2.0
#include "examples/chat_template.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace djinn::examples {
namespace {

// In the template the default system text stands between these two, with a line break spelled as \n
// in older files.
constexpr const char* kSystemStart = "{{ '<|im_start|>system\n";
constexpr const char* kSystemEnd = "<|im_end|>\n' }}";
constexpr const char* kMessage =
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}";
constexpr const char* kAnswer = "{{ '<|im_start|>assistant\n' }}";

std::string with_line_breaks(std::string text) {
  for (size_t at = 0; (at = text.find("\\n", at)) != std::string::npos; ++at)
    text.replace(at, 2, "\n");
  return text;
}

std::string message(const std::string& role, const std::string& content) {
  return "<|im_start|>" + role + "\n" + content + "<|im_end|>\n";
}

}  // namespace

ChatTemplate::ChatTemplate(const std::filesystem::path& tokenizer_config_json) {
  std::ifstream file(tokenizer_config_json);
  if (!file) throw std::runtime_error(tokenizer_config_json.string() + ": cannot be read");
  std::string text;
  try {
    text = with_line_breaks(nlohmann::json::parse(file).at("chat_template").get<std::string>());
  } catch (const nlohmann::json::exception& error) {
    throw std::runtime_error(tokenizer_config_json.string() + ": " + error.what());
  }
  const size_t start = text.find(kSystemStart);
  const size_t end = text.find(kSystemEnd);
  const bool chatml = start != std::string::npos && end != std::string::npos && start < end &&
                      text.find(kMessage) != std::string::npos &&
                      text.find(kAnswer) != std::string::npos;
  if (!chatml)
    throw std::runtime_error(tokenizer_config_json.string() + ": its chat_template is not ChatML");
  const size_t text_start = start + std::char_traits<char>::length(kSystemStart);
  default_system_ = text.substr(text_start, end - text_start);
}

std::string ChatTemplate::render(const std::string& user, const std::string& system) const {
  return message("system", system.empty() ? default_system_ : system) + message("user", user) +
         "<|im_start|>assistant\n";
}

}  // namespace djinn::examples
