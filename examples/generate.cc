// SPDX-License-Identifier: Apache-2.0
// generate: writes text with a Llama model, on the device that its --device names.
//
// A plain LibTorch program: the device is a string, and nothing here knows what stands behind it.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include <ATen/Parallel.h>
#include <torch/utils.h>

#include "examples/chat_template.h"
#include "examples/generation.h"
#include "examples/llama.h"
#include "examples/program.h"
#include "examples/tokenizer.h"

namespace djinn::examples {
namespace {

struct Arguments {
  std::string model = "models/smollm2-135m-instruct";
  std::string prompt;
  std::string prompts_file;
  std::string system;
  std::string device = "cpu";
  std::string dtype = "fp32";
  std::string kv = "cat";
  int64_t new_tokens_max = 128;
  Sampling sampling{};
  uint64_t seed = 0;
  int threads = 1;
  bool print_ids = false;
  bool stats = false;
  bool ignore_eos = false;
};

void add_options(CLI::App& app, Arguments& arguments) {
  app.add_option("--model", arguments.model, "Folder made by convert_smollm2.py")
      ->capture_default_str();
  auto* prompt = app.add_option("--prompt", arguments.prompt, "What to answer");
  app.add_option("--prompts", arguments.prompts_file, "File with one prompt per line")
      ->excludes(prompt);
  app.add_option("--system", arguments.system,
                 "Text of the system message (default: the model's own)");
  app.add_option("--device", arguments.device, "cpu, djinn, djinn:1, ...")->capture_default_str();
  app.add_option("--dtype", arguments.dtype)
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->capture_default_str();
  app.add_option("--kv", arguments.kv, "Key-value cache")
      ->check(CLI::IsMember({"cat", "static"}))
      ->capture_default_str();
  app.add_option("--max-new-tokens", arguments.new_tokens_max)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--temperature", arguments.sampling.temperature, "0: always the likeliest token")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--top-k", arguments.sampling.top_k, "0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--top-p", arguments.sampling.top_p)
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--seed", arguments.seed, "Of the device's random numbers")->capture_default_str();
  app.add_option("--threads", arguments.threads, "Threads of this process for --device cpu")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--print-ids", arguments.print_ids, "Print the token ids after each text");
  app.add_flag("--stats", arguments.stats, "Print one line of JSON on stderr at the end");
  app.add_flag("--ignore-eos", arguments.ignore_eos, "Go on after the end-of-answer token");
}

std::vector<std::string> prompts_of(const Arguments& arguments) {
  if (arguments.prompts_file.empty()) {
    if (arguments.prompt.empty())
      throw std::runtime_error("--prompt TEXT or --prompts FILE is needed");
    return {arguments.prompt};
  }
  std::ifstream file(arguments.prompts_file);
  if (!file) throw std::runtime_error(arguments.prompts_file + ": cannot be read");
  std::vector<std::string> prompts;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) prompts.push_back(line);
  }
  return prompts;
}

// Generates and prints one answer; returns what --stats says about it.
nlohmann::json answer(const Llama& model, const Tokenizer& tokenizer, const std::string& text,
                      const Arguments& arguments) {
  GenerationOptions options;
  options.kv = arguments.kv == "cat" ? KvKind::kCat : KvKind::kStatic;
  options.sampling = arguments.sampling;
  options.new_tokens_max = arguments.new_tokens_max;
  const int64_t end_id = tokenizer.id_of("<|im_end|>");
  if (!arguments.ignore_eos) options.end_id = end_id;

  const auto prompt = tokenizer.encode(text);
  Utf8Stream stream;
  const auto result = generate(model, prompt, options, [&](int64_t id) {
    if (id != end_id || arguments.ignore_eos)
      std::cout << stream.push(tokenizer.bytes_of(id)) << std::flush;
  });
  std::cout << stream.finish() << std::endl;
  if (arguments.print_ids) {
    std::cout << "ids:";
    for (const int64_t id : result.ids) std::cout << ' ' << id;
    std::cout << std::endl;
  }
  return {{"prompt_tokens", prompt.size()},
          {"tokens", result.ids.size()},
          {"first_token_s", result.first_token_s},
          {"seconds", result.total_s},
          {"tokens_per_s", result.decode_tokens_per_s},
          {"ids", result.ids}};
}

void print_stats(const Arguments& arguments, double load_s, const nlohmann::json& answers) {
  nlohmann::json stats = {{"device", arguments.device}, {"dtype", arguments.dtype},
                          {"kv", arguments.kv},         {"threads", arguments.threads},
                          {"load_s", load_s},           {"answers", answers}};
  // Rates are averaged over steps, not over answers.
  double tokens = 0;
  double seconds = 0;
  double steps = 0;
  double steps_s = 0;
  for (const auto& each : answers) {
    const auto rate = each.at("tokens_per_s").get<double>();
    const auto count = each.at("tokens").get<double>();
    tokens += count;
    seconds += each.at("seconds").get<double>();
    if (rate > 0) {
      steps += count - 2;
      steps_s += (count - 2) / rate;
    }
  }
  stats["tokens"] = static_cast<int64_t>(tokens);
  stats["seconds"] = seconds;
  stats["first_token_s"] = answers.empty() ? nlohmann::json() : answers.front().at("first_token_s");
  stats["tokens_per_s"] = steps_s > 0 ? steps / steps_s : 0.0;
  std::cerr << stats.dump() << std::endl;
}

void run(const Arguments& arguments) {
  const auto prompts = prompts_of(arguments);
  at::set_num_threads(arguments.threads);
  const at::Device device(arguments.device);
  torch::manual_seed(arguments.seed);

  const std::filesystem::path folder = arguments.model;
  const auto start = std::chrono::steady_clock::now();
  const Tokenizer tokenizer(folder / "tokenizer.json");
  const ChatTemplate chat(folder / "tokenizer_config.json");
  const auto model =
      Llama::load(folder, device, arguments.dtype == "bf16" ? at::kBFloat16 : at::kFloat);
  const double load_s =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  nlohmann::json answers = nlohmann::json::array();
  for (const auto& prompt : prompts) {
    if (prompts.size() > 1) std::cout << "> " << prompt << std::endl;
    answers.push_back(answer(model, tokenizer, chat.render(prompt, arguments.system), arguments));
  }
  if (arguments.stats) print_stats(arguments, load_s, answers);
}

}  // namespace
}  // namespace djinn::examples

int main(int argc, char** argv) {
  return djinn::examples::run_program("generate", [&] {
    CLI::App app("Writes text with a Llama model on a LibTorch device");
    djinn::examples::Arguments arguments;
    djinn::examples::add_options(app, arguments);
    CLI11_PARSE(app, argc, argv);
    djinn::examples::run(arguments);
    return 0;
  });
}
