// SPDX-License-Identifier: Apache-2.0
#include "scheduler/scheduler.h"

#include <map>

#include <gtest/gtest.h>

namespace djinn::sched {
namespace {

constexpr uint64_t kMs = 1'000'000;

// Takes a job, runs it for so long, and says whose it was; 0: nobody's.
uint64_t run_one(Scheduler& scheduler, uint64_t& now_ns, uint64_t run_ns = kMs) {
  const auto turn = scheduler.take(now_ns);
  if (!turn.session) return 0;
  now_ns += run_ns;
  scheduler.charge(*turn.session, run_ns);
  scheduler.done(*turn.session, now_ns);
  return turn.session->value;
}

Scheduler make(std::string_view policy) { return Scheduler(make_policy(policy).value()); }

TEST(Scheduler, RunsOneSessionsJobsOneAtATime) {
  Scheduler scheduler = make("fcfs");
  scheduler.open({1}, "a");
  scheduler.add({1}, {}, 0);
  scheduler.add({1}, {}, 0);
  EXPECT_TRUE(scheduler.take(0).session);
  EXPECT_FALSE(scheduler.ready());
  EXPECT_FALSE(scheduler.take(0).session);
  EXPECT_EQ(scheduler.waiting(), 1U);
  scheduler.done({1}, 1);
  EXPECT_TRUE(scheduler.take(1).session);
}

TEST(Scheduler, GivesNoSecondTurnForAJobThatComesWhileOneRuns) {
  for (const std::string& policy : policy_names()) {
    Scheduler scheduler = make(policy);
    scheduler.open({1}, "a");
    scheduler.add({1}, {}, 0);
    ASSERT_TRUE(scheduler.take(0).session);
    scheduler.add({1}, {}, 0);
    EXPECT_FALSE(scheduler.ready()) << policy;
    EXPECT_FALSE(scheduler.take(0).session) << policy;
    scheduler.done({1}, 1);
    EXPECT_TRUE(scheduler.take(1).session) << policy;
  }
}

TEST(Scheduler, ChoosesAnewAfterAChunk) {
  Scheduler scheduler = make("semantic");
  scheduler.open({1}, "training");
  scheduler.open({2}, "decoding");
  scheduler.add({1}, {.wanted = Class::kBestEffort}, 0);
  ASSERT_EQ(scheduler.take(0).session, SessionId{1});
  scheduler.add({2}, {.arrived_ns = kMs / 2, .wanted = Class::kLatencyCritical}, kMs / 2);
  scheduler.charge({1}, kMs);
  scheduler.yield({1}, kMs);
  ASSERT_EQ(scheduler.take(kMs).session, SessionId{2});
  scheduler.charge({2}, kMs);
  scheduler.done({2}, 2 * kMs);
  ASSERT_EQ(scheduler.take(2 * kMs).session, SessionId{1});
  scheduler.charge({1}, kMs);
  scheduler.done({1}, 3 * kMs);
  EXPECT_EQ(scheduler.tenants().at("training").used_ns, 2 * kMs);
  EXPECT_EQ(scheduler.tenants().at("training").jobs, 1U);
}

TEST(Scheduler, CountsWhoWaitsAndHowLongByClassFromItsComingToItsFirstTurn) {
  Scheduler scheduler = make("wfq");
  scheduler.set_terms("batch", {.ceiling = Class::kBestEffort}, 0);
  scheduler.open({1}, "batch");
  scheduler.open({2}, "other");
  scheduler.add({1}, {.wanted = Class::kLatencyCritical}, 0);
  scheduler.add({1}, {.arrived_ns = kMs}, kMs);
  scheduler.add({2}, {.arrived_ns = kMs, .wanted = Class::kLatencyCritical}, kMs);
  EXPECT_EQ(scheduler.queued(), (std::array<uint64_t, kClasses>{1, 0, 2}));
  ASSERT_EQ(scheduler.take(3 * kMs).session, SessionId{1});
  EXPECT_EQ(scheduler.queued(), (std::array<uint64_t, kClasses>{1, 0, 1})) << "it runs";
  scheduler.charge({1}, 2 * kMs);
  scheduler.yield({1}, 5 * kMs);
  EXPECT_EQ(scheduler.queued(), (std::array<uint64_t, kClasses>{1, 0, 2})) << "it waits again";
  ASSERT_EQ(scheduler.take(50 * kMs).session, SessionId{2});
  ASSERT_EQ(scheduler.take(60 * kMs).session, SessionId{1});
  const auto& waits = scheduler.waits();
  const auto best_effort = static_cast<size_t>(Class::kBestEffort);
  EXPECT_EQ(waits[best_effort].total_ns, 3 * kMs) << "its second turn is no second wait";
  EXPECT_EQ(waits[best_effort].jobs[2], 1U) << "more than 1 ms, at most 5";
  const auto critical = static_cast<size_t>(Class::kLatencyCritical);
  EXPECT_EQ(waits[critical].total_ns, 49 * kMs);
  EXPECT_EQ(waits[critical].jobs[4], 1U) << "more than 20 ms, at most 100";
}

TEST(Scheduler, KnowsWhatJobsHaveUsedThatHaveNotEnded) {
  Scheduler scheduler = make("wfq");
  scheduler.open({1}, "a");
  scheduler.open({2}, "a");
  scheduler.add({1}, {}, 0);
  scheduler.add({2}, {}, 0);
  const auto begun = [&] { return scheduler.tenants().at("a").begun_ns; };
  const SessionId first = scheduler.take(0).session.value();
  scheduler.charge(first, 4 * kMs);
  scheduler.yield(first, 4 * kMs);
  const SessionId second = scheduler.take(4 * kMs).session.value();
  ASSERT_NE(first, second);
  scheduler.charge(second, 5 * kMs);
  EXPECT_EQ(begun(), 9 * kMs);
  scheduler.done(second, 9 * kMs);
  EXPECT_EQ(begun(), 4 * kMs);
  ASSERT_EQ(scheduler.take(9 * kMs).session, first);
  scheduler.charge(first, kMs);
  scheduler.remove(first, 10 * kMs);
  EXPECT_EQ(begun(), 0U) << "whose session has gone counts as ended";
  scheduler.charge(first, kMs);
  scheduler.done(first, 11 * kMs);
  EXPECT_EQ(begun(), 0U);
  EXPECT_EQ(scheduler.tenants().at("a").used_ns, 11 * kMs);
}

TEST(Scheduler, ChargesAJobWhoseSessionIsGone) {
  Scheduler scheduler = make("wfq");
  scheduler.open({1}, "a");
  scheduler.add({1}, {}, 0);
  scheduler.add({1}, {}, 0);
  ASSERT_TRUE(scheduler.take(0).session);
  scheduler.remove({1}, 0);
  EXPECT_EQ(scheduler.waiting(), 0U);
  scheduler.charge({1}, 5 * kMs);
  scheduler.done({1}, 5 * kMs);
  EXPECT_EQ(scheduler.tenants().at("a").used_ns, 5 * kMs);
  EXPECT_EQ(scheduler.tenants().at("a").sessions, 0U);
  EXPECT_FALSE(scheduler.ready());
}

TEST(Scheduler, CountsAllSessionsOfATenantTogether) {
  Scheduler scheduler = make("wfq");
  uint64_t now_ns = 0;
  for (uint64_t session = 1; session <= 11; ++session) {
    scheduler.open({session}, session <= 10 ? "ten sessions" : "one session");
  }
  for (int round = 0; round < 100; ++round) {
    for (uint64_t session = 1; session <= 11; ++session) scheduler.add({session}, {}, now_ns);
  }
  for (int i = 0; i < 200; ++i) run_one(scheduler, now_ns);
  EXPECT_EQ(scheduler.tenants().at("ten sessions").used_ns, 100 * kMs);
  EXPECT_EQ(scheduler.tenants().at("one session").used_ns, 100 * kMs);
}

// How many of the next 200 jobs of one millisecond are those of who was away for a second.
int of_who_was_away(const char* policy) {
  Scheduler scheduler = make(policy);
  uint64_t now_ns = 0;
  scheduler.open({1}, "busy");
  scheduler.open({2}, "away");
  for (int i = 0; i < 2000; ++i) scheduler.add({1}, {}, 0);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(run_one(scheduler, now_ns), 1U);
  for (int i = 0; i < 1000; ++i) scheduler.add({2}, {.arrived_ns = now_ns}, now_ns);
  int away = 0;
  for (int i = 0; i < 200; ++i) away += run_one(scheduler, now_ns) == 2 ? 1 : 0;
  return away;
}

TEST(Wfq, GivesNoCreditForBeingAway) { EXPECT_NEAR(of_who_was_away("wfq"), 100, 1); }

TEST(Semantic, GivesCreditOfTwentyMillisecondsForBeingAwayAndNoMore) {
  EXPECT_NEAR(of_who_was_away("semantic"), 20 + 180 / 2.0, 2);
}

TEST(Scheduler, DebtDoesNotEndWithASession) {
  Scheduler scheduler = make("wfq");
  uint64_t now_ns = 0;
  scheduler.open({1}, "a");
  scheduler.open({2}, "b");
  scheduler.add({1}, {}, 0);
  scheduler.add({2}, {}, 0);
  ASSERT_EQ(run_one(scheduler, now_ns, 100 * kMs), 1U);
  scheduler.remove({1}, 0);
  scheduler.open({3}, "a");
  scheduler.add({3}, {}, now_ns);
  for (int i = 0; i < 100; ++i) scheduler.add({2}, {}, now_ns);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(run_one(scheduler, now_ns), 2U) << i;
  EXPECT_EQ(run_one(scheduler, now_ns), 3U);
}

TEST(Scheduler, ChangesATenantsTermsAtOnce) {
  Scheduler scheduler = make("semantic");
  uint64_t now_ns = 0;
  scheduler.open({1}, "a");
  scheduler.open({2}, "b");
  scheduler.add({1}, {.wanted = Class::kInteractive}, 0);
  scheduler.add({2}, {.wanted = Class::kLatencyCritical}, 0);
  scheduler.set_terms("b", {.weight = 1, .ceiling = Class::kBestEffort}, 0);
  EXPECT_EQ(run_one(scheduler, now_ns), 1U);
  EXPECT_EQ(run_one(scheduler, now_ns), 2U);
}

TEST(Edf, PutsWhatCannotBeMetBehindWhatCan) {
  Scheduler scheduler = make("edf");
  uint64_t now_ns = 0;
  for (uint64_t session = 1; session <= 3; ++session) scheduler.open({session}, "a");
  scheduler.add({1}, {.expected_ns = 10 * kMs, .deadline_ns = 5 * kMs}, 0);
  scheduler.add({2}, {.expected_ns = 10 * kMs, .deadline_ns = 30 * kMs}, 0);
  scheduler.add({3}, {.expected_ns = 10 * kMs, .deadline_ns = 20 * kMs}, 0);
  EXPECT_EQ(run_one(scheduler, now_ns), 3U);
  EXPECT_EQ(run_one(scheduler, now_ns), 2U);
  EXPECT_EQ(run_one(scheduler, now_ns), 1U);
}

TEST(Priority, IsAHeadStartThatWaitingMakesUp) {
  Scheduler scheduler = make("priority");
  uint64_t now_ns = 0;
  for (uint64_t session = 1; session <= 3; ++session) scheduler.open({session}, "a");
  scheduler.add({1}, {.arrived_ns = 0, .wanted = Class::kInteractive}, 0);
  scheduler.add({2}, {.arrived_ns = 90 * kMs, .wanted = Class::kLatencyCritical}, 90 * kMs);
  scheduler.add({3}, {.arrived_ns = 110 * kMs, .wanted = Class::kLatencyCritical}, 110 * kMs);
  EXPECT_EQ(run_one(scheduler, now_ns), 2U);
  EXPECT_EQ(run_one(scheduler, now_ns), 1U);
  EXPECT_EQ(run_one(scheduler, now_ns), 3U);
}

TEST(Priority, OfAJobIsItsTenantsCeilingAtMost) {
  Scheduler scheduler = make("priority");
  uint64_t now_ns = 0;
  scheduler.set_terms("low", {.ceiling = Class::kBestEffort}, 0);
  scheduler.open({1}, "low");
  scheduler.open({2}, "free");
  scheduler.add({1}, {.wanted = Class::kLatencyCritical}, 0);
  scheduler.add({2}, {.wanted = Class::kInteractive}, 0);
  EXPECT_EQ(run_one(scheduler, now_ns), 2U);
  EXPECT_EQ(run_one(scheduler, now_ns), 1U);
}

TEST(Semantic, ServesClassesInTheirOrder) {
  Scheduler scheduler = make("semantic");
  uint64_t now_ns = 0;
  for (uint64_t session = 1; session <= 3; ++session) {
    scheduler.open({session}, "a");
    scheduler.add({session}, {.wanted = static_cast<Class>(3 - session)}, 0);
  }
  EXPECT_EQ(run_one(scheduler, now_ns), 3U);
  EXPECT_EQ(run_one(scheduler, now_ns), 2U);
  EXPECT_EQ(run_one(scheduler, now_ns), 1U);
}

TEST(Semantic, ServesAClassThatHasWaitedLongOnce) {
  Scheduler scheduler = make("semantic");
  uint64_t now_ns = 0;
  scheduler.open({1}, "a");
  scheduler.open({2}, "b");
  for (int i = 0; i < 2000; ++i) scheduler.add({1}, {.wanted = Class::kLatencyCritical}, 0);
  for (int i = 0; i < 10; ++i) scheduler.add({2}, {.wanted = Class::kBestEffort}, 0);
  int best_effort = 0;
  while (now_ns < 1750 * kMs) best_effort += run_one(scheduler, now_ns) == 2 ? 1 : 0;
  EXPECT_EQ(best_effort, 3);  // after 500 ms, 1000 ms and 1500 ms
}

// How many jobs of one millisecond the session 2 has run, whose bytes are there, before the
// session 1 runs, whose are not.
int jobs_before_the_one_that_moves(const std::string& tenant_of_other, uint64_t move_ns) {
  Scheduler scheduler = make("semantic");
  uint64_t now_ns = 0;
  scheduler.open({1}, "moves");
  scheduler.open({2}, tenant_of_other);
  for (int i = 0; i < 100; ++i) {
    scheduler.add({1}, {.move_ns = move_ns}, 0);
    scheduler.add({2}, {}, 0);
  }
  int before = 0;
  while (before < 100 && run_one(scheduler, now_ns) == 2) ++before;
  return before;
}

TEST(Semantic, PrefersWhatNeedNotMoveForAsLongAsThatWouldTake) {
  for (const char* const other : {"moves", "another"}) {
    EXPECT_NEAR(jobs_before_the_one_that_moves(other, 8 * kMs), 8, 2) << other;
  }
}

TEST(Semantic, PrefersWhatNeedNotMoveForTwentyMillisecondsAtMost) {
  for (const char* const other : {"moves", "another"}) {
    EXPECT_NEAR(jobs_before_the_one_that_moves(other, 5000 * kMs), 20, 2) << other;
  }
}

TEST(Semantic, LearnsThatAJobsBytesHaveCome) {
  Scheduler scheduler = make("semantic");
  uint64_t now_ns = 0;
  scheduler.open({1}, "a");
  scheduler.open({2}, "a");
  for (int i = 0; i < 4; ++i) {
    scheduler.add({1}, {.move_ns = 10 * kMs}, 0);
    scheduler.add({2}, {}, 0);
  }
  EXPECT_EQ(run_one(scheduler, now_ns), 2U);
  scheduler.set_move({1}, 0);
  scheduler.set_move({2}, 10 * kMs);
  EXPECT_EQ(run_one(scheduler, now_ns), 1U);
  EXPECT_EQ(run_one(scheduler, now_ns), 2U);  // Its next job's bytes are there, as far as it said.
}

// A session that comes back 100 us after each of its steps.
struct Decoder {
  explicit Decoder(Scheduler& of) : scheduler(of) { of.open({1}, "decoder"); }
  void step(uint64_t& now_ns) {
    scheduler.add({1}, {.arrived_ns = now_ns, .wanted = Class::kLatencyCritical}, now_ns);
    EXPECT_EQ(run_one(scheduler, now_ns, 2 * kMs), 1U);
  }
  Scheduler& scheduler;
};

TEST(Semantic, HoldsTheDeviceForASessionThatComesBackAtOnce) {
  Scheduler scheduler = make("semantic");
  uint64_t now_ns = 0;
  Decoder decoder(scheduler);
  for (int i = 0; i < 20; ++i) {
    decoder.step(now_ns);
    now_ns += kMs / 10;
  }
  now_ns -= kMs / 10;
  scheduler.open({2}, "training");
  scheduler.add({2}, {.arrived_ns = now_ns, .wanted = Class::kBestEffort}, now_ns);
  const auto turn = scheduler.take(now_ns);
  EXPECT_FALSE(turn.session);
  EXPECT_GT(turn.hold_until_ns, now_ns + kMs / 10);
  EXPECT_LE(turn.hold_until_ns, now_ns + scheduler.policy().hold_max_ns());
  now_ns += kMs / 10;
  decoder.step(now_ns);
  now_ns += scheduler.policy().hold_max_ns();  // It does not come back.
  EXPECT_EQ(run_one(scheduler, now_ns), 2U);
}

TEST(Semantic, HoldsRarelyForWhoDoesNotComeBack) {
  Scheduler scheduler = make("semantic");
  uint64_t now_ns = 0;
  Decoder decoder(scheduler);
  for (int i = 0; i < 20; ++i) {
    decoder.step(now_ns);
    now_ns += kMs / 10;
  }
  scheduler.open({2}, "training");
  int holds = 0;
  for (int i = 0; i < 256; ++i) {
    scheduler.add({2}, {.arrived_ns = now_ns, .wanted = Class::kBestEffort}, now_ns);
    decoder.step(now_ns);
    const auto turn = scheduler.take(now_ns);
    if (turn.session) {
      scheduler.done(*turn.session, now_ns);
    } else {
      ++holds;
      now_ns = turn.hold_until_ns;
      EXPECT_EQ(run_one(scheduler, now_ns), 2U);
    }
    now_ns += 20 * kMs;  // No gap is learned from so long a rest.
  }
  EXPECT_GE(holds, 6);
  EXPECT_LE(holds, 16);
}

// Sessions 1, 2, ... with a job each that may run with the others'.
void add_company(Scheduler& scheduler, uint64_t count, uint64_t company = 7) {
  for (uint64_t session = 1; session <= count; ++session) {
    scheduler.open({session}, "a");
    scheduler.add({session}, {.arrived_ns = session, .company = company}, session);
  }
}

TEST(Company, IsChosenInTheOrderOfThePolicy) {
  for (const std::string& policy : policy_names()) {
    Scheduler scheduler = make(policy.c_str());
    add_company(scheduler, 4);
    std::vector<SessionId> mates;
    ASSERT_EQ(scheduler.take(10).session, SessionId{1}) << policy;
    scheduler.join({1}, 2, 10, mates);
    EXPECT_EQ(mates, (std::vector<SessionId>{{2}, {3}})) << policy;
    EXPECT_FALSE(scheduler.ready()) << policy << ": who finds no room waits for the next step";
    EXPECT_EQ(scheduler.waiting(), 1U);
    for (const uint64_t session : {1U, 2U, 3U}) scheduler.done({session}, 20);
    EXPECT_EQ(scheduler.take(20).session, SessionId{4}) << policy;
  }
}

// The sessions that had the first so many chunks of 10 ms, of two that send one long job each.
std::vector<uint64_t> turns_of_two(uint64_t deadline_ns, int chunks) {
  Scheduler scheduler = make("semantic");
  for (const uint64_t session : {1U, 2U}) {
    scheduler.open({session}, "a");
    scheduler.add({session}, {.deadline_ns = deadline_ns}, 0);
  }
  std::vector<uint64_t> out;
  for (int i = 0; i < chunks; ++i) {
    const uint64_t now_ns = static_cast<uint64_t>(i) * 10 * kMs;
    const SessionId session = scheduler.take(now_ns).session.value();
    out.push_back(session.value);
    scheduler.charge(session, 10 * kMs);
    scheduler.yield(session, now_ns + 10 * kMs);
  }
  return out;
}

// How long tenant a has the device alone with a job of 200 ms, of 300 ms: b always has work, and a
// had a job of 3 ms every 30 ms until it was away for so long.
uint64_t alone_ms(uint64_t away_ms) {
  Scheduler scheduler = make("semantic");
  scheduler.open({1}, "a");
  scheduler.open({2}, "b");
  scheduler.add({2}, {}, 0);
  uint64_t now_ms = 0;
  uint64_t left_ms = 0;  // of a's job
  const auto run = [&](uint64_t until_ms) {
    uint64_t of_a_ms = 0;
    for (bool alone = true; now_ms < until_ms;) {
      const SessionId session = scheduler.take(now_ms * kMs).session.value();
      ++now_ms;
      scheduler.charge(session, kMs);
      alone = alone && session == SessionId{1};
      of_a_ms += alone ? 1 : 0;
      if (session == SessionId{1} && --left_ms == 0) {
        scheduler.done(session, now_ms * kMs);
      } else {
        scheduler.yield(session, now_ms * kMs);
      }
    }
    return of_a_ms;
  };
  const auto add = [&](uint64_t ms) {
    left_ms = ms;
    scheduler.add({1}, {.arrived_ns = now_ms * kMs}, now_ms * kMs);
  };
  for (int i = 0; i < 30; ++i) {
    add(3);
    run(now_ms + 30);
  }
  run(now_ms + away_ms);
  add(200);
  return run(now_ms + 300);
}

TEST(Semantic, WhoUsesLessThanItsPartMayAskForMoreAtOnceAndWhoWasAwayForLittle) {
  EXPECT_NEAR(static_cast<double>(alone_ms(0)), 150, 8);
  EXPECT_NEAR(static_cast<double>(alone_ms(2000)), 150, 8) << "what it had when it left";
  Scheduler scheduler = make("semantic");
  scheduler.open({1}, "new");
  scheduler.open({2}, "b");
  scheduler.add({2}, {}, 0);
  uint64_t now_ns = 0;
  for (int i = 0; i < 1000; ++i) {
    const SessionId session = scheduler.take(now_ns).session.value();
    now_ns += kMs;
    scheduler.charge(session, kMs);
    scheduler.yield(session, now_ns);
  }
  scheduler.add({1}, {.arrived_ns = now_ns}, now_ns);
  int alone = 0;
  for (; scheduler.take(now_ns).session == SessionId{1}; ++alone) {
    now_ns += kMs;
    scheduler.charge({1}, kMs);
    scheduler.yield({1}, now_ns);
  }
  EXPECT_NEAR(alone, 20, 4);
}

TEST(Semantic, AJobWithADeadlineThatHasBegunGoesOnBeforeItsTenantsOthersForAWhile) {
  EXPECT_EQ(turns_of_two(kNever, 4), (std::vector<uint64_t>{1, 2, 1, 2}));
  EXPECT_EQ(turns_of_two(kMs * 1000, 8), (std::vector<uint64_t>{1, 1, 1, 1, 1, 1, 2, 2}))
      << "50 ms, and the chunk in which they are over";
}

TEST(Company, OtherJobsHaveTheirTurnsMeanwhile) {
  Scheduler scheduler = make("rr");
  add_company(scheduler, 2);
  scheduler.open({9}, "b");
  std::vector<SessionId> mates;
  ASSERT_EQ(scheduler.take(10).session, SessionId{1});
  scheduler.join({1}, 7, 10, mates);
  scheduler.add({9}, {.arrived_ns = 11}, 11);
  for (const uint64_t session : {1U, 2U}) scheduler.yield({session}, 12, 100);
  ASSERT_EQ(scheduler.take(12).session, SessionId{9});
  mates.clear();
  scheduler.join({9}, 7, 12, mates);
  EXPECT_TRUE(mates.empty());
  scheduler.done({9}, 13);
  ASSERT_EQ(scheduler.take(13).session, SessionId{1});
  scheduler.join({1}, 7, 13, mates);
  EXPECT_EQ(mates, std::vector<SessionId>{{2}}) << "they go on together";
}

TEST(Company, WhoComesLateWaitsForTheStepToEndButNotForEver) {
  for (const auto& [step_ns, most_ns] :
       std::map<uint64_t, uint64_t>{{0, Scheduler::kLateNs},
                                    {Scheduler::kLateNs / 2, Scheduler::kLateNs},
                                    {4 * Scheduler::kLateNs, 6 * Scheduler::kLateNs}}) {
    SCOPED_TRACE(step_ns);
    Scheduler scheduler = make("rr");
    add_company(scheduler, 1);
    ASSERT_TRUE(scheduler.take(0).session);
    scheduler.open({2}, "b");
    scheduler.add({2}, {.arrived_ns = 5, .company = 7, .step_ns = step_ns}, 5);
    EXPECT_FALSE(scheduler.ready());
    scheduler.yield({1}, 5 + most_ns - 1);
    ASSERT_EQ(scheduler.take(5 + most_ns - 1).session, SessionId{1});
    EXPECT_FALSE(scheduler.ready());
    scheduler.yield({1}, 5 + most_ns);
    ASSERT_EQ(scheduler.take(5 + most_ns).session, SessionId{1});
    EXPECT_TRUE(scheduler.ready()) << "it has waited long enough";
  }
}

TEST(Company, NobodyWaitsForWhoIsPausedOrGoneAmidAStep) {
  for (const bool gone : {false, true}) {
    Scheduler scheduler = make("rr");
    add_company(scheduler, 1);
    ASSERT_TRUE(scheduler.take(0).session);
    scheduler.yield({1}, 1);
    scheduler.open({2}, "b");
    scheduler.add({2}, {.arrived_ns = 5, .company = 7}, 5);
    if (gone) {
      scheduler.remove({1}, 6);
    } else {
      scheduler.pause({1}, true, 6);
    }
    EXPECT_EQ(scheduler.take(6).session, SessionId{2});
  }
}

TEST(Company, AnUrgentJobDoesNotWaitForTheStepOfALesserClass) {
  Scheduler scheduler = make("semantic");
  scheduler.open({1}, "a");
  scheduler.open({2}, "b");
  scheduler.add({1}, {.wanted = Class::kBestEffort, .company = 7}, 0);
  ASSERT_TRUE(scheduler.take(0).session);
  scheduler.add({2}, {.wanted = Class::kLatencyCritical, .company = 7}, 1);
  EXPECT_TRUE(scheduler.ready());
}

}  // namespace
}  // namespace djinn::sched
