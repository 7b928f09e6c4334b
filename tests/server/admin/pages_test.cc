// SPDX-License-Identifier: Apache-2.0
// Pages of a report whose every figure is another number: none is missing, none is in another's
// place.
#include "server/admin/pages.h"

#include <gmock/gmock.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include <gtest/gtest.h>

namespace djinn::server::admin {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

ArtifactStats artifacts() {
  return {.offers = 51,
          .hits = 52,
          .bytes_saved = 53,
          .verified = 54,
          .refused = 55,
          .artifacts = 56,
          .bytes = 57,
          .unused_bytes = 58,
          .evicted_bytes = 59,
          .unwritten_bytes = 0,
          .disk = {.artifacts = 101,
                   .bytes = 102,
                   .hits = 103,
                   .bytes_read = 104,
                   .bytes_written = 105,
                   .corrupt_files = 106,
                   .evicted_bytes = 107,
                   .failed_writes = 108},
          .models = {.files = 131,
                     .tensors = 132,
                     .bytes = 133,
                     .hits = 134,
                     .bytes_read = 135,
                     .changed = 136},
          .pinned_bytes = 137};
}

TierReport tiers() {
  return {.tiered = true,
          .device = {.budget = 61, .used = 62, .peak = 63, .largest_free = 64},
          .host = {.budget = 65, .used = 66, .peak = 67, .largest_free = 68},
          .moved = {.spills = 71,
                    .spilled_bytes = 72,
                    .drops = 73,
                    .loads = 74,
                    .loaded_bytes = 75,
                    .prefetches = 76,
                    .prefetched_bytes = 77,
                    .useful = 78,
                    .late = 79,
                    .wasted = 80,
                    .packs = 82,
                    .retries = 83,
                    .refusals = 81}};
}

Runner::Load load() {
  Runner::Load out{.busy_ns = 141'000, .queued = {142, 143, 144}, .waits = {}, .late = 172};
  for (size_t in_class = 0; in_class < sched::kClasses; ++in_class) {
    sched::Waits& waits = out.waits[in_class];
    for (size_t i = 0; i < waits.jobs.size(); ++i) waits.jobs[i] = 100 * in_class + i;
    waits.total_ns = 151'000 + in_class * 1000;
  }
  return out;
}

ServerReport report() {
  return {.device = "cpu",
          .up_ns = 12'345'000'000,
          .draining = false,
          .policy = "wfq",
          .load = load(),
          .sessions = {{.session = 3,
                        .tenant = "alice",
                        .peer = "tcp://127.0.0.1:5",
                        .state = "open",
                        .age_ns = 1'500'000'000,
                        .jobs = 31,
                        .in_flight = 32,
                        .storages = 33,
                        .bytes = 34,
                        .shared_bytes = 35,
                        .upload_bytes = 36,
                        .hints = {.urgency = Urgency::kBestEffort, .rest = Rest::kOpen}}},
          .tenants = {{.tenant = "alice",
                       .sessions = 41,
                       .jobs = 42,
                       .in_flight = 43,
                       .storages = 44,
                       .bytes = 45,
                       .shared_bytes = 46,
                       .upload_bytes = 47,
                       .device = {.limit = 91, .used = 92, .peak = 93},
                       .host = {.limit = 94, .used = 95, .peak = 96},
                       .terms = {.weight = 2.5, .ceiling = sched::Class::kInteractive},
                       .sessions_max = 48,
                       .rates = {.device_ns = 161, .bytes = 162, .requests = 163.5},
                       .rate_refusals = 164,
                       .used_ns = 49'000,
                       .all_jobs = 50}},
          .artifacts = artifacts(),
          .tiers = tiers(),
          .queued_jobs = 111,
          .refusals = {.queue = 112,
                       .tenant_queue = 113,
                       .sessions = 114,
                       .tenant_sessions = 115,
                       .draining = 116,
                       .device_time = 117,
                       .bytes = 118,
                       .requests = 119,
                       .deadline = 171},
          .lockstep = {.groups = 121,
                       .jobs = 122,
                       .operators = 123,
                       .held_ns = 124'000'000,
                       .packed_bytes = 125}};
}

Response ask(std::string_view path, Show show = Show::kAll, ServerReport of = report()) {
  return answer({.path = std::string(path)}, show,
                {.report = [&of]() -> Result<ServerReport> { return of; }});
}
nlohmann::json parsed(std::string_view path) {
  const Response response = ask(path);
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.type, "application/json");
  return nlohmann::json::parse(response.body);
}

TEST(Pages, MemoryHasEveryFigure) {
  EXPECT_EQ(parsed("/memory"), nlohmann::json::parse(R"({
    "device_name": "cpu", "tiered": true,
    "device": {"budget_bytes": 61, "used_bytes": 62, "peak_bytes": 63, "largest_free_bytes": 64},
    "host": {"budget_bytes": 65, "used_bytes": 66, "peak_bytes": 67, "largest_free_bytes": 68},
    "moved": {"spills": 71, "spilled_bytes": 72, "drops": 73, "loads": 74, "loaded_bytes": 75,
              "prefetches": 76, "prefetched_bytes": 77, "prefetches_useful": 78,
              "prefetches_late": 79, "prefetches_wasted": 80, "packs": 82, "retries": 83,
              "refusals": 81},
    "artifacts": {"artifacts": 56, "bytes": 57, "unused_bytes": 58, "offers": 51, "hits": 52,
                  "saved_bytes": 53, "evicted_bytes": 59, "refused": 55,
                  "disk": {"artifacts": 101, "bytes": 102, "hits": 103, "read_bytes": 104,
                           "written_bytes": 105, "corrupt_files": 106, "evicted_bytes": 107,
                           "failed_writes": 108},
                  "models": {"files": 131, "tensors": 132, "bytes": 133, "pinned_bytes": 137,
                             "hits": 134, "read_bytes": 135, "changed": 136}}})"));
}

TEST(Pages, SessionsAndTenantsHaveEveryFigure) {
  EXPECT_EQ(parsed("/sessions"), nlohmann::json::parse(R"({"sessions": [{
    "session": 3, "tenant": "alice", "peer": "tcp://127.0.0.1:5", "state": "open",
    "urgency": "best-effort", "rests": true,
    "age_seconds": 1.5, "jobs": 31, "in_flight": 32, "storages": 33, "storage_bytes": 34,
    "shared_bytes": 35, "upload_bytes": 36}]})"));
  EXPECT_EQ(parsed("/tenants"), nlohmann::json::parse(R"({"tenants": [{
    "tenant": "alice", "weight": 2.5, "class": "interactive", "sessions": 41,
    "sessions_limit": 48, "rates": {"device_ns_per_second": 161, "bytes_per_second": 162,
    "requests_per_second": 163.5}, "rate_refusals": 164, "used_ns": 49000, "all_jobs": 50, "jobs": 42, "in_flight": 43, "storages": 44,
    "storage_bytes": 45, "shared_bytes": 46, "upload_bytes": 47,
    "device": {"limit_bytes": 91, "used_bytes": 92, "peak_bytes": 93},
    "host": {"limit_bytes": 94, "used_bytes": 95, "peak_bytes": 96}}]})"));
}

