// SPDX-License-Identifier: Apache-2.0
#include "server/ctl/tables.h"

#include <nlohmann/json.hpp>

namespace djinn::ctl {
namespace {

std::string percent(uint64_t part, uint64_t whole) {
  if (whole == 0) return "-";
  return std::to_string(
             static_cast<int>(static_cast<double>(part) * 100 / static_cast<double>(whole))) +
         " %";
}

Table::Row memory_row(const std::string& name, const Json& usage) {
  const uint64_t budget = number(usage, "budget_bytes");
  const uint64_t free = number(usage, "largest_free_bytes");
  return {name,
          budget == 0 ? "no limit" : size_text(budget),
          size(usage, "used_bytes"),
          percent(number(usage, "used_bytes"), budget),
          size(usage, "peak_bytes"),
          free == 0 && budget == 0 ? "-" : size_text(free)};
}

std::string moved_text(const Json& moved) {
  Table table({"MOVED", "TIMES", "BYTES"}, 1);
  table.add({"spilled to the host", count(moved, "spills"), size(moved, "spilled_bytes")});
  table.add({"dropped, the host had them", count(moved, "drops"), ""});
  table.add({"loaded while waited for", count(moved, "loads"), size(moved, "loaded_bytes")});
  table.add({"prefetched", count(moved, "prefetches"), size(moved, "prefetched_bytes")});
  table.add({"  used then", count(moved, "prefetches_useful"), ""});
  table.add({"  waited for, under way", count(moved, "prefetches_late"), ""});
  table.add({"  left unused", count(moved, "prefetches_wasted"), ""});
  table.add({"packed for a long result", count(moved, "packs"), ""});
  table.add({"  operators that ran again", count(moved, "retries"), ""});
  table.add({"refused, nothing could leave", count(moved, "refusals"), ""});
  return table.text();
}

std::string limit(const Json& memory) {
  const uint64_t bytes = number(memory, "limit_bytes");
  return bytes == 0 ? "none" : size_text(bytes);
}

// "250 ms, 50 MiB, 20 jobs": what it may have per second.
std::string rates(const Json& tenant) {
  const Json& of = tenant.at("rates");
  std::string out;
  const auto add = [&out](const std::string& text) { out += (out.empty() ? "" : ", ") + text; };
  if (number(of, "device_ns_per_second") > 0) add(time_text(number(of, "device_ns_per_second")));
  if (number(of, "bytes_per_second") > 0) add(size(of, "bytes_per_second"));
  if (of.at("requests_per_second") > 0) add(of.at("requests_per_second").dump() + " jobs");
  return out.empty() ? "none" : out;
}

std::string sessions_limit(const Json& tenant) {
  const uint64_t most = number(tenant, "sessions_limit");
  return most == 0 ? "none" : std::to_string(most);
}

}  // namespace

std::string memory_text(const Json& page) {
  Table tiers({"MEMORY", "BUDGET", "USED", "", "PEAK", "LARGEST FREE"}, 1);
  tiers.add(memory_row(text(page, "device_name"), page.at("device")));
  const bool tiered = page.at("tiered").get<bool>();
  if (tiered) tiers.add(memory_row("host", page.at("host")));
  const Json& artifacts = page.at("artifacts");
  Table shared({"SHARED WEIGHTS", "COUNT", "BYTES", "UNUSED", "ASKED FOR", "THERE", "SAVED"}, 1);
  shared.add({"", count(artifacts, "artifacts"), size(artifacts, "bytes"),
              size(artifacts, "unused_bytes"), count(artifacts, "offers"), count(artifacts, "hits"),
              size(artifacts, "saved_bytes")});
  const Json& files = artifacts.at("disk");
  Table disk({"ON DISK", "COUNT", "BYTES", "HITS", "READ", "WRITTEN", "CORRUPT"}, 1);
  disk.add({"", count(files, "artifacts"), size(files, "bytes"), count(files, "hits"),
            size(files, "read_bytes"), size(files, "written_bytes"),
            count(files, "corrupt_files")});
  const Json& models = artifacts.at("models");
  Table mounted({"MODEL FILES", "COUNT", "TENSORS", "BYTES", "PINNED", "HITS", "READ", "CHANGED"},
                1);
  mounted.add({"", count(models, "files"), count(models, "tensors"), size(models, "bytes"),
               size(models, "pinned_bytes"), count(models, "hits"), size(models, "read_bytes"),
               count(models, "changed")});
  return tiers.text() + "\n" +
         (tiered ? moved_text(page.at("moved"))
                 : "Nothing leaves the device: it has no limit, or its memory has no tiers.\n") +
         "\n" + shared.text() + "\n" + disk.text() + "\n" + mounted.text();
}

std::string tenants_text(const Json& page) {
  Table table({"TENANT", "CLASS", "WEIGHT", "SESSIONS", "LIMIT", "JOBS", "DEVICE TIME", "STORAGES",
               "BYTES", "SHARED", "UPLOADED", "ON DEVICE", "PEAK", "LIMIT", "ON HOST", "PEAK",
               "LIMIT", "LIMIT PER SECOND", "REFUSED"},
              2);
  for (const Json& each : page.at("tenants")) {
    table.add({text(each, "tenant"), text(each, "class"), each.at("weight").dump(),
               count(each, "sessions"), sessions_limit(each), count(each, "jobs"),
               time_text(number(each, "used_ns")), count(each, "storages"),
               size(each, "storage_bytes"), size(each, "shared_bytes"), size(each, "upload_bytes"),
               size(each.at("device"), "used_bytes"), size(each.at("device"), "peak_bytes"),
               limit(each.at("device")), size(each.at("host"), "used_bytes"),
               size(each.at("host"), "peak_bytes"), limit(each.at("host")), rates(each),
               count(each, "rate_refusals")});
  }
  return table.text();
}

std::string sessions_text(const Json& page) {
  Table table({"SESSION", "TENANT", "STATE", "PRIORITY", "PEER", "AGE", "JOBS", "IN FLIGHT",
               "STORAGES", "BYTES", "SHARED", "UPLOADED"},
              5);
  for (const Json& each : page.at("sessions")) {
    table.add({count(each, "session"), text(each, "tenant"),
               each.at("rests").get<bool>() ? "rests" : text(each, "state"), text(each, "urgency"),
               text(each, "peer"), age_text(each.at("age_seconds").get<double>()),
               count(each, "jobs"), count(each, "in_flight"), count(each, "storages"),
               size(each, "storage_bytes"), size(each, "shared_bytes"),
               size(each, "upload_bytes")});
  }
  return table.text();
}

std::string plans_text(const Json& page) {
  Table table({"PLAN", "PHASE", "LONGEST OPERATOR", "", "OPERATORS", "ARTIFACTS", "ROWS", "JOBS",
               "TIME", "LAST", "EXPECTED", "OFF BY"},
              3);
  for (const Json& each : page.at("plans")) {
    table.add({text(each, "plan"), text(each, "phase"), text(each, "longest_operator"),
               time_text(number(each, "longest_operator_ns")), count(each, "operators"),
               count(each, "artifacts"), count(each, "rows"), count(each, "jobs"),
               time_text(number(each, "used_ns")), time_text(number(each, "last_ns")),
               time_text(number(each, "expected_ns")),
               percent(number(each, "error_permille"), 1000)});
  }
  const Json& lockstep = page.at("lockstep");
  return table.text() + "\n" + count(lockstep, "jobs") + " jobs ran in " +
         count(lockstep, "groups") + " groups, and " + count(lockstep, "operators") +
         " of their operators once for all of a group\n";
}

std::string policy_text(const Json& page) {
  const std::string now = text(page, "policy");
  Table table({"", "POLICY", "WHO RUNS NEXT"}, 3);
  for (const Json& each : page.at("policies")) {
    const std::string name = text(each, "name");
    table.add({name == now ? "*" : "", name, text(each, "help")});
  }
  return table.text();
}

}  // namespace djinn::ctl
