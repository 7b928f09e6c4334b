// SPDX-License-Identifier: Apache-2.0
// What people read, made of pages as a server shows them.
#include "server/ctl/tables.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include <gtest/gtest.h>

namespace djinn::ctl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Tables, WriteSizesShortly) {
  EXPECT_EQ(size_text(0), "0 B");
  EXPECT_EQ(size_text(1023), "1023 B");
  EXPECT_EQ(size_text(1536), "1.5 KiB");
  EXPECT_EQ(size_text(uint64_t{256} << 20), "256 MiB");
  EXPECT_EQ(size_text(uint64_t{3} << 40), "3.0 TiB");
  EXPECT_EQ(size_text(UINT64_MAX), "16777216 TiB");
}

Json memory_page() {
  return Json::parse(R"({
    "device_name": "cpu", "tiered": true,
    "device": {"budget_bytes": 4194304, "used_bytes": 3145728, "peak_bytes": 4194304,
               "largest_free_bytes": 1048576},
    "host": {"budget_bytes": 0, "used_bytes": 1536, "peak_bytes": 2048, "largest_free_bytes": 0},
    "moved": {"spills": 7, "spilled_bytes": 7340032, "drops": 3, "loads": 5, "loaded_bytes": 5242880,
              "prefetches": 11, "prefetched_bytes": 11534336, "prefetches_useful": 9,
              "prefetches_late": 1, "prefetches_wasted": 2, "packs": 4, "retries": 1,
              "refusals": 0},
    "artifacts": {"artifacts": 2, "bytes": 2048, "unused_bytes": 1024, "offers": 4, "hits": 3,
                  "saved_bytes": 3072, "evicted_bytes": 0, "refused": 0,
                  "disk": {"artifacts": 1, "bytes": 1024, "hits": 2, "read_bytes": 2048,
                           "written_bytes": 1024, "corrupt_files": 0, "evicted_bytes": 0,
                           "failed_writes": 0},
                  "models": {"files": 1, "tensors": 272, "bytes": 2048, "pinned_bytes": 1024,
                             "hits": 3, "read_bytes": 1536, "changed": 4}}})");
}

TEST(Tables, ShowMemory) {
  EXPECT_EQ(memory_text(memory_page()),
            "MEMORY    BUDGET     USED           PEAK  LARGEST FREE\n"
            "cpu      4.0 MiB  3.0 MiB  75 %  4.0 MiB       1.0 MiB\n"
            "host    no limit  1.5 KiB     -  2.0 KiB             -\n"
            "\n"
            "MOVED                         TIMES     BYTES\n"
            "spilled to the host               7   7.0 MiB\n"
            "dropped, the host had them        3\n"
            "loaded while waited for           5   5.0 MiB\n"
            "prefetched                       11  11.0 MiB\n"
            "  used then                       9\n"
            "  waited for, under way           1\n"
            "  left unused                     2\n"
            "packed for a long result          4\n"
            "  operators that ran again        1\n"
            "refused, nothing could leave      0\n"
            "\n"
            "SHARED WEIGHTS  COUNT    BYTES   UNUSED  ASKED FOR  THERE    SAVED\n"
            "                    2  2.0 KiB  1.0 KiB          4      3  3.0 KiB\n"
            "\n"
            "ON DISK  COUNT    BYTES  HITS     READ  WRITTEN  CORRUPT\n"
            "             1  1.0 KiB     2  2.0 KiB  1.0 KiB        0\n"
            "\n"
            "MODEL FILES  COUNT  TENSORS    BYTES   PINNED  HITS     READ  CHANGED\n"
            "                 1      272  2.0 KiB  1.0 KiB     3  1.5 KiB        4\n");
  Json flat = memory_page();
  flat["tiered"] = false;
  EXPECT_THAT(memory_text(flat), Not(HasSubstr("host ")));
}

TEST(Tables, ShowSessionsAndTenants) {
  const std::string sessions = sessions_text(Json::parse(R"({"sessions": [{
    "session": 3, "tenant": "al\u001b[2Jice", "peer": "tcp://127.0.0.1:5", "state": "open",
    "urgency": "best-effort", "rests": true,
    "age_seconds": 7300.5, "jobs": 31, "in_flight": 0, "storages": 33, "storage_bytes": 34,
    "shared_bytes": 35, "upload_bytes": 36}]})"));
  EXPECT_THAT(sessions, HasSubstr("al?[2Jice"));
  EXPECT_THAT(sessions, HasSubstr(" 2 h "));
  EXPECT_THAT(sessions, HasSubstr("  rests  best-effort  "));
  const std::string tenants = tenants_text(Json::parse(R"({"tenants": [{
    "tenant": "bob", "weight": 0.5, "class": "best-effort", "sessions": 1, "sessions_limit": 4,
    "rates": {"device_ns_per_second": 250000000, "bytes_per_second": 1048576,
              "requests_per_second": 20.5}, "rate_refusals": 49, "used_ns": 2500000000, "all_jobs": 48, "jobs": 42, "in_flight": 43, "storages": 44,
    "storage_bytes": 45, "shared_bytes": 46, "upload_bytes": 47,
    "device": {"limit_bytes": 4096, "used_bytes": 2048, "peak_bytes": 3072},
    "host": {"limit_bytes": 0, "used_bytes": 5120, "peak_bytes": 6144}}]})"));
  EXPECT_THAT(tenants,
              HasSubstr("\nbob     best-effort     0.5         1      4    42        2.5 s"));
  EXPECT_THAT(
      tenants,
      HasSubstr("  2.0 KiB  3.0 KiB  4.0 KiB  5.0 KiB  6.0 KiB   none  250.0 ms, 1.0 MiB, 20.5 "
                "jobs       49\n"));
}

TEST(Tables, ShowPlans) {
  const std::string plans = plans_text(Json::parse(R"({"plans": [{
    "plan": "00ab", "phase": "decode", "operators": 1511, "artifacts": 0, "rows": 1,
    "flops": 12, "jobs": 7, "used_ns": 2100000000, "last_ns": 28500000, "expected_ns": 0,
    "error_permille": 31, "longest_operator": "aten::mm", "longest_operator_ns": 900000}],
    "lockstep": {"groups": 5, "jobs": 17, "operators": 1055, "held_seconds": 0.1}})"));
  EXPECT_THAT(plans, HasSubstr("00ab  decode  aten::mm          900 us       1511"));
  EXPECT_THAT(plans, HasSubstr("2.1 s  28.5 ms         -     3 %"));
  EXPECT_THAT(plans, HasSubstr("17 jobs ran in 5 groups, and 1055 of their operators once"));
}

TEST(Tables, AStrangePageIsAnException) {
  EXPECT_THROW((void)memory_text(Json::parse("{}")), Json::exception);
  EXPECT_THROW((void)sessions_text(Json::parse("[]")), Json::exception);
}

}  // namespace
}  // namespace djinn::ctl
