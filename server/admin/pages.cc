// SPDX-License-Identifier: Apache-2.0
#include "server/admin/pages.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "scheduler/policy.h"
#include "server/admin/metrics.h"

namespace djinn::server::admin {
namespace {

using Json = nlohmann::ordered_json;

// To the millisecond.
double seconds(uint64_t ns) {
  const uint64_t ms = ns / 1'000'000;
  return static_cast<double>(ms) / 1e3;
}

Json to_json(const MemoryUsage& usage) {
  return {{"budget_bytes", usage.budget},
          {"used_bytes", usage.used},
          {"peak_bytes", usage.peak},
          {"largest_free_bytes", usage.largest_free}};
}

Json to_json(const TenantMemory& memory) {
  return {{"limit_bytes", memory.limit}, {"used_bytes", memory.used}, {"peak_bytes", memory.peak}};
}

Json to_json(const TierStats& moved) {
  return {{"spills", moved.spills},
          {"spilled_bytes", moved.spilled_bytes},
          {"drops", moved.drops},
          {"loads", moved.loads},
          {"loaded_bytes", moved.loaded_bytes},
          {"prefetches", moved.prefetches},
          {"prefetched_bytes", moved.prefetched_bytes},
          {"prefetches_useful", moved.useful},
          {"prefetches_late", moved.late},
          {"prefetches_wasted", moved.wasted},
          {"packs", moved.packs},
          {"retries", moved.retries},
          {"refusals", moved.refusals}};
}

Json to_json(const DiskStats& disk) {
  return {{"artifacts", disk.artifacts},
          {"bytes", disk.bytes},
          {"hits", disk.hits},
          {"read_bytes", disk.bytes_read},
          {"written_bytes", disk.bytes_written},
          {"corrupt_files", disk.corrupt_files},
          {"evicted_bytes", disk.evicted_bytes},
          {"failed_writes", disk.failed_writes}};
}

Json models_json(const ArtifactStats& artifacts) {
  const ModelFilesStats& models = artifacts.models;
  return {{"files", models.files},    {"tensors", models.tensors},
          {"bytes", models.bytes},    {"pinned_bytes", artifacts.pinned_bytes},
          {"hits", models.hits},      {"read_bytes", models.bytes_read},
          {"changed", models.changed}};
}

Json to_json(const ArtifactStats& artifacts) {
  return {{"artifacts", artifacts.artifacts},
          {"bytes", artifacts.bytes},
          {"unused_bytes", artifacts.unused_bytes},
          {"offers", artifacts.offers},
          {"hits", artifacts.hits},
          {"saved_bytes", artifacts.bytes_saved},
          {"evicted_bytes", artifacts.evicted_bytes},
          {"refused", artifacts.refused},
          {"disk", to_json(artifacts.disk)},
          {"models", models_json(artifacts)}};
}

Json memory(const ServerReport& report) {
  return {{"device_name", report.device},           {"tiered", report.tiers.tiered},
          {"device", to_json(report.tiers.device)}, {"host", to_json(report.tiers.host)},
          {"moved", to_json(report.tiers.moved)},   {"artifacts", to_json(report.artifacts)}};
}

// 0: no limit.
Json to_json(const Rates& rates) {
  return {{"device_ns_per_second", rates.device_ns},
          {"bytes_per_second", rates.bytes},
          {"requests_per_second", rates.requests}};
}

Json tenants(const ServerReport& report) {
  Json out = Json::array();
  for (const TenantReport& each : report.tenants) {
    out.push_back({{"tenant", each.tenant},
                   {"weight", each.terms.weight},
                   {"class", to_text(each.terms.ceiling)},
                   {"sessions", each.sessions},
                   {"sessions_limit", each.sessions_max},
                   {"rates", to_json(each.rates)},
                   {"rate_refusals", each.rate_refusals},
                   {"used_ns", each.used_ns},
                   {"all_jobs", each.all_jobs},
                   {"jobs", each.jobs},
                   {"in_flight", each.in_flight},
                   {"storages", each.storages},
                   {"storage_bytes", each.bytes},
                   {"shared_bytes", each.shared_bytes},
                   {"upload_bytes", each.upload_bytes},
                   {"device", to_json(each.device)},
                   {"host", to_json(each.host)}});
  }
  return {{"tenants", std::move(out)}};
}

Json sessions(const ServerReport& report) {
  Json out = Json::array();
  for (const SessionReport& each : report.sessions) {
    out.push_back({{"session", each.session},
                   {"tenant", each.tenant},
                   {"peer", each.peer},
                   {"state", each.state},
                   {"urgency", to_text(each.hints.urgency)},
                   {"rests", each.hints.rest != Rest::kNone},
                   {"age_seconds", seconds(each.age_ns)},
                   {"jobs", each.jobs},
                   {"in_flight", each.in_flight},
                   {"storages", each.storages},
                   {"storage_bytes", each.bytes},
                   {"shared_bytes", each.shared_bytes},
                   {"upload_bytes", each.upload_bytes}});
  }
  return {{"sessions", std::move(out)}};
}

Json to_json(const LockstepStats& lockstep) {
  return {{"groups", lockstep.groups},
          {"jobs", lockstep.jobs},
          {"operators", lockstep.operators},
          {"held_seconds", seconds(lockstep.held_ns)},
          {"packed_bytes", lockstep.packed_bytes}};
}

Json plans(const ServerReport& report) {
  Json out = Json::array();
  for (const PlanReport& each : report.plans) {
    out.push_back({{"plan", each.hash},
                   {"phase", to_text(each.phase)},
                   {"operators", each.operators},
                   {"artifacts", each.artifacts},
                   {"rows", each.rows},
                   {"flops", each.flops},
                   {"jobs", each.jobs},
                   {"used_ns", each.used_ns},
                   {"last_ns", each.last_ns},
                   {"expected_ns", each.expected_ns},
                   {"error_permille", each.error_permille},
                   {"longest_operator", each.longest_operator},
                   {"longest_operator_ns", each.longest_operator_ns}});
  }
  return {{"plans", std::move(out)}, {"lockstep", to_json(report.lockstep)}};
}

Json classes(const Runner::Load& load) {
  Json out = Json::array();
  for (size_t i = 0; i < sched::kClasses; ++i) {
    out.push_back({{"class", to_text(static_cast<sched::Class>(i))},
                   {"queued", load.queued[i]},
                   {"waits", load.waits[i].jobs},
                   {"waited_ns", load.waits[i].total_ns}});
  }
  return out;
}

const char* status(const ServerReport& report) { return report.draining ? "draining" : "ok"; }

// What `djinn-ctl top` subtracts from what it was a moment ago.
Json load(const ServerReport& report) {
  Json out{{"device_name", report.device},
           {"status", status(report)},
           {"policy", report.policy},
           {"up_ns", report.up_ns},
           {"busy_ns", report.load.busy_ns},
           {"queued_jobs", report.queued_jobs},
           {"device", to_json(report.tiers.device)},
           {"wait_steps_ns", sched::Waits::kStepsNs},
           {"classes", classes(report.load)}};
  out.update(tenants(report));
  out.update(sessions(report));
  return out;
}

Json policy(const ServerReport& report) {
  Json all = Json::array();
  for (const sched::PolicyInfo& each : sched::policies()) {
    all.push_back({{"name", each.name}, {"help", each.help}});
  }
  return {{"policy", report.policy}, {"policies", std::move(all)}};
}

Json health(const ServerReport& report) {
  return {{"status", status(report)},
          {"device", report.device},
          {"up_seconds", seconds(report.up_ns)},
          {"sessions", report.sessions.size()},
          {"queued_jobs", report.queued_jobs}};
}

Response json(const Json& content, int status = 200) {
  // A tenant's name may be any bytes.
  return {.status = status,
          .type = "application/json",
          .body = content.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"};
}

Response refused(const Error& error) {
  return {.status = error.code == ErrorCode::kInvalid ? 400 : 503, .body = error.message + "\n"};
}

Response health_page(const ServerReport& report) {
  return json(health(report), report.draining ? 503 : 200);
}
Response metrics_page(const ServerReport& report) {
  return {.type = "text/plain; version=0.0.4; charset=utf-8", .body = to_metrics(report)};
}
Response tenants_page(const ServerReport& report) { return json(tenants(report)); }
Response policy_page(const ServerReport& report) { return json(policy(report)); }

Response change_policy(const std::string& name, const Desk& desk) {
  const auto report = desk.set_policy(name);
  return report ? policy_page(*report) : refused(report.error());
}
Response change_tenants(const std::string& changes, const Desk& desk) {
  const auto report = desk.change_tenants(changes);
  return report ? tenants_page(*report) : refused(report.error());
}
Response drain(const std::string& body, const Desk& desk) {
  if (!body.empty()) return {.status = 400, .body = "to drain needs no words: the body is empty\n"};
  const auto report = desk.drain();
  return report ? json(health(*report)) : refused(report.error());
}

struct Entry {
  std::string_view path;
  Show show;
  Response (*render)(const ServerReport&);                             // Null: no GET.
  Response (*change)(const std::string& body, const Desk& desk) = {};  // Null: no POST.
};
constexpr std::array<Entry, 9> kPages{{
    {"/health", Show::kMetrics, health_page},
    {"/metrics", Show::kMetrics, metrics_page},
    {"/memory", Show::kAll, [](const ServerReport& report) { return json(memory(report)); }},
    {"/tenants", Show::kAll, tenants_page, change_tenants},
    {"/sessions", Show::kAll, [](const ServerReport& report) { return json(sessions(report)); }},
    {"/plans", Show::kAll, [](const ServerReport& report) { return json(plans(report)); }},
    {"/load", Show::kAll, [](const ServerReport& report) { return json(load(report)); }},
    {"/policy", Show::kAll, policy_page, change_policy},
    {"/drain", Show::kAll, nullptr, drain},
}};

Response answer(const Entry& entry, const Request& request, const Desk& desk) {
  const bool looks = request.method == Method::kGet || request.method == Method::kHead;
  if (looks && entry.render != nullptr) {
    const auto report = desk.report();
    return report ? entry.render(*report) : refused(report.error());
  }
  if (request.method == Method::kPost && entry.change != nullptr) {
    return entry.change(request.body, desk);
  }
  const std::string allow = entry.render == nullptr   ? "POST"
                            : entry.change == nullptr ? "GET, HEAD"
                                                      : "GET, HEAD, POST";
  return {
      .status = 405, .body = std::string(entry.path) + " answers " + allow + "\n", .allow = allow};
}

}  // namespace

Response answer(const Request& request, Show show, const Desk& desk) {
  std::string paths;
  for (const Entry& entry : kPages) {
    if (show == Show::kMetrics && entry.show != Show::kMetrics) continue;
    if (entry.path == request.path) return answer(entry, request, desk);
    paths += " " + std::string(entry.path);
  }
  return {.status = 404, .body = "there is no such page; there are" + paths + "\n"};
}

}  // namespace djinn::server::admin
