// SPDX-License-Identifier: Apache-2.0
// Hints: what an app may say of its session, and what a job can be, in the words of the wire.
//
// The values are those of protocol.capnp; client/djinn.h, which is installed alone, has the same
// under its own names. Threading: plain values.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace djinn {

// What a job is, as its plan and numbers show, or its app says.
enum class JobPhase : uint8_t { kUnknown, kPrefill, kDecode, kTraining, kInference, kLoad };
inline constexpr uint8_t kJobPhaseMax = 5;

// How much a delay hurts, as the app says. What its tenant may have at best is not the app's
// choice.
enum class Urgency : uint8_t { kUnknown, kLatencyCritical, kInteractive, kBestEffort };
inline constexpr uint8_t kUrgencyMax = 3;

// What the app does next.
enum class Rest : uint8_t {
  kNone,   // It says nothing of it.
  kUntil,  // It pauses, and goes on at about a time it names; 0: now.
  kOpen,   // It pauses, and does not know for how long.
};
inline constexpr uint8_t kRestMax = 2;

[[nodiscard]] constexpr std::string_view to_text(JobPhase phase) {
  constexpr std::array<std::string_view, kJobPhaseMax + 1> kTexts{"unknown",  "prefill",   "decode",
                                                                  "training", "inference", "load"};
  return kTexts[static_cast<size_t>(phase)];
}
[[nodiscard]] constexpr std::string_view to_text(Urgency urgency) {
  constexpr std::array<std::string_view, kUrgencyMax + 1> kTexts{"unknown", "latency-critical",
                                                                 "interactive", "best-effort"};
  return kTexts[static_cast<size_t>(urgency)];
}

}  // namespace djinn
