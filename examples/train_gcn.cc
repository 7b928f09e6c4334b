// SPDX-License-Identifier: Apache-2.0
// train_gcn: teaches a graph convolutional network of two layers to tell the communities of a
// random graph apart, on the device that its --device names.
//
// A plain LibTorch training loop: full-batch forward, cross entropy, backward, SGD. A layer is
// A' (X W) with A' = D^-1/2 (A + I) D^-1/2 (Kipf and Welling 2017, arXiv:1609.02907, equation 2);
// A' is symmetric, so the gradient goes back through the same product. Graph and initial weights
// are drawn on the CPU from the seed, so two devices start from the same bits, and every epoch's
// loss is printed with all of them. Ctrl-C or SIGTERM ends it behind the epoch that runs.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/sgd.h>
#include <torch/utils.h>

#include "examples/program.h"

namespace djinn::examples {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kNoise = 3;          // of a node's features, beside a centre of length about 1
constexpr double kInsideEdges = 0.8;  // so many edges stay inside their community

volatile std::sig_atomic_t asked_to_end = 0;

struct Arguments {
  std::string device = "cpu";
  int64_t nodes = 16384;
  int64_t edges_per_node = 10;
  int64_t features = 32;
  int64_t hidden = 32;
  int64_t classes = 8;
  int64_t chunk = 2048;
  int64_t epochs = 100;
  double learning_rate = 0.5;
  uint64_t seed = 0;
  int threads = 1;
  bool json = false;
};

// A' by rows: those of row i are [starts[i], starts[i + 1]) of columns and values.
struct Adjacency {
  at::Tensor starts;                                     // int64 [nodes + 1]
  at::Tensor columns;                                    // int64 [entries]
  at::Tensor values;                                     // float [entries]
  std::vector<std::pair<int64_t, int64_t>> chunks = {};  // of some rows: their first and last entry

  [[nodiscard]] Adjacency to(const at::Device& device) const {
    return {starts.to(device), columns.to(device), values.to(device), chunks};
  }
};

struct Data {
  Adjacency adjacency;
  at::Tensor features;  // float [nodes, features]
  at::Tensor labels;    // int64 [nodes], which community
};

Adjacency adjacency(const at::Tensor& from, const at::Tensor& to, const Arguments& arguments) {
  const auto self = torch::arange(arguments.nodes, torch::kLong);
  const auto [rows, order] = torch::cat({from, to, self}).sort(/*stable=*/true, 0, false);
  const auto columns = torch::cat({to, from, self}).index_select(0, order);
  const auto degree = torch::bincount(rows, {}, arguments.nodes);
  const auto scale = degree.to(torch::kFloat).rsqrt();
  Adjacency out{
      .starts = torch::cat({torch::zeros({1}, torch::kLong), degree.cumsum(0)}),
      .columns = columns,
      .values = scale.index_select(0, rows) * scale.index_select(0, columns),
  };
  for (int64_t row = 0; row < arguments.nodes; row += arguments.chunk) {
    const int64_t end = std::min(row + arguments.chunk, arguments.nodes);
    out.chunks.emplace_back(out.starts[row].item<int64_t>(), out.starts[end].item<int64_t>());
  }
  return out;
}

Data communities(const Arguments& arguments) {
  const int64_t nodes = arguments.nodes;
  const int64_t edges = nodes * arguments.edges_per_node / 2;  // Each counts at both its ends.
  const auto labels = torch::arange(nodes, torch::kLong).remainder(arguments.classes);
  const auto from = torch::randint(nodes, {edges}, torch::kLong);
  const auto other = torch::randint(nodes, {edges}, torch::kLong);
  // A node of the same community: labels repeat with the period `classes`.
  const auto mate = other - other.remainder(arguments.classes) + labels.index_select(0, from);
  const auto inside = torch::rand({edges}).lt(kInsideEdges).logical_and(mate.lt(nodes));
  const auto centres = torch::randn({arguments.classes, arguments.features}) /
                       std::sqrt(static_cast<double>(arguments.features));
  const auto noise = torch::randn({nodes, arguments.features}) *
                     (kNoise / std::sqrt(static_cast<double>(arguments.features)));
  return {adjacency(from, torch::where(inside, mate, other), arguments),
          centres.index_select(0, labels) + noise, labels};
}

// A' x for x [nodes, width], a chunk of rows at a time.
at::Tensor product(const Adjacency& by, const at::Tensor& x, int64_t chunk) {
  std::vector<at::Tensor> parts;
  for (size_t i = 0; i < by.chunks.size(); ++i) {
    const auto [begin, end] = by.chunks[i];
    const int64_t row = static_cast<int64_t>(i) * chunk;
    const int64_t rows = std::min(chunk, x.size(0) - row);
    const auto bags = torch::embedding_bag(
        x, by.columns.narrow(0, begin, end - begin), by.starts.narrow(0, row, rows) - begin,
        /*scale_grad_by_freq=*/false, /*mode=*/0, /*sparse=*/false,
        by.values.narrow(0, begin, end - begin));
    parts.push_back(std::get<0>(bags));
  }
  return torch::cat(parts);
}

struct Propagate : torch::autograd::Function<Propagate> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const Adjacency* by,
                            int64_t chunk) {
    context->saved_data["adjacency"] = reinterpret_cast<int64_t>(by);  // It outlives the graph.
    context->saved_data["chunk"] = chunk;
    return product(*by, x, chunk);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradient) {
    const auto* const by =
        // NOLINTNEXTLINE(performance-no-int-to-ptr): a context saves no pointers.
        reinterpret_cast<const Adjacency*>(context->saved_data["adjacency"].toInt());
    const int64_t chunk = context->saved_data["chunk"].toInt();
    return {product(*by, gradient[0].contiguous(), chunk), {}, {}};
  }
};