TEST(Pages, LoadHasWhatTopSubtracts) {
  const nlohmann::json page = parsed("/load");
  EXPECT_EQ(page.at("status"), "ok");
  EXPECT_EQ(page.at("policy"), "wfq");
  EXPECT_EQ(page.at("up_ns"), 12'345'000'000);
  EXPECT_EQ(page.at("busy_ns"), 141'000);
  EXPECT_EQ(page.at("queued_jobs"), 111);
  EXPECT_EQ(page.at("device").at("used_bytes"), 62);
  EXPECT_EQ(page.at("wait_steps_ns").size(), 9U);
  EXPECT_EQ(page.at("classes").at(1), nlohmann::json::parse(R"({"class": "interactive",
    "queued": 143, "waits": [100, 101, 102, 103, 104, 105, 106, 107, 108, 109],
    "waited_ns": 152000})"));
  EXPECT_EQ(page.at("tenants"), parsed("/tenants").at("tenants"));
  EXPECT_EQ(page.at("sessions"), parsed("/sessions").at("sessions"));
}

// name{labels} -> value; each family's HELP and TYPE come first, once.
std::map<std::string, uint64_t> samples_of(const std::string& text) {
  std::map<std::string, uint64_t> out;
  std::set<std::string> families;
  std::string family;
  bool typed = false;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# HELP ")) {
      family = line.substr(7, line.find(' ', 7) - 7);
      EXPECT_TRUE(families.insert(family).second) << "twice: " << family;
      typed = false;
    } else if (line.starts_with("# TYPE ")) {
      const bool counter = line == "# TYPE " + family + " counter";
      const bool histogram = line == "# TYPE " + family + " histogram";
      EXPECT_TRUE(counter || histogram || line == "# TYPE " + family + " gauge") << line;
      EXPECT_EQ(counter, family.ends_with("_total")) << line;
      typed = true;
    } else {
      const size_t space = line.rfind(' ');
      const std::string name = line.substr(0, space);
      EXPECT_TRUE(typed && name.starts_with(family)) << line;
      EXPECT_TRUE(out.emplace(name, std::stoull(line.substr(space + 1))).second) << line;
    }
  }
  return out;
}

