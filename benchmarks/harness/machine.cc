// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/harness/machine.h"

#include <sys/utsname.h>

#include <fstream>
#include <string>
#include <thread>

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <torch/version.h>

#include "benchmarks/harness/rounds.h"
#include "benchmarks/harness/statistics.h"

namespace djinn::benchmarks {
namespace {

std::string processor() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

}  // namespace

double gemm_gflops(bool bfloat16) {
  constexpr int64_t kSide = 1024;
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const auto a = at::rand({kSide, kSide}).to(bfloat16 ? at::kBFloat16 : at::kFloat);
  std::vector<double> rates(8);
  for (double& rate : rates) {
    rate = 2e-9 * kSide * kSide * kSide / seconds_of([&] { (void)at::mm(a, a); });
  }
  at::set_num_threads(threads);
  return median(rates);
}

void describe_machine(Report& report) {
  utsname kernel{};
  ::uname(&kernel);
  report.machine("processor", processor());
  report.machine("cores", std::thread::hardware_concurrency());
  report.machine("kernel", kernel.release);
  report.machine("libtorch", TORCH_VERSION);
  report.machine("blas", at::hasMKL() ? "MKL" : "other");
  report.machine("device", "cpu-standin");
  report.machine("gemm_fp32_gflops", gemm_gflops(false));
  report.machine("gemm_bf16_gflops", gemm_gflops(true));
}

}  // namespace djinn::benchmarks
