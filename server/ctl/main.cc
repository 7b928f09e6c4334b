// SPDX-License-Identifier: Apache-2.0
// djinn-ctl: what a djinn-server's memory does, for people and for scripts.
#include <CLI/CLI.hpp>
#include <array>
#include <chrono>
#include <cstdio>
#include <exception>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "server/ctl/get.h"
#include "server/ctl/tables.h"

namespace djinn::ctl {
namespace {

constexpr const char* kAbout =
    "Shows what a djinn-server's memory does. The server must run with --admin unix:///path, and\n"
    "only its user and root may ask. docs/operations.md says what each figure means.\n";
constexpr const char* kExamples =
    "Examples:\n"
    "  djinn-server --device-memory 8GiB --admin unix:///run/djinn.sock &\n"
    "  djinn-ctl --admin unix:///run/djinn.sock memory     tiers, what moved, shared weights\n"
    "  DJINN_SERVER_ADMIN=unix:///run/djinn.sock djinn-ctl sessions\n"
    "  djinn-ctl --admin unix:///run/djinn.sock memory --json | jq .device.used_bytes\n"
    "  watch -n 1 djinn-ctl --admin unix:///run/djinn.sock tenants\n";
constexpr std::chrono::milliseconds kPatience{5000};

struct Command {
  const char* name;
  const char* help;
  std::string (*show)(const Json& page);  // Null: the page is text.
};
constexpr std::array<Command, 5> kCommands{{
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

Result<> show(const Command& command, const std::string& admin, bool json) {
  if (admin.empty()) {
    return Error{ErrorCode::kInvalid,
                 "where is the server? Give its --admin address, as --admin unix:///path or in "
                 "DJINN_SERVER_ADMIN"};
  }
  if (json && command.show == nullptr) {
    return Error{ErrorCode::kInvalid, "metrics are text: the other commands know --json"};
  }
  DJINN_TRY(const transport::Address address, transport::parse_address(admin));
  DJINN_TRY(std::string page, get(address, std::string("/") + command.name, kPatience));
  if (command.show != nullptr && !json) {
    try {
      page = command.show(Json::parse(page));
    } catch (const Json::exception& e) {
      return Error{ErrorCode::kInvalid,
                   address.text() + ": a page of another version? " + std::string(e.what())};
    }
  }
  std::fputs(page.c_str(), stdout);
  if (std::fflush(stdout) == 0) return Unit{};
  return Error{ErrorCode::kFailed, "the output cannot be written"};
}

int run(int argc, char** argv) {
  CLI::App app(kAbout, "djinn-ctl");
  app.footer(kExamples);
  app.set_version_flag("--version", std::string("djinn-ctl ") + DJINN_VERSION);
  std::string admin;
  bool json = false;
  const Command* chosen = nullptr;
  app.add_option("--admin", admin, "The server's admin socket: unix:///path")
      ->type_name("ADDRESS")
      ->envname("DJINN_SERVER_ADMIN");
  app.add_flag("--json", json, "For scripts: the page as it is, in bytes and counts");
  for (const Command& command : kCommands) {
    app.add_subcommand(command.name, command.help)->fallthrough()->callback([&chosen, &command] {
      chosen = &command;
    });
  }
  app.require_subcommand(1);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e, std::cout, std::cerr);
  }
  const auto shown = show(*chosen, admin, json);
  if (shown) return 0;
  std::fprintf(stderr, "djinn-ctl: %s\n", shown.error().message.c_str());
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
