// SPDX-License-Identifier: Apache-2.0
// What the writer writes, the reader reads; and nothing else gets past it.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "serialization/base/limits.h"
#include "serialization/graph/plan_reader.h"
#include "serialization/graph/plan_writer.h"
#include "tests/support/seed.h"

namespace djinn::graph {
namespace {

constexpr std::array<int64_t, 2> kSizes{2, 3};
constexpr std::array<int64_t, 2> kRows{3, 1};
constexpr std::array<int64_t, 2> kColumns{1, 2};

// c = a + b.t(), then c is fetched and a dies.
struct Example {
  PlanWriter writer;
  OpName add{"aten::add.Tensor"};
  StorageRecord a{.id = 5, .bytes = 24, .known = true};
  StorageRecord b{.id = 6, .bytes = 24, .known = true};
  StorageRecord c{.id = 7, .bytes = 24};

  Flush write(double alpha, bool known = true) {
    a.known = b.known = known;
    writer.begin(7, 1);
    writer.op(add, 3);
    writer.tensor();
    writer.operand(a, Dtype::kFloat32, kSizes, kRows, 0);
    writer.tensor();
    writer.operand(b, Dtype::kFloat32, kSizes, kColumns, 0);
    writer.real(alpha);
    writer.results(1);
    writer.tensor();
    writer.operand(c, Dtype::kFloat32, kSizes, kRows, 0);
    writer.forget(a);
    writer.fetch();
    writer.operand(c, Dtype::kFloat32, kSizes, kRows, 0);
    return writer.finish();
  }
};

TEST(Plan, SaysWhatWasWritten) {
  Example example;
  const Flush flush = example.write(1.0);
  const auto plan = read_plan(flush.structure);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->hash, flush.hash);
  ASSERT_EQ(plan->kinds.size(), flush.numbers.size());
  ASSERT_EQ(plan->entries.size(), 2U);
  EXPECT_EQ(plan->ops.at(plan->entries[0].op), "aten::add.Tensor");
  ASSERT_EQ(plan->slots.size(), 3U);
  EXPECT_FALSE(plan->slots[0].fresh);
  EXPECT_TRUE(plan->slots[2].fresh);
  EXPECT_EQ(flush.numbers[plan->slots[0].death], 1);  // behind the first entry
  EXPECT_EQ(flush.numbers[plan->slots[2].death], 0);  // lives on
  EXPECT_EQ(plan->operands[0].strides, kNone);
  EXPECT_NE(plan->operands[1].strides, kNone);
  EXPECT_EQ(plan->answers, 1U);
}

TEST(Plan, HasOneNameWhateverItsNumbers) {
  Example first;
  Example second;
  second.a.id = 500;
  const PlanHash name = first.write(1.0).hash;
  EXPECT_EQ(second.write(0.25).hash, name);
  Example fresh;
  EXPECT_NE(fresh.write(1.0, false).hash, name);  // Another structure: its inputs are new.
}

TEST(Plan, IsTheSameWhoeverElseRecordsMeanwhile) {
  const OpName add{"aten::add.Tensor"};
  const OpName mul{"aten::mul.Tensor"};
  StorageRecord to{.id = 5, .bytes = 24, .known = true};
  StorageRecord others{.id = 8, .bytes = 24, .known = true};
  const auto entry = [](PlanWriter& writer, const OpName& op, StorageRecord& storage) {
    writer.op(op, 1);
    writer.tensor();
    writer.operand(storage, Dtype::kFloat32, kSizes, kRows, 0);
    writer.results(0);
  };
  const auto name_of_flush = [&](PlanWriter* other) {
    PlanWriter writer;
    writer.begin(7, 1);
    if (other != nullptr) other->begin(9, 1);
    for (int i = 0; i < 3; ++i) {
      if (other != nullptr) entry(*other, i == 1 ? add : mul, others);
      entry(writer, i == 1 ? mul : add, to);
    }
    return writer.finish().hash;
  };
  PlanWriter other;
  const PlanHash alone = name_of_flush(nullptr);
  EXPECT_EQ(name_of_flush(&other), alone);
}

TEST(Plan, AnAbandonedEntryLeavesNoTrace) {
  Example example;
  const Flush expected = example.write(1.0);
  const ByteString structure(expected.structure.begin(), expected.structure.end());
  Example other;
  OpName unsendable{"aten::from_file"};
  StorageRecord stranger{.id = 9, .bytes = 8};
  other.writer.begin(7, 1);
  other.writer.op(unsendable, 1);
  other.writer.tensor();
  other.writer.operand(stranger, Dtype::kFloat32, kSizes, kRows, 0);
  other.writer.abandon_entry();
  EXPECT_TRUE(other.writer.empty());
  const Flush nothing = other.writer.finish();
  EXPECT_EQ(nothing.entries, 0U);
  EXPECT_FALSE(stranger.known);
  const Flush again = other.write(1.0);
  EXPECT_EQ(ByteString(again.structure.begin(), again.structure.end()), structure);
}

TEST(Plan, EveryShorterStructureIsRefused) {
  Example example;
  const Flush flush = example.write(1.0);
  for (size_t length = 0; length < flush.structure.size(); ++length) {
    EXPECT_FALSE(read_plan(flush.structure.first(length))) << length;
  }
}

TEST(Plan, ADamagedStructureIsReadInBoundsOrRefused) {
  const uint64_t seed = test_seed();
  SCOPED_TRACE("DJINN_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  Example example;
  const Flush flush = example.write(1.0);
  for (int i = 0; i < 50'000; ++i) {
    ByteString structure(flush.structure.begin(), flush.structure.end());
    for (uint64_t n = 1 + random() % 4; n > 0; --n) {
      structure[random() % structure.size()] = static_cast<uint8_t>(random());
    }
    const auto plan = read_plan(structure);
    if (!plan) continue;
    for (const Entry& entry : plan->entries) {
      if (entry.kind == EntryKind::kOp) {
        ASSERT_LT(entry.op, plan->ops.size());
      }
      ASSERT_LE(entry.first_arg + entry.arg_count, plan->args.size());
    }
    for (const Operand& operand : plan->operands) ASSERT_LT(operand.slot, plan->slots.size());
  }
}

// Version, then an operator whose arguments are lists of new 0-dimensional tensors.
ByteString structure_of_slots(uint32_t count) {
  constexpr uint32_t kHalf = kSlotsPerPlanMax / 2;
  ByteString out{kStructureVersion, 'O', 0, 3};
  for (uint32_t slot = 0; slot < 3 * kHalf; ++slot) {
    if (slot % kHalf == 0) {
      out.push_back('l');
      put_varint(out, slot < count ? std::min(kHalf, count - slot) : 0);
    }
    if (slot >= count) continue;
    out.push_back('t');
    put_varint(out, slot);
    out.insert(out.end(), {'+', 0, 64 + 128});
  }
  out.insert(out.end(), {0, 'E', 0, 1, 1, 'x'});
  return out;
}

TEST(Plan, HasAsManySlotsAsTheLimitAndNoMore) {
  const auto plan = read_plan(structure_of_slots(kSlotsPerPlanMax));
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->slots.size(), kSlotsPerPlanMax);
  const auto larger = read_plan(structure_of_slots(kSlotsPerPlanMax + 1));
  ASSERT_FALSE(larger);
  EXPECT_EQ(larger.error().code, ErrorCode::kInvalid);
}

TEST(Plan, ABombOfCountsIsRefusedCheaply) {
  // Version, then an operator that claims 2^40 arguments; and one whose list claims 65,536 lists.
  EXPECT_FALSE(read_plan(ByteString{1, 'O', 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20}));
  ByteString nested{1, 'O', 0, 1};
  for (int i = 0; i < 1000; ++i) nested.insert(nested.end(), {'l', 0xff, 0xff, 3});
  EXPECT_FALSE(read_plan(nested));
}

}  // namespace
}  // namespace djinn::graph
