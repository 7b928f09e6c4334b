// SPDX-License-Identifier: Apache-2.0
#include "server/admin/metrics.h"

#include <string_view>

namespace djinn::server::admin {
namespace {

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    out += c == '\n' ? std::string("\\n") : std::string(1, c);
  }
  return out;
}

// Appends families of samples, each behind its HELP and TYPE.
class Page {
 public:
  void gauge(std::string_view name, std::string_view help) { family(name, help, "gauge"); }
  void counter(std::string_view name, std::string_view help) { family(name, help, "counter"); }
  void sample(uint64_t value) { add("", std::to_string(value)); }
  void sample(std::string_view label, std::string_view of, uint64_t value) {
    add("{" + std::string(label) + "=\"" + escaped(of) + "\"}", std::to_string(value));
  }
  void sample(std::string_view label, std::string_view of, std::string_view tier, uint64_t value) {
    add("{" + std::string(label) + "=\"" + escaped(of) + "\",tier=\"" + std::string(tier) + "\"}",
        std::to_string(value));
  }
  // Of a histogram: `name` is that of the family and one of _bucket, _sum, _count.
  void histogram(std::string_view name, std::string_view help) { family(name, help, "histogram"); }
  void part(std::string_view suffix, const std::string& labels, uint64_t value) {
    text += name_ + std::string(suffix) + "{" + labels + "} " + std::to_string(value) + "\n";
  }
  void count(std::string_view name, std::string_view help, uint64_t value) {
    counter(name, help);
    sample(value);
  }
  std::string text;

 private:
  void family(std::string_view name, std::string_view help, std::string_view type) {
    name_ = "djinn_" + std::string(name);
    text += "# HELP " + name_ + " " + std::string(help) + "\n";
    text += "# TYPE " + name_ + " " + std::string(type) + "\n";
  }
  void add(const std::string& labels, const std::string& value) {
    text += name_ + labels + " " + value + "\n";
  }
  std::string name_;
};

void add_tier(Page& page, const TierReport& tiers, const char* name, const char* help,
              uint64_t MemoryUsage::*figure) {
  page.gauge(name, help);
  page.sample("tier", "device", tiers.device.*figure);
  if (tiers.tiered) page.sample("tier", "host", tiers.host.*figure);
}

void add_tiers(Page& page, const TierReport& tiers) {
  add_tier(page, tiers, "memory_budget_bytes", "What tensors may take; 0: no limit.",
           &MemoryUsage::budget);
  add_tier(page, tiers, "memory_used_bytes", "What is taken now.", &MemoryUsage::used);
  add_tier(page, tiers, "memory_peak_bytes", "The most that was taken since the start.",
           &MemoryUsage::peak);
  page.gauge("memory_largest_free_bytes", "The longest block that an allocation would find.");
  page.sample("tier", "device", tiers.device.largest_free);
  const TierStats& moved = tiers.moved;
  page.count("tier_spills_total", "Storages copied to the host to make room.", moved.spills);
  page.count("tier_spilled_bytes_total", "Bytes of these.", moved.spilled_bytes);
  page.count("tier_drops_total", "Storages that left without a copy: the host had one.",
             moved.drops);
  page.count("tier_loads_total", "Storages copied to the device while an operator waited.",
             moved.loads);
  page.count("tier_loaded_bytes_total", "Bytes of these.", moved.loaded_bytes);
  page.count("tier_prefetches_total", "Storages copied to the device before they were needed.",
             moved.prefetches);
  page.count("tier_prefetched_bytes_total", "Bytes of these.", moved.prefetched_bytes);
  page.count("tier_prefetches_useful_total", "Prefetched storages that were used then.",
             moved.useful);
  page.count("tier_prefetches_late_total", "Waits for a copy under way, in or out.", moved.late);
  page.count("tier_prefetches_wasted_total", "Prefetched storages that left or died unused.",
             moved.wasted);
  page.count("tier_packs_total", "Operands moved together to make a long free part.", moved.packs);
  page.count("tier_retries_total", "Operators that found no room and ran again in packed memory.",
             moved.retries);
  page.count("tier_refusals_total", "Requests for room when nothing could leave.", moved.refusals);
}