TEST(Pages, MetricsAreWhatPrometheusReads) {
  const Response response = ask("/metrics");
  EXPECT_THAT(response.type, HasSubstr("version=0.0.4"));
  std::map<std::string, uint64_t> expected{
      {"djinn_device_busy_microseconds_total", 141},
      {"djinn_class_queued_jobs{class=\"latency-critical\"}", 142},
      {"djinn_class_queued_jobs{class=\"interactive\"}", 143},
      {"djinn_class_queued_jobs{class=\"best-effort\"}", 144},
      {"djinn_tenant_jobs_total{tenant=\"alice\"}", 50},
      {"djinn_info{device=\"cpu\"}", 1},
      {"djinn_policy{policy=\"wfq\"}", 1},
      {"djinn_draining", 0},
      {"djinn_up_seconds", 12},
      {"djinn_memory_budget_bytes{tier=\"device\"}", 61},
      {"djinn_memory_budget_bytes{tier=\"host\"}", 65},
      {"djinn_memory_used_bytes{tier=\"device\"}", 62},
      {"djinn_memory_used_bytes{tier=\"host\"}", 66},
      {"djinn_memory_peak_bytes{tier=\"device\"}", 63},
      {"djinn_memory_peak_bytes{tier=\"host\"}", 67},
      {"djinn_memory_largest_free_bytes{tier=\"device\"}", 64},
      {"djinn_tier_spills_total", 71},
      {"djinn_tier_spilled_bytes_total", 72},
      {"djinn_tier_drops_total", 73},
      {"djinn_tier_loads_total", 74},
      {"djinn_tier_loaded_bytes_total", 75},
      {"djinn_tier_prefetches_total", 76},
      {"djinn_tier_prefetched_bytes_total", 77},
      {"djinn_tier_prefetches_useful_total", 78},
      {"djinn_tier_prefetches_late_total", 79},
      {"djinn_tier_prefetches_wasted_total", 80},
      {"djinn_tier_packs_total", 82},
      {"djinn_tier_retries_total", 83},
      {"djinn_tier_refusals_total", 81},
      {"djinn_lockstep_groups_total", 121},
      {"djinn_lockstep_jobs_total", 122},
      {"djinn_lockstep_operators_total", 123},
      {"djinn_lockstep_held_ms_total", 124},
      {"djinn_lockstep_packed_bytes", 125},
      {"djinn_artifacts", 56},
      {"djinn_artifact_bytes", 57},
      {"djinn_artifact_unused_bytes", 58},
      {"djinn_artifact_offers_total", 51},
      {"djinn_artifact_hits_total", 52},
      {"djinn_artifact_saved_bytes_total", 53},
      {"djinn_artifact_evicted_bytes_total", 59},
      {"djinn_artifact_refused_total", 55},
      {"djinn_disk_artifacts", 101},
      {"djinn_disk_bytes", 102},
      {"djinn_disk_hits_total", 103},
      {"djinn_disk_read_bytes_total", 104},
      {"djinn_disk_written_bytes_total", 105},
      {"djinn_disk_corrupt_files_total", 106},
      {"djinn_disk_evicted_bytes_total", 107},
      {"djinn_disk_failed_writes_total", 108},
      {"djinn_model_files", 131},
      {"djinn_model_tensors", 132},
      {"djinn_model_bytes", 133},
      {"djinn_model_hits_total", 134},
      {"djinn_model_read_bytes_total", 135},
      {"djinn_model_changed_total", 136},
      {"djinn_model_pinned_bytes", 137},
      {"djinn_sessions", 1},
      {"djinn_queued_jobs", 111},
      {"djinn_refusals_total{reason=\"queue\"}", 112},
      {"djinn_refusals_total{reason=\"tenant-queue\"}", 113},
      {"djinn_refusals_total{reason=\"sessions\"}", 114},
      {"djinn_refusals_total{reason=\"tenant-sessions\"}", 115},
      {"djinn_refusals_total{reason=\"draining\"}", 116},
      {"djinn_refusals_total{reason=\"tenant-device-time\"}", 117},
      {"djinn_refusals_total{reason=\"tenant-bytes\"}", 118},
      {"djinn_refusals_total{reason=\"tenant-requests\"}", 119},
      {"djinn_refusals_total{reason=\"deadline\"}", 171},
      {"djinn_late_jobs_total", 172},
      {"djinn_tenant_rate_refusals_total{tenant=\"alice\"}", 164},
      {"djinn_tenant_sessions{tenant=\"alice\"}", 41},
      {"djinn_tenant_sessions_limit{tenant=\"alice\"}", 48},
      {"djinn_tenant_device_microseconds_total{tenant=\"alice\"}", 49},
      {"djinn_tenant_limit_bytes{tenant=\"alice\",tier=\"device\"}", 91},
      {"djinn_tenant_used_bytes{tenant=\"alice\",tier=\"device\"}", 92},
      {"djinn_tenant_peak_bytes{tenant=\"alice\",tier=\"device\"}", 93},
      {"djinn_tenant_limit_bytes{tenant=\"alice\",tier=\"host\"}", 94},
      {"djinn_tenant_used_bytes{tenant=\"alice\",tier=\"host\"}", 95},
      {"djinn_tenant_peak_bytes{tenant=\"alice\",tier=\"host\"}", 96}};
  constexpr const char* kClassNames[] = {"latency-critical", "interactive", "best-effort"};
  for (uint64_t i = 0; i < sched::kClasses; ++i) {
    const auto name = [&](const std::string& part, const std::string& more) {
      std::string out = "djinn_job_wait_microseconds" + part;
      return out.append("{class=\"").append(kClassNames[i]).append("\"").append(more).append("}");
    };
    uint64_t jobs = 0;
    uint64_t step = 0;
    for (const std::string le : {"100", "1000", "5000", "20000", "100000", "500000", "2000000",
                                 "10000000", "60000000", "+Inf"}) {
      jobs += 100 * i + step++;  // Each counts those before it, too.
      expected[name("_bucket", ",le=\"" + le + "\"")] = jobs;
    }
    expected[name("_sum", "")] = 151 + i;
    expected[name("_count", "")] = jobs;
  }
  EXPECT_EQ(samples_of(response.body), expected);
}

