// SPDX-License-Identifier: Apache-2.0
// A folder of artifacts: what is whole comes back, and nothing else does.
#include "server/memory/disk_cache.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace djinn::server {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr size_t kHeaderBytes = 64;
constexpr uint64_t kPlenty = 1 << 20;
constexpr uint64_t kBlock = 4096;  // of the file system

struct Disk : ::testing::Test {
  Disk() {
    std::string name = ::testing::TempDir() + "/djinn-disk-XXXXXX";
    root = mkdtemp(name.data());
    folder = root + "/cache";
    open();
  }
  ~Disk() override {
    cache.reset();
    fs::remove_all(root);
  }

  void open(uint64_t bytes_max = kPlenty) {
    cache.reset();
    auto opened = DiskCache::open(folder, bytes_max);
    ASSERT_TRUE(opened) << opened.error().message;
    cache = std::move(*opened);
  }
  std::string why_not() {
    cache.reset();
    const auto opened = DiskCache::open(folder, kPlenty);
    return opened ? "it can" : opened.error().message;
  }

  using Content = std::vector<std::byte>;
  static Content content(uint8_t fill, size_t size = 1000) { return {size, std::byte(fill)}; }
  [[nodiscard]] ArtifactName name(const Content& content) const {
    return artifact_name(cache->key(), content);
  }
  [[nodiscard]] ArtifactName write(const Content& content) const {
    const auto written = cache->write(name(content), content);
    EXPECT_TRUE(written) << written.error().message;
    return name(content);
  }
  [[nodiscard]] std::optional<Content> read(const ArtifactName& name, size_t size = 1000) const {
    Content to(size);
    return cache->read(name, to) ? std::optional(to) : std::nullopt;
  }
  [[nodiscard]] std::string path(const ArtifactName& name) const {
    std::string out = folder + "/";
    for (const uint8_t byte : name) {
      out += "0123456789abcdef"[byte / 16];
      out += "0123456789abcdef"[byte % 16];
    }
    return out + ".artifact";
  }
  static std::string text(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }
  static void put(const std::string& path, const std::string& text) {
    std::ofstream out(path, std::ios::binary | std::ios::trunc);
    out << text;
  }
  static void flip(const std::string& path, size_t at) {
    std::string all = text(path);
    all.at(at) = static_cast<char>(all.at(at) ^ 1);
    put(path, all);
  }
  // It is there, as the index says, until it is read; then it is gone, and counted.
  void expect_refused(const ArtifactName& name) const {
    const uint64_t before = cache->stats().corrupt_files;
    ASSERT_TRUE(cache->has(name, 1000));
    EXPECT_EQ(read(name), std::nullopt);
    EXPECT_EQ(cache->stats().corrupt_files, before + 1);
    EXPECT_FALSE(cache->has(name, 1000));
    EXPECT_FALSE(fs::exists(path(name)));
    EXPECT_EQ(cache->stats().hits, 0U);
  }
  // As above, but the next start sees it already.
  void expect_refused_at_start(const ArtifactName& name) {
    open();
    EXPECT_EQ(cache->stats().corrupt_files, 1U);
    EXPECT_FALSE(cache->has(name, 1000));
    EXPECT_FALSE(fs::exists(path(name)));
  }

  std::string root;
  std::string folder;
  std::unique_ptr<DiskCache> cache;
};

TEST_F(Disk, GivesBackWhatWasWritten) {
  const auto one = write(content(1));
  EXPECT_TRUE(cache->has(one, 1000));
  EXPECT_FALSE(cache->has(one, 999)) << "another length is another content";
  EXPECT_EQ(read(one), content(1));
  EXPECT_EQ(read(name(content(2))), std::nullopt);
  (void)write(content(1));
  const auto stats = cache->stats();
  EXPECT_EQ(stats.artifacts, 1U);
  EXPECT_EQ(stats.hits, 1U);
  EXPECT_EQ(stats.bytes_read, 1000U);
  EXPECT_EQ(stats.bytes_written, 1000U) << "what is there is not written again";
}

TEST_F(Disk, KeepsItsArtifactsAndItsKeyAcrossAStart) {
  const ArtifactKey key = cache->key();
  const auto one = write(content(1));
  open();
  EXPECT_EQ(cache->key(), key);
  EXPECT_EQ(cache->stats().artifacts, 1U);
  EXPECT_EQ(read(one), content(1));
  EXPECT_EQ(cache->stats().corrupt_files, 0U);
}