void add_artifacts(Page& page, const ArtifactStats& artifacts) {
  page.gauge("artifacts", "Shared weights that are there, by content.");
  page.sample(artifacts.artifacts);
  page.gauge("artifact_bytes", "Bytes of these.");
  page.sample(artifacts.bytes);
  page.gauge("artifact_unused_bytes", "Of these, kept for the next client; goes when room is due.");
  page.sample(artifacts.unused_bytes);
  page.count("artifact_offers_total", "Weights that clients asked for.", artifacts.offers);
  page.count("artifact_hits_total", "Of these, there.", artifacts.hits);
  page.count("artifact_saved_bytes_total", "Not uploaded thanks to that.", artifacts.bytes_saved);
  page.count("artifact_evicted_bytes_total", "Unused weights that went.", artifacts.evicted_bytes);
  page.count("artifact_refused_total", "Uploads whose bytes were not what their name said.",
             artifacts.refused);
  const DiskStats& disk = artifacts.disk;
  page.gauge("disk_artifacts", "Shared weights that the disk cache has.");
  page.sample(disk.artifacts);
  page.gauge("disk_bytes", "What their files take.");
  page.sample(disk.bytes);
  page.count("disk_hits_total", "Weights read from disk, and right.", disk.hits);
  page.count("disk_read_bytes_total", "Bytes read.", disk.bytes_read);
  page.count("disk_written_bytes_total", "Bytes written.", disk.bytes_written);
  page.count("disk_corrupt_files_total", "Files that were not what they should be, and deleted.",
             disk.corrupt_files);
  page.count("disk_evicted_bytes_total", "Bytes of files that made room for others.",
             disk.evicted_bytes);
  page.count("disk_failed_writes_total", "Weights that could not be written.", disk.failed_writes);
}

void add_models(Page& page, const ArtifactStats& artifacts) {
  const ModelFilesStats& models = artifacts.models;
  page.gauge("model_files", "Files of weights in the folders of models.");
  page.sample(models.files);
  page.gauge("model_tensors", "Tensors in these.");
  page.sample(models.tensors);
  page.gauge("model_bytes", "Bytes of these.");
  page.sample(models.bytes);
  page.gauge("model_pinned_bytes", "Of these, kept in memory.");
  page.sample(artifacts.pinned_bytes);
  page.count("model_hits_total", "Weights read from these files, and right.", models.hits);
  page.count("model_read_bytes_total", "Bytes read.", models.bytes_read);
  page.count("model_changed_total", "Weights whose file had changed by then.", models.changed);
}

std::string class_label(size_t i) {
  return "class=\"" + std::string(to_text(static_cast<sched::Class>(i))) + "\"";
}

void add_waits(Page& page, size_t in_class, const sched::Waits& waits) {
  const std::string label = class_label(in_class);
  uint64_t jobs = 0;
  for (size_t i = 0; i < waits.kStepsNs.size(); ++i) {
    jobs += waits.jobs[i];
    page.part("_bucket", label + ",le=\"" + std::to_string(waits.kStepsNs[i] / 1000) + "\"", jobs);
  }
  jobs += waits.jobs.back();
  page.part("_bucket", label + ",le=\"+Inf\"", jobs);
  page.part("_sum", label, waits.total_ns / 1000);
  page.part("_count", label, jobs);
}

void add_load(Page& page, const Runner::Load& load) {
  page.count("device_busy_microseconds_total", "Device time that jobs used; a rate is utilisation.",
             load.busy_ns / 1000);
  page.gauge("class_queued_jobs", "Jobs that wait, by their class.");
  for (size_t i = 0; i < sched::kClasses; ++i) page.part("", class_label(i), load.queued[i]);
  page.histogram("job_wait_microseconds", "From a job's coming to its first turn.");
  for (size_t i = 0; i < sched::kClasses; ++i) add_waits(page, i, load.waits[i]);
}

