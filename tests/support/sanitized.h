// SPDX-License-Identifier: Apache-2.0
// Whether this is a sanitizer's build: memory, descriptors and pipes are not what they are outside.
#pragma once

namespace djinn::testing {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)  // gcc
constexpr bool kSanitized = true;
#elif defined(__has_feature)  // clang
constexpr bool kSanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool kSanitized = false;
#endif

}  // namespace djinn::testing
