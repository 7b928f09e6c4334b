// SPDX-License-Identifier: Apache-2.0
// djinn-ctl as an operator meets it, against the admin socket of a server with a fake device.
#include <gmock/gmock.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include <gtest/gtest.h>

#include "server/admin/listener.h"
#include "tests/support/test_server.h"

namespace djinn::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using transport::Address;

struct Said {
  int status = 0;
  std::string out;
  std::string err;
};

std::string program() {
  std::array<char, 4096> path{};
  const ssize_t length = readlink("/proc/self/exe", path.data(), path.size() - 1);
  const std::string self(path.data(), static_cast<size_t>(length));
  return self.substr(0, self.rfind("/tests/")) + "/djinn-ctl";
}

Said say(const std::string& args, const std::string& variables = "") {
  const std::string errors = ::testing::TempDir() + "/djinn-ctl-" + std::to_string(getpid());
  FILE* const pipe = popen((variables + program() + " " + args + " 2>" + errors).c_str(), "r");
  Said said;
  for (int c = fgetc(pipe); c != EOF; c = fgetc(pipe)) said.out += static_cast<char>(c);
  said.status = WEXITSTATUS(pclose(pipe));
  FILE* const file = fopen(errors.c_str(), "r");
  for (int c = fgetc(file); c != EOF; c = fgetc(file)) said.err += static_cast<char>(c);
  fclose(file);
  unlink(errors.c_str());
  return said;
}

struct Ctl : ::testing::Test {
  Ctl() {
    address.host = "/tmp/djinn-ctl-" + std::to_string(getpid()) + ".sock";
    auto made = server::admin::listen(
        {.address = address},
        {.report = [this] { return server.report(kPatience); },
         .set_policy = [this](std::string_view name) { return server.set_policy(name, kPatience); },
         .drain = [this] { return server.drain(kPatience); },
         .change_tenants =
             [this](std::string changes) {
               return server.change_tenants(std::move(changes), kPatience);
             }});
    if (made) listener = std::move(*made);
  }
  Said ask(const std::string& args) { return say("--admin " + address.text() + " " + args); }