void add_lockstep(Page& page, const LockstepStats& lockstep) {
  page.count("lockstep_groups_total", "Steps that several jobs made together.", lockstep.groups);
  page.count("lockstep_jobs_total", "Jobs of these.", lockstep.jobs);
  page.count("lockstep_operators_total", "Operators that ran once for several of them.",
             lockstep.operators);
  page.count("lockstep_held_ms_total", "Rest of the device until a group had come together.",
             lockstep.held_ns / 1'000'000);
  page.gauge("lockstep_packed_bytes", "Second copies of weights that these multiply by.");
  page.sample(lockstep.packed_bytes);
}

void add_tenant_memory(Page& page, const ServerReport& report, const char* name, const char* help,
                       uint64_t TenantMemory::*figure) {
  page.gauge(name, help);
  for (const TenantReport& each : report.tenants) {
    page.sample("tenant", each.tenant, "device", each.device.*figure);
    if (report.tiers.tiered) page.sample("tenant", each.tenant, "host", each.host.*figure);
  }
}

void add_tenants(Page& page, const ServerReport& report) {
  page.gauge("tenant_sessions", "Connections of a tenant.");
  for (const TenantReport& each : report.tenants) {
    page.sample("tenant", each.tenant, each.sessions);
  }
  page.gauge("tenant_sessions_limit", "What it may have at a time; 0: no limit.");
  for (const TenantReport& each : report.tenants) {
    page.sample("tenant", each.tenant, each.sessions_max);
  }
  page.counter("tenant_device_microseconds_total", "Device time that its jobs used.");
  for (const TenantReport& each : report.tenants) {
    page.sample("tenant", each.tenant, each.used_ns / 1000);
  }
  page.counter("tenant_rate_refusals_total", "Jobs that were too many per second.");
  for (const TenantReport& each : report.tenants) {
    page.sample("tenant", each.tenant, each.rate_refusals);
  }
  page.counter("tenant_jobs_total", "Jobs that have ended.");
  for (const TenantReport& each : report.tenants) {
    page.sample("tenant", each.tenant, each.all_jobs);
  }
  add_tenant_memory(page, report, "tenant_limit_bytes", "What a tenant may have; 0: no limit.",
                    &TenantMemory::limit);
  add_tenant_memory(page, report, "tenant_used_bytes", "What is allocated for it now.",
                    &TenantMemory::used);
  add_tenant_memory(page, report, "tenant_peak_bytes", "The most that was since the start.",
                    &TenantMemory::peak);
}

}  // namespace

std::string to_metrics(const ServerReport& report) {
  Page page;
  page.gauge("info", "Which device runs the operators.");
  page.sample("device", report.device, 1);
  page.gauge("policy", "Which one decides who runs next.");
  page.sample("policy", report.policy, 1);
  page.gauge("draining", "1: it takes no new sessions and jobs, and ends when it has none.");
  page.sample(report.draining ? 1 : 0);
  page.gauge("up_seconds", "How long the server has run.");
  page.sample(report.up_ns / 1'000'000'000);
  add_tiers(page, report.tiers);
  add_artifacts(page, report.artifacts);
  add_models(page, report.artifacts);
  page.gauge("queued_jobs", "Jobs that were received and have not ended.");
  page.sample(report.queued_jobs);
  add_load(page, report.load);
  page.counter(
      "refusals_total",
      "Jobs and hellos that were told to come again later, or too late for their deadline.");
  page.sample("reason", "queue", report.refusals.queue);
  page.sample("reason", "tenant-queue", report.refusals.tenant_queue);
  page.sample("reason", "sessions", report.refusals.sessions);
  page.sample("reason", "tenant-sessions", report.refusals.tenant_sessions);
  page.sample("reason", "draining", report.refusals.draining);
  page.sample("reason", "tenant-device-time", report.refusals.device_time);
  page.sample("reason", "tenant-bytes", report.refusals.bytes);
  page.sample("reason", "tenant-requests", report.refusals.requests);
  page.sample("reason", "deadline", report.refusals.deadline);
  page.counter("late_jobs_total", "Jobs whose deadline could not be met any more at their turn.");
  page.sample(report.load.late);
  add_lockstep(page, report.lockstep);
  page.gauge("sessions", "Connections.");
  page.sample(report.sessions.size());
  add_tenants(page, report);
  return page.text;
}

}  // namespace djinn::server::admin
