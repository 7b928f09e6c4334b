// SPDX-License-Identifier: Apache-2.0
// app: a LibTorch program that knows nothing of djinn but the name of a device.
//     app cpu|djinn        prints one number that depends on all the arithmetic before it
#include <cstdio>

#include <torch/torch.h>

int main(int argc, char** argv) {
  const torch::Device device(argc > 1 ? argv[1] : "cpu");
  torch::manual_seed(7);
  torch::nn::Sequential model(torch::nn::Linear(16, 32), torch::nn::ReLU(),
                              torch::nn::Linear(32, 4));
  const torch::Tensor input = torch::rand({8, 16});
  model->to(device);
  const torch::Tensor loss = model->forward(input.to(device)).pow(2).sum();
  loss.backward();
  std::printf("%a %a\n", loss.item<float>(),
              model->parameters().front().grad().sum().item<float>());
  return 0;
}
