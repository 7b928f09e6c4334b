// SPDX-License-Identifier: Apache-2.0
#include "server/memory/artifact_name.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <cstdio>
#include <cstdlib>

namespace djinn::server {
namespace {

// Without these functions of OpenSSL nothing here could be trusted; they fail only when it is
// broken.
void must(bool good) {
  if (good) return;
  std::fputs("djinn: OpenSSL failed\n", stderr);
  std::abort();
}

}  // namespace

ArtifactKey random_artifact_key() {
  ArtifactKey key;
  must(RAND_bytes(key.data(), static_cast<int>(key.size())) == 1);
  return key;
}

struct ArtifactNamer::State {
  EVP_MD_CTX* digest = EVP_MD_CTX_new();
};

ArtifactNamer::ArtifactNamer(const ArtifactKey& key)
    : key_(key), state_(std::make_unique<State>()) {
  must(state_->digest != nullptr);
  must(EVP_DigestInit_ex(state_->digest, EVP_sha256(), nullptr) == 1);
}

ArtifactNamer::~ArtifactNamer() { EVP_MD_CTX_free(state_->digest); }

void ArtifactNamer::add(std::span<const std::byte> part) {
  must(EVP_DigestUpdate(state_->digest, part.data(), part.size()) == 1);
}

ArtifactName ArtifactNamer::name() {
  std::array<uint8_t, 32> digest;
  unsigned length = 0;
  must(EVP_DigestFinal_ex(state_->digest, digest.data(), &length) == 1);
  ArtifactName name;
  must(HMAC(EVP_sha256(), key_.data(), static_cast<int>(key_.size()), digest.data(), digest.size(),
            name.data(), &length) != nullptr);
  return name;
}

ArtifactName artifact_name(const ArtifactKey& key, std::span<const std::byte> content) {
  ArtifactNamer namer(key);
  namer.add(content);
  return namer.name();
}

}  // namespace djinn::server
