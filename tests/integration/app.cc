// SPDX-License-Identifier: Apache-2.0
// App: LibTorch programs that tests run in processes of their own. It knows a device only by name
// and is not linked with djinn: the client library is preloaded.
//
//   app number DEVICE              computes, prints one number
//   app hold DEVICE MIB            holds so many MiB there, prints "ready", computes for ever
//   app weights DEVICE FILE PARTS  loads weights that it maps from a file, prints their sum; adds 1
//                                  to all for each line that it reads, and prints their sum
//   app sessions COUNT             computes on djinn:0, djinn:1 ... and drops every tensor, prints
//                                  "ready", and ends at the end of its input
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <iostream>
#include <string>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

namespace {

using at::Tensor;

// A few layers with a loss and its gradients.
double number(const at::Device& device) {
  at::manual_seed(5);
  double losses = 0;
  auto x = at::randn({16, 32}).to(device);
  auto w = at::randn({32, 32}).to(device).requires_grad_();
  for (int step = 0; step < 10; ++step) {
    const auto y = at::relu(x.matmul(w)).softmax(1).matmul(w.t());
    const auto loss = y.pow(2).mean();
    loss.backward();
    if (step % 3 == 0) losses += loss.item<double>();
    w.mutable_grad().mul_(0.1);
    x = (x + y.detach() * 0.01).cumsum(0);
  }
  return losses + (x.sum() + w.grad().sum()).item<double>();
}

void say(const std::string& line) {
  std::puts(line.c_str());
  std::fflush(stdout);
}

[[noreturn]] void hold(const at::Device& device, int64_t mib) {
  auto held = at::ones({mib, 1 << 18}, device);
  auto x = at::ones({256, 256}, device);
  say("ready " + std::to_string(held.sum().item<double>()));
  for (;;) {
    for (int i = 0; i < 50; ++i) x = x.matmul(x).clamp(-1, 1);
    held.select(0, 0).add_(x.sum());
    (void)x.select(0, 0).cpu();
  }
}

void weights(const at::Device& device, const char* path, int64_t parts) {
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  struct stat info {};
  if (file < 0 || fstat(file, &info) != 0) throw std::runtime_error("no such file");
  const auto bytes = static_cast<size_t>(info.st_size);
  auto* const mapped = static_cast<float*>(mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file, 0));
  close(file);
  const auto mapping = std::shared_ptr<float>(mapped, [bytes](float* it) { munmap(it, bytes); });
  const auto floats = static_cast<int64_t>(bytes / sizeof(float)) / parts;
  std::vector<Tensor> there;
  for (int64_t i = 0; i < parts; ++i) {
    const auto part = at::from_blob(
        mapped + i * floats, {floats}, [mapping](void* /*memory*/) {}, at::kFloat);
    there.push_back(part.to(device));
  }
  const auto sum = [&] {
    Tensor total = at::zeros({}, at::TensorOptions(at::kDouble).device(device));
    for (const Tensor& part : there) total.add_(part.to(at::kDouble).sum());
    return std::to_string(total.item<double>());
  };
  say(sum());
  for (std::string line; std::getline(std::cin, line);) {
    for (Tensor& part : there) part.add_(1);
    say(sum());
  }
}

void sessions(int count) {
  for (int i = 0; i < count; ++i) {
    (void)number(at::Device("djinn:" + std::to_string(i)));
  }
  say("ready");
  while (std::getchar() != EOF) {
  }
}

int run(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "number" && argc == 3) {
    std::printf("%.17g\n", number(at::Device(argv[2])));
  } else if (what == "hold" && argc == 4) {
    hold(at::Device(argv[2]), std::atoll(argv[3]));
  } else if (what == "weights" && argc == 5) {
    weights(at::Device(argv[2]), argv[3], std::atoll(argv[4]));
  } else if (what == "sessions" && argc == 3) {
    sessions(std::atoi(argv[2]));
  } else {
    std::fputs("app: see the top of app.cc\n", stderr);
    return 2;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  at::set_num_threads(1);
  try {
    return run(argc, argv);
  } catch (const c10::Error& error) {
    std::fprintf(stderr, "app: %s\n", error.what_without_backtrace());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "app: %s\n", error.what());
  }
  return 1;
}
