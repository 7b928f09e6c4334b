// SPDX-License-Identifier: Apache-2.0
// An operator's folder of models: what is in its files is found by content, whatever happens to
// them.
#include "server/memory/model_files.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <memory>

#include <gtest/gtest.h>

#include "tests/support/model_file.h"

namespace djinn::server {
namespace {

namespace fs = std::filesystem;
using djinn::testing::ModelTensor;
using djinn::testing::write_model;
using ::testing::HasSubstr;

using Content = std::vector<std::byte>;
Content content(uint8_t fill, size_t bytes = 8192) { return {bytes, std::byte(fill)}; }

struct Models : ::testing::Test {
  Models() {
    std::string name = ::testing::TempDir() + "/djinn-models-XXXXXX";
    folder = mkdtemp(name.data());
  }
  ~Models() override {
    models.reset();
    fs::remove_all(folder);
  }
  void open() {
    models = std::make_unique<ModelFiles>(key, std::vector<std::string>{folder},
                                          [this](const std::string& path, const auto& tensors) {
                                            const MutexLock lock(mutex);
                                            found[fs::path(path).filename().native()] =
                                                tensors ? std::to_string(tensors->size())
                                                        : tensors.error().message;
                                          });
    models->settle();
  }
  void look_again() const {
    models->look_again();
    models->settle();
  }
  [[nodiscard]] std::string path(const std::string& file) const { return folder + "/" + file; }
  void write(const std::string& file, const std::vector<Content>& contents) const {
    std::vector<ModelTensor> tensors;
    tensors.reserve(contents.size());
    for (const Content& each : contents) {
      tensors.push_back({.name = "t" + std::to_string(tensors.size()),
                         .shape = {static_cast<int64_t>(each.size() / 4)},
                         .bytes = each});
    }
    write_model(path(file), tensors);
  }
  [[nodiscard]] ArtifactName name(const Content& of) const { return artifact_name(key, of); }
  [[nodiscard]] bool has(const Content& what) const { return models->has(name(what), what.size()); }
  [[nodiscard]] bool reads(const Content& what) const {
    Content to(what.size());
    return models->read(name(what), to) && to == what;
  }
  std::string said(const std::string& file) {
    const MutexLock lock(mutex);
    return found[file];
  }

  const ArtifactKey key = random_artifact_key();
  std::string folder;
  Mutex mutex;
  std::map<std::string, std::string> found GUARDED_BY(mutex);
  std::unique_ptr<ModelFiles> models;
};

TEST_F(Models, AreFoundByTheContentOfTheirTensorsAlsoInFoldersBelow) {
  write("a.safetensors", {content(1), content(2, 5 << 20)});
  fs::create_directories(path("below/deeper"));
  write("below/deeper/b.safetensors", {content(3)});
  write("c.bin", {content(4)});
  open();
  for (const Content& each : {content(1), content(2, 5 << 20), content(3)}) {
    EXPECT_TRUE(has(each));
    EXPECT_TRUE(reads(each));
  }
  EXPECT_FALSE(has(content(4))) << "no .safetensors";
  EXPECT_FALSE(models->has(name(content(1)), 8191)) << "another length";
  EXPECT_EQ(said("a.safetensors"), "2");
  const ModelFilesStats stats = models->stats();
  EXPECT_EQ(stats.files, 2U);
  EXPECT_EQ(stats.tensors, 3U);
  EXPECT_EQ(stats.bytes, 8192U + (5 << 20) + 8192U);
  EXPECT_EQ(stats.hits, 3U);
  EXPECT_EQ(stats.bytes_read, stats.bytes);
}

TEST_F(Models, ThatChangeGiveNobodyWrongWeights) {
  write("a.safetensors", {content(1), content(2)});
  open();
  {
    std::fstream file(path("a.safetensors"), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-1, std::ios::end);
    file.put(7);
  }
  EXPECT_TRUE(reads(content(1)));
  EXPECT_FALSE(reads(content(2)));
  EXPECT_FALSE(has(content(2))) << "it is known now";
  EXPECT_EQ(models->stats().changed, 1U);
  fs::resize_file(path("a.safetensors"), 100);
  EXPECT_FALSE(reads(content(1))) << "cut short";
  fs::remove(path("a.safetensors"));
  EXPECT_FALSE(reads(content(1)));
}

TEST_F(Models, MayComeAndGoWhileTheServerRuns) {
  write("a.safetensors", {content(1)});
  open();
  write("b.safetensors", {content(1), content(2)});
  EXPECT_FALSE(has(content(2)));
  look_again();
  EXPECT_TRUE(reads(content(2)));
  fs::remove(path("a.safetensors"));
  look_again();
  EXPECT_TRUE(reads(content(1))) << "the other file has it, too";
  EXPECT_EQ(models->stats().files, 1U);
  write("b.safetensors", {content(3)});
  look_again();
  EXPECT_FALSE(has(content(2)));
  EXPECT_TRUE(reads(content(3)));
}

TEST_F(Models, ThatCannotBeReadSayWhyAndHarmNoOther) {
  write("good.safetensors", {content(1)});
  std::ofstream(path("short.safetensors")) << "abc";
  std::ofstream(path("bad.safetensors")) << std::string(100, 'x');
  std::ofstream(path("empty.safetensors")) << "";
  ASSERT_EQ(mkfifo(path("pipe.safetensors").c_str(), 0600), 0);
  fs::create_directory(path("folder.safetensors"));
  fs::create_directory_symlink(folder, path("round.safetensors"));
  fs::create_symlink(path("nowhere"), path("dangling.safetensors"));
  open();
  EXPECT_TRUE(reads(content(1)));
  EXPECT_THAT(said("short.safetensors"), HasSubstr("too short"));
  EXPECT_THAT(said("bad.safetensors"), HasSubstr("header"));
  EXPECT_THAT(said("empty.safetensors"), HasSubstr("too short"));
  EXPECT_EQ(models->stats().files, 1U);
}

TEST_F(Models, BehindLinksToFilesAreFound) {
  const std::string elsewhere = folder + ".elsewhere";
  write("../" + fs::path(elsewhere).filename().native(), {content(1)});
  fs::create_symlink(elsewhere, path("link.safetensors"));
  open();
  EXPECT_TRUE(reads(content(1)));
  fs::remove(elsewhere);
}

TEST_F(Models, NeedAFolderThatIsThere) {
  EXPECT_TRUE(ModelFiles::check(folder));
  const auto gone = ModelFiles::check(folder + "/nothing");
  ASSERT_FALSE(gone);
  EXPECT_THAT(gone.error().message, HasSubstr("No such file"));
  write("a.safetensors", {content(1)});
  EXPECT_FALSE(ModelFiles::check(path("a.safetensors")));
}

}  // namespace
}  // namespace djinn::server
