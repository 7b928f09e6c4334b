// SPDX-License-Identifier: Apache-2.0
// A restart: the server's folder of artifacts has the weights, its memory has nothing, and the page
// cache neither. How long a process that asks it for a first token waits, over what reading the
// same files takes here, right before.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

#include <ATen/ATen.h>

#include "benchmarks/harness/program.h"
#include "benchmarks/harness/statistics.h"
#include "benchmarks/swap/bench.h"
#include "client/djinn.h"
#include "client/ghost.h"

namespace djinn::benchmarks {
namespace {

constexpr int kModelLayers = 16;  // 256 MiB
constexpr double kModelBytes = kModelLayers * kLayerBytes;

// A folder with a file of weights and a cache, gone in the end.
class Folder {
 public:
  Folder() {
    std::string name = std::filesystem::temp_directory_path() / "djinn-bench-swap-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no folder in " + name);
    path_ = name;
    write_model();
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] std::string model() const { return path_ / "model.safetensors"; }
  [[nodiscard]] std::string cache() const { return path_ / "cache"; }
  [[nodiscard]] std::vector<std::filesystem::path> artifacts() const {
    std::vector<std::filesystem::path> out;
    for (const auto& entry : std::filesystem::directory_iterator(cache())) {
      if (entry.path().extension() == ".artifact") out.push_back(entry.path());
    }
    return out;
  }

 private:
  void write_model() const {
    std::string header = "{";
    const auto bytes = static_cast<uint64_t>(kLayerBytes);
    for (uint64_t i = 0; i < kModelLayers; ++i) {
      header += (i == 0 ? "\"" : ",\"") + std::string(i < 10 ? "0" : "") + std::to_string(i) +
                R"(":{"dtype":"F32","shape":[)" + std::to_string(kWidth) + "," +
                std::to_string(kWidth) + R"(],"data_offsets":[)" + std::to_string(i * bytes) + "," +
                std::to_string((i + 1) * bytes) + "]}";
    }
    header += "}";
    std::ofstream out(model(), std::ios::binary);
    const uint64_t length = header.size();
    out.write(reinterpret_cast<const char*>(&length), sizeof length);
    out << header;
    for (const at::Tensor& layer : random_layers(kModelLayers, 71)) {
      out.write(static_cast<const char*>(layer.const_data_ptr()), static_cast<int64_t>(bytes));
    }
    if (!out.flush()) throw std::runtime_error(model() + ": cannot be written");
  }
  std::filesystem::path path_;
};

// What the kernel holds of it: nothing, from here on.
void drop_page_cache(const std::filesystem::path& file) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  (void)::fdatasync(fd);  // A dirty page stays.
  (void)::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  ::close(fd);
}

// Seconds to read all of them once, into memory that was touched before.
double read_seconds(const std::vector<std::filesystem::path>& files) {
  static std::vector<char> buffer(4 << 20, 1);
  return seconds_of([&] {
    for (const auto& file : files) {
      const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
      while (::read(fd, buffer.data(), buffer.size()) > 0) {
      }
      ::close(fd);
    }
  });
}

std::unique_ptr<testing::ServerProcess> serve(const Folder& folder) {
  return std::make_unique<testing::ServerProcess>(std::vector<std::string>{
      "--threads", "1", "--log-level", "warn", "--cache-dir", folder.cache()});
}

nlohmann::json run_app(const testing::ServerProcess& server, const Folder& folder) {
  return run_child(testing::binary_folder() + "/bench_swap --child " + server.address() +
                   " --file " + folder.model());
}

void wait_until_written(const Folder& folder) {
  const auto start = Clock::now();
  while (folder.artifacts().size() < kModelLayers) {
    if (seconds_since(start) > 60) throw std::runtime_error("the server writes no artifacts");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace

void measure_restart(SwapBench& bench) {
  const Folder folder;
  {
    const auto server = serve(folder);
    (void)run_app(*server, folder);
    wait_until_written(folder);
  }
  Samples time{.arm = "restart"};
  Samples sent{.arm = "restart"};
  std::vector<double> rates;
  std::vector<double> compute;
  Rounds rounds(bench.rounds);
  rounds.run([&](int) {
    const auto files = folder.artifacts();
    const auto drop = [&files] {
      for (const auto& file : files) drop_page_cache(file);
    };
    drop();
    const double read = read_seconds(files);
    drop();
    const auto server = serve(folder);
    const auto app = run_app(*server, folder);
    drop();
    const double read_again = read_seconds(files);
    const double disk = (read + read_again) / 2;
    time.value.push_back(app.at("load_s").get<double>() / disk);
    time.null.push_back(read_again / read);
    sent.value.push_back(app.at("upload_bytes").get<double>());
    rates.push_back(kModelBytes / disk / 1e9);
    compute.push_back(app.at("compute_s").get<double>() * 1e3);
  });
  bench.report.count(rounds);
  time.n = sent.n = time.value.size();
  const Promise none{.id = "restart: bytes of weights on the wire", .unit = "B"};
  const Promise soon{.id = "restart: first token less its compute, over reading",
                     .unit = "ratio",
                     .must = 1.25,
                     .aim = 1.05};
  bench.report.add({judge(none, sent)});
  bench.report.add({judge(soon, time)});
  bench.report.note("restart: 256 MiB, read at " + std::to_string(median(rates)).substr(0, 4) +
                    " GB/s (page cache dropped); the pass takes " +
                    std::to_string(median(compute)).substr(0, 5) + " ms");
}

int restart_child(const std::string& server, const std::string& file) {
  const at::NoGradGuard no_grad;
  const at::Device device("djinn");
  const at::Tensor x = at::ones({1, kWidth});
  const auto start = Clock::now();
  djinn::connect({.server = server});
  Model model;
  for (const auto& [name, weight] : djinn::load_safetensors(file)) model.push_back(weight);
  (void)step(x, model, device);
  const double total = seconds_since(start);
  const uint64_t inputs = x.nbytes();
  const uint64_t sent = djinn::stats().upload_bytes;
  std::vector<double> compute(3);
  for (double& seconds : compute) seconds = step(x, model, device);
  const nlohmann::json line = {{"load_s", total - median(compute)},
                               {"compute_s", median(compute)},
                               {"upload_bytes", sent - inputs}};
  std::printf("%s\n", line.dump().c_str());
  return 0;
}

}  // namespace djinn::benchmarks