TEST_F(Disk, IsForItsOwnerOnly) {
  const auto one = write(content(1));
  struct stat info {};
  ASSERT_EQ(stat(folder.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0700U);
  for (const std::string& file : {folder + "/key", path(one)}) {
    ASSERT_EQ(stat(file.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0600U);
  }
}

TEST_F(Disk, RefusesAFlippedByteWhereverItIs) {
  for (const size_t at : {size_t{0}, size_t{8}, size_t{16}, size_t{24}, size_t{60}, kHeaderBytes,
                          kHeaderBytes + 999}) {
    SCOPED_TRACE(at);
    const auto one = write(content(1));
    flip(path(one), at);
    expect_refused(one);
  }
  const auto again = write(content(1));
  EXPECT_EQ(read(again), content(1)) << "it can be written anew";
}

TEST_F(Disk, RefusesATruncatedFile) {
  for (const size_t size : {size_t{0}, size_t{63}, size_t{64}, size_t{1063}}) {
    SCOPED_TRACE(size);
    const auto one = write(content(1));
    fs::resize_file(path(one), size);
    expect_refused(one);
  }
}

TEST_F(Disk, RefusesALongerFile) {
  const auto one = write(content(1));
  put(path(one), text(path(one)) + "x");
  expect_refused(one);
}

TEST_F(Disk, RefusesAtItsStartWhatIsNotWhole) {
  const auto one = write(content(1));
  fs::resize_file(path(one), 500);
  expect_refused_at_start(one);
}

TEST_F(Disk, RefusesAForeignFileOfAName) {
  const auto one = write(content(1));
  put(path(one), std::string(2000, 'x'));
  expect_refused_at_start(one);
}

TEST_F(Disk, RefusesAnArtifactUnderAnothersName) {
  const auto one = write(content(1));
  const auto two = write(content(2));
  fs::copy_file(path(two), path(one), fs::copy_options::overwrite_existing);
  expect_refused(one);
  EXPECT_EQ(read(two), content(2));
}

// The header is right: only the hash can tell.
TEST_F(Disk, RefusesAnothersContentUnderARightHeader) {
  const auto one = write(content(1));
  const auto two = write(content(2));
  put(path(one), text(path(one)).substr(0, kHeaderBytes) + text(path(two)).substr(kHeaderBytes));
  expect_refused(one);
}

TEST_F(Disk, FollowsNoLink) {
  const auto one = write(content(1));
  fs::rename(path(one), root + "/elsewhere");
  fs::create_symlink(root + "/elsewhere", path(one));
  expect_refused(one);
  EXPECT_TRUE(fs::exists(root + "/elsewhere"));
}

TEST_F(Disk, MissesAFileThatWasDeleted) {
  const auto one = write(content(1));
  fs::remove(path(one));
  EXPECT_EQ(read(one), std::nullopt);
  EXPECT_FALSE(cache->has(one, 1000));
  EXPECT_EQ(cache->stats().corrupt_files, 0U);
  EXPECT_EQ(cache->stats().bytes, 0U);
}

TEST_F(Disk, RemovesWhatWasLeftUnfinishedAndNothingElse) {
  const auto one = write(content(1));
  put(path(one) + ".new", "half of");
  put(folder + "/key.new", "a key");
  put(folder + "/notes.txt", "mine");
  put(folder + "/other.new", "mine too");
  put(folder + "/abc.artifact", "not a name");
  fs::create_directory(folder + "/folder");
  open();
  EXPECT_FALSE(fs::exists(path(one) + ".new"));
  EXPECT_FALSE(fs::exists(folder + "/key.new"));
  for (const char* const file : {"notes.txt", "other.new", "abc.artifact", "folder"}) {
    EXPECT_TRUE(fs::exists(folder + "/" + file)) << file;
  }
  EXPECT_EQ(read(one), content(1));
  EXPECT_EQ(cache->stats().corrupt_files, 0U);
}

TEST_F(Disk, LeavesNothingBehindWhenAWriteFails) {
  const auto one = name(content(1));
  fs::create_directory(path(one));  // Nothing can be renamed to this.
  EXPECT_FALSE(cache->write(one, content(1)));
  EXPECT_FALSE(cache->has(one, 1000));
  EXPECT_FALSE(fs::exists(path(one) + ".new"));
  EXPECT_EQ(cache->stats().failed_writes, 1U);
}

// Files of 1,000 bytes take a block of 4 KiB, those of 10,000 take three.
TEST_F(Disk, KeepsToItsCapOldestFirst) {
  open(3 * kBlock);
  std::vector<ArtifactName> names;
  for (uint8_t i = 1; i <= 3; ++i) {
    names.push_back(write(content(i)));
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  EXPECT_EQ(cache->stats().bytes, 3 * 4096U);
  cache->touch(names[0]);
  (void)write(content(4));
  EXPECT_EQ(cache->stats().artifacts, 3U);
  EXPECT_LE(cache->stats().bytes, 3 * 4096U);
  EXPECT_EQ(read(names[1]), std::nullopt) << "it was used least recently";
  EXPECT_FALSE(fs::exists(path(names[1])));
  EXPECT_EQ(read(names[0]), content(1));
  EXPECT_EQ(cache->stats().evicted_bytes, 4096U);
}

TEST_F(Disk, LetsGoOfTheLargeBeforeTheSmall) {
  open(5 * kBlock);
  const auto small = write(content(1));
  const auto large = write(content(2, 10'000));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  (void)write(content(3, 5000));
  EXPECT_TRUE(cache->has(small, 1000));
  EXPECT_FALSE(cache->has(large, 10'000));
}

TEST_F(Disk, DoesNotKeepWhatIsLargerThanAllOfIt) {
  open(2 * kBlock);
  const auto one = write(content(1));
  const auto large = write(content(2, 10'000));
  EXPECT_FALSE(cache->has(large, 10'000));
  EXPECT_EQ(read(one), content(1)) << "nothing went for it";
}

TEST_F(Disk, KeepsToASmallerCapAtItsNextStart) {
  const auto one = write(content(1));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  (void)write(content(2));
  cache->touch(one);
  cache.reset();
  const std::vector<timespec> long_ago{{.tv_sec = 1000, .tv_nsec = 0},
                                       {.tv_sec = 1000, .tv_nsec = 0}};
  open();
  ASSERT_EQ(utimensat(AT_FDCWD, path(name(content(2))).c_str(), long_ago.data(), 0), 0);
  open(4096);
  EXPECT_EQ(cache->stats().artifacts, 1U);
  EXPECT_EQ(read(one), content(1));
}

TEST_F(Disk, RemembersAcrossAStartWhatWasUsed) {
  const auto one = write(content(1));
  const std::vector<timespec> long_ago{{.tv_sec = 1000, .tv_nsec = 0},
                                       {.tv_sec = 1000, .tv_nsec = 0}};
  utimensat(AT_FDCWD, path(one).c_str(), long_ago.data(), 0);
  open();
  EXPECT_EQ(read(one), content(1));
  open();
  struct stat info {};
  ASSERT_EQ(stat(path(one).c_str(), &info), 0);
  EXPECT_GT(info.st_mtim.tv_sec, 1000);
}

TEST_F(Disk, ServesOneAtATime) {
  const auto second = DiskCache::open(folder, kPlenty);
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, HasSubstr("another server uses it"));
}

TEST_F(Disk, RefusesAKeyThatOthersMayRead) {
  for (const mode_t mode : {0640U, 0604U, 0620U, 0666U}) {
    chmod((folder + "/key").c_str(), mode);
    EXPECT_THAT(why_not(), HasSubstr("0600"));
  }
  chmod((folder + "/key").c_str(), 0600);
  EXPECT_EQ(why_not(), "it can");
}

TEST_F(Disk, RefusesAKeyOfAnotherLength) {
  for (const size_t size : {size_t{0}, size_t{31}, size_t{33}}) {
    fs::resize_file(folder + "/key", size);
    EXPECT_THAT(why_not(), HasSubstr("32 bytes"));
  }
}

TEST_F(Disk, RefusesAKeyThatIsNoRegularFile) {
  const std::string key = folder + "/key";
  fs::rename(key, root + "/key");
  fs::create_symlink(root + "/key", key);
  EXPECT_THAT(why_not(), HasSubstr("no regular file"));
  fs::remove(key);
  fs::create_directory(key);
  EXPECT_THAT(why_not(), HasSubstr("no regular file"));
  fs::remove(key);
  ASSERT_EQ(mkfifo(key.c_str(), 0600), 0);
  EXPECT_THAT(why_not(), HasSubstr("no regular file")) << "and does not wait for a writer";
}

TEST_F(Disk, RefusesAKeyOfAnotherUser) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
  ASSERT_EQ(chown((folder + "/key").c_str(), 1234, 1234), 0);
  EXPECT_THAT(why_not(), HasSubstr("another user"));
}

TEST_F(Disk, KeepsNothingThatWasNamedWithALostKey) {
  const auto one = write(content(1));
  const ArtifactKey key = cache->key();
  cache.reset();
  fs::remove(folder + "/key");
  open();
  EXPECT_NE(cache->key(), key);
  EXPECT_FALSE(fs::exists(path(one)));
  EXPECT_EQ(cache->stats().corrupt_files, 1U);
}

TEST_F(Disk, SaysWhyAFolderCannotBeUsed) {
  cache.reset();
  put(root + "/file", "");
  for (const std::string& unusable : {root + "/file", root + "/no/such", std::string("/proc/x")}) {
    const auto opened = DiskCache::open(unusable, kPlenty);
    ASSERT_FALSE(opened) << unusable;
    EXPECT_THAT(opened.error().message, HasSubstr("cache-dir " + unusable + ": "));
  }
}

TEST_F(Disk, IsUsedFromManyThreads) {
  open(4 * kBlock);
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 100; ++i) {
        const Content mine = content(static_cast<uint8_t>((i + t) % 6));
        const auto got = read(name(mine));
        if (got && *got != mine) std::abort();
        if (!got && !cache->write(name(mine), mine)) std::abort();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_LE(cache->stats().bytes, 4 * 4096U);
  EXPECT_EQ(cache->stats().corrupt_files, 0U);
}

}  // namespace
}  // namespace djinn::server