TEST(Pages, ATenantsNameMayBeAnything) {
  ServerReport odd = report();
  odd.tenants[0].tenant = "a\"b\\c\nd";
  EXPECT_THAT(ask("/metrics", Show::kAll, odd).body,
              HasSubstr("{tenant=\"a\\\"b\\\\c\\nd\"} 41\n"));
  odd.tenants[0].tenant = "\xff";
  EXPECT_TRUE(nlohmann::json::accept(ask("/tenants", Show::kAll, odd).body));
}

TEST(Pages, WithoutTiersThereIsOnlyTheDevice) {
  ServerReport flat = report();
  flat.tiers = {};
  flat.tiers.device.used = 5;
  const std::string text = ask("/metrics", Show::kAll, flat).body;
  EXPECT_THAT(text, HasSubstr("djinn_memory_used_bytes{tier=\"device\"} 5\n"));
  EXPECT_THAT(text, Not(HasSubstr("tier=\"host\"")));
}

TEST(Pages, HealthSaysWhetherToSendMore) {
  EXPECT_THAT(ask("/health").body, HasSubstr("\"status\": \"ok\""));
  ServerReport leaving = report();
  leaving.draining = true;
  const Response leaves = ask("/health", Show::kAll, leaving);
  EXPECT_EQ(leaves.status, 503);
  EXPECT_THAT(leaves.body, HasSubstr("\"status\": \"draining\""));
  EXPECT_THAT(leaves.body, HasSubstr("\"queued_jobs\": 111"));
  const Response silent =
      answer({.path = "/health"}, Show::kAll, {.report = []() -> Result<ServerReport> {
               return Error{ErrorCode::kDeadline, "no answer"};
             }});
  EXPECT_EQ(silent.status, 503);
  EXPECT_THAT(silent.body, HasSubstr("no answer"));
}

