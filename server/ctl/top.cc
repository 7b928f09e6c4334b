// SPDX-License-Identifier: Apache-2.0
#include "server/ctl/top.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

namespace djinn::ctl {
namespace {

// What a counter has become more; a server that began anew counts from nothing.
uint64_t more(uint64_t before, uint64_t now) { return now >= before ? now - before : now; }
uint64_t more(const Json& before, const Json& now, const char* key) {
  return more(before.is_null() ? 0 : number(before, key), number(now, key));
}

double ratio(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}
double per_second(uint64_t times, uint64_t ns) { return ratio(times, ns) * 1e9; }

// The entries of a page's list, by what names them.
std::map<Json, Json> by(const Json& list, const char* key) {
  std::map<Json, Json> out;
  for (const Json& each : list) out[each.at(key)] = each;
  return out;
}
Json find(const std::map<Json, Json>& all, const Json& name) {
  const auto at = all.find(name);
  return at == all.end() ? Json() : at->second;
}

// The step that 95 % of the jobs waited at most; longer than the last: twice that.
uint64_t wait_p95_ns(const std::vector<uint64_t>& jobs, const std::vector<uint64_t>& steps_ns) {
  uint64_t all = 0;
  for (const uint64_t each : jobs) all += each;
  uint64_t within = 0;
  for (size_t i = 0; i < steps_ns.size() && i < jobs.size(); ++i) {
    within += jobs[i];
    if (all > 0 && within * 100 >= all * 95) return steps_ns[i];
  }
  return all == 0 || steps_ns.empty() ? 0 : 2 * steps_ns.back();
}

Json class_of(const Json& before, const Json& now, const std::vector<uint64_t>& steps_ns,
              uint64_t ns) {
  auto jobs = now.at("waits").get<std::vector<uint64_t>>();
  uint64_t begun = 0;
  for (size_t i = 0; i < jobs.size(); ++i) {
    if (!before.is_null()) jobs[i] = more(before.at("waits").at(i).get<uint64_t>(), jobs[i]);
    begun += jobs[i];
  }
  return {{"class", now.at("class")},
          {"queued", number(now, "queued")},
          {"jobs_per_second", per_second(begun, ns)},
          {"wait_mean_ns", begun == 0 ? 0 : more(before, now, "waited_ns") / begun},
          {"wait_p95_ns", wait_p95_ns(jobs, steps_ns)}};
}

Json tenant_of(const Json& before, const Json& now, uint64_t all_used_ns, uint64_t ns) {
  return {{"tenant", now.at("tenant")},
          {"class", now.at("class")},
          {"weight", now.at("weight")},
          {"device_share", ratio(more(before, now, "used_ns"), all_used_ns)},
          {"jobs_per_second", per_second(more(before, now, "all_jobs"), ns)},
          {"in_flight", now.at("in_flight")},
          {"sessions", now.at("sessions")},
          {"used_bytes", now.at("device").at("used_bytes")}};
}

Json session_of(const Json& before, const Json& now, uint64_t ns) {
  return {{"session", now.at("session")},
          {"tenant", now.at("tenant")},
          {"state", now.at("rests").get<bool>() ? Json("rests") : now.at("state")},
          {"peer", now.at("peer")},
          {"age_seconds", now.at("age_seconds")},
          {"jobs_per_second", per_second(more(before, now, "jobs"), ns)},
          {"in_flight", now.at("in_flight")},
          {"storage_bytes", now.at("storage_bytes")}};
}

// Who did most comes first; else they stay as they were.
Json sorted(Json list, const char* first, const char* then) {
  std::vector<Json> all(list.begin(), list.end());
  std::ranges::stable_sort(all, [&](const Json& a, const Json& b) {
    return a.at(first) != b.at(first) ? a.at(first) > b.at(first) : a.at(then) > b.at(then);
  });
  return all;
}

Json tenants_of(const Json& before, const Json& now, uint64_t ns) {
  const auto was = by(before.at("tenants"), "tenant");
  uint64_t used_ns = 0;
  for (const Json& each : now.at("tenants")) {
    used_ns += more(find(was, each.at("tenant")), each, "used_ns");
  }
  Json out = Json::array();
  for (const Json& each : now.at("tenants")) {
    out.push_back(tenant_of(find(was, each.at("tenant")), each, used_ns, ns));
  }
  return sorted(std::move(out), "device_share", "jobs_per_second");
}

std::string fixed(const char* format, double value) {
  std::array<char, 32> out{};
  std::snprintf(out.data(), out.size(), format, value);
  return out.data();
}
std::string rate(const Json& of) { return fixed("%.1f", of.at("jobs_per_second").get<double>()); }
std::string percent(const Json& of, const char* key) {
  return fixed("%.0f %%", of.at(key).get<double>() * 100);
}

std::string head_text(const Json& top) {
  const uint64_t budget = number(top.at("device"), "budget_bytes");
  return text(top, "device_name") + ", up " + age_text(top.at("up_seconds").get<double>()) +
         ", policy " + text(top, "policy") + (top.at("status") == "draining" ? ", DRAINING" : "") +
         "\nbusy " + percent(top, "utilisation") + ", " + rate(top) + " jobs/s, " +
         count(top, "queued_jobs") + " in flight, memory " + size(top.at("device"), "used_bytes") +
         (budget == 0 ? "" : " of " + size_text(budget)) + "\n";
}

std::string classes_text(const Json& top) {
  Table table({"CLASS", "QUEUED", "JOBS/S", "MEAN WAIT", "95 % WAIT AT MOST"}, 1);
  for (const Json& each : top.at("classes")) {
    table.add({text(each, "class"), count(each, "queued"), rate(each),
               time_text(number(each, "wait_mean_ns")), time_text(number(each, "wait_p95_ns"))});
  }
  return table.text();
}

std::string tenants_text(const Json& top) {
  Table table(
      {"TENANT", "CLASS", "WEIGHT", "DEVICE TIME", "JOBS/S", "IN FLIGHT", "SESSIONS", "ON DEVICE"},
      2);
  for (const Json& each : top.at("tenants")) {
    table.add({text(each, "tenant"), text(each, "class"), each.at("weight").dump(),
               percent(each, "device_share"), rate(each), count(each, "in_flight"),
               count(each, "sessions"), size(each, "used_bytes")});
  }
  return table.text();
}

std::string sessions_text(const Json& top) {
  Table table({"SESSION", "TENANT", "STATE", "PEER", "AGE", "JOBS/S", "IN FLIGHT", "BYTES"}, 4);
  for (const Json& each : top.at("sessions")) {
    table.add({count(each, "session"), text(each, "tenant"), text(each, "state"),
               text(each, "peer"), age_text(each.at("age_seconds").get<double>()), rate(each),
               count(each, "in_flight"), size(each, "storage_bytes")});
  }
  return table.text();
}

}  // namespace

Json top_of(const Json& before, const Json& now) {
  const uint64_t ns = more(before, now, "up_ns");
  const auto steps_ns = now.at("wait_steps_ns").get<std::vector<uint64_t>>();
  const auto were = by(before.at("classes"), "class");
  Json classes = Json::array();
  double jobs_per_second = 0;
  for (const Json& each : now.at("classes")) {
    classes.push_back(class_of(find(were, each.at("class")), each, steps_ns, ns));
    jobs_per_second += classes.back().at("jobs_per_second").get<double>();
  }
  const auto was = by(before.at("sessions"), "session");
  Json sessions = Json::array();
  for (const Json& each : now.at("sessions")) {
    sessions.push_back(session_of(find(was, each.at("session")), each, ns));
  }
  return {{"device_name", now.at("device_name")},
          {"status", now.at("status")},
          {"policy", now.at("policy")},
          {"up_seconds", static_cast<double>(number(now, "up_ns")) / 1e9},
          {"interval_seconds", static_cast<double>(ns) / 1e9},
          {"utilisation", std::min(1.0, ratio(more(before, now, "busy_ns"), ns))},
          {"jobs_per_second", jobs_per_second},
          {"queued_jobs", now.at("queued_jobs")},
          {"device", now.at("device")},
          {"classes", std::move(classes)},
          {"tenants", tenants_of(before, now, ns)},
          {"sessions", sorted(std::move(sessions), "jobs_per_second", "in_flight")}};
}

std::string top_text(const Json& top) {
  return head_text(top) + "\n" + classes_text(top) + "\n" + tenants_text(top) + "\n" +
         sessions_text(top);
}

}  // namespace djinn::ctl