struct NetImpl : torch::nn::Module {
  explicit NetImpl(const Arguments& arguments)
      : first(register_module("first", linear(arguments.features, arguments.hidden))),
        last(register_module("last", linear(arguments.hidden, arguments.classes))) {}

  static torch::nn::Linear linear(int64_t in, int64_t out) {
    return torch::nn::Linear(torch::nn::LinearOptions(in, out).bias(false));
  }

  at::Tensor forward(const at::Tensor& x, const Adjacency& by, int64_t chunk) {
    const auto hidden = torch::relu(Propagate::apply(first(x), &by, chunk));
    return Propagate::apply(last(hidden), &by, chunk);
  }

  torch::nn::Linear first, last;
};
TORCH_MODULE(Net);

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Outcome {
  std::vector<double> losses = {};
  std::vector<double> ends = {};  // of the epochs, on the machine's monotonic clock, in seconds
  double began = 0;
  double accuracy = 0;
};

Outcome train(const Arguments& arguments) {
  at::set_num_threads(arguments.threads);
  const at::Device device(arguments.device);
  torch::manual_seed(arguments.seed);
  const Data on_host = communities(arguments);
  Net net(arguments);

  net->to(device);
  const Data data{on_host.adjacency.to(device), on_host.features.to(device),
                  on_host.labels.to(device)};
  torch::optim::SGD optimizer(net->parameters(),
                              torch::optim::SGDOptions(arguments.learning_rate).momentum(0.9));
  const auto guess = [&] { return net->forward(data.features, data.adjacency, arguments.chunk); };
  for (const int number : {SIGINT, SIGTERM}) std::signal(number, [](int) { asked_to_end = 1; });
  Outcome out{.began = seconds_now()};
  for (int64_t epoch = 0; epoch < arguments.epochs && asked_to_end == 0; ++epoch) {
    optimizer.zero_grad();
    const auto loss = torch::nn::functional::cross_entropy(guess(), data.labels);
    loss.backward();
    optimizer.step();
    out.losses.push_back(loss.item<double>());
    out.ends.push_back(seconds_now());
    if (!arguments.json)
      std::printf("epoch %4" PRId64 "  loss %.6f\n", epoch + 1, out.losses.back());
    std::fflush(stdout);
  }
  const torch::NoGradGuard no_grad;
  out.accuracy = guess().argmax(1).eq(data.labels).to(torch::kFloat).mean().item<double>();
  return out;
}

void run(const Arguments& arguments) {
  const Outcome outcome = train(arguments);
  if (outcome.ends.empty()) throw std::runtime_error("ended before the first epoch");
  const double seconds = outcome.ends.back() - outcome.began;
  const auto epochs = static_cast<double>(outcome.ends.size());
  if (!arguments.json) {
    std::printf("accuracy %.4f, %.1f ms an epoch\n", outcome.accuracy, seconds / epochs * 1e3);
    return;
  }
  nlohmann::json losses = nlohmann::json::array();
  for (const double loss : outcome.losses) {
    char exact[64];
    std::snprintf(exact, sizeof(exact), "%a", loss);
    losses.push_back(exact);
  }
  const nlohmann::json result = {{"device", arguments.device},    {"nodes", arguments.nodes},
                                 {"epochs", outcome.ends.size()}, {"losses_exact", losses},
                                 {"epoch_ends_s", outcome.ends},  {"loss", outcome.losses.back()},
                                 {"accuracy", outcome.accuracy},  {"seconds", seconds}};
  std::printf("%s\n", result.dump().c_str());
}

void add_options(CLI::App& app, Arguments& arguments) {
  const auto count = [&](const char* name, int64_t& value, const char* what) {
    app.add_option(name, value, what)->check(CLI::PositiveNumber)->capture_default_str();
  };
  app.add_option("--device", arguments.device, "cpu, djinn, djinn:1, ...")->capture_default_str();
  count("--nodes", arguments.nodes, "Of the graph");
  count("--edges-per-node", arguments.edges_per_node, "On the average");
  count("--features", arguments.features, "Of a node");
  count("--hidden", arguments.hidden, "Width of the first layer");
  count("--classes", arguments.classes, "Communities");
  count("--chunk", arguments.chunk, "Rows of a product with the adjacency that one operator makes");
  count("--epochs", arguments.epochs, "At most");
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
  return djinn::examples::run_program("train_gcn", [&] {
    CLI::App app("Trains a graph convolutional network on a LibTorch device");
    djinn::examples::Arguments arguments;
    djinn::examples::add_options(app, arguments);
    CLI11_PARSE(app, argc, argv);
    djinn::examples::run(arguments);
    return 0;
  });
}