// What was asked for, by which name.
struct Asked {
  std::vector<std::string> policies;
  std::vector<std::string> tenants;
  int drains = 0;
  Desk desk{.report = []() -> Result<ServerReport> { return report(); },
            .set_policy = [this](std::string_view name) -> Result<ServerReport> {
              policies.emplace_back(name);
              if (name == "frob") return Error{ErrorCode::kInvalid, "\"frob\" is none of wfq"};
              ServerReport out = report();
              out.policy = name;
              return out;
            },
            .drain = [this]() -> Result<ServerReport> {
              ++drains;
              return Error{ErrorCode::kDeadline, "no answer"};
            },
            .change_tenants = [this](std::string changes) -> Result<ServerReport> {
              tenants.push_back(std::move(changes));
              return report();
            }};
};

TEST(Pages, APostChangesThePolicyAndShowsIt) {
  Asked asked;
  const Response shown = answer({.path = "/policy"}, Show::kAll, asked.desk);
  EXPECT_EQ(nlohmann::json::parse(shown.body).at("policy"), "wfq");
  EXPECT_TRUE(asked.policies.empty()) << "to look changes nothing";
  const Request post{.method = Method::kPost, .path = "/policy", .body = "edf"};
  const Response changed = answer(post, Show::kAll, asked.desk);
  EXPECT_EQ(changed.status, 200);
  EXPECT_EQ(nlohmann::json::parse(changed.body).at("policy"), "edf");
  const Response refused =
      answer({.method = Method::kPost, .path = "/policy", .body = "frob"}, Show::kAll, asked.desk);
  EXPECT_EQ(refused.status, 400);
  EXPECT_THAT(refused.body, HasSubstr("is none of wfq"));
  EXPECT_EQ(asked.policies, (std::vector<std::string>{"edf", "frob"}));
  EXPECT_EQ(answer(post, Show::kMetrics, asked.desk).status, 404) << "who may see metrics, only";
}

TEST(Pages, APostChangesTenantsAndShowsThem) {
  Asked asked;
  const Request post{.method = Method::kPost, .path = "/tenants", .body = "[tenants.a]\nqueue = 1"};
  const Response changed = answer(post, Show::kAll, asked.desk);
  EXPECT_EQ(changed.status, 200);
  EXPECT_EQ(changed.body, answer({.path = "/tenants"}, Show::kAll, asked.desk).body);
  EXPECT_EQ(asked.tenants, std::vector<std::string>{post.body});
}

TEST(Pages, AWrongMethodIsToldWhichOnesAreRightAndChangesNothing) {
  Asked asked;
  for (const auto& [path, allow] : std::map<std::string, std::string>{
           {"/memory", "GET, HEAD"}, {"/policy", "GET, HEAD, POST"}, {"/drain", "POST"}}) {
    const Response wrong = answer({.method = Method::kOther, .path = path}, Show::kAll, asked.desk);
    EXPECT_EQ(wrong.status, 405) << path;
    EXPECT_EQ(wrong.allow, allow);
  }
  EXPECT_EQ(answer({.path = "/drain"}, Show::kAll, asked.desk).status, 405);
  EXPECT_EQ(
      answer({.method = Method::kPost, .path = "/drain", .body = "now"}, Show::kAll, asked.desk)
          .status,
      400);
  EXPECT_EQ(asked.drains, 0);
  EXPECT_EQ(answer({.method = Method::kPost, .path = "/drain"}, Show::kAll, asked.desk).status,
            503);
  EXPECT_EQ(asked.drains, 1);
}

TEST(Pages, UnknownOnesNameTheOthers) {
  const Response all = ask("/favicon.ico");
  EXPECT_EQ(all.status, 404);
  EXPECT_THAT(all.body, HasSubstr("/memory"));
  const Response some = ask("/memory", Show::kMetrics);
  EXPECT_EQ(some.status, 404);
  EXPECT_THAT(some.body, Not(HasSubstr("/memory")));
  EXPECT_EQ(ask("/metrics", Show::kMetrics).status, 200);
}

}  // namespace
}  // namespace djinn::server::admin
