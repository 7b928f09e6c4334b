// SPDX-License-Identifier: Apache-2.0
// Admission: what a plan may hold, and what its numbers may say. Nothing here trusts a client.
#include <gmock/gmock.h>

#include <limits>

#include <gtest/gtest.h>

#include "operators/allow_list.h"
#include "operators/census.h"
#include "operators/hidden_writes.h"
#include "serialization/graph/plan_reader.h"
#include "server/torch/cpu_device.h"
#include "server/torch/operator_rules.h"
#include "tests/server/torch/harness.h"

namespace djinn::server {
namespace {

using at::Tensor;
using ::testing::HasSubstr;

constexpr int64_t kBig = std::numeric_limits<int64_t>::max();

graph::Plan plan_of(graph::PlanWriter& writer) {
  auto plan = graph::read_plan(writer.finish().structure);
  if (!plan) throw std::runtime_error(plan.error().message);
  return std::move(*plan);
}

class AdmissionTest : public ::testing::Test {
 protected:
  // A plan of one operator whose arguments `write` writes.
  Result<> admit(const std::string& name, size_t args, const std::function<void()>& write,
                 size_t results) {
    writer_.begin(1, 1);
    graph::OpName op{name};
    writer_.op(op, args);
    write();
    writer_.results(results);
    for (size_t i = 0; i < results; ++i) writer_.not_new();
    return device_->admit(plan_of(writer_));
  }
  void tensor() {
    static const std::vector<int64_t> sizes{4};
    static const std::vector<int64_t> strides{1};
    records_.push_back(std::make_unique<graph::StorageRecord>());
    *records_.back() = {.id = records_.size(), .bytes = 16};
    writer_.tensor();
    writer_.operand(*records_.back(), graph::Dtype::kFloat32, sizes, strides, 0);
  }
  std::string refused(const std::string& name, size_t args, const std::function<void()>& write,
                      size_t results = 1) {
    const auto admitted = admit(name, args, write, results);
    return admitted ? "" : admitted.error().message;
  }