  static constexpr std::chrono::milliseconds kPatience{10'000};
  TestServer server;
  Address address{.kind = Address::Kind::kUnix, .host = {}};
  std::unique_ptr<server::admin::Listener> listener;
};

TEST_F(Ctl, ShowsTablesToPeopleAndJsonToScripts) {
  ASSERT_NE(listener, nullptr);
  WireClient client(server.tcp);
  ASSERT_TRUE(client.hello());
  for (const auto& [command, title] : std::map<std::string, std::string>{
           {"memory", "MEMORY "}, {"tenants", "TENANT "}, {"sessions", "SESSION "}}) {
    const Said people = ask(command);
    EXPECT_EQ(people.status, 0) << people.err;
    EXPECT_THAT(people.out, StartsWith(title));
    const Said script = ask(command + " --json");
    EXPECT_EQ(script.status, 0) << script.err;
    EXPECT_TRUE(nlohmann::json::accept(script.out)) << script.out;
  }
  EXPECT_THAT(ask("sessions").out, HasSubstr("anonymous"));
  EXPECT_THAT(ask("metrics").out, HasSubstr("\ndjinn_sessions 1\n"));
}

TEST_F(Ctl, TakesTheAddressFromTheServersVariable) {
  const std::string variable = "DJINN_SERVER_ADMIN=" + address.text() + " ";
  EXPECT_THAT(say("memory", variable).out, StartsWith("MEMORY "));
}

TEST_F(Ctl, ShowsThePolicyChangesItAndNamesThoseThatThereAre) {
  EXPECT_THAT(ask("policy").out, HasSubstr("\n*  semantic  "));
  const Said changed = ask("policy wfq");
  EXPECT_EQ(changed.status, 0) << changed.err;
  EXPECT_THAT(changed.out, HasSubstr("\n*  wfq "));
  EXPECT_EQ(nlohmann::json::parse(ask("policy --json").out).at("policy"), "wfq");
  const Said refused = ask("policy frob");
  EXPECT_EQ(refused.status, 1);
  EXPECT_EQ(refused.out, "");
  for (const std::string& name : sched::policy_names()) {
    EXPECT_THAT(refused.err, HasSubstr(name));
  }
  EXPECT_THAT(ask("policy").out, HasSubstr("\n*  wfq "));
  EXPECT_THAT(ask("metrics").out, HasSubstr("\ndjinn_policy{policy=\"wfq\"} 1\n"));
}

TEST_F(Ctl, ChangesWhatATenantMayHaveAtOnce) {
  WireClient first(server.tcp);
  ASSERT_TRUE(first.hello());
  const Said changed = ask("tenant anonymous weight=2.5 sessions=1 class=best-effort");
  EXPECT_EQ(changed.status, 0) << changed.err;
  EXPECT_THAT(changed.out, HasSubstr("anonymous"));
  EXPECT_THAT(ask("tenants --json").out, HasSubstr("\"weight\": 2.5"));
  WireClient second(server.tcp);
  EXPECT_FALSE(second.hello()) << "one of it is there";
  EXPECT_EQ(ask("tenant anonymous sessions=default").status, 0);
  WireClient third(server.tcp);
  EXPECT_TRUE(third.hello());
}

TEST_F(Ctl, AChangeOfATenantThatIsWrongChangesNothing) {
  for (const auto& [args, hint] : std::map<std::string, std::string>{
           {"tenant anonymous weight=0", "weight: is no number from 0.001 to 1000"},
           {"tenant anonymous sessions=1 class=urgent", "best-effort"},
           {"tenant anonymous sessions=1 size=3", "there is no \"size\" of a tenant; there are"},
           {"tenant anonymous sessions=1 device-memory=lots", "device-memory: "},
           {"tenant anonymous sessions", "is no KEY=VALUE"},
           {"tenant anonymous =3", "is no KEY=VALUE"},
           {"tenant '' weight=1", "1 to 256 bytes"}}) {
    const Said refused = ask(args);
    EXPECT_EQ(refused.status, 1) << args;
    EXPECT_EQ(refused.out, "");
    EXPECT_THAT(refused.err, HasSubstr(hint));
  }
  EXPECT_NE(ask("tenant anonymous").status, 0);
  WireClient first(server.tcp);
  WireClient second(server.tcp);
  EXPECT_TRUE(first.hello() && second.hello()) << "sessions=1 was not taken without the others";
}

TEST_F(Ctl, TopLooksOnceForScripts) {
  const Said script = ask("top --once --json --interval 0.1");
  EXPECT_EQ(script.status, 0) << script.err;
  const nlohmann::json top = nlohmann::json::parse(script.out, nullptr, false);
  EXPECT_EQ(top.at("policy"), "semantic");
  EXPECT_EQ(top.at("classes").size(), sched::kClasses);
  const Said people = ask("top --once --interval 0.1");
  EXPECT_THAT(people.out, HasSubstr("policy semantic\nbusy "));
  EXPECT_THAT(people.out, ::testing::Not(HasSubstr("\x1b"))) << "this is no terminal";
  EXPECT_NE(ask("top --interval 0").status, 0);
  EXPECT_NE(ask("top --interval never").status, 0);
}

// What a terminal got until the program ended, after it was interrupted once it showed a look.
struct Terminal {
  explicit Terminal(const std::string& admin) {
    int line = -1;
    const pid_t child = forkpty(&line, nullptr, nullptr, nullptr);
    if (child == 0) {
      const std::string path = program();
      execl(path.c_str(), "djinn-ctl", "--admin", admin.c_str(), "top", "--interval", "0.1",
            nullptr);
      _exit(127);
    }
    std::array<char, 4096> bytes{};
    bool interrupted = false;
    for (ssize_t got = 0; (got = read(line, bytes.data(), bytes.size())) > 0;) {
      shown.append(bytes.data(), static_cast<size_t>(got));
      if (interrupted || shown.find("TENANT") == std::string::npos) continue;
      interrupted = write(line, "\x03", 1) == 1;  // Ctrl-C
    }
    waitpid(child, &status, 0);
    close(line);
  }
  std::string shown;
  int status = -1;
};

TEST_F(Ctl, TopLeavesTheTerminalAsItWasWhenItIsInterrupted) {
  const Terminal terminal(address.text());
  EXPECT_EQ(terminal.status, 0);
  const std::string enter = "\x1b[?1049h\x1b[?25l";
  const std::string leave = "\x1b[?25h\x1b[?1049l";
  const size_t begin = terminal.shown.find(enter);
  ASSERT_NE(begin, std::string::npos);
  EXPECT_EQ(terminal.shown.find(enter, begin + 1), std::string::npos) << "once";
  const size_t end = terminal.shown.rfind(leave);
  ASSERT_NE(end, std::string::npos) << "the cursor and the screen are back";
  EXPECT_EQ(terminal.shown.substr(end), leave) << "and nothing comes behind";
}

TEST(CtlAlone, ExplainsItself) {
  const Said help = say("--help");
  EXPECT_EQ(help.status, 0);
  for (const char* word : {"Examples:", "--admin", "--json", "memory", "tenants", "sessions", "top",
                           "policy", "drain"}) {
    EXPECT_THAT(help.out, HasSubstr(word));
  }
}

TEST(CtlAlone, SaysWhatToDo) {
  const Said nobody = say("--admin unix:///tmp/djinn-there-is-no-server memory");
  EXPECT_EQ(nobody.status, 1);
  EXPECT_THAT(nobody.err, HasSubstr("--admin unix:///tmp/djinn-there-is-no-server"));
  EXPECT_EQ(nobody.out, "");
  EXPECT_THAT(say("memory").err, HasSubstr("DJINN_SERVER_ADMIN"));
  EXPECT_THAT(say("--admin nowhere memory").err, HasSubstr("unix:///path"));
  EXPECT_NE(say("--admin unix:///x frob").status, 0);
  EXPECT_NE(say("").status, 0);
}

TEST(CtlAlone, NoticesThatItTalksToSomethingElse) {
  TestServer server;  // Its socket for clients, not for admins: it hangs up, or says nothing.
  const Said said = say("--admin " + server.unix_socket.text() + " memory");
  EXPECT_EQ(said.status, 1);
  EXPECT_THAT(said.err, HasSubstr(server.unix_socket.text()));
}

}  // namespace
}  // namespace djinn::testing
