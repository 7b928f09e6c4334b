// SPDX-License-Identifier: Apache-2.0
// djinn-server: settings -> device, loop, server -> run. All wiring is here.
//
// What it prints is part of its contract: one line "listening on ADDRESS" per listener on stdout,
// flushed; everything else goes to stderr.
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "server/admin/listener.h"
#include "server/hangup.h"
#include "server/server.h"
#include "server/settings/settings.h"
#include "server/torch/cpu_device.h"
#include "server/torch/cuda_device.h"

namespace djinn::server {
namespace {

constexpr const char* kAbout =
    "Runs the tensor operators of other programs. A LibTorch program uses it by selecting the\n"
    "device \"djinn\" with DJINN_SERVER=tcp://host:port in its environment.\n\n"
    "Every setting can be a flag, a variable (DJINN_SERVER_DEVICE_MEMORY=2GiB) or a line of the\n"
    "config file (device-memory = \"2GiB\"); flags win over variables, and variables over the "
    "file.\n";
constexpr const char* kExamples =
    "Examples:\n"
    "  djinn-server --listen tcp://127.0.0.1:0 --device cpu     local clients, any free port\n"
    "  djinn-server --listen tcp://0.0.0.0:7400 --token-file t  other machines, with tokens\n"
    "  djinn-server --device cuda:0 --device-memory 20GiB       a GPU, and no more of it than "
    "that\n"
    "  djinn-server --print-config > server.toml                what is set, to be edited\n"
    "SIGTERM finishes what is queued (10 s at most) and says goodbye; a second one ends at once.\n"
    "djinn-ctl drain does the same and waits as long as it takes.\n"
    "SIGHUP rereads the tokens and the config file's tables [tenants.NAME]; if something is wrong "
    "in\n"
    "them, nothing changes and the log says what. docs/operations.md has their keys.\n";

std::atomic<Server*> stop_target = nullptr;
std::atomic<int> signals_seen = 0;

void on_signal(int /*signal*/) {
  if (signals_seen.fetch_add(1) > 0) _exit(1);
  if (Server* const server = stop_target.load()) server->stop();
}

Result<std::string> read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (!in) return Error{ErrorCode::kNotFound, path + ": cannot be read"};
  return text;
}

// What the command line says; nothing: it was --help or --version, or wrong.
struct CommandLine {
  Layer flags;
  std::string config_file;
  bool print_config = false;
};
Result<CommandLine> parse(CLI::App& app, int argc, char** argv, int& exit_code) {
  CommandLine out;
  app.footer(kExamples);
  app.set_version_flag("--version", std::string("djinn-server ") + DJINN_VERSION);
  app.add_option("--config", out.config_file, "Read settings from this TOML file")
      ->type_name("FILE")
      ->envname("DJINN_SERVER_CONFIG");
  app.add_flag("--print-config", out.print_config, "Print the settings as TOML, and end");
  for (const SettingInfo& info : setting_infos()) {
    std::string name = std::string("--") + info.name;
    if (name == "--token-file") name += ",--tokens";
    std::vector<std::string>& values = out.flags[info.name];
    if (info.value == nullptr) {
      app.add_flag_callback(
          name, [&values] { values = {"true"}; }, info.help);
    } else {
      app.add_option(name, values, info.help)->type_name(info.value)->allow_extra_args(false);
    }
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    exit_code = app.exit(e, std::cout, std::cerr);
    return Error{ErrorCode::kCancelled, ""};
  }
  return out;
}

Result<Settings> load(const CommandLine& command_line) {
  std::vector<Layer> layers{command_line.flags};
  layers.push_back(settings_from_environment([](const char* name) {
    return std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody changes it
  }));
  TenantTable tenants;
  if (!command_line.config_file.empty()) {
    DJINN_TRY(const std::string text, read_file(command_line.config_file));
    DJINN_TRY(Layer file, settings_from_toml(text, command_line.config_file));
    layers.push_back(std::move(file));
    DJINN_TRY(tenants, tenants_from_toml(text, command_line.config_file));
  }
  DJINN_TRY(Settings out, resolve(layers));
  out.tenants = std::move(tenants);
  return out;
}

Result<Access> load_access(const Settings& settings) {
  Access access;
  if (!settings.token_file.empty()) {
    DJINN_TRY(const std::string text, read_file(settings.token_file));
    DJINN_TRY(access, Access::parse(text));
  }
  access.allow_anonymous(settings.allow_anonymous);
  return access;
}

bool limits_device_memory(const TenantTable& tenants) {
  return std::ranges::any_of(
      tenants, [](const auto& entry) { return entry.second.device_memory_bytes.value_or(0) > 0; });
}

// What the tenants' tables say can be kept on this device.
Result<> check_tenants(const TenantTable& tenants, const Device& device,
                       uint64_t tenant_memory_bytes) {
  if ((limits_device_memory(tenants) || tenant_memory_bytes > 0) && !device.charges_tenants()) {
    return Error{ErrorCode::kInvalid,
                 "tenants: the device " + device.name() +
                     " does not count what a tenant has of it yet: leave tenant-memory and the "
                     "tenants' device-memory out"};
  }
  return check_tenants(tenants, tenant_memory_bytes);
}

// Folders that can be looked through, and pins that are in one of them.
Result<> check_models(const Settings& settings) {
  for (const std::string& folder : settings.model_dirs) {
    const auto good = ModelFiles::check(folder);
    if (!good) return Error{good.error().code, "model-dir: " + good.error().message};
  }
  for (const std::string& file : settings.pins) {
    if (std::ranges::any_of(settings.model_dirs, [&file](const std::string& folder) {
          std::error_code error;
          return std::filesystem::is_regular_file(std::filesystem::path(folder) / file, error);
        })) {
      continue;
    }
    return Error{
        ErrorCode::kNotFound,
        "pin: there is no file " + file + " in " +
            (settings.model_dirs.empty() ? "model-dir, which is not set" : "any model-dir")};
  }
  return Unit{};
}

// A GPU comes first: LibTorch asks once whether it has CUDA, and then it must be loaded.
Result<std::unique_ptr<Device>> make_device(const Settings& settings) {
  const std::string cuda = "cuda:";
  if (settings.device != "cpu") {
    const bool named = settings.device.starts_with(cuda);
    auto device =
        make_cuda_device({.index = named ? std::stoi(settings.device.substr(cuda.size())) : 0,
                          .memory_budget_bytes = settings.device_memory_bytes});
    if (device) return device;
    const Error& error = device.error();
    if (named) {
      return Error{error.code, std::string("--device ") + settings.device + ": " + error.message};
    }
    // A machine without a GPU is nothing to worry about; a GPU that cannot be used is.
    spdlog::log(error.code == ErrorCode::kNotFound ? spdlog::level::info : spdlog::level::warn,
                "device auto is cpu: {}", error.message);
  }
  return make_cpu_device({.memory_budget_bytes = settings.device_memory_bytes,
                          .threads = settings.threads,
                          .tenant_budget_bytes = settings.tenant_memory_bytes,
                          .tenants_limited = limits_device_memory(settings.tenants),
                          .host_budget_bytes = settings.host_memory_bytes,
                          .memory_policy = settings.memory_policy,
                          .link_bytes_per_second = settings.link_rate_bytes});
}

void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

Result<> write_port(const std::string& path, uint16_t port) {
  const std::string unfinished = path + ".new";  // A reader sees nothing or all of it.
  {
    std::ofstream out(unfinished);
    out << port << "\n";
    if (!out.flush()) return Error{ErrorCode::kFailed, path + ": cannot be written"};
  }
  if (std::rename(unfinished.c_str(), path.c_str()) == 0) return Unit{};
  return Error{ErrorCode::kFailed, path + ": cannot be written"};
}

Result<> listen(Server& server, const Settings& settings) {
  std::vector<transport::Address> bound;
  for (const transport::Address& address : settings.listen) {
    DJINN_TRY(bound.emplace_back(), server.listen(address));
  }
  for (const transport::Address& address : bound) {
    std::printf("listening on %s\n", address.text().c_str());
  }
  std::fflush(stdout);
  if (settings.port_file.empty()) return Unit{};
  for (const transport::Address& address : bound) {
    if (address.kind == transport::Address::Kind::kTcp) {
      return write_port(settings.port_file, address.port);
    }
  }
  return Error{ErrorCode::kInvalid, "port-file: no listener has a port"};
}

constexpr std::chrono::milliseconds kReportPatience{1000};

using AdminListeners = std::vector<std::unique_ptr<admin::Listener>>;
Result<AdminListeners> listen_for_admins(Server& server, const Settings& settings) {
  const admin::Desk desk{
      .report = [&server] { return server.report(kReportPatience); },
      .set_policy =
          [&server](std::string_view name) { return server.set_policy(name, kReportPatience); },
      .drain = [&server] { return server.drain(kReportPatience); },
      .change_tenants =
          [&server](std::string changes) {
            return server.change_tenants(std::move(changes), kReportPatience);
          }};
  AdminListeners out;
  if (settings.admin) {
    auto listener = admin::listen({.address = *settings.admin, .show = admin::Show::kAll}, desk);
    if (!listener) return Error{listener.error().code, "admin: " + listener.error().message};
    spdlog::info("admin socket: {}", (*listener)->address().text());
    out.push_back(std::move(*listener));
  }
  if (settings.metrics) {
    auto listener = admin::listen({.address = *settings.metrics, .show = admin::Show::kMetrics},
                                  {.report = desk.report});
    if (!listener) return Error{listener.error().code, "metrics: " + listener.error().message};
    spdlog::info("metrics: {}", (*listener)->address().text());
    out.push_back(std::move(*listener));
  }
  return out;
}

// There is a file to read again. Else SIGHUP ends the server, as it does with a terminal's end.
bool rereads(const CommandLine& command_line, const Settings& settings) {
  return !command_line.config_file.empty() || !settings.token_file.empty() ||
         !settings.model_dirs.empty();
}

// The tokens and the tenants, as they are in their files now. A wrong file changes nothing.
Result<> reread(Server& server, const Device& device, const CommandLine& command_line,
                Settings& settings) {
  DJINN_TRY(Settings next, load(command_line));
  DJINN_TRY(Access access, load_access(next));
  DJINN_CHECK(check_tenants(next.tenants, device, settings.tenant_memory_bytes));
  const bool has_file = !command_line.config_file.empty();  // Else what djinn-ctl changed stays.
  server.change(has_file ? std::optional(next.tenants) : std::nullopt, std::move(access));
  server.look_for_models();
  settings.tenants = std::exchange(next.tenants, {});
  spdlog::info("the tokens and {} tenants were reread", settings.tenants.size());
  Settings was = settings;
  was.tenants.clear();
  if (to_toml(was) != to_toml(next)) {
    spdlog::warn("what else has changed in the settings holds from the next start on");
  }
  return Unit{};
}

Result<> serve(const CommandLine& command_line, Settings settings) {
  ServerOptions options{.access = {}, .artifact_cache_bytes = settings.artifact_cache_bytes};
  options.policy = settings.policy;
  options.chunk_ns = settings.chunk_us * 1000;
  options.queue_max = settings.queue_max;
  DJINN_TRY(options.access, load_access(settings));
  options.tenants = settings.tenants;
  options.lockstep = settings.lockstep;
  if (!settings.cache_dir.empty()) {
    DJINN_TRY(options.disk, DiskCache::open(settings.cache_dir, settings.disk_cache_bytes));
  }
  DJINN_CHECK(check_models(settings));
  options.model_dirs = settings.model_dirs;
  options.pins = settings.pins;
  raise_descriptor_limit();
  DJINN_TRY(const auto device, make_device(settings));
  options.check_tenants = [&device = *device,
                           most = settings.tenant_memory_bytes](const TenantTable& tenants) {
    return check_tenants(tenants, device, most);
  };
  DJINN_CHECK(options.check_tenants(settings.tenants));
  DJINN_TRY(const auto loop, transport::make_loop({.single_thread = true}));
  Server server(*loop, *device, std::move(options));
  stop_target = &server;
  DJINN_TRY(auto admins, listen_for_admins(server, settings));
  DJINN_TRY([[maybe_unused]] const Unit listening, listen(server, settings));
  spdlog::info("device {} with LibTorch {}, I/O by {}", device->name(), device->libtorch_version(),
               loop->kind());
  std::optional<OnHangup> on_hangup;
  if (rereads(command_line, settings)) {
    on_hangup.emplace([&] {
      const auto changed = reread(server, *device, command_line, settings);
      if (!changed) spdlog::error("nothing was changed: {}", changed.error().message);
    });
  }
  DJINN_TRY([[maybe_unused]] const Unit done, server.run());
  on_hangup.reset();
  stop_target = nullptr;
  admins.clear();
  if (!server.idle()) {
    spdlog::warn("stopped before everything had ended");
    spdlog::default_logger()->flush();
    _exit(0);  // A job still runs, and nobody waits for it.
  }
  return Unit{};
}

int run(int argc, char** argv) {
  CLI::App app(kAbout, "djinn-server");
  int exit_code = 0;
  const auto command_line = parse(app, argc, argv, exit_code);
  if (!command_line) return exit_code;
  const auto settings = load(*command_line);
  if (settings && command_line->print_config) {
    std::fputs(to_toml(*settings).c_str(), stdout);
    return 0;
  }
  auto result = [&]() -> Result<> {
    if (!settings) return settings.error();
    spdlog::set_default_logger(spdlog::stderr_color_mt("djinn"));
    spdlog::set_pattern("%Y-%m-%d %H:%M:%S.%e %^%l%$ %v");
    spdlog::set_level(spdlog::level::from_str(settings->log_level));
    struct sigaction action {};
    action.sa_handler = on_signal;
    sigaction(SIGTERM, &action, nullptr);
    sigaction(SIGINT, &action, nullptr);
    if (rereads(*command_line, *settings)) block_hangup();
    return serve(*command_line, *settings);
  }();
  if (result) return 0;
  std::fprintf(stderr, "djinn-server: %s\n", result.error().message.c_str());
  return 1;
}

}  // namespace
}  // namespace djinn::server

int main(int argc, char** argv) {
  try {
    return djinn::server::run(argc, argv);
  } catch (const std::exception& e) {  // Of CLI11, spdlog and the standard library.
    std::fprintf(stderr, "djinn-server: %s\n", e.what());
    return 1;
  }
}
