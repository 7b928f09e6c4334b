// SPDX-License-Identifier: Apache-2.0
// train_mlp: teaches a small network to tell the arms of a spiral apart, on the device that its
// --device names.
//
// A plain LibTorch training loop: module, Adam, minibatches, backward. Data and initial weights are
// drawn on the CPU from the seed, so two devices start from the same bits; the final loss is
// printed with all of them.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cinttypes>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <utility>

#include <torch/torch.h>

#include "examples/program.h"

namespace djinn::examples {
namespace {

constexpr int64_t kArms = 3;
constexpr double kTurns = 1.5;
constexpr double kNoise = 0.1;

struct Arguments {
  std::string device = "cpu";
  int64_t steps = 1000;
  int64_t batch = 64;
  int64_t hidden = 64;
  int64_t samples = 1536;
  int64_t print_every = 100;
  double learning_rate = 3e-3;
  uint64_t seed = 0;
  int threads = 1;
  bool json = false;
};

struct Data {
  at::Tensor points;  // [samples, 2]
  at::Tensor labels;  // [samples], which arm
};

Data spiral(int64_t samples) {
  const auto label = torch::arange(samples, torch::kLong).remainder(kArms);
  const auto radius = torch::rand({samples}).sqrt();
  const auto angle = (radius * kTurns + label.to(torch::kFloat) / kArms) * (2.0 * M_PI);
  const auto points = torch::stack({radius * angle.cos(), radius * angle.sin()}, 1);
  return {points + torch::randn({samples, 2}) * (kNoise / 2.0), label};
}

struct NetImpl : torch::nn::Module {
  explicit NetImpl(int64_t hidden)
      : first(register_module("first", torch::nn::Linear(2, hidden))),
        second(register_module("second", torch::nn::Linear(hidden, hidden))),
        last(register_module("last", torch::nn::Linear(hidden, kArms))) {}

  at::Tensor forward(const at::Tensor& x) {
    return last(torch::relu(second(torch::relu(first(x)))));
  }

  torch::nn::Linear first, second, last;
};
TORCH_MODULE(Net);

double accuracy(Net& net, const Data& data) {
  const torch::NoGradGuard no_grad;
  return net->forward(data.points)
      .argmax(1)
      .eq(data.labels)
      .to(torch::kFloat)
      .mean()
      .item<double>();
}

void run(const Arguments& arguments) {
  if (arguments.samples < arguments.batch)
    throw std::invalid_argument("--samples must be at least --batch");
  at::set_num_threads(arguments.threads);
  const at::Device device(arguments.device);
  torch::manual_seed(arguments.seed);
  const Data on_host = spiral(arguments.samples);
  const Data held_out_on_host = spiral(arguments.samples);
  Net net(arguments.hidden);

  net->to(device);
  const Data data{on_host.points.to(device), on_host.labels.to(device)};
  const Data held_out{held_out_on_host.points.to(device), held_out_on_host.labels.to(device)};
  torch::optim::Adam optimizer(net->parameters(),
                               torch::optim::AdamOptions(arguments.learning_rate));

  const auto start = std::chrono::steady_clock::now();
  const int64_t batches = arguments.samples / arguments.batch;
  at::Tensor loss;
  for (int64_t step = 0; step < arguments.steps; ++step) {
    const int64_t from = step % batches * arguments.batch;
    optimizer.zero_grad();
    const auto guess = net->forward(data.points.narrow(0, from, arguments.batch));
    loss =
        torch::nn::functional::cross_entropy(guess, data.labels.narrow(0, from, arguments.batch));
    loss.backward();
    optimizer.step();
    if (!arguments.json && (step + 1) % arguments.print_every == 0) {
      std::printf("step %4" PRId64 "  loss %.6f\n", step + 1, loss.item<double>());
      std::fflush(stdout);
    }
  }
  const auto final_loss = loss.item<float>();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double right = accuracy(net, held_out);
  if (arguments.json) {
    char exact[64];
    std::snprintf(exact, sizeof(exact), "%a", static_cast<double>(final_loss));
    const nlohmann::json result = {{"device", arguments.device}, {"steps", arguments.steps},
                                   {"loss", final_loss},         {"loss_exact", exact},
                                   {"accuracy", right},          {"seconds", seconds}};
    std::printf("%s\n", result.dump().c_str());
  } else {
    std::printf("final loss %.9g (%a), accuracy on held-out points %.4f, %.3f s\n",
                static_cast<double>(final_loss), static_cast<double>(final_loss), right, seconds);
  }
}

void add_options(CLI::App& app, Arguments& arguments) {
  app.add_option("--device", arguments.device, "cpu, djinn, djinn:1, ...")->capture_default_str();
  app.add_option("--steps", arguments.steps)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--batch", arguments.batch)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--hidden", arguments.hidden)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--samples", arguments.samples)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--print-every", arguments.print_every)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--learning-rate", arguments.learning_rate)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--seed", arguments.seed)->capture_default_str();
  app.add_option("--threads", arguments.threads, "Threads of this process for --device cpu")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--json", arguments.json, "Print one line of JSON instead of text");
}

}  // namespace
}  // namespace djinn::examples

int main(int argc, char** argv) {
  return djinn::examples::run_program("train_mlp", [&] {
    CLI::App app("Trains a small network on a LibTorch device");
    djinn::examples::Arguments arguments;
    djinn::examples::add_options(app, arguments);
    CLI11_PARSE(app, argc, argv);
    djinn::examples::run(arguments);
    return 0;
  });
}
