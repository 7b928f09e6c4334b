// SPDX-License-Identifier: Apache-2.0
#include <sstream>

#include <torch/nn.h>
#include <torch/optim.h>
#include <torch/serialize.h>

#include "tests/integration/programs.h"

namespace djinn::testing {
namespace {

namespace nn = torch::nn;
using at::Tensor;
using Results = std::vector<Tensor>;

nn::Sequential small_network() {
  return nn::Sequential(nn::Linear(8, 16), nn::ReLU(), nn::Linear(16, 4));
}

template <typename Optimizer, typename Options>
Results train(at::Device device, const Options& options, double clip) {
  auto network = small_network();
  network->to(device);
  Optimizer optimizer(network->parameters(), options);
  auto x = torch::randn({32, 8}).to(device);
  auto y = torch::randint(0, 4, {32}).to(device);
  Tensor loss;
  for (int step = 0; step < 20; ++step) {
    optimizer.zero_grad();
    loss = nn::functional::cross_entropy(network->forward(x), y);
    loss.backward();
    if (clip > 0) nn::utils::clip_grad_norm_(network->parameters(), clip);
    optimizer.step();
  }
  auto out = network->parameters();
  out.push_back(loss);
  return out;
}

Results save_and_load(at::Device device) {
  nn::Linear first(5, 6);
  first->to(device);
  std::stringstream file;
  torch::save(first, file);
  nn::Linear second(5, 6);
  second->to(device);
  torch::load(second, file);
  std::stringstream tensor_file;
  auto x = torch::randn({3}).to(device);
  torch::save(x, tensor_file);
  Tensor loaded;
  torch::load(loaded, tensor_file);
  return {second->weight, second->bias, loaded.to(device)};
}

Results optimizer_before_move(at::Device device) {
  auto network = small_network();
  torch::optim::SGD optimizer(network->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
  network->to(device);
  auto x = torch::randn({4, 8}).to(device);
  for (int step = 0; step < 3; ++step) {
    optimizer.zero_grad();
    network->forward(x).pow(2).mean().backward();
    optimizer.step();
  }
  return network->parameters();
}

Results module_in_bfloat16(at::Device device) {
  auto network = small_network();
  network->to(device, at::kBFloat16);
  auto y = network->forward(torch::randn({4, 8}).to(device, at::kBFloat16));
  y.sum().backward();
  Results out{y};
  for (const auto& p : network->parameters()) out.push_back(p.grad());
  return out;
}

}  // namespace

std::vector<Program> training_programs() {
  namespace optim = torch::optim;
  return {
      {"AdamTwentySteps",
       [](at::Device d) { return train<optim::Adam>(d, optim::AdamOptions(1e-2), 0); }},
      {"AdamWClipped",
       [](at::Device d) { return train<optim::AdamW>(d, optim::AdamWOptions(1e-2), 0.5); }},
      {"SgdMomentum",
       [](at::Device d) { return train<optim::SGD>(d, optim::SGDOptions(0.1).momentum(0.9), 0); }},
      {"RmsProp",
       [](at::Device d) { return train<optim::RMSprop>(d, optim::RMSpropOptions(1e-2), 0); }},
      {"Adagrad",
       [](at::Device d) { return train<optim::Adagrad>(d, optim::AdagradOptions(1e-2), 0); }},
      {"SaveAndLoad", save_and_load},
      {"OptimizerBeforeMove", optimizer_before_move},
      {"ModuleInBfloat16", module_in_bfloat16},
  };
}

}  // namespace djinn::testing
