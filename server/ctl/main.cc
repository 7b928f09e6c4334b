// SPDX-License-Identifier: Apache-2.0
// djinn-ctl: what a djinn-server does, for people and for scripts, and what may be changed of it.
#include <CLI/CLI.hpp>
#include <array>
#include <chrono>
#include <cstdio>
#include <exception>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "server/ctl/ask.h"
#include "server/ctl/drain.h"
#include "server/ctl/tables.h"
#include "server/ctl/watch.h"

namespace djinn::ctl {
namespace {

constexpr const char* kAbout =
    "Shows what a djinn-server does, and changes it. The server must run with\n"
    "--admin unix:///path, and only its user and root may ask. docs/operations.md says what each\n"
    "figure means.\n";
constexpr const char* kExamples =
    "Examples:\n"
    "  djinn-server --device-memory 8GiB --admin unix:///run/djinn.sock &\n"
    "  djinn-ctl --admin unix:///run/djinn.sock memory     tiers, what moved, shared weights\n"
    "  DJINN_SERVER_ADMIN=unix:///run/djinn.sock djinn-ctl sessions\n"
    "  djinn-ctl --admin unix:///run/djinn.sock memory --json | jq .device.used_bytes\n"
    "  djinn-ctl --admin unix:///run/djinn.sock top        until Ctrl-C\n"
    "  djinn-ctl --admin unix:///run/djinn.sock top --once --json | jq .utilisation\n"
    "  djinn-ctl --admin unix:///run/djinn.sock policy wfq && djinn-ctl ... policy\n"
    "  djinn-ctl --admin unix:///run/djinn.sock tenant research weight=3 sessions=16\n"
    "  djinn-ctl --admin unix:///run/djinn.sock drain      ends the server when all is done\n";
constexpr std::chrono::milliseconds kPatience{5000};

struct Options {
  std::string admin;
  bool json = false;
  std::string policy;  // Empty: show it.
  std::string tenant;
  std::vector<std::string> changes;  // "weight=3"
  double interval_seconds = 1;
  bool once = false;
};

struct PageCommand {
  const char* name;
  const char* help;
  std::string (*show)(const Json& page);  // Null: the page is text.
};
constexpr std::array<PageCommand, 5> kPageCommands{{
    {"memory", "Device and host: budget, use and peak; what moved between them; shared weights",
     memory_text},
    {"tenants",
     "One line each: what it may have, the sums over its sessions, its device time and its peak",
     tenants_text},
    {"sessions", "One line each: who, since when, jobs and bytes", sessions_text},
    {"plans",
     "One line each, the most used first: what it is, what its jobs take, its longest operator",
     plans_text},
    {"metrics", "What Prometheus reads", nullptr},
}};

Result<> print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  if (std::fflush(stdout) == 0) return Unit{};
  return Error{ErrorCode::kFailed, "the output cannot be written"};
}

Result<transport::Address> address_of(const Options& options) {
  if (!options.admin.empty()) return transport::parse_address(options.admin);
  return Error{ErrorCode::kInvalid,
               "where is the server? Give its --admin address, as --admin unix:///path or in "
               "DJINN_SERVER_ADMIN"};
}

Result<> print_page(const std::string& page, const transport::Address& address, bool json,
                    std::string (*show)(const Json& page)) {
  if (show == nullptr || json) return print(page);
  try {
    return print(show(Json::parse(page)));
  } catch (const Json::exception& e) {
    return Error{ErrorCode::kInvalid,
                 address.text() + ": a page of another version? " + std::string(e.what())};
  }
}

Result<> show_page(const PageCommand& command, const Options& options) {
  DJINN_TRY(const transport::Address address, address_of(options));
  if (options.json && command.show == nullptr) {
    return Error{ErrorCode::kInvalid, "metrics are text: the other commands know --json"};
  }
  DJINN_TRY(const std::string page, get(address, std::string("/") + command.name, kPatience));
  return print_page(page, address, options.json, command.show);
}

Result<> policy(const Options& options) {
  DJINN_TRY(const transport::Address address, address_of(options));
  DJINN_TRY(const std::string page, options.policy.empty()
                                        ? get(address, "/policy", kPatience)
                                        : post(address, "/policy", options.policy, kPatience));
  return print_page(page, address, options.json, policy_text);
}

// A text in quotes, as TOML and JSON write it. Throws if it is no UTF-8.
std::string quoted(const std::string& text) { return Json(text).dump(); }

// "weight=3" as a line of the tenant's table.
Result<std::string> line_of(const std::string& change) {
  const size_t at = change.find('=');
  if (at == std::string::npos || at == 0 || at + 1 == change.size()) {
    return Error{ErrorCode::kInvalid,
                 "\"" + change + "\" is no KEY=VALUE, as weight=3 or queue=default"};
  }
  const std::string value = change.substr(at + 1);
  const Json number = Json::parse(value, nullptr, false);
  return quoted(change.substr(0, at)) + " = " + (number.is_number() ? value : quoted(value)) + "\n";
}

Result<> change_tenant(const Options& options) {
  DJINN_TRY(const transport::Address address, address_of(options));
  std::string table = "[tenants." + quoted(options.tenant) + "]\n";
  for (const std::string& change : options.changes) {
    DJINN_TRY(const std::string line, line_of(change));
    table += line;
  }
  DJINN_TRY(const std::string page, post(address, "/tenants", table, kPatience));
  return print_page(page, address, options.json, tenants_text);
}

Result<> drain_server(const Options& options) {
  DJINN_TRY(const transport::Address address, address_of(options));
  return drain(address, options.json, [](const std::string& line) { (void)print(line); });
}

Result<> top(const Options& options) {
  DJINN_TRY(const transport::Address address, address_of(options));
  const auto ms = static_cast<int64_t>(options.interval_seconds * 1000);
  return watch(
      address,
      {.interval = std::chrono::milliseconds(ms), .once = options.once, .json = options.json});
}

// The command that was chosen, to be run when all options are known.
using Chosen = std::function<Result<>()>;

void add_commands(CLI::App& app, Options& options, Chosen& chosen) {
  const auto add = [&app](const char* name, const char* help) {
    return app.add_subcommand(name, help)->fallthrough();
  };
  for (const PageCommand& command : kPageCommands) {
    add(command.name, command.help)->callback([&chosen, &options, &command] {
      chosen = [&] { return show_page(command, options); };
    });
  }
  CLI::App* const of_top = add(
      "top", "How busy the device is, who waits and how long, who has how much of it: refreshed");
  of_top->add_flag("--once", options.once, "One look, an interval long");
  of_top->add_option("--interval", options.interval_seconds, "Seconds between looks, 0.1 to 3600")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.1, 3600.0));
  of_top->callback([&] { chosen = [&] { return top(options); }; });
  CLI::App* const of_policy =
      add("policy", "Who runs next is decided so; with a NAME: so from now on, and no job is lost");
  of_policy->add_option("NAME", options.policy, "One of those that are shown without it");
  of_policy->callback([&] { chosen = [&] { return policy(options); }; });
  CLI::App* const of_tenant = add(
      "tenant",
      "What NAME may have from now on, until the server ends or SIGHUP makes it reread its config "
      "file: keys of [tenants.NAME] there, or KEY=default");
  of_tenant->add_option("NAME", options.tenant, "Whom tokens name")->required();
  of_tenant->add_option("KEY=VALUE", options.changes, "weight=3, class=interactive, queue=500 ...")
      ->required();
  of_tenant->callback([&] { chosen = [&] { return change_tenant(options); }; });
  add("drain",
      "Takes no new sessions and jobs, finishes those that are there, says what is left, and ends "
      "the server")
      ->callback([&] { chosen = [&] { return drain_server(options); }; });
}

int run(int argc, char** argv) {
  CLI::App app(kAbout, "djinn-ctl");
  app.footer(kExamples);
  app.set_version_flag("--version", std::string("djinn-ctl ") + DJINN_VERSION);
  Options options;
  Chosen chosen;
  app.add_option("--admin", options.admin, "The server's admin socket: unix:///path")
      ->type_name("ADDRESS")
      ->envname("DJINN_SERVER_ADMIN");
  app.add_flag("--json", options.json, "For scripts: the page as it is, in bytes and counts");
  add_commands(app, options, chosen);
  app.require_subcommand(1);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e, std::cout, std::cerr);
  }
  const auto done = chosen();
  if (done) return 0;
  std::fprintf(stderr, "djinn-ctl: %s\n", done.error().message.c_str());
  return 1;
}

}  // namespace
}  // namespace djinn::ctl

int main(int argc, char** argv) {
  try {
    return djinn::ctl::run(argc, argv);
  } catch (const std::exception& e) {  // Of CLI11 and the standard library.
    std::fprintf(stderr, "djinn-ctl: %s\n", e.what());
    return 1;
  }
}