  std::unique_ptr<Device> device_ = make_cpu_device({.threads = 1});
  graph::PlanWriter writer_;
  std::vector<std::unique_ptr<graph::StorageRecord>> records_;
};

// -- operators

TEST_F(AdmissionTest, NoOperatorOutsideTheListRuns) {
  size_t tried = 0;
  for (const c10::OperatorName& each : c10::Dispatcher::singleton().getAllOpNames()) {
    const std::string name =
        each.overload_name.empty() ? each.name : each.name + "." + each.overload_name;
    if (operators::is_allowed(name)) continue;
    ++tried;
    const auto admitted = admit(
        name, 0, [] {}, 0);
    ASSERT_FALSE(admitted.has_value()) << name;
    EXPECT_TRUE(admitted.error().code == ErrorCode::kDenied ||
                admitted.error().code == ErrorCode::kUnsupported)
        << name << ": " << admitted.error().message;
    EXPECT_THAT(admitted.error().message, HasSubstr(name));
    EXPECT_FALSE(device_->supports(name, 0));
  }
  EXPECT_GT(tried, 1500);
}

TEST_F(AdmissionTest, AnOperatorThatDoesNotExistIsUnsupported) {
  for (const char* name : {"aten::no_such", "", "::", "aten::add.", "aten::add.Tensor.x", "x"}) {
    const auto admitted = admit(
        name, 0, [] {}, 0);
    ASSERT_FALSE(admitted.has_value());
    EXPECT_EQ(admitted.error().code, ErrorCode::kUnsupported) << name;
  }
}

TEST_F(AdmissionTest, TheListIsWhatTheRulesSayOfThisLibTorch) {
  std::string before;
  for (const std::string_view name : operators::allowed_operators()) {
    EXPECT_LT(before, name) << "sorted";
    before = name;
    const auto op = operators::find_operator(name);
    ASSERT_TRUE(op.has_value()) << name;
    EXPECT_EQ(refusal(*op), "") << name;
    EXPECT_TRUE(device_->supports(name, operators::schema_text_hash(*op))) << name;
    EXPECT_FALSE(device_->supports(name, operators::schema_text_hash(*op) + 1)) << name;
  }
  for (const char* must : {"aten::add.Tensor", "aten::convolution_backward", "aten::copy_",
                           "aten::_foreach_add_.List", "aten::_linalg_check_errors"}) {
    EXPECT_TRUE(operators::is_allowed(must)) << must;
  }
  for (const char* never : {"aten::from_file", "aten::set_.source_Storage", "aten::empty_like",
                            "aten::record_stream", "aten::_pin_memory", "aten::resize_"}) {
    EXPECT_FALSE(operators::is_allowed(never)) << never;
  }
}

TEST_F(AdmissionTest, SchemasHashToSixteenBytesThatDependOnEachName) {
  const auto names = operators::allowed_operators();
  EXPECT_EQ(device_->schema_hash(), operators::schema_hash(names));
  EXPECT_EQ(device_->schema_hash().size(), 16);
  EXPECT_NE(device_->schema_hash(), operators::schema_hash(names.subspan(1)));
}

TEST_F(AdmissionTest, HiddenWritesNameArgumentsThatExist) {
  for (const operators::HiddenWrites& each : operators::all_hidden_writes()) {
    const auto op = operators::find_operator(each.name);
    ASSERT_TRUE(op.has_value()) << each.name;
    const auto& args = op->schema().arguments();
    for (size_t i = 0; i < 32; ++i) {
      if (((each.arguments >> i) & 1U) == 0) continue;
      ASSERT_LT(i, args.size()) << each.name;
      EXPECT_THAT(args[i].type()->str(), HasSubstr("Tensor")) << each.name;
    }
    if (each.only_if < 0) continue;
    ASSERT_LT(each.only_if, static_cast<int32_t>(args.size())) << each.name;
    EXPECT_EQ(args[static_cast<size_t>(each.only_if)].type()->kind(), c10::TypeKind::BoolType)
        << each.name;
  }
}

// -- arguments

TEST_F(AdmissionTest, ArgumentsHaveTheKindsOfTheSchema) {
  const auto good = [&] { tensor(), tensor(), writer_.integer(1); };
  EXPECT_THAT(refused("aten::add_.Tensor", 3, good), "");
  EXPECT_THAT(refused("aten::add_.Tensor", 2, [&] { tensor(), tensor(); }),
              HasSubstr("2 arguments"));
  EXPECT_THAT(refused("aten::add_.Tensor", 3, good, 2), HasSubstr("2 results"));
  EXPECT_THAT(
      refused("aten::add_.Tensor", 3, [&] { writer_.none(), tensor(), writer_.integer(1); }),
      HasSubstr("self must not be none"));
  EXPECT_THAT(refused("aten::add_.Tensor", 3, [&] { tensor(), writer_.integer(1), tensor(); }),
              HasSubstr("other must be a tensor"));
  EXPECT_THAT(refused("aten::add_.Tensor", 3, [&] { tensor(), tensor(), writer_.text("1"); }),
              HasSubstr("alpha must be a number"));
  EXPECT_THAT(
      refused("aten::add_.Tensor", 3, [&] { tensor(), writer_.list(0), writer_.integer(1); }),
      HasSubstr("other must be a tensor"));
  // A written argument must be on the device, an undefined tensor cannot be written.
  EXPECT_THAT(refused("aten::zero_", 1, [&] { writer_.undefined(); }), HasSubstr("self"));
  EXPECT_THAT(refused("aten::zero_", 1,
                      [&] {
                        writer_.cpu_scalar(graph::Dtype::kFloat32, false);
                        writer_.float_number(1);
                      }),
              HasSubstr("self"));
  EXPECT_THAT(refused(
                  "aten::_foreach_zero_", 1,
                  [&] {
                    writer_.list(1);
                    writer_.none();
                  },
                  0),
              HasSubstr("list of tensors"));
  EXPECT_THAT(refused(
                  "aten::_foreach_zero_", 1, [&] { writer_.integers({}); }, 0),
              HasSubstr("list of tensors"));
}

TEST_F(AdmissionTest, NumbersInListsHaveTheKindsOfTheSchema) {
  const std::vector<int64_t> ints{1};
  const std::vector<double> reals{1};
  const auto repeat = [&](const std::function<void()>& list) {
    return [this, list] { tensor(), list(); };
  };
  EXPECT_THAT(refused("aten::repeat", 2, repeat([&] { writer_.reals(reals); })), HasSubstr("ints"));
  EXPECT_THAT(refused("aten::repeat", 2, repeat([&] { writer_.integer(1); })), HasSubstr("ints"));
  EXPECT_THAT(refused("aten::repeat", 2, repeat([&] { writer_.list(1), writer_.integer(1); })),
              HasSubstr("ints"));
  EXPECT_THAT(refused("aten::normal_", 4,
                      [&] { tensor(), writer_.integer(1), writer_.real(1), writer_.none(); }),
              HasSubstr("mean must be a float"));
  EXPECT_THAT(refused("aten::rand", 5,
                      [&] {
                        writer_.integers(ints);
                        writer_.none(), writer_.none(), writer_.device(), writer_.boolean(true);
                      }),
              HasSubstr("pin_memory must be false"));
}

TEST_F(AdmissionTest, ResultsAreOfTheKindThatTheSchemaSays) {
  // A new tensor where an argument is returned.
  writer_.begin(1, 1);
  graph::OpName op{"aten::zero_"};
  writer_.op(op, 1);
  tensor();
  writer_.results(1);
  tensor();
  EXPECT_EQ(device_->admit(plan_of(writer_)).error().code, ErrorCode::kInvalid);
  // No new tensor where one is made.
  EXPECT_THAT(refused("aten::neg", 1, [&] { tensor(); }), HasSubstr("result 0"));
}

// -- numbers

struct BadNumber {
  const char* what;
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;
  int64_t offset;
};
void PrintTo(const BadNumber& bad, std::ostream* out) { *out << bad.what; }

class GeometryTest : public ::testing::TestWithParam<BadNumber> {
 protected:
  std::unique_ptr<Device> device_ = make_cpu_device({.threads = 1});
  Mirror mirror_{*device_};
};

// Each over a storage of 64 bytes, read by an operator, written by one, and fetched.
TEST_P(GeometryTest, IsRefusedAndHarmsNobodyElse) {
  const BadNumber& bad = GetParam();
  const Tensor x = at::randn({16});
  const Tensor bystander = at::randn({16});
  mirror_.see(x);
  mirror_.see(bystander);
  const auto operand = [&](graph::StorageRecord& storage) {
    mirror_.writer().operand(storage, graph::Dtype::kFloat32, bad.sizes, bad.strides, bad.offset);
  };
  const uint32_t fetched = mirror_.writer().fetch();
  operand(mirror_.record(x));
  graph::StorageRecord& result = mirror_.new_record(64);
  mirror_.writer().op(mirror_.name("aten::neg"), 1);
  mirror_.writer().tensor();
  operand(mirror_.record(x));
  mirror_.writer().results(1);
  mirror_.writer().tensor();
  mirror_.writer().operand(result, graph::Dtype::kFloat32, std::vector<int64_t>{16},
                           std::vector<int64_t>{1}, 0);
  const uint32_t made = mirror_.writer().fetch();
  mirror_.writer().operand(result, graph::Dtype::kFloat32, std::vector<int64_t>{16},
                           std::vector<int64_t>{1}, 0);
  mirror_.writer().op(mirror_.name("aten::zero_"), 1);
  mirror_.writer().tensor();
  operand(mirror_.record(x));
  mirror_.writer().results(1);
  mirror_.writer().not_new();
  const uint32_t written = mirror_.fetch(x);
  mirror_.expect_same(bystander);
  const Answers answers = mirror_.run();
  for (const uint32_t answer : {fetched, made, written}) {
    ASSERT_FALSE(answers[answer].has_value());
    EXPECT_EQ(answers.code(answer), ErrorCode::kInvalid) << answers.error(answer);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Numbers, GeometryTest,
    ::testing::Values(
        BadNumber{"one element too many", {17}, {1}, 0},
        BadNumber{"offset behind the end", {1}, {1}, 16},
        BadNumber{"offset pushes it out", {16}, {1}, 1}, BadNumber{"negative offset", {4}, {1}, -1},
        BadNumber{"smallest offset", {4}, {1}, std::numeric_limits<int64_t>::min()},
        BadNumber{"huge offset", {4}, {1}, kBig}, BadNumber{"negative size", {-1}, {1}, 0},
        BadNumber{"smallest size", {std::numeric_limits<int64_t>::min()}, {1}, 0},
        BadNumber{"huge size", {kBig}, {1}, 0},
        BadNumber{"two negative sizes", {-4, -4}, {1, 1}, 0},
        BadNumber{"negative stride", {4}, {-1}, 8}, BadNumber{"huge stride", {2}, {kBig}, 0},
        BadNumber{"stride reaches out", {2}, {16}, 0},
        BadNumber{"product overflows", {int64_t{1} << 32, int64_t{1} << 32}, {1, 1}, 0},
        BadNumber{"product wraps to zero", {int64_t{1} << 32, int64_t{1} << 32, 4}, {0, 0, 0}, 0},
        BadNumber{"extent overflows", {3, 3}, {kBig / 2, kBig / 2}, 0},
        BadNumber{"extent wraps", {2, 2}, {kBig, kBig}, 2},
        BadNumber{"expanded without end", {int64_t{1} << 62}, {0}, 0},
        BadNumber{"empty but huge", {0, kBig, kBig}, {1, 1, 1}, 0},
        BadNumber{"empty with a huge offset", {0}, {1}, kBig},
        BadNumber{"empty with a negative size", {0, -5}, {1, 1}, 0},
        BadNumber{"rank 3 beyond by one", {2, 2, 5}, {10, 5, 1}, 0},
        BadNumber{"overlapping beyond by one", {16, 2}, {1, 1}, 0},
        BadNumber{"scalar behind the end", {}, {}, 16}));

class NumbersTest : public AdmissionTest {
 protected:
  Mirror mirror_{*device_};
};

TEST_F(NumbersTest, LengthsOfStoragesAndUploadsAreChecked) {
  for (const int64_t bytes : {int64_t{-1}, kBig, int64_t{1} << 47}) {
    const Tensor x = at::randn({16});
    mirror_.see_empty(x);
    mirror_.op("aten::zero_", x);
    const uint32_t answer = mirror_.fetch(x);
    Recorded recorded = mirror_.finish();
    recorded.numbers[recorded.plan->slots[0].bytes] = bytes;
    EXPECT_EQ(mirror_.run(recorded).code(answer), ErrorCode::kInvalid);
    mirror_.writer().begin(1000, 1);
  }
  for (const int64_t length : {int64_t{-8}, int64_t{60}, int64_t{68}, kBig}) {
    const Tensor x = at::randn({16});
    mirror_.see(x);
    const uint32_t answer = mirror_.fetch(x);
    Recorded recorded = mirror_.finish();
    recorded.numbers[recorded.plan->entries[0].number] = length;
    EXPECT_EQ(mirror_.run(recorded).code(answer), ErrorCode::kInvalid) << length;
    mirror_.writer().begin(2000, 1);
  }
}

TEST_F(NumbersTest, ResizesAreChecked) {
  for (const int64_t bytes : {int64_t{-1}, kBig}) {
    const Tensor x = at::randn({16});
    mirror_.see(x);
    mirror_.writer().resize(mirror_.record(x), 64);
    const uint32_t answer = mirror_.fetch(x);
    Recorded recorded = mirror_.finish();
    recorded.numbers[recorded.plan->entries[1].number] = bytes;
    EXPECT_EQ(mirror_.run(recorded).code(answer), ErrorCode::kInvalid);
    mirror_.writer().begin(1000, 1);
  }
}

TEST_F(NumbersTest, DeathsOutOfBoundsKillNothing) {
  for (const int64_t death :
       {int64_t{-1}, int64_t{99}, kBig, std::numeric_limits<int64_t>::min()}) {
    const Tensor x = at::randn({16});
    mirror_.see(x);
    const uint32_t answer = mirror_.fetch(x);
    Recorded recorded = mirror_.finish();
    recorded.numbers[recorded.plan->slots[0].death] = death;
    EXPECT_EQ(mirror_.run(recorded).error(answer), "");
    mirror_.writer().begin(1000, 1);
  }
}

TEST_F(NumbersTest, AUseAfterDeathIsAnError) {
  const Tensor x = at::randn({16});
  mirror_.see(x);
  mirror_.op("aten::zero_", x);
  const uint32_t answer = mirror_.fetch(x);
  Recorded recorded = mirror_.finish();
  recorded.numbers[recorded.plan->slots[0].death] = 1;
  EXPECT_EQ(mirror_.run(recorded).code(answer), ErrorCode::kNotFound);
  EXPECT_EQ(mirror_.replay().stats().storages, 0);
}

TEST_F(NumbersTest, AStorageMayNotFillTwoSlots) {
  const Tensor x = at::randn({16});
  const Tensor y = at::randn({16});
  mirror_.see(x);
  mirror_.see(y);
  mirror_.run();
  mirror_.op("aten::add_.Tensor", x, y, 1);
  const uint32_t answer = mirror_.fetch(x);
  Recorded recorded = mirror_.finish();
  recorded.numbers[recorded.plan->slots[1].id] = recorded.numbers[recorded.plan->slots[0].id];
  recorded.numbers[recorded.plan->slots[1].death] = 1;
  EXPECT_EQ(mirror_.run(recorded).code(answer), ErrorCode::kInvalid);
}

TEST_F(NumbersTest, EnumerationsAreChecked) {
  const Tensor x = at::randn({4});
  for (const int64_t type : {int64_t{-1}, int64_t{12}, int64_t{999}, kBig}) {
    mirror_.see(x);
    mirror_.writer().op(mirror_.name("aten::_to_copy"), 7);
    mirror_.writer().tensor();
    mirror_.operand(x);
    mirror_.writer().integer(type);
    for (int i = 0; i < 3; ++i) mirror_.writer().none();
    mirror_.writer().boolean(false);
    mirror_.writer().none();
    mirror_.writer().results(1);
    mirror_.writer().tensor();
    const Tensor predicted = at::randn({4});
    mirror_.operand(predicted);
    const uint32_t answer = mirror_.fetch(predicted);
    EXPECT_EQ(mirror_.run().code(answer), ErrorCode::kInvalid) << type;
  }
}

TEST_F(NumbersTest, NumbersOfAnotherPlanRunNothing) {
  const Tensor x = at::randn({4});
  mirror_.see(x);
  const uint32_t answer = mirror_.fetch(x);
  Recorded recorded = mirror_.finish();
  recorded.numbers.pop_back();
  EXPECT_EQ(mirror_.run(recorded).code(answer), ErrorCode::kInvalid);
  EXPECT_EQ(mirror_.replay().stats().storages, 0);
}

}  // namespace
}  // namespace djinn::server
